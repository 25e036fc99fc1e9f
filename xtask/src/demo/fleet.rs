//! `cargo xtask run --fleet`: two nodes, an engine, and a manifest that is in force on both.
//! Everything is on loopback; root is not needed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::fleet::{Bed, HOST, nats_server, until};
use edge_testbed::interrupt;

use crate::workspace::{self, Profile};

const NODES: [&str; 2] = ["a", "b"];
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until Ctrl-C or SIGTERM. Nodes that are killed, as the sheet suggests, do not end it.
pub(crate) fn run(profile: Profile) -> Result<()> {
    let server = nats_server(&workspace::root());
    if !server.exists() {
        bail!("{} is missing: `cargo xtask setup test` installs it", server.display());
    }
    let directory = workspace::output("demo-fleet")?;
    fs::remove_dir_all(&directory)?;
    fs::create_dir_all(&directory)?;
    let edge = workspace::binary("edge", profile);
    let mut bed = Bed::start(&directory, &edge, &server)?;
    for name in NODES {
        bed.add(name)?;
    }
    bed.deploy()?;
    for name in NODES {
        until("both answer", PATIENCE, || {
            bed.get(name, "/").is_ok_and(|(status, ..)| status == 200)
        })?;
    }
    print!("{}", sheet(&bed, &directory, &edge)?);
    println!("ready");
    while !interrupt::requested() {
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(bed);
    println!("demo ended");
    Ok(())
}

fn sheet(bed: &Bed, directory: &Path, edge: &Path) -> Result<String> {
    let address = |name: &str| {
        let node = bed.nodes().find(|node| node.name == name).context("no such node");
        node.map(|node| node.address)
    };
    let pid = bed.process("b").context("b does not run")?;
    let (edge, directory) = (edge.display(), directory.display());
    let (a, b) = (address("a")?, address("b")?);
    Ok(format!(
        "Two nodes of one fleet, and the engine between them. Both took one manifest:\n\
         \n\
         both answer, and store what they answer:\n  \
           curl -si -H 'Host: {HOST}' http://{a}/page\n  \
           curl -si -H 'Host: {HOST}' http://{b}/page\n\
         deploy once: change X-Version in {directory}/files/zones.d/shop.toml, then\n  \
           {edge} fleet deploy {directory}/files --key {directory}/deploy.key\n\
         purge, and have it proven by both:\n  \
           {edge} cache purge http://{HOST}/page --fleet --wait --admin unix:{directory}/a/admin.sock\n\
         what each holds:\n  \
           {edge} fleet status {directory}/files\n\
         kill one; the other serves, and a purge names who has not answered:\n  \
           kill -9 {pid}\n  \
           curl -si -H 'Host: {HOST}' http://{a}/page\n  \
           {edge} cache purge http://{HOST}/page --fleet --wait 1s --admin unix:{directory}/a/admin.sock\n\
         go on without it:\n  \
           {edge} fleet cordon b {directory}/files --key {directory}/deploy.key\n\
         start it again; it takes what it missed:\n  \
           {edge} run --no-xdp --config {directory}/b/edge.toml\n\
         \n\
         Logs are in {directory}. Ctrl-C ends everything.\n"
    ))
}
