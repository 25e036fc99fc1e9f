//! nginx from Debian, as the origin of both proxies and as the proxy to compare with; started here,
//! in the foreground, with a configuration and a prefix of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use edge_testbed::process::{self, Process};

use super::load::Setting;
use crate::workspace;

/// What nginx's version is, for the record.
pub(super) fn version() -> Result<String> {
    let nginx = workspace::need("nginx", workspace::SETUP_BENCH)?;
    let output = process::output(Command::new(nginx).arg("-v"), Duration::from_secs(10))?;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok(text.trim().trim_start_matches("nginx version: ").to_owned())
}

/// Serves the files of `root` over plain HTTP/1.1, without a log.
pub(super) fn origin(prefix: &Path, address: SocketAddr, root: &Path, core: usize) -> Result<Process> {
    let http = format!(
        "access_log off;
    open_file_cache max=16;
    server {{
        listen {address} backlog=4096;
        root \"{root}\";
        # What is sent to a file is taken and answered by the file.
        error_page 405 =200 $uri;
    }}",
        root = root.display()
    );
    start(prefix, &http, address, core)
}

/// A reverse proxy in nginx's best reasonable shape: TLS 1.3 only, kept connections to the origin,
/// buffers that hold the largest answer so that nothing is written to disk, one line of JSON per
/// request to a log file as edge writes it.
pub(super) fn proxy(setting: &Setting<'_>) -> Result<Process> {
    let Setting {
        prefix,
        address,
        origin,
        host,
        leaf,
        ..
    } = setting;
    let log = if setting.access_log {
        format!("\"{}\" json", prefix.join("access.log").display())
    } else {
        "off".to_owned()
    };
    let http = format!(
        r#"log_format json escape=json '{{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$host","path":"$request_uri","protocol":"$server_protocol","status":$status,"bytes":$body_bytes_sent,"duration":$request_time,"origin":"$upstream_response_time"}}';
    access_log {log};
    upstream origin {{
        server {origin};
        keepalive 64;
        keepalive_requests 1000000000;
        keepalive_time 1h;
    }}
    server {{
        listen {address} ssl http2 backlog=4096;
        server_name {host};
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.3;
        http2_max_concurrent_streams 256;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header Forwarded "for=$remote_addr;proto=https;host=$host";
            proxy_buffers 16 16k;
            proxy_busy_buffers_size 64k;
            proxy_max_temp_file_size 0;
        }}
    }}"#,
        certificate = leaf.certificate.display(),
        key = leaf.key.display(),
    );
    start(prefix, &http, *address, setting.core)
}

pub(super) fn start(prefix: &Path, http: &str, address: SocketAddr, core: usize) -> Result<Process> {
    fs::create_dir_all(prefix)?;
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]);
    let mut process = spawn(command, prefix, http)?;
    process.wait_port(address, Duration::from_secs(10))?;
    Ok(process)
}

/// Starts nginx by `command`, which runs what is added to it, with one worker and this content of
/// `http`.
pub(super) fn spawn(mut command: Command, prefix: &Path, http: &str) -> Result<Process> {
    let nginx = workspace::need("nginx", workspace::SETUP_BENCH)?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path \"{}\";\n", prefix.join(kind).display()))
        .concat();
    // The workers must read a checkout that only its owner may read.
    let user = if rustix::process::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    let configuration = format!(
        "{user}daemon off;
worker_processes 1;
pid \"{pid}\";
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    default_type application/octet-stream;
{temporary}    {http}
}}
",
        pid = prefix.join("nginx.pid").display(),
    );
    let file: PathBuf = prefix.join("nginx.conf");
    fs::write(&file, configuration)?;
    command
        .arg(nginx)
        .arg("-p")
        .arg(prefix)
        .arg("-c")
        .arg(&file)
        .args(["-e", "stderr"]);
    Process::spawn(&mut command, &prefix.join("output.log"))
}
