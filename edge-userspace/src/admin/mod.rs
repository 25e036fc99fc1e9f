//! The operator's side of the node: logs, metrics, health, status and the control commands. Imports nothing to its right;
//! `node` injects what it shows and does through [`Control`].

mod answer;
pub mod client;
pub mod log;
pub mod metrics;
pub mod server;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What the endpoint can ask of the node. Implemented by `node`; calls are short and may take a lock, never the network.
pub trait Control: Send + Sync + 'static {
    /// The node's state, for `/status`.
    fn status(&self) -> serde_json::Value;

    /// Whether requests are answered, for `/readyz`.
    fn ready(&self) -> bool;

    /// The networks whose attempts are dropped.
    ///
    /// # Errors
    /// Why the list cannot be read, in words for the operator.
    fn denied(&self) -> Result<Vec<Denied>, ControlError>;

    /// Drops attempts from `network` from now on, across restarts.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn deny(&self, network: IpNet) -> Result<Denial, ControlError>;

    /// Lifts a denial made by [`Control::deny`].
    ///
    /// # Errors
    /// Why not, in words for the operator: it was not denied, or the file denies it.
    fn lift(&self, network: IpNet) -> Result<(), ControlError>;
}

/// One entry of the deny list.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The network.
    pub network: IpNet,
    /// Denied by the configuration file.
    pub file: bool,
    /// Denied by `edge deny add`.
    pub operator: bool,
    /// Without effect: the allow list covers it.
    pub allowed: bool,
}

/// What [`Control::deny`] did.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Denial {
    /// Attempts from the network are dropped from now on.
    Denied,
    /// They were before.
    Already,
    /// The entry is kept, but the allow list covers it.
    Allowed,
}

/// A control command that failed; the words go to the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(pub String);
