//! The room `acme` in the node: made with what answers challenges, and run beside everything else.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::Node;
use crate::acme::{Acme, metrics};
use crate::base::shutdown::Phase;
use crate::config::Config;
use crate::tls::certificates::Store;

/// Between two rounds: a zone that a reload brought waits no longer than this for its first order.
const EVERY: Duration = Duration::from_secs(10);

/// Makes it.
pub(super) fn start(config: &Config, certificates: &Store, registry: &mut Registry) -> Acme {
    let challenges = certificates.challenges().clone();
    Acme::new(config.acme.clone(), challenges, metrics::Metrics::register(registry))
}

/// Looks at the zones of the configuration in force until the node drains. An order under way then
/// is given up; the authority lets it expire.
pub(super) async fn tend(node: Arc<Node>, mut acme: Acme) {
    let mut shutdown = node.shutdown.clone();
    let drain = shutdown.reached(Phase::Draining);
    tokio::pin!(drain);
    let mut tick = tokio::time::interval(EVERY);
    loop {
        let round = async {
            tick.tick().await;
            let state = node.state.load_full();
            acme.round(&state.config.zones).await;
        };
        tokio::select! {
            () = &mut drain => return,
            () = round => {}
        }
    }
}
