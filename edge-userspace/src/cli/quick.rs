//! `edge serve` and `edge proxy`: a node from one line, on loopback, without root, XDP or a
//! configuration file. To try things, and to see a folder or a server through everything that edge
//! does by default.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::config::value::OriginAddress;
use crate::node::{self, Run};

/// Arguments of `edge serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The folder whose files are served.
    directory: PathBuf,
    #[command(flatten)]
    listen: Listen,
}

/// Arguments of `edge proxy`.
#[derive(Debug, Args)]
pub(super) struct Proxy {
    /// The server that is asked: http://HOST:PORT or https://HOST:PORT.
    server: OriginAddress,
    #[command(flatten)]
    listen: Listen,
}

#[derive(Debug, Args)]
struct Listen {
    /// Where plain HTTP is served: an address of this machine alone.
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where HTTPS and HTTP/3 are served, with a certificate made for this run.
    #[arg(long, default_value = "127.0.0.1:8443")]
    https: SocketAddr,
}

/// Serves a folder until SIGINT or SIGTERM.
///
/// # Errors
/// The folder is not there, an address is taken, or no temporary directory can be made.
pub(super) fn serve(serve: &Serve) -> anyhow::Result<()> {
    let directory = serve.directory.canonicalize();
    let directory = directory.with_context(|| format!("{} cannot be served", serve.directory.display()))?;
    let origin = format!("directory = {}", quoted(&directory)?);
    run(&serve.listen, &origin, &directory.display().to_string())
}

/// Serves what another server answers until SIGINT or SIGTERM.
///
/// # Errors
/// As [`serve`].
pub(super) fn proxy(proxy: &Proxy) -> anyhow::Result<()> {
    let server = proxy.server.to_string();
    let origin = format!("servers = [{{ address = \"{server}\" }}]\npreserve_host = false");
    run(&proxy.listen, &origin, &server)
}

fn run(listen: &Listen, origin: &str, what: &str) -> anyhow::Result<()> {
    for address in [listen.http, listen.https] {
        anyhow::ensure!(
            address.ip().is_loopback(),
            "{address} is not an address of this machine alone; write a configuration for `edge run` instead"
        );
    }
    let place = Place::new().context("no temporary directory can be made")?;
    let (certificate, key) = certificate([listen.http.ip(), listen.https.ip()])?;
    place.write("certificate.pem", &certificate)?;
    place.write("key.pem", &key)?;
    let text = text(listen, origin, &place.0)?;
    println!(
        "{what} is served at http://{} and https://{} (with a certificate made just now); Ctrl-C ends it",
        listen.http, listen.https
    );
    node::run(&Run {
        config: place.0.join("edge.toml"),
        interface: Vec::new(),
        xdp: None,
        no_xdp: true,
        text: Some(text.into()),
        log_format: None,
    })
}

/// At once: no more than most machines allow a process to have open without being asked.
const CONNECTIONS: usize = 4_096;

/// What a configuration file would say.
fn text(listen: &Listen, origin: &str, place: &Path) -> anyhow::Result<String> {
    let admin = quoted(&place.join("admin.sock"))?.replacen('"', "\"unix:", 1);
    let (gate, workers, cache) = (place.join("gate"), place.join("workers"), place.join("cache"));
    Ok(format!(
        "[server]\nplain = [\"{}\"]\nhttps = [\"{}\"]\ndrain = \"1s\"\n[limits]\nconnections = {CONNECTIONS}\n[admin]\nlisten = {admin}\n\
         [gate]\nstate_directory = {}\n[isolate]\nstate_directory = {}\n[cache]\ndirectory = {}\n\
         [[zone]]\nname = \"here\"\nhosts = [\"localhost\"]\ndefault = true\n\
         certificate = \"certificate.pem\"\nkey = \"key.pem\"\n[zone.origin]\n{origin}\n",
        listen.http,
        listen.https,
        quoted(&gate)?,
        quoted(&workers)?,
        quoted(&cache)?,
    ))
}

/// A path as a basic string of TOML.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let path = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    let mut quoted = String::from("\"");
    for c in path.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => anyhow::bail!("{path:?} has control characters"),
            c => quoted.push(c),
        }
    }
    Ok(quoted + "\"")
}

/// A certificate for this machine, and its key, as PEM.
fn certificate(addresses: [IpAddr; 2]) -> anyhow::Result<(String, String)> {
    let names = std::iter::once("localhost".to_owned()).chain(addresses.map(|address| address.to_string()));
    let mut params = rcgen::CertificateParams::new(names.collect::<Vec<_>>())?;
    let name = rcgen::DnType::CommonName;
    params.distinguished_name.push(name, "edge on this machine");
    let key = rcgen::KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// A directory of this user and this process alone, which goes with the value.
struct Place(PathBuf);

impl Place {
    fn new() -> io::Result<Self> {
        let name = format!("edge-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // One that is there already is somebody else's.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.0.join(name));
        io::Write::write_all(&mut file?, text.as_bytes())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is in the system's directory for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// The first thing that a newcomer tries would not start.
    #[test]
    fn the_text_is_a_sound_configuration() {
        let place = Place::new().unwrap();
        let listen = Listen {
            http: "127.0.0.1:8080".parse().unwrap(),
            https: "[::1]:8443".parse().unwrap(),
        };
        let (certificate, key) = certificate([listen.http.ip(), listen.https.ip()]).unwrap();
        place.write("certificate.pem", &certificate).unwrap();
        place.write("key.pem", &key).unwrap();
        let odd = place.0.join("a \"folder\" of ours");
        fs::create_dir(&odd).unwrap();
        let origin = format!("directory = {}", quoted(&odd).unwrap());
        for origin in [origin.as_str(), "servers = [{ address = \"http://127.0.0.1:3000\" }]"] {
            let text = text(&listen, origin, &place.0).unwrap();
            let config = Config::parse(&place.0.join("edge.toml"), &text).unwrap();
            assert!(node::check(config).unwrap().is_empty());
        }
        let path = place.0.clone();
        drop(place);
        assert!(!path.exists());
    }
}
