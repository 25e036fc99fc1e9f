//! The demo: a client namespace, an edge namespace, an origin, a key server with the key of one
//! zone, and the edge between them with XDP on its interface.
//!
//! `run` hands over; everything made here is removed by `Drop` in reverse order, and what a crash
//! left by [`leftovers`] at the next start.

pub(crate) mod fleet;
mod leftovers;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::interrupt;
use edge_testbed::keys::Keys;
use edge_testbed::netns::{End, Netns, veth};
use edge_testbed::pins::Pins;
use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process};
use edge_testbed::test_run::{Program, verdict};

use crate::workspace::{self, Profile};
use leftovers::Claim;

const INTERFACE: &str = "edge0";
const ADDRESS: &str = "10.77.0.1";
const ADDRESS6: &str = "fd77::1";
const CLIENT: &str = "10.77.0.2";
const CLIENT6: &str = "fd77::2";
const ORIGIN: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9180";
/// The far end beside the origin of a third zone, which comes by differences.
const FAR_END: &str = "127.0.0.1:8443";
const FAR_ADMIN: &str = "127.0.0.1:9181";
const FAR_NAME: &str = "far.example.test";
const KEYSERVER: &str = "127.0.0.1:9443";
/// One zone is proxied to the origin, and its key is at the key server; one is served from files.
const PROXIED: &str = "shop.example.test";
const STATIC: &str = "static.example.test";
const DELTA: &str = "delta.example.test";
/// One is a worker in Rust, which asks the other, a script.
const RUST: &str = "front.example.test";
const SCRIPT: &str = "greeter.example";
/// The first start of all compiles the workers, and the engine of scripts.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// The daemon drains for a while after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs until Ctrl-C or SIGTERM; an error if one of the processes ends before that.
pub(crate) fn run(profile: Profile, xdp: &str) -> Result<()> {
    workspace::need("curl", workspace::SETUP_TEST)?;
    let directory = workspace::output("demo")?;
    let claim = Claim::take(&directory)?;
    let demo = Demo::start(&directory, &claim, profile, xdp);
    let result = match demo {
        Ok(mut demo) => {
            print!("{}", demo.sheet());
            println!("ready");
            demo.watch()
        }
        // Ctrl-C while starting is a wish, not a failure.
        Err(_) if interrupt::requested() => Ok(()),
        Err(error) => Err(error),
    };
    println!("demo ended, everything it made is removed");
    if let Err(error) = workspace::give_back(&directory) {
        eprintln!("some files in {} still belong to root: {error:#}", directory.display());
    }
    result
}

/// Fields are dropped from first to last: the edge before its origin, processes before namespaces.
struct Demo {
    edge: Process,
    far_end: Process,
    origin: Process,
    keyserver: Process,
    pins: Pins,
    _receiver: Option<OwnedFd>,
    client: Netns,
    inside: Netns,
    directory: PathBuf,
    binary: PathBuf,
}

impl Demo {
    fn start(directory: &Path, claim: &Claim, profile: Profile, xdp: &str) -> Result<Self> {
        let client = Netns::create("client")?;
        let inside = Netns::create("edge")?;
        veth(
            &End {
                netns: &client,
                interface: "client0",
                addresses: &[&format!("{CLIENT}/24"), &format!("{CLIENT6}/64")],
            },
            &End {
                netns: &inside,
                interface: INTERFACE,
                addresses: &[&format!("{ADDRESS}/24"), &format!("{ADDRESS6}/64")],
            },
        )?;
        let receiver = receiver(&client, "client0", xdp)?;
        let pins = Pins::prepare("demo")?;
        let keys = write_files(directory, &pins, xdp)?;

        let origin_binary = workspace::binary("demo-origin", profile);
        let mut origin = Process::spawn(
            inside.command(&origin_binary)?.arg(ORIGIN),
            &directory.join("origin.log"),
        )?;
        claim.record(origin.id(), &origin_binary)?;
        origin.wait_line("listening", START_TIMEOUT)?;

        let keyserver_binary = workspace::binary("edge-keyserver", profile);
        let mut command = inside.command(&keyserver_binary)?;
        command
            .args(["run", "--log-format", "human", "--config"])
            .arg(keys.configuration());
        let mut keyserver = Process::spawn(&mut command, &directory.join("keyserver.log"))?;
        claim.record(keyserver.id(), &keyserver_binary)?;
        let address = KEYSERVER.parse()?;
        keyserver.wait_until("key server", START_TIMEOUT, || {
            inside.enter(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)))??;
            Ok(true)
        })?;

        let binary = workspace::binary("edge", profile);
        let mut command = inside.command(&binary)?;
        command
            .args(["far-end", "--config"])
            .arg(directory.join("far-end.toml"));
        let mut far_end = Process::spawn(&mut command, &directory.join("far-end.log"))?;
        claim.record(far_end.id(), &binary)?;
        far_end.wait_line("serving near ends", START_TIMEOUT)?;

        let mut command = inside.command(&binary)?;
        command
            .args(["run", "--log-format", "human", "--config"])
            .arg(directory.join("edge.toml"));
        let edge = Process::spawn(&mut command, &directory.join("edge.log"))?;
        claim.record(edge.id(), &binary)?;
        let mut demo = Self {
            edge,
            far_end,
            origin,
            keyserver,
            pins,
            _receiver: receiver,
            client,
            inside,
            directory: directory.to_owned(),
            binary,
        };
        demo.wait_ready()?;
        fs::write(directory.join("env"), demo.environment())?;
        Ok(demo)
    }

    /// Ready means: all that clients ask answer a real client, by both families.
    fn wait_ready(&mut self) -> Result<()> {
        let Self {
            edge,
            client,
            directory,
            ..
        } = self;
        for host in [PROXIED, STATIC, DELTA, RUST] {
            for address in [ADDRESS.to_owned(), format!("[{ADDRESS6}]")] {
                let what = format!("answer for {host} at {address}");
                edge.wait_until(&what, START_TIMEOUT, || {
                    let mut curl = client.command("curl")?;
                    curl.args(["--silent", "--show-error", "--fail", "--max-time", "5"])
                        .args(["--output", "/dev/null", "--cacert"])
                        .arg(directory.join("ca.pem"))
                        .args(["--resolve", &format!("{host}:443:{address}")])
                        .arg(format!("https://{host}/"));
                    let output = process::output(&mut curl, Duration::from_secs(10))?;
                    if !output.status.success() {
                        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
                    }
                    Ok(true)
                })?;
            }
        }
        Ok(())
    }

    /// Shell variables for tests and people.
    fn environment(&self) -> String {
        let ca = self.directory.join("ca.pem");
        [
            ("EDGE_DEMO_CLIENT_NETNS", self.client.name()),
            ("EDGE_DEMO_EDGE_NETNS", self.inside.name()),
            ("EDGE_DEMO_ADDR", ADDRESS),
            ("EDGE_DEMO_ADDR6", ADDRESS6),
            ("EDGE_DEMO_CLIENT_ADDR", CLIENT),
            ("EDGE_DEMO_CLIENT_ADDR6", CLIENT6),
            ("EDGE_DEMO_CA", &ca.to_string_lossy()),
            ("EDGE_DEMO_HOSTS", &format!("{PROXIED} {STATIC} {DELTA} {RUST}")),
            ("EDGE_DEMO_ADMIN", ADMIN),
            ("EDGE_DEMO_FAR_ADMIN", FAR_ADMIN),
            ("EDGE_DEMO_INTERFACE", INTERFACE),
            ("EDGE_DEMO_PINS", &self.pins.path().to_string_lossy()),
            ("EDGE_DEMO_BIN", &self.binary.to_string_lossy()),
            ("EDGE_DEMO_PID", &self.edge.id().to_string()),
        ]
        .map(|(name, value)| format!("{name}='{}'\n", value.replace('\'', r"'\''")))
        .concat()
    }

    fn sheet(&self) -> String {
        format!(
            r#"
The demo runs: client {CLIENT}, {CLIENT6} ({client})
               edge   {ADDRESS}, {ADDRESS6} ({edge}, XDP on {INTERFACE})
Logs and configuration are in {directory}. Try, as root in another terminal:

  . {directory}/env
  client() {{ ip netns exec "$EDGE_DEMO_CLIENT_NETNS" "$@"; }}
  inside() {{ ip netns exec "$EDGE_DEMO_EDGE_NETNS" "$@"; }}

  # What reaches the origin, over IPv4 and IPv6
  client curl --cacert "$EDGE_DEMO_CA" --resolve {PROXIED}:443:$EDGE_DEMO_ADDR https://{PROXIED}/inspect
  client curl --cacert "$EDGE_DEMO_CA" --resolve "{PROXIED}:443:[$EDGE_DEMO_ADDR6]" https://{PROXIED}/inspect
  # Its key is at the key server alone: what the edge has asked of it
  inside curl -s http://$EDGE_DEMO_ADMIN/metrics | grep edge_tls_keyserver_requests
  # The zone with static files
  client curl --cacert "$EDGE_DEMO_CA" --resolve {STATIC}:443:$EDGE_DEMO_ADDR https://{STATIC}/
  # Its gate admits one request in ten seconds below /limited/. Ask twice: the second is told to wait, with a token in the
  # cookie jar, and is served when it comes back in time
  client curl --cacert "$EDGE_DEMO_CA" --resolve {STATIC}:443:$EDGE_DEMO_ADDR -b jar -c jar -i https://{STATIC}/limited/
  # The same zone over HTTP/3, by a browser that is made to use QUIC; then while the kernel answers newcomers with Retry
  key=$(openssl x509 -in {directory}/static.pem -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)
  quic() {{ client chromium --headless --no-sandbox --enable-quic --origin-to-force-quic-on={STATIC}:443 --ignore-certificate-errors-spki-list="$key" \
    --host-resolver-rules="MAP {STATIC} $EDGE_DEMO_ADDR" --user-data-dir=$(mktemp -d) --dump-dom https://{STATIC}/ 2>/dev/null; }}
  quic; inside "$EDGE_DEMO_BIN" lockdown --admin $EDGE_DEMO_ADMIN on; quic; inside "$EDGE_DEMO_BIN" lockdown --admin $EDGE_DEMO_ADMIN auto
  inside curl -s http://$EDGE_DEMO_ADMIN/metrics | grep edge_quic_retries_total
  # A page that changes on every request, by differences: ask twice or more, then see how many bytes of how much content
  # crossed between the edge and its far end
  client curl --cacert "$EDGE_DEMO_CA" --resolve {DELTA}:443:$EDGE_DEMO_ADDR -so page https://{DELTA}/changing/100000
  inside curl -s http://$EDGE_DEMO_ADMIN/metrics | grep -E '^edge_delta_(hop|content)_bytes_total'
  # The shop's cache: the second answer is a hit, until it is purged
  client curl --cacert "$EDGE_DEMO_CA" --resolve {PROXIED}:443:$EDGE_DEMO_ADDR -s -D- -o release.1.js https://{PROXIED}/release.1.js
  inside "$EDGE_DEMO_BIN" cache --admin $EDGE_DEMO_ADMIN purge https://{PROXIED}/release.1.js
  # Release 2 as what changed against release 1 (dcz), as browsers ask for it once they have release 1; 200 bytes or so
  client curl --cacert "$EDGE_DEMO_CA" --resolve {PROXIED}:443:$EDGE_DEMO_ADDR -s -D- -o release.2.dcz \
    -H 'Accept-Encoding: zstd, dcz' -H "Available-Dictionary: :$(openssl dgst -sha256 -binary release.1.js | base64):" https://{PROXIED}/release.2.js
  tail -c +41 release.2.dcz | zstd -dc -D release.1.js | tail -1
  # A worker in Rust that asks one in JavaScript, in the same process; then the log of both under one request id
  client curl --cacert "$EDGE_DEMO_CA" --resolve {RUST}:443:$EDGE_DEMO_ADDR https://{RUST}/greet/ann
  inside "$EDGE_DEMO_BIN" worker --admin $EDGE_DEMO_ADMIN logs greeter; grep sub-request {directory}/edge.log
  # Metrics and state
  inside curl -s http://$EDGE_DEMO_ADMIN/metrics
  inside "$EDGE_DEMO_BIN" status --admin $EDGE_DEMO_ADMIN
  # Deny this client: its packets now end in XDP, and the request above times out. Then lift it.
  inside "$EDGE_DEMO_BIN" deny --admin $EDGE_DEMO_ADMIN add $EDGE_DEMO_CLIENT_ADDR
  inside "$EDGE_DEMO_BIN" deny --admin $EDGE_DEMO_ADMIN del $EDGE_DEMO_CLIENT_ADDR

Ctrl-C ends the demo and removes what it made.
"#,
            client = self.client.name(),
            edge = self.inside.name(),
            directory = self.directory.display(),
        )
    }

    /// Waits for the wish to end, then lets the edge drain.
    fn watch(&mut self) -> Result<()> {
        while !interrupt::requested() {
            for (name, process) in [
                ("the edge", &mut self.edge),
                ("the far end", &mut self.far_end),
                ("the origin", &mut self.origin),
                ("the key server", &mut self.keyserver),
            ] {
                if let Some(status) = process.ended()? {
                    bail!("{name} ended ({status}); the end of its log:\n{}", process.tail());
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for (name, process) in [("the edge", &mut self.edge), ("the far end", &mut self.far_end)] {
            let status = process.stop(STOP_TIMEOUT)?;
            if !status.success() {
                bail!(
                    "{name} did not end cleanly ({status}); the end of its log:\n{}",
                    process.tail()
                );
            }
        }
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Whoever reads the variables after the end would talk to namespaces that are gone.
        let _ = fs::remove_file(self.directory.join("env"));
    }
}

/// A veth end takes what the other end's program answers (Retry packets, by XDP_TX) only if it has
/// a program itself: here one that passes everything, until the answer is dropped.
fn receiver(client: &Netns, interface: &str, xdp: &str) -> Result<Option<OwnedFd>> {
    if !matches!(xdp, "native" | "auto") {
        return Ok(None);
    }
    let index = client.index(interface)?;
    let attached = client.enter(|| Program::bare(verdict::PASS)?.attach(index))?;
    match attached {
        Ok(link) => Ok(Some(link)),
        // Then the edge may have to do without, too.
        Err(_) if xdp == "auto" => Ok(None),
        Err(error) => Err(error).context("a program for the client's end of the demo"),
    }
}

fn write_files(directory: &Path, pins: &Pins, xdp: &str) -> Result<Keys> {
    let authority = Authority::new("Edge demo CA")?;
    authority.write(&directory.join("ca.pem"))?;
    let keys = Keys::prepare(&directory.join("keyserver"), &authority, KEYSERVER.parse()?)?;
    let (certificate, key) = authority.leaf(&[PROXIED, &format!("*.{PROXIED}")])?;
    fs::write(directory.join("shop.pem"), certificate)?;
    // An earlier demo had it here.
    let _ = fs::remove_file(directory.join("shop.key"));
    keys.add("shop", &key)?;
    authority.write_leaf(directory, "static", &[STATIC])?;
    authority.write_leaf(directory, "delta", &[DELTA])?;
    let hop = Authority::new("Edge demo hop CA")?;
    hop.write(&directory.join("hop-ca.pem"))?;
    hop.write_leaf(directory, "far-end", &[FAR_NAME])?;
    hop.write_leaf(directory, "near-end", &["near.example.test"])?;
    fs::write(directory.join("far-end.toml"), far_end())?;
    authority.write_leaf(directory, "workers", &[RUST, SCRIPT])?;
    for (worker, name) in [
        ("target/workers/front.wasm", "front.wasm"),
        ("tests/workers/scripts/greeter.js", "greeter.js"),
    ] {
        let from = workspace::root().join(worker);
        fs::copy(&from, directory.join(name))
            .with_context(|| format!("{}: run `cargo xtask build-workers`", from.display()))?;
    }
    let www = directory.join("www");
    fs::create_dir_all(&www)?;
    fs::write(
        www.join("index.html"),
        "<!doctype html>\n<title>edge demo: static</title>\n<h1>A file, served by the edge itself</h1>\n",
    )?;
    fs::create_dir_all(www.join("limited"))?;
    fs::write(
        www.join("limited/index.html"),
        "<!doctype html>\n<title>edge demo: limited</title>\n<h1>You waited, or you were the first</h1>\n",
    )?;
    let path = directory.join("edge.toml");
    let configuration = configuration(&pins.path().to_string_lossy(), xdp);
    let entry = keys.entry("keys", KEYSERVER.parse()?);
    fs::write(&path, format!("{configuration}\n{entry}")).with_context(|| format!("writing {}", path.display()))?;
    Ok(keys)
}

fn configuration(pins: &str, xdp: &str) -> String {
    format!(
        r#"# Written by `cargo xtask run`; `edge check --print-defaults` shows every key.
[server]
https = ["0.0.0.0:443", "[::]:443"]
http = ["0.0.0.0:80", "[::]:80"]

[dataplane]
interfaces = ["{INTERFACE}"]
xdp = "{xdp}"
pin_directory = "{pins}"

[admin]
listen = "{ADMIN}"

[isolate]
state_directory = "state"

[[zone]]
name = "front"
hosts = ["{RUST}"]
certificate = "workers.pem"
key = "workers.key"
[zone.worker]
file = "front.wasm"
zones = ["greeter"]
[zone.origin]
directory = "www"

[[zone]]
name = "greeter"
hosts = ["{SCRIPT}"]
certificate = "workers.pem"
key = "workers.key"
[zone.worker]
file = "greeter.js"
settings = {{ greeting = "good day" }}
[zone.worker.keyvalue]

[[zone]]
name = "shop"
hosts = ["{PROXIED}", "*.{PROXIED}"]
default = true
certificate = "shop.pem"
key_servers = ["keys"]
[zone.origin]
servers = [{{ address = "http://{ORIGIN}" }}]
[zone.cache]
[zone.coding]
[[zone.dictionary]]
path = "/release.*.js"
destinations = ["script"]
id = "release"

[[zone]]
name = "static"
hosts = ["{STATIC}"]
certificate = "static.pem"
key = "static.key"
[zone.origin]
directory = "www"
[zone.gate]
[[zone.gate.rule]]
path = "/limited/"
rate = {{ requests = 6, per = "1m", burst = 1 }}

[[zone]]
name = "delta"
hosts = ["{DELTA}"]
certificate = "delta.pem"
key = "delta.key"
delta = "beside"
[zone.origin]
servers = [{{ address = "http://{ORIGIN}" }}]

[[far_end]]
name = "beside"
servers = [{{ address = "https://{FAR_END}" }}]
server_name = "{FAR_NAME}"
ca = "hop-ca.pem"
certificate = "near-end.pem"
key = "near-end.key"

[gate]
state_directory = "state"
"#
    )
}

fn far_end() -> String {
    format!(
        r#"# Written by `cargo xtask run`; `edge far-end --print-defaults` shows every key.
[server]
listen = ["{FAR_END}"]
certificate = "far-end.pem"
key = "far-end.key"
near_ends = "hop-ca.pem"

[store]
directory = "far-end"

[admin]
listen = "{FAR_ADMIN}"

[log]
format = "human"

[[zone]]
name = "delta"
hosts = ["{DELTA}"]
[zone.origin]
servers = [{{ address = "http://{ORIGIN}" }}]
"#
    )
}
