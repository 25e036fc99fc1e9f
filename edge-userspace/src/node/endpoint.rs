//! The admin endpoint of a process that serves: bound before a thread accepts, since a node that
//! cannot be controlled must not take connections and drop them; answered until the process stops.

use std::sync::Arc;

use anyhow::Context;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;

use crate::admin::Control;
use crate::admin::guard::Rights;
use crate::admin::server::{self, Listener};
use crate::base::shutdown::Shutdown;
use crate::config;

/// The bound addresses.
pub(super) struct Endpoint {
    /// That for commands.
    commands: Listener,
    /// That for those who read, if there is one apart.
    reading: Option<Listener>,
}

impl Endpoint {
    /// Binds what `admin` names.
    ///
    /// # Errors
    /// An address is taken.
    pub(super) async fn bind(admin: &config::Admin) -> anyhow::Result<Self> {
        let listen = &admin.listen;
        let commands = server::bind(listen)
            .await
            .with_context(|| format!("the admin endpoint cannot listen on {listen}; write another [admin] listen"))?;
        let reading = match admin.read {
            None => None,
            Some(address) => Some(server::bind_reading(address).await.with_context(|| {
                format!("the admin endpoint cannot listen on {address}; write another [admin] read")
            })?),
        };
        Ok(Self { commands, reading })
    }

    /// Answers by `control` until `ends` stops; the task for commands, which then ends.
    pub(super) fn serve(self, registry: Arc<Registry>, control: Arc<dyn Control>, ends: Shutdown) -> JoinHandle<()> {
        if let Some(reading) = self.reading {
            let (registry, control, ends) = (registry.clone(), control.clone(), ends.clone());
            tokio::spawn(server::serve(reading, Rights::Read, registry, control, ends));
        }
        tokio::spawn(server::serve(self.commands, Rights::Command, registry, control, ends))
    }
}
