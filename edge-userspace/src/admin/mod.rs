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
    fn deny(&self, network: IpNet) -> Result<(), ControlError>;

    /// Lifts a denial made by [`Control::deny`]; `false` where there was none.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn lift(&self, network: IpNet) -> Result<bool, ControlError>;
}

/// One entry of the deny list.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The network.
    pub network: IpNet,
    /// Who asked for it.
    pub source: DeniedBy,
}

/// Who asked for a denial.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeniedBy {
    /// The configuration file.
    File,
    /// `edge deny add`.
    Operator,
}

/// A control command that failed; the words go to the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(pub String);
