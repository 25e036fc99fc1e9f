//! Simulated nodes of a fleet for `cargo xtask bench fleet`: the daemon's own agent, a thousand
//! times, on nodes that serve nobody. `fleet-load ENGINE FILES STATE COUNT` adds that many nodes to
//! FILES/fleet.toml, prints `joined`, and then, four times a second, a line of JSON: the lowest
//! counter that one of them holds, what all have fetched, and how many are connected.
#![deny(unsafe_code)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use edge::base::shutdown;
use edge::fleet::agent::{Agent, Host, Install, Settings};
use edge::fleet::deploy::{FLEET_FILE, Fleet};
use edge::fleet::event::Action;
use edge::fleet::key::Identity;
use edge::fleet::metrics::Metrics;
use edge::fleet::nats::{Nats, Server, trust};

/// A node that serves nobody.
struct Idle;

impl Host for Idle {
    fn prepare(&self, _: &Path) -> Result<Install, String> {
        Ok(Box::new(|| {}))
    }

    fn apply(&self, _: &Action, _: bool) -> Result<(), String> {
        Ok(())
    }

    fn void(&self) {}
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, files, state, count] = arguments.as_slice() else {
        anyhow::bail!("usage: fleet-load ENGINE FILES STATE COUNT");
    };
    let engine: SocketAddr = engine.parse().context("ENGINE is an address and a port")?;
    let (files, state) = (PathBuf::from(files), PathBuf::from(state));
    let count: usize = count.parse().context("COUNT is a number")?;
    let identities = join(&files, count)?;
    println!("joined");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(engine, &files, &state, identities))
}

fn join(files: &Path, count: usize) -> Result<Vec<(String, Arc<Identity>)>> {
    let (mut identities, mut text) = (Vec::with_capacity(count), String::new());
    for number in 0..count {
        let (name, identity) = (format!("sim-{number}"), Identity::generate()?);
        let (key, seal) = (identity.signer.public(), identity.recipient());
        writeln!(
            text,
            "\n[[node]]\nname = \"{name}\"\nkey = \"{key}\"\nseal = \"{seal}\""
        )?;
        identities.push((name, Arc::new(identity)));
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(files.join(FLEET_FILE))?;
    file.write_all(text.as_bytes())?;
    Ok(identities)
}

async fn run(engine: SocketAddr, files: &Path, state: &Path, identities: Vec<(String, Arc<Identity>)>) -> Result<()> {
    let fleet = Fleet::read(files)?;
    let tls = trust::tls(None, None).map_err(anyhow::Error::msg)?;
    let server = Server {
        host: engine.ip().to_string(),
        port: engine.port(),
        tls: false,
    };
    // Held until the process is ended: the agents run as long.
    let (_ends, shutdown) = shutdown::channel();
    let mut agents = Vec::with_capacity(identities.len());
    for (node, identity) in identities {
        let settings = Settings {
            directory: state.join(&node),
            node,
            identity,
            trust: fleet.trust(),
            most: 1 << 30,
        };
        let engine = Nats::new(&fleet.name, vec![server.clone()], tls.clone(), None, 1);
        let metrics = Metrics::default();
        let agent = Agent::open(settings, Arc::new(engine), Arc::new(Idle), metrics.clone())?;
        tokio::spawn(agent.clone().run(shutdown.clone()));
        agents.push((agent, metrics));
    }
    let mut quarter = tokio::time::interval(Duration::from_millis(250));
    loop {
        quarter.tick().await;
        let lowest = agents.iter().map(|(agent, _)| agent.counter()).min().unwrap_or(0);
        let fetched: u64 = agents.iter().map(|(_, metrics)| metrics.fetched_bytes()).sum();
        let connected = agents.iter().filter(|(agent, _)| agent.view().connected).count();
        println!("{{\"lowest\":{lowest},\"fetched\":{fetched},\"connected\":{connected}}}");
    }
}
