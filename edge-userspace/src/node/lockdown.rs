//! Carries out the lockdown: counts the attempts that prove nothing, here and in the kernel, asks `quic::lockdown` what to
//! make of them, and tells the kernel and the front door.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edge_common::ANSWER_RETRY;
use edge_common::lockdown::{Lockdown as Told, ON};

use super::Node;
use crate::admin;
use crate::base::clock::UnixTime;
use crate::base::shutdown::Phase;
use crate::config::{Config, LockdownMode};
use crate::dataplane::{self, Dataplane};
use crate::gate::token::Tokens;
use crate::quic::lockdown::Lockdown;
use crate::quic::{self, IdKey};

/// Between two counts: a flood is met within so long, and the kernel is told of new keys.
const COUNTED_EVERY: Duration = Duration::from_millis(250);

/// The lockdown of a node that speaks QUIC.
pub(super) struct Lockdowns {
    front: Arc<quic::Front>,
    ids: IdKey,
    tokens: Arc<Tokens>,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    lockdown: Lockdown,
    /// What the kernel was told last.
    told: Option<Told>,
    /// Retries of the kernel's, when it was asked last.
    retries: Option<u64>,
    /// The kernel's since the start.
    answered: u64,
}

/// What connection ids are made with: from the node's secret where that lasts, else what the daemon before made them with, so
/// that its connections go on while it drains.
pub(super) fn ids(tokens: &Tokens, lasts: bool, dataplane: Option<&Dataplane>) -> Result<IdKey, dataplane::Error> {
    if !lasts && let Some(dataplane) = dataplane {
        let told = dataplane.penalties().lockdown()?;
        if let Some(published) = IdKey::published(told.cid) {
            return Ok(published);
        }
    }
    Ok(IdKey::of(tokens))
}

impl Lockdowns {
    /// As configured; a lockdown that a daemon before was in goes on until its time is over.
    pub(super) fn start(
        config: &Config,
        front: Arc<quic::Front>,
        ids: IdKey,
        tokens: Arc<Tokens>,
        dataplane: Option<&Dataplane>,
    ) -> Result<Self, dataplane::Error> {
        let was_on = match dataplane {
            Some(dataplane) => dataplane.penalties().lockdown()?.flags & ON != 0,
            None => false,
        };
        let this = Self {
            front,
            ids,
            tokens,
            started: Instant::now(),
            state: Mutex::new(State {
                lockdown: Lockdown::new(config.quic.clone(), was_on),
                told: None,
                retries: None,
                answered: 0,
            }),
        };
        this.apply(&mut this.state(), dataplane)?;
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts, and acts on it.
    fn count(&self, dataplane: Option<&Dataplane>) -> Result<(), dataplane::Error> {
        let mut state = self.state();
        if let Some(dataplane) = dataplane {
            let retries = dataplane.counters()?;
            let retries = retries.iter().find(|count| count.reason == ANSWER_RETRY);
            let retries = retries.map_or(0, |count| count.packets);
            let new = state
                .retries
                .replace(retries)
                .map_or(0, |last| retries.saturating_sub(last));
            state.answered = state.answered.saturating_add(new);
            self.front.metrics().kernel_retries.inc_by(new);
        }
        let total = state.answered.saturating_add(self.front.unproven());
        let was_on = state.lockdown.is_on();
        state.lockdown.count(self.started.elapsed(), total);
        let rate = state.lockdown.rate();
        match (was_on, state.lockdown.is_on()) {
            (false, true) => tracing::warn!(
                target: "edge::quic",
                attempts_per_second = rate,
                "lockdown: too many QUIC attempts that prove nothing; they are answered with a Retry"
            ),
            (true, false) => tracing::info!(target: "edge::quic", attempts_per_second = rate, "the lockdown is over"),
            _ => {}
        }
        self.apply(&mut state, dataplane)
    }

    /// Tells the front door, and the kernel what it does not know.
    fn apply(&self, state: &mut State, dataplane: Option<&Dataplane>) -> Result<(), dataplane::Error> {
        let on = state.lockdown.is_on();
        self.front.lock_down(on);
        let Some(dataplane) = dataplane else { return Ok(()) };
        let told = Told {
            flags: if on { ON } else { 0 },
            key_id: self.tokens.key_id(UnixTime::now()),
            cid: self.ids.words(),
        };
        if state.told != Some(told) {
            dataplane.penalties().set_lockdown(told)?;
            dataplane.switch_lockdown(on)?;
            state.told = Some(told);
        }
        Ok(())
    }

    pub(super) fn reload(&self, config: &Config) {
        self.state().lockdown.reload(config.quic.clone());
    }

    pub(super) fn order(&self, mode: LockdownMode, dataplane: Option<&Dataplane>) -> Result<(), dataplane::Error> {
        let mut state = self.state();
        state.lockdown.order(mode);
        let on = state.lockdown.is_on();
        tracing::info!(target: "edge::quic", ?mode, on, "lockdown by the operator's word");
        self.apply(&mut state, dataplane)
    }

    pub(super) fn status(&self, kernel: bool) -> admin::Lockdown {
        let state = self.state();
        admin::Lockdown {
            on: state.lockdown.is_on(),
            mode: state.lockdown.mode(),
            attempts_per_second: state.lockdown.rate(),
            kernel,
        }
    }
}

/// Counts several times a second until the node drains: from then on its successor does.
pub(super) async fn watch(node: Arc<Node>) {
    let Some(lockdowns) = &node.lockdowns else { return };
    let mut shutdown = node.shutdown.clone();
    let drain = shutdown.reached(Phase::Draining);
    tokio::pin!(drain);
    let mut tick = tokio::time::interval(COUNTED_EVERY);
    let mut failing = false;
    loop {
        tokio::select! {
            () = &mut drain => return,
            _ = tick.tick() => {}
        }
        let counted = lockdowns.count(node.dataplane.as_ref());
        if let Err(error) = &counted
            && !failing
        {
            tracing::warn!(target: "edge::quic", %error, "the kernel cannot be asked or told about the lockdown");
        }
        failing = counted.is_err();
    }
}
