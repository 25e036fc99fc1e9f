//! A key server's world: its directory of keys, its own certificate, the edge's, and the
//! configuration that lets the edge in.
//!
//! The demo, benches and tests prepare one and start `edge-keyserver` and `edge` on it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::pki::{self, Authority};

/// The name in the key server's certificate.
pub const NAME: &str = "keys.example.test";
/// The edge's name in its client certificate.
pub const EDGE: &str = "edge-1.example.test";

/// A prepared directory.
#[derive(Clone, Debug)]
pub struct Keys {
    directory: PathBuf,
    listen: SocketAddr,
}

impl Keys {
    /// Writes everything but keys below `directory`. One authority signs both ends' certificates.
    pub fn prepare(directory: &Path, authority: &Authority, listen: SocketAddr) -> Result<Self> {
        let this = Self {
            directory: directory.to_owned(),
            listen,
        };
        fs::create_dir_all(directory.join("keys")).with_context(|| format!("making {}", directory.display()))?;
        authority.write(&directory.join("ca.pem"))?;
        authority.write_leaf(directory, "keyserver", &[NAME])?;
        authority.write_leaf(directory, "edge", &[EDGE])?;
        this.let_in(EDGE)?;
        Ok(this)
    }

    /// Writes the configuration, with the client of that name on the access list.
    pub fn let_in(&self, client: &str) -> Result<()> {
        let configuration = format!(
            r#"[server]
listen = ["{listen}"]
certificate = "keyserver.pem"
key = "keyserver.key"
client_ca = "ca.pem"
workers = 1
drain = "2s"
[keys]
directory = "keys"
poll = "200ms"
[admin]
listen = "unix:{admin}"
[[client]]
name = "edge-1"
dns = "{client}"
[[client.grant]]
keys = ["*"]
ops = ["sign-tls13", "sign-tls12", "kx-sign-tls12", "kx-start", "kx-finish", "kx-tls13"]
"#,
            listen = self.listen,
            admin = self.directory.join("admin.sock").display(),
        );
        fs::write(self.configuration(), configuration).context("writing the key server's configuration")
    }

    /// For `edge-keyserver run --config`.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("keyserver.toml")
    }

    /// Gives the key server a key (PEM), which it takes while it runs.
    pub fn add(&self, name: &str, pem: &str) -> Result<()> {
        pki::write_key(&self.directory.join("keys").join(name).with_extension("key"), pem)
    }

    /// The edge's entry for this key server, or for whoever listens in its place.
    pub fn entry(&self, name: &str, address: SocketAddr) -> String {
        let file = |name: &str| self.directory.join(name).display().to_string();
        format!(
            r#"[[key_server]]
name = "{name}"
address = "{address}"
server_name = "{NAME}"
ca = "{ca}"
certificate = "{certificate}"
key = "{key}"
"#,
            ca = file("ca.pem"),
            certificate = file("edge.pem"),
            key = file("edge.key"),
        )
    }
}
