//! The edge that a suite talks to: one zone, before the demo's origin or one of the suite's own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use edge_testbed::pki::Authority;
use edge_testbed::process::{Process, free_address};

use crate::workspace::{self, Profile};

const START: Duration = Duration::from_secs(30);

/// What a suite asks of its node: an unoptimised build.
pub(super) struct Node<'a> {
    /// The zone's host, in its certificate and in `hosts`; the zone serves names of no zone, too.
    pub(super) host: &'a str,
    /// Where it listens for HTTPS.
    pub(super) address: SocketAddr,
    pub(super) origin: SocketAddr,
    /// Further keys: tables of the zone, in TOML.
    pub(super) further: &'a str,
}

impl Node<'_> {
    /// Starts it; it ends with what is returned. Its files are in `directory`.
    pub(super) fn start(&self, directory: &Path) -> Result<Process> {
        let authority = Authority::new("Edge conformance CA")?;
        let leaf = authority.write_leaf(directory, "leaf", &[self.host])?;
        let configuration = format!(
            r#"[server]
https = ["{address}"]
[dataplane]
xdp = "off"
[admin]
listen = "unix:{admin}"
[[zone]]
name = "suite"
hosts = ["{host}"]
default = true
certificate = "{certificate}"
key = "{key}"
[zone.origin]
servers = [{{ address = "http://{origin}" }}]
{further}"#,
            address = self.address,
            admin = directory.join("admin.sock").display(),
            host = self.host,
            certificate = leaf.certificate.display(),
            key = leaf.key.display(),
            origin = self.origin,
            further = self.further,
        );
        let file = directory.join("edge.toml");
        fs::write(&file, configuration)?;
        let mut command = Command::new(workspace::binary("edge", Profile::Dev));
        command
            .args(["run", "--no-xdp", "--log-format", "json", "--config"])
            .arg(&file);
        let mut edge = Process::spawn(&mut command, &directory.join("edge.log"))?;
        edge.wait_port(self.address, START)?;
        Ok(edge)
    }
}

/// Starts a node that serves `host` from the demo's origin: where, and both processes, which end
/// with what is returned.
pub(super) fn before_demo_origin(host: &str, directory: &Path) -> Result<(SocketAddr, [Process; 2])> {
    let origin = free_address()?;
    let mut command = Command::new(workspace::binary("demo-origin", Profile::Dev));
    command.arg(origin.to_string());
    let mut server = Process::spawn(&mut command, &directory.join("origin.log"))?;
    server.wait_port(origin, START)?;
    let address = free_address()?;
    let node = Node {
        host,
        address,
        origin,
        further: "",
    };
    Ok((address, [node.start(directory)?, server]))
}
