//! `cargo xtask conform testssl`: testssl.sh on an edge with the default configuration, and on the
//! key server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use edge_testbed::keys::{self, Keys};
use edge_testbed::netns::Netns;
use edge_testbed::pki::{self, Authority};
use edge_testbed::process::{self, Process};
use serde::Deserialize;

use crate::workspace::{self, Profile};

/// TLS, by testssl.sh: zones with local keys, with keys at the key server, and the key server
/// itself.
///
/// Everything in the configuration that has a default has it. Fails on each finding worse than LOW,
/// and on each check that could not be done, unless its reason is in the list of what is no fault
/// of the edge's. Some minutes for each target.
#[derive(clap::Args)]
pub(crate) struct Testssl {
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    pub(super) no_build: bool,
    /// Take the unoptimised build
    #[arg(long)]
    pub(super) dev: bool,
    /// Only this target: a host of the edge, or keys.example.test
    #[arg(long, value_name = "HOST")]
    pub(super) only: Option<String>,
}

/// Zones, by the kind of their key and where it is.
const ZONES: [(&str, &str, bool); 4] = [
    ("p256.example.test", "EC", true),
    ("rsa.example.test", "RSA", true),
    ("keyless.example.test", "EC", false),
    ("keyless-rsa.example.test", "RSA", false),
];
const KEYSERVER: &str = "127.0.0.1:9443";
const START: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What testssl.sh finds and what is no fault of the edge's, by its id of the finding, with the
/// reason.
pub(super) const EXPLAINED: &[(&str, &str)] = &[
    (
        "engine_problem",
        "of the openssl that testssl.sh uses: it has no GOST engine",
    ),
    (
        "cert_validityPeriod",
        "the certificate is this run's own, good for years as those of tests are",
    ),
    (
        "cert_revocation",
        "this run's authority has nowhere to ask about revocation",
    ),
    (
        "sessionresumption_ticket",
        "on a busy machine its client of TLS 1.3 leaves before its ticket has come, and then has no session to come back with",
    ),
    (
        "security_headers",
        "what a page allows browsers is its site's to say: the edge passes on what origins send and adds none",
    ),
];

/// One entry of its JSON.
#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    severity: String,
    finding: String,
}

impl Finding {
    /// Worse than its lowest severity, or not to be told.
    fn is_bad(&self) -> bool {
        !matches!(self.severity.as_str(), "OK" | "INFO" | "LOW" | "DEBUG")
    }

    fn reason(&self) -> Option<&'static str> {
        // `cert_trust <cert#1>` where there are several certificates.
        let id = self.id.split(' ').next().unwrap_or_default();
        EXPLAINED.iter().find(|(known, _)| *known == id).map(|(_, why)| *why)
    }
}

/// Runs it on one target after the other.
pub(crate) fn run(testssl: &Testssl) -> Result<()> {
    let profile = if testssl.dev { Profile::Dev } else { Profile::Release };
    if !testssl.no_build {
        workspace::prepare(&[workspace::SETUP_CONFORM, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(profile)?;
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "this needs root: it makes a network namespace"
    );
    let program = workspace::need("testssl", workspace::SETUP_CONFORM)?;
    let directory = workspace::output("conform/testssl")?;
    let world = World::start(&directory, profile)?;
    let mut bad = Vec::new();
    let hosts = ZONES.map(|(host, ..)| (host, 443));
    for (host, port) in hosts.into_iter().chain([(keys::NAME, 9443)]) {
        if testssl.only.as_deref().is_some_and(|only| only != host) {
            continue;
        }
        println!("testssl.sh on {host}:{port}");
        let findings = world.judge(&program, host, port)?;
        for finding in findings.iter().filter(|finding| finding.severity != "DEBUG") {
            let Finding { id, severity, finding } = finding;
            if matches!(severity.as_str(), "OK" | "INFO") {
                continue;
            }
            println!("  {severity:<8} {id}: {finding}");
        }
        for finding in findings.iter().filter(|finding| finding.is_bad()) {
            match finding.reason() {
                Some(why) => println!("  explained: {}: {why}", finding.id),
                None => bad.push(format!(
                    "{host}: {} {}: {}",
                    finding.severity, finding.id, finding.finding
                )),
            }
        }
        println!("  {} findings", findings.len());
    }
    workspace::give_back(&directory)?;
    ensure!(bad.is_empty(), "worse than LOW:\n  {}", bad.join("\n  "));
    println!("testssl.sh finds nothing worse than LOW");
    Ok(())
}

/// An edge and its key server; ended with it, the edge first.
struct World {
    _edge: Process,
    _keyserver: Process,
    inside: Netns,
    directory: PathBuf,
}

impl World {
    fn start(directory: &Path, profile: Profile) -> Result<Self> {
        let inside = Netns::create("conform")?;
        let keys = write_files(directory)?;
        let mut command = inside.command(workspace::binary("edge-keyserver", profile))?;
        command
            .args(["run", "--log-format", "human", "--config"])
            .arg(keys.configuration());
        let mut keyserver = Process::spawn(&mut command, &directory.join("keyserver.log"))?;
        listening(&inside, &mut keyserver, KEYSERVER)?;
        let mut command = inside.command(workspace::binary("edge", profile))?;
        command
            .args(["run", "--no-xdp", "--log-format", "human", "--config"])
            .arg(directory.join("edge.toml"));
        let mut edge = Process::spawn(&mut command, &directory.join("edge.log"))?;
        listening(&inside, &mut edge, "127.0.0.1:443")?;
        Ok(Self {
            _edge: edge,
            _keyserver: keyserver,
            inside,
            directory: directory.to_owned(),
        })
    }

    fn judge(&self, program: &Path, host: &str, port: u16) -> Result<Vec<Finding>> {
        let json = self.directory.join(format!("{host}.json"));
        // It refuses to write over what was found before.
        let _ = fs::remove_file(&json);
        let mut command = self.inside.command(program)?;
        command
            .args(["--quiet", "--warnings", "off", "--color", "0", "--nodns", "none"])
            .args(["--ip", "127.0.0.1", "--openssl-timeout", "15"])
            .arg("--openssl")
            .arg(workspace::need("openssl", workspace::SETUP_CONFORM)?)
            .arg("--add-ca")
            .arg(self.directory.join("ca.pem"))
            .arg("--jsonfile")
            .arg(&json)
            .arg(format!("{host}:{port}"));
        let output = process::output(&mut command, LIMIT)?;
        fs::write(self.directory.join(format!("{host}.txt")), &output.stdout)?;
        // Its exit code counts findings; what it says of itself is in the JSON.
        let text = fs::read_to_string(&json).with_context(|| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            format!("testssl.sh has written nothing and said: {said}")
        })?;
        let findings: Vec<Finding> = serde_json::from_str(&text).with_context(|| format!("{}", json.display()))?;
        if !findings.iter().any(|finding| finding.id == "scanTime") {
            bail!("testssl.sh has not come to its end: {}", json.display());
        }
        Ok(findings)
    }
}

fn listening(inside: &Netns, process: &mut Process, address: &str) -> Result<()> {
    let address = address.parse()?;
    process.wait_until(&format!("port {address}"), START, || {
        inside.enter(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)))??;
        Ok(true)
    })
}

fn write_files(directory: &Path) -> Result<Keys> {
    let authority = Authority::new("Edge conformance CA")?;
    authority.write(&directory.join("ca.pem"))?;
    let keys = Keys::prepare(&directory.join("keyserver"), &authority, KEYSERVER.parse()?)?;
    let mut zones = String::new();
    for (host, kind, local) in ZONES {
        let name = host.split('.').next().unwrap_or(host);
        let (certificate, key) = if kind == "RSA" {
            let mut openssl = Command::new(workspace::need("openssl", workspace::SETUP_CONFORM)?);
            openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
            let key = process::output(&mut openssl, START)?.stdout;
            authority.leaf_with(&[host], &String::from_utf8(key)?)?
        } else {
            authority.leaf(&[host])?
        };
        fs::write(directory.join(format!("{name}.pem")), certificate)?;
        let way = if local {
            pki::write_key(&directory.join(format!("{name}.key")), &key)?;
            format!("key = \"{name}.key\"")
        } else {
            keys.add(name, &key)?;
            "key_servers = [\"keys\"]".to_owned()
        };
        // Some of its checks name no server.
        let default = name == "p256";
        zones += &format!(
            "[[zone]]\nname = \"{name}\"\nhosts = [\"{host}\"]\ncertificate = \"{name}.pem\"\n{way}\n\
             default = {default}\n[zone.origin]\ndirectory = \"www\"\n"
        );
    }
    fs::create_dir_all(directory.join("www"))?;
    fs::write(
        directory.join("www/index.html"),
        "<!doctype html>\n<title>edge</title>\n<h1>Seen by testssl.sh</h1>\n",
    )?;
    let configuration = format!(
        "[server]\nhttps = [\"127.0.0.1:443\"]\nhttp = [\"127.0.0.1:80\"]\n[admin]\nlisten = \"unix:{}\"\n\
         [gate]\nstate_directory = \"state\"\n{}{zones}",
        directory.join("admin.sock").display(),
        keys.entry("keys", KEYSERVER.parse()?),
    );
    fs::write(directory.join("edge.toml"), configuration)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check that could not be done is no pass.
    #[test]
    fn only_low_and_better_pass() {
        let bad = |severity: &str| {
            let text =
                format!(r#"[{{"id":"x","ip":"h/127.0.0.1","port":"443","severity":"{severity}","finding":"y"}}]"#);
            serde_json::from_str::<Vec<Finding>>(&text).unwrap()[0].is_bad()
        };
        assert!(!["OK", "INFO", "LOW"].map(bad).contains(&true));
        assert!(
            !["MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"]
                .map(bad)
                .contains(&false)
        );
    }
}
