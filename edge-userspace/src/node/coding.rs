//! The place of content coding in the node: dictionaries and coded assets are shared by all
//! workers.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::delta::browser::{Browsers, Shared};
use crate::http::handler::Handler;

/// What the workers share; tables are empty until a zone uses them.
pub(super) fn start(config: &Config, registry: &mut Registry) -> Arc<Shared> {
    Shared::new(&config.coding, registry)
}

/// `handler` with its answers coded for clients.
pub(super) fn around(shared: &Arc<Shared>, handler: Arc<dyn Handler>) -> Arc<dyn Handler> {
    Arc::new(Browsers::new(shared.clone(), handler))
}

/// Sets the gauges, once a second.
pub(super) async fn tick(shared: Arc<Shared>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        shared.tick();
    }
}
