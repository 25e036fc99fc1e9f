//! The gate of this node: its zones, tokens and book, what operators ask of it, and the tick that
//! keeps keys and gauges current.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::Node;
use super::feed::{self, Kernel};
use crate::admin::Penalty;
use crate::base::clock::UnixTime;
use crate::base::peer::client_prefix;
use crate::base::penalty::Subject;
use crate::config::Config;
use crate::dataplane::{self, Dataplane, Penalties};
use crate::gate::door::Door;
use crate::gate::handler::Gate;
use crate::gate::keys::KernelKeys;
use crate::gate::metrics::Metrics;
use crate::gate::penalty::PenaltyChange;
use crate::gate::sealed::Sealed;
use crate::gate::token::Tokens;

/// Seconds between two sweeps of the kernel's penalties, which also count them for the gauge.
const SWEPT_EVERY: u32 = 10;

/// Whether any zone judges requests, or one that a fleet's manifest brings may.
pub(super) fn wanted(config: &Config) -> bool {
    config.fleet.is_some()
        || config
            .zones
            .iter()
            .any(|zone| zone.gate.as_ref().is_some_and(|gate| !gate.rules.is_empty()))
}

/// Whether what is sealed has to be good after a restart: waits, and cookies that lead to servers.
pub(super) fn lasting(config: &Config) -> bool {
    let leads = |upstream: &crate::config::Upstream| upstream.sticky.is_some();
    wanted(config)
        || config.zones.iter().any(|zone| {
            let own = matches!(&zone.origin, crate::config::Origin::Servers(upstream) if leads(upstream));
            own || zone.pools.iter().any(|(_, upstream)| leads(upstream))
        })
}

/// The gate with what it is made of.
pub(super) struct Gates {
    pub(super) gate: Arc<Gate>,
    sealed: Arc<Sealed>,
    /// Where XDP runs.
    kernel: Option<Arc<Penalties>>,
}

impl Gates {
    /// `None` when no zone has rules: then no secret is read and no memory taken.
    ///
    /// # Errors
    /// Templates and secrets that cannot be used.
    pub(super) fn start(
        config: &Config,
        dataplane: Option<&Dataplane>,
        tokens: &Arc<Tokens>,
        registry: &mut Registry,
    ) -> anyhow::Result<Option<Self>> {
        let kernel = dataplane.map(|dataplane| dataplane.penalties().clone());
        if !wanted(config) {
            if let Some(dataplane) = dataplane {
                // What a daemon before had penalised is not judged any more, not in a lockdown
                // either.
                dataplane.switch_gate(false)?;
                dataplane.penalties().clear();
                dataplane.penalties().set_keys(&tokens.kernel_keys().0)?;
                dataplane.penalties().set_clock(dataplane::clock_offset())?;
            }
            return Ok(None);
        }
        let sealed = Arc::new(Sealed::new(&config.gate, tokens.clone()));
        let metrics = Metrics::default();
        metrics.register(registry);
        let (gate, changes) = Gate::empty(&config.gate, sealed.clone(), metrics);
        let gate = Arc::new(gate);
        let (clock, book) = (gate.clock(), Arc::downgrade(gate.book()));
        if let (Some(dataplane), Some(kernel)) = (dataplane, &kernel) {
            for penalty in kernel.list() {
                // Taken over from the daemon before, so that they are listed and can be lifted.
                let now = clock.now().mono;
                gate.book().adopt(now, feed::heard(now, &penalty));
            }
            kernel.set_keys(&sealed.kernel_keys().0)?;
            kernel.set_clock(dataplane::clock_offset())?;
            dataplane.switch_gate(true)?;
            let mut feed = Kernel(kernel.clone());
            std::thread::Builder::new()
                .name("gate-feed".to_owned())
                .spawn(move || changes.run(clock, &book, &mut feed))?;
        }
        Ok(Some(Self { gate, sealed, kernel }))
    }

    /// What judges at the ClientHello.
    pub(super) fn door(&self, tokens: &Arc<Tokens>) -> Arc<Door> {
        Arc::new(self.gate.door(tokens.clone()))
    }

    /// Gauges; the kernel's clock; and keys when their epoch ends.
    fn tick(&self) {
        self.gate.tick();
        self.sealed.rotate(self.gate.clock().now());
        if let Some(kernel) = &self.kernel {
            tell(kernel, &self.sealed.kernel_keys());
        }
    }

    pub(super) fn penalties(&self) -> Vec<Penalty> {
        let now = self.gate.clock().now().mono;
        let told = |change: PenaltyChange| {
            Some(Penalty {
                subject: change.key,
                level: change.level?,
                seconds: change.until.saturating_sub(now).as_secs(),
            })
        };
        self.gate.book().list(now).into_iter().filter_map(told).collect()
    }

    /// `false` if there are too many. Networks are penalised by the gate alone: an operator denies
    /// them.
    pub(super) fn penalise(&self, penalty: &Penalty) -> bool {
        // A year is for ever, and keeps the sum within the clock.
        let lasts = Duration::from_secs(penalty.seconds.min(365 * 86_400));
        let now = self.gate.clock().now().mono;
        self.gate.book().add(now, whole(penalty.subject), penalty.level, lasts)
    }

    /// `false` if there was none.
    pub(super) fn forgive(&self, subject: Subject) -> bool {
        self.gate.book().lift(self.gate.clock().now().mono, whole(subject))
    }
}

/// The time, and the keys of tokens: all of them each second, so that a write that failed is made
/// up for, and the kernel does not lack a key for a whole epoch. Only what has changed is written.
fn tell(kernel: &Penalties, keys: &KernelKeys) {
    let told = [kernel.set_keys(&keys.0), kernel.set_clock(dataplane::clock_offset())];
    for error in told.into_iter().filter_map(Result::err) {
        tracing::warn!(target: "edge::gate", %error, "the kernel was not told the time or the keys of tokens");
    }
}

/// As the book has it: an operator may write any address of a /64.
fn whole(subject: Subject) -> Subject {
    match subject {
        Subject::Address(address) => Subject::Address(client_prefix(address)),
        Subject::Network(_) | Subject::Client(_) => subject,
    }
}

/// Keeps the gate current, once a second.
pub(super) async fn tick(node: Arc<Node>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut count = 0_u32;
    loop {
        second.tick().await;
        let Some(gates) = &node.gates else {
            // For session tickets, and for Retries in a lockdown.
            node.tokens.rotate(UnixTime::now());
            if let Some(dataplane) = &node.dataplane {
                tell(dataplane.penalties(), &node.tokens.kernel_keys());
            }
            continue;
        };
        gates.tick();
        count = count.wrapping_add(1);
        if let Some(kernel) = gates.kernel.as_ref().filter(|_| count.is_multiple_of(SWEPT_EVERY)) {
            let kernel = kernel.clone();
            // Not here: it reads the whole table. One at a time, since the next one is seconds
            // away.
            tokio::task::spawn_blocking(move || kernel.sweep());
        }
    }
}
