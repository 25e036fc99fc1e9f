//! The three servers under storm, each with the same rule: two requests a second of an address,
//! five at once.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::netns::Netns;
use edge_testbed::pins::Pins;
use edge_testbed::process::{self, Process};

use super::world::{HOST, Plan};
use crate::bench::nginx;
use crate::workspace::{self, Profile};

const ADMIN: &str = "127.0.0.1:9180";
const COMMAND: Duration = Duration::from_secs(10);

/// Who serves and rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Edge,
    LimitReq,
    Nft,
    /// edge without XDP: the kernel's own SYN cookies.
    Kernel,
    /// The same behind nftables' synproxy.
    Synproxy,
}

impl Kind {
    /// As in `storm.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::LimitReq => "nginx_limit_req",
            Self::Nft => "nginx_nft",
            Self::Kernel => "kernel_cookies",
            Self::Synproxy => "nft_synproxy",
        }
    }
}

/// A server that runs; the process ends before its pins go.
pub(super) struct Server {
    kind: Kind,
    pub(super) process: Process,
    _pins: Option<Pins>,
}

impl Server {
    /// Starts it in `netns`; it need not answer yet.
    pub(super) fn start(kind: Kind, plan: &Plan, netns: &Netns, interface: &str, address: SocketAddr) -> Result<Self> {
        let prefix = plan.directory.join(kind.name());
        // What an earlier turn left (edge's state) would carry its penalties over.
        if prefix.exists() {
            fs::remove_dir_all(&prefix)?;
        }
        fs::create_dir_all(&prefix)?;
        let mut command = netns.command("taskset")?;
        command.args(["-c", &plan.server_core.to_string()]);
        let (process, pins) = match kind {
            Kind::Edge => {
                let pins = Pins::prepare("bench")?;
                (
                    edge(command, plan, &prefix, &attached(interface, pins.path()), address)?,
                    Some(pins),
                )
            }
            Kind::Kernel | Kind::Synproxy => (edge(command, plan, &prefix, "", address)?, None),
            Kind::LimitReq => (nginx::spawn(command, &prefix, &site(plan, address, true))?, None),
            Kind::Nft => {
                meter(&prefix, netns, interface)?;
                (nginx::spawn(command, &prefix, &site(plan, address, false))?, None)
            }
        };
        Ok(Self {
            kind,
            process,
            _pins: pins,
        })
    }

    /// SYNs that the kernel dropped for a penalty or for the meter, so far.
    pub(super) fn drops(&self, netns: &Netns) -> Result<u64> {
        match self.kind {
            Kind::LimitReq | Kind::Kernel | Kind::Synproxy => Ok(0),
            Kind::Edge => {
                let text =
                    ask(netns
                        .command("curl")?
                        .args(["--silent", "--fail", &format!("http://{ADMIN}/metrics")]))?;
                let start = "edge_dataplane_packets_total{verdict=\"drop\",reason=\"penalty";
                let counts = text.lines().filter(|line| line.starts_with(start));
                counts
                    .map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()? as u64))
                    .sum()
            }
            Kind::Nft => {
                let nft = workspace::need("nft", workspace::SETUP_BENCH)?;
                let text = ask(netns.command(nft)?.args(["list", "chain", "netdev", "storm", "input"]))?;
                let (_, rest) = text.split_once("counter packets ").context("nft shows no counter")?;
                Ok(rest.split(' ').next().unwrap_or_default().parse()?)
            }
        }
    }
}

fn ask(command: &mut Command) -> Result<String> {
    let output = process::output(command, COMMAND)?;
    if !output.status.success() {
        bail!(
            "`{}`: {}",
            workspace::show(command),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What edge is told of its XDP program.
fn attached(interface: &str, pins: &Path) -> String {
    format!(
        "[dataplane]\ninterfaces = [\"{interface}\"]\nxdp = \"native\"\npin_directory = \"{}\"\n",
        pins.display()
    )
}

fn edge(mut command: Command, plan: &Plan, prefix: &Path, dataplane: &str, address: SocketAddr) -> Result<Process> {
    let configuration = format!(
        r#"[server]
https = ["{address}"]
workers = 1
{dataplane}
[log]
access = false
[admin]
listen = "{ADMIN}"
[gate]
state_directory = "{state}"
[[zone]]
name = "storm"
hosts = ["{HOST}"]
certificate = "{certificate}"
key = "{key}"
[zone.origin]
directory = "{www}"
[[zone.gate.rule]]
rate = {{ requests = 2, per = "1s", burst = 5 }}
"#,
        state = prefix.join("state").display(),
        certificate = plan.leaf.certificate.display(),
        key = plan.leaf.key.display(),
        www = plan.directory.join("www").display(),
    );
    let file = prefix.join("edge.toml");
    fs::write(&file, configuration)?;
    command
        .arg(workspace::binary("edge", Profile::Release))
        .args(["run", "--log-format", "json", "--config"])
        .arg(&file);
    Process::spawn(&mut command, &prefix.join("output.log"))
}

fn site(plan: &Plan, address: SocketAddr, limit: bool) -> String {
    let (zone, rule) = if limit {
        (
            "limit_req_zone $binary_remote_addr zone=clients:10m rate=2r/s;",
            "limit_req zone=clients burst=5 nodelay; limit_req_status 429; limit_req_log_level info;",
        )
    } else {
        ("", "")
    };
    format!(
        r#"access_log off;
    open_file_cache max=16;
    {zone}
    server {{
        listen {address} ssl backlog=4096;
        server_name {HOST};
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.3;
        root "{www}";
        {rule}
    }}"#,
        certificate = plan.leaf.certificate.display(),
        key = plan.leaf.key.display(),
        www = plan.directory.join("www").display(),
    )
}

/// At the ingress of the interface: nftables' earliest and cheapest place. Forgotten with the
/// namespace.
fn meter(prefix: &Path, netns: &Netns, interface: &str) -> Result<()> {
    let file = prefix.join("meter.nft");
    let rules = format!(
        r#"table netdev storm {{
    set seen {{ type ipv4_addr; flags dynamic; timeout 60s; size 65536; }}
    chain input {{
        type filter hook ingress device "{interface}" priority 0; policy accept;
        tcp dport 443 tcp flags & (syn | ack) == syn update @seen {{ ip saddr limit rate over 2/second burst 5 packets }} counter drop
    }}
}}
"#
    );
    fs::write(&file, rules)?;
    let nft = workspace::need("nft", workspace::SETUP_BENCH)?;
    ask(netns.command(nft)?.arg("-f").arg(&file)).map(drop)
}
