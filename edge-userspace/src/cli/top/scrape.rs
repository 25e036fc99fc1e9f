//! What a running node says of itself at one moment, asked of its admin endpoint; `model` reads it.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::exposition::{Exposition, clean};
use crate::admin::Penalty;
use crate::admin::client::{self, Error};
use crate::config::value::AdminAddress;

/// For all questions of one look together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that is shown, as it came.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) status: Value,
    pub(super) metrics: Exposition,
    pub(super) ready: bool,
    /// What does not work although the node is ready.
    pub(super) notes: Vec<String>,
    /// `None`: no zone has a gate.
    pub(super) penalties: Option<Vec<Penalty>>,
}

/// Asks the node at `address`, within five seconds.
///
/// # Errors
/// In words for the operator: nobody answers, or not as a node does.
pub(super) async fn look(address: &AdminAddress) -> Result<Look, String> {
    match tokio::time::timeout(PATIENCE, ask(address)).await {
        Ok(look) => look,
        Err(_) => Err(Error::Timeout(address.clone(), PATIENCE).to_string()),
    }
}

async fn ask(address: &AdminAddress) -> Result<Look, String> {
    let words = |error: Error| error.to_string();
    let strange = |what| format!("what answers at {address} is not a node: {what} cannot be read");
    let status = client::read(address, "/status").await.map_err(words)?;
    let metrics = client::read(address, "/metrics").await.map_err(words)?;
    let (ready, notes) = match client::read(address, "/readyz").await {
        Ok(text) => (true, text.lines().skip(1).map(clean).collect()),
        Err(Error::Refused { status, .. }) if status == StatusCode::SERVICE_UNAVAILABLE => (false, Vec::new()),
        Err(error) => return Err(words(error)),
    };
    let penalties = match client::read(address, "/penalty").await {
        Ok(text) => Some(serde_json::from_str(&text).map_err(|_| strange("/penalty"))?),
        Err(Error::Refused { status, .. }) if status == StatusCode::CONFLICT => None,
        Err(error) => return Err(words(error)),
    };
    Ok(Look {
        status: serde_json::from_str(&status).map_err(|_| strange("/status"))?,
        metrics: Exposition::parse(&metrics).ok_or_else(|| strange("/metrics"))?,
        ready,
        notes,
        penalties,
    })
}
