//! This edge as the proxy that `bench http` measures.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use edge_testbed::process::Process;

use super::load::Setting;

/// A reverse proxy of one worker without XDP: what is measured is user space.
pub(super) fn proxy(binary: &Path, setting: &Setting<'_>) -> Result<Process> {
    let Setting {
        prefix,
        host,
        leaf,
        access_log,
        ..
    } = setting;
    fs::create_dir_all(prefix)?;
    let configuration = format!(
        r#"[server]
https = ["{address}"]
workers = 1

[dataplane]
xdp = "off"

[limits]
# As nginx in its place: a connection is never ended for having been used a lot.
requests_per_connection = 0

[log]
access = {access_log}

[admin]
listen = "unix:{admin}"

[[zone]]
name = "bench"
hosts = ["{host}"]
certificate = "{certificate}"
key = "{key}"
[zone.origin]
servers = [{{ address = "http://{origin}" }}]
"#,
        address = setting.address,
        admin = prefix.join("admin.sock").display(),
        certificate = leaf.certificate.display(),
        key = leaf.key.display(),
        origin = setting.origin,
    );
    let file = prefix.join("edge.toml");
    fs::write(&file, configuration)?;
    let mut command = Command::new("taskset");
    command.args(["-c", &setting.core.to_string()]).arg(binary);
    command
        .args(["run", "--xdp", "off", "--log-format", "json", "--config"])
        .arg(&file);
    let mut process = Process::spawn(&mut command, &prefix.join("output.log"))?;
    process.wait_port(setting.address, Duration::from_secs(20))?;
    Ok(process)
}
