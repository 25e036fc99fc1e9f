//! `edge origin`: the servers of a running node's origins. Orders hold until the next one or the
//! end of the process; a reload keeps them.

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;

use super::{Asked, OnNode, ask, print};
use crate::admin::OriginOrder;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show all servers: zone or pool, address, health, weight, requests under way.
    List,
    /// Give a server no new requests. Those under way end; no connection is cut.
    Drain(Which),
    /// Give a server another weight, 1 to 65535.
    Weight {
        #[command(flatten)]
        which: Which,
        /// Its share of the requests.
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        weight: u16,
    },
    /// Give a server the weight that the file says.
    Restore(Which),
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The server's address, as the file has it: `http://10.0.0.1:8080`.
    server: String,
    /// In this zone or pool alone.
    #[arg(long)]
    of: Option<String>,
}

/// Does what the arguments say.
pub(super) fn run(arguments: &OnNode<Command>) -> anyhow::Result<()> {
    let (which, weight, done) = match &arguments.command {
        Command::List => return list(&arguments.asked),
        Command::Drain(which) => (which, Some(0), "drained".to_owned()),
        Command::Weight { which, weight } => (which, Some(*weight), format!("has weight {weight}")),
        Command::Restore(which) => (which, None, "is as the file says".to_owned()),
    };
    let order = OriginOrder {
        server: which.server.clone(),
        of: which.of.clone(),
        weight,
    };
    ask(
        &arguments.asked,
        Method::POST,
        "/origin",
        serde_json::to_string(&order)?,
    )?;
    print(&format!("{} {done}\n", which.server));
    Ok(())
}

fn list(asked: &Asked) -> anyhow::Result<()> {
    let text = ask(asked, Method::GET, "/status", String::new())?;
    let status: serde_json::Value = serde_json::from_str(&text).context("the daemon's status cannot be read")?;
    let mut lines = String::new();
    for zone in status["origins"].as_array().into_iter().flatten() {
        for server in zone["servers"].as_array().into_iter().flatten() {
            let state = match (server["drained"].as_bool(), server["healthy"].as_bool()) {
                (Some(true), _) => "drained",
                (_, Some(true)) => "healthy",
                _ => "unhealthy",
            };
            let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            lines.push_str(&format!(
                "{}\t{}\t{state}\tweight {}\t{} under way\n",
                word(&zone["zone"]),
                word(&server["address"]),
                server["weight"],
                server["in_flight"]
            ));
        }
    }
    print(&lines);
    Ok(())
}
