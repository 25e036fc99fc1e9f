//! Carries out the lockdown, of both protocols by one switch: counts the attempts that prove
//! nothing, here and in the kernel, asks `quic::lockdown` what to make of them, and tells the
//! kernel and the front door. QUIC attempts get a Retry then, TCP SYNs a SYN cookie.
//!
//! A SYN proves something when its connection is accepted: what lacks is what spoofed floods have
//! too much of.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edge_common::cid::GENERATIONS;
use edge_common::lockdown::{Lockdown as Told, ON};
use edge_common::{ANSWER_COOKIE, ANSWER_RETRY, DROP_ACK};

use super::Node;
use crate::admin;
use crate::base::clock::UnixTime;
use crate::base::shutdown::Phase;
use crate::config::{Config, LockdownMode, Quic};
use crate::dataplane::{self, Dataplane, Offer};
use crate::gate::token::Tokens;
use crate::quic::lockdown::Lockdown;
use crate::quic::{self, IdKey};
use crate::tls;

/// Between two counts: a flood is met within so long, and the kernel is told of new keys.
const COUNTED_EVERY: Duration = Duration::from_millis(250);
/// After the last SYN cookie its client may still answer; the system's settings are put back then.
const SETTLED: Duration = Duration::from_secs(10);
/// Where interfaces do not tell: Ethernet's.
const MTU: u32 = 1_500;

/// The lockdown of a node that speaks QUIC, or has XDP.
pub(super) struct Lockdowns {
    quic: Option<(Arc<quic::Front>, IdKey)>,
    tls: Arc<tls::Front>,
    tokens: Arc<Tokens>,
    started: Instant,
    /// How long daemons before this one may still have connections.
    drain: Duration,
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
    /// Which daemons' connection ids the kernel was told are alive.
    alive: Option<u64>,
    /// Those that were when this one started; 0: any may be.
    before: u64,
    tcp: Tcp,
}

/// The part that is TCP's.
struct Tcp {
    /// By the configuration.
    wanted: bool,
    /// SYNs that were answered or let through less connections that were accepted, at the first
    /// count.
    first: Option<i128>,
    /// The most that there were more of them since.
    unproven: u64,
    /// SYNs are answered, or why they cannot be.
    raised: Option<Result<Offer, String>>,
    /// Since when they are not any more, and the system's settings are still as that took.
    lowered: Option<Instant>,
    /// Segments that fit neither a connection nor a cookie: judged by their rate, as attempts are.
    acks: Lockdown,
    checked: bool,
}

impl Tcp {
    fn new(config: &Config) -> Self {
        Self {
            wanted: config.dataplane.syn_cookies,
            first: None,
            unproven: 0,
            raised: None,
            // What a daemon that ended too early has left is put back, unless its lockdown goes on.
            lowered: Some(Instant::now()),
            acks: Lockdown::new(by_rate(&config.quic), false),
            checked: false,
        }
    }

    /// `came` SYNs were answered or let through in all, and `accepted` connections accepted.
    fn count(&mut self, came: u64, accepted: u64) {
        let more = i128::from(came) - i128::from(accepted);
        let first = *self.first.get_or_insert(more);
        let unproven = u64::try_from(more - first).unwrap_or_default();
        self.unproven = self.unproven.max(unproven);
    }

    const fn is_raised(&self) -> bool {
        matches!(self.raised, Some(Ok(_)))
    }
}

/// The thresholds of the settings, whatever they say of on and off.
fn by_rate(settings: &Quic) -> Quic {
    Quic {
        lockdown: LockdownMode::Auto,
        ..settings.clone()
    }
}

/// Segments to our listeners that carried no good cookie, as the kernel counts them
/// (`SyncookiesFailed`).
fn refused_acks() -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
    counter(&table, "TcpExt:", "SyncookiesFailed").unwrap_or_default()
}

/// A number out of a table whose lines come in pairs, names and then values.
fn counter(table: &str, kind: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix(kind));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|found| found == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// What connection ids are made with: from the node's secret where that lasts, else what the daemon
/// before made them with, so that its connections go on while it drains.
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
        quic: Option<(Arc<quic::Front>, IdKey)>,
        tls: Arc<tls::Front>,
        tokens: Arc<Tokens>,
        dataplane: Option<&Dataplane>,
    ) -> Result<Self, dataplane::Error> {
        let (was_on, before) = match dataplane {
            Some(dataplane) => {
                let penalties = dataplane.penalties();
                let was_on = penalties.lockdown()?.flags & ON != 0 || dataplane.cookies().is_on()?;
                (was_on, penalties.alive()?)
            }
            None => (false, 0),
        };
        let this = Self {
            quic,
            tls,
            tokens,
            started: Instant::now(),
            drain: config.server.drain,
            state: Mutex::new(State {
                lockdown: Lockdown::new(config.quic.clone(), was_on),
                told: None,
                retries: None,
                answered: 0,
                alive: None,
                before,
                tcp: Tcp::new(config),
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
        let now = self.started.elapsed();
        if let Some(dataplane) = dataplane {
            let counts = dataplane.counters()?;
            let of = |reason| {
                let found = counts.iter().find(|count| count.reason == reason);
                found.map_or(0, |count| count.packets)
            };
            let retries = of(ANSWER_RETRY);
            let new = state
                .retries
                .replace(retries)
                .map_or(0, |last| retries.saturating_sub(last));
            state.answered = state.answered.saturating_add(new);
            if let Some((front, _)) = &self.quic {
                front.metrics().kernel_retries.inc_by(new);
            }
            let came = dataplane.syns()?.saturating_add(of(ANSWER_COOKIE));
            state.tcp.count(came, self.tls.accepted());
            if state.tcp.is_raised() {
                let refused = refused_acks().saturating_add(of(DROP_ACK));
                state.tcp.acks.count(now, refused);
            }
        }
        let at_the_door = self.quic.as_ref().map_or(0, |(front, _)| front.unproven());
        let total = state
            .answered
            .saturating_add(at_the_door)
            .saturating_add(state.tcp.unproven);
        let was_on = state.lockdown.is_on();
        state.lockdown.count(now, total);
        let rate = state.lockdown.rate();
        match (was_on, state.lockdown.is_on()) {
            (false, true) => tracing::warn!(
                target: "edge::quic",
                attempts_per_second = rate,
                "lockdown: too many attempts that prove nothing; QUIC's are answered with a Retry, and TCP's with a SYN cookie"
            ),
            (true, false) => tracing::info!(target: "edge::quic", attempts_per_second = rate, "the lockdown is over"),
            _ => {}
        }
        self.apply(&mut state, dataplane)
    }

    /// Tells the front door, and the kernel what it does not know.
    fn apply(&self, state: &mut State, dataplane: Option<&Dataplane>) -> Result<(), dataplane::Error> {
        let on = state.lockdown.is_on();
        if let Some((front, _)) = &self.quic {
            front.lock_down(on);
        }
        let Some(dataplane) = dataplane else { return Ok(()) };
        let alive = alive(
            dataplane.generation(),
            state.before,
            self.started.elapsed() < self.drain,
        );
        if state.alive != Some(alive) {
            dataplane.penalties().set_alive(alive)?;
            state.alive = Some(alive);
        }
        let told = Told {
            flags: if on && self.quic.is_some() { ON } else { 0 },
            key_id: self.tokens.key_id(UnixTime::now()),
            cid: self.quic.as_ref().map_or([0; 2], |(_, ids)| ids.words()),
        };
        if state.told != Some(told) {
            dataplane.penalties().set_lockdown(told)?;
            dataplane.switch_lockdown(on)?;
            state.told = Some(told);
        }
        tcp(&mut state.tcp, on, dataplane)
    }

    pub(super) fn reload(&self, config: &Config) {
        let mut state = self.state();
        state.lockdown.reload(config.quic.clone());
        state.tcp.acks.reload(by_rate(&config.quic));
        state.tcp.wanted = config.dataplane.syn_cookies;
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
            syn_cookies: state.tcp.is_raised(),
        }
    }
}

/// Has the program answer SYNs while the lockdown is `on`, and puts the system's settings back some
/// time after.
fn tcp(tcp: &mut Tcp, on: bool, dataplane: &Dataplane) -> Result<(), dataplane::Error> {
    let cookies = dataplane.cookies();
    if on && tcp.wanted {
        if tcp.raised.is_none() {
            let mtu = dataplane.interfaces().iter().map(|interface| interface.mtu).min();
            let raised = cookies
                .raise(mtu.unwrap_or(MTU).min(MTU))
                .map_err(|error| error.to_string());
            match &raised {
                Ok(offer) => {
                    tracing::info!(target: "edge::quic", ?offer, "TCP SYNs are answered with SYN cookies by XDP")
                }
                Err(error) => tracing::warn!(target: "edge::quic", error, "TCP SYNs are left to the kernel"),
            }
            tcp.raised = Some(raised);
            tcp.lowered = None;
        }
    } else if tcp.raised.take().is_some() {
        tcp.lowered = Some(Instant::now());
        cookies.lower()?;
    }
    let checked = tcp.is_raised() && tcp.acks.is_on();
    if checked != tcp.checked {
        dataplane.switch_acks(checked)?;
        tcp.checked = checked;
        tracing::info!(target: "edge::quic", checked, "TCP segments that fit neither a connection nor a cookie are dropped, or not any more");
    }
    if tcp.lowered.is_some_and(|since| since.elapsed() >= SETTLED) {
        cookies.lower()?;
        cookies.restore()?;
        tcp.lowered = None;
    }
    Ok(())
}

/// The generations of daemons that have connections: this one, and those `before` it while they
/// drain.
const fn alive(generation: u16, before: u64, draining: bool) -> u64 {
    let own = 1 << (generation % GENERATIONS);
    match draining {
        true if before == 0 => 0,
        true => before | own,
        false => own,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Honest clients would lock the node down, or a flood would not.
    #[test]
    fn what_is_accepted_proves_its_syn() {
        let mut config = crate::config::Dataplane::none();
        config.syn_cookies = true;
        let settings = Quic {
            lockdown: LockdownMode::Auto,
            lockdown_above: 10,
            lockdown_below: 5,
            lockdown_hold: Duration::from_secs(1),
        };
        let mut tcp = Tcp {
            wanted: config.syn_cookies,
            first: None,
            unproven: 0,
            raised: None,
            lowered: None,
            acks: Lockdown::new(by_rate(&settings), false),
            checked: false,
        };
        // Counters that a daemon before has left.
        tcp.count(1_000_000, 17);
        for second in 1..100_u64 {
            // Handshakes under way: some SYNs ahead of what is accepted, never more.
            tcp.count(1_000_000 + 5_000 * second + second % 40, 17 + 5_000 * second);
        }
        assert_eq!(tcp.unproven, 39);
        tcp.count(1_495_000 + 40_000, 17 + 495_000);
        assert_eq!(tcp.unproven, 40_000);
        // More accepted than seen (over an interface without XDP) is no negative flood.
        tcp.count(1_535_000, 17 + 900_000);
        assert_eq!(tcp.unproven, 40_000);
    }

    /// A counter read from another column locks nodes down for nothing.
    #[test]
    fn counters_are_found_by_their_names() {
        let table =
            "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed\nTcpExt: 7 8 9\nIpExt: InNoRoutes\nIpExt: 4\n";
        assert_eq!(counter(table, "TcpExt:", "SyncookiesFailed"), Some(9));
        assert_eq!(counter(table, "IpExt:", "InNoRoutes"), Some(4));
        assert_eq!(counter(table, "TcpExt:", "TCPLost"), None);
        let here = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        assert!(counter(&here, "TcpExt:", "SyncookiesFailed").is_some());
    }

    /// Connections of a daemon that drains would end in a lockdown, or ids of one that is gone open
    /// it.
    #[test]
    fn daemons_before_this_one_live_while_they_drain() {
        assert_eq!(alive(5, 1 << 4, true), 0b11_0000);
        assert_eq!(alive(5, 1 << 4, false), 1 << 5);
        assert_eq!(alive(5, 0, true), 0, "nobody knows: all");
        assert_eq!(alive(63, 0, false), 1 << 63);
    }
}
