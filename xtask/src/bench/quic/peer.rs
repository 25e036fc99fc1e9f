//! Caddy from Debian, which speaks HTTP/3 by quic-go: the implementation to compare with.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use edge_testbed::pki::Files;
use edge_testbed::process::{self, Process};

use crate::workspace;

/// What Caddy's version is, for the record.
pub(super) fn version() -> Result<String> {
    let caddy = workspace::need("caddy", workspace::SETUP_BENCH)?;
    let output = process::output(Command::new(caddy).arg("version"), Duration::from_secs(10))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(format!(
        "caddy/{} (quic-go)",
        text.split_whitespace().next().unwrap_or("?")
    ))
}

/// A reverse proxy before `origin`, with the certificate given and without a log. `command` runs
/// what is added to it.
pub(super) fn proxy(
    mut command: Command,
    prefix: &Path,
    address: SocketAddr,
    host: &str,
    leaf: &Files,
    origin: SocketAddr,
) -> Result<Process> {
    fs::create_dir_all(prefix)?;
    let caddyfile = format!(
        r#"{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
    servers {{
        protocols h1 h2 h3
    }}
}}
https://{host}:{port} {{
    bind {ip}
    tls "{certificate}" "{key}"
    reverse_proxy {origin}
}}
"#,
        port = address.port(),
        ip = address.ip(),
        certificate = leaf.certificate.display(),
        key = leaf.key.display(),
    );
    let file = prefix.join("Caddyfile");
    fs::write(&file, caddyfile)?;
    command
        .arg(workspace::need("caddy", workspace::SETUP_BENCH)?)
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&file)
        // What it would keep between runs: nothing of the user's.
        .env("XDG_DATA_HOME", prefix)
        .env("XDG_CONFIG_HOME", prefix);
    let mut caddy = Process::spawn(&mut command, &prefix.join("output.log"))?;
    caddy.wait_port(address, Duration::from_secs(20))?;
    Ok(caddy)
}
