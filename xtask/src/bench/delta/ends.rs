//! The end-to-end half of the bench: client, edge, link, far end, origins on this machine; and
//! nginx in the places of edge and far end, caching and with gzip. Each answer of the edge is
//! compared with what the client asked for by length, and the first of each kind byte for byte
//! where the origin's content stands still.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::changing::{self, Noise};
use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process, free_address};
use serde_json::{Value, json};

use super::need;
use super::relay::{Relay, Shape};
use crate::bench::http::median;
use crate::bench::nginx;
use crate::workspace::{self, Profile};

pub(super) const LINK: &str = "20 ms round trip, 20 Mbit/s each way, by a relay with TCP's slow start";
pub(super) const KINDS: [&str; 3] = ["page", "assets", "json"];
pub(super) const PEERS: [&str; 3] = ["edge", "zstd", "nginx_gzip"];

const SHAPE: Shape = Shape {
    round_trip: Duration::from_millis(20),
    bits_per_second: 20e6,
};
const PAGES: &str = "pages.example.test";
const FILES: &str = "files.example.test";
const PLAIN: &str = "plain.example.test";
const FAR: &str = "far.example.test";
const START: Duration = Duration::from_secs(20);

/// What runs; dropped in this order.
struct World {
    edge: Process,
    far: Process,
    near_nginx: Process,
    far_nginx: Process,
    _pages: Process,
    _files: Process,
    edge_address: SocketAddr,
    nginx_address: SocketAddr,
    edge_link: Link,
    nginx_link: Link,
    directory: std::path::PathBuf,
}

/// What is between the ends of one side.
enum Link {
    /// A thin link.
    Shaped(Relay),
    /// Nothing: four threads' wake-ups a request would be added to what the ends add.
    Direct(SocketAddr),
}

impl Link {
    fn start(target: SocketAddr, shape: Option<Shape>) -> Result<Self> {
        Ok(match shape {
            Some(shape) => Self::Shaped(Relay::start(target, shape)?),
            None => Self::Direct(target),
        })
    }

    /// Where it is entered.
    fn address(&self) -> SocketAddr {
        match self {
            Self::Shaped(relay) => relay.address,
            Self::Direct(address) => *address,
        }
    }

    /// Bytes so far, each way; a direct link does not count.
    fn bytes(&self) -> (u64, u64) {
        match self {
            Self::Shaped(relay) => relay.bytes(),
            Self::Direct(_) => (0, 0),
        }
    }
}

/// One request as the client saw it.
struct Seen {
    first_byte_ms: f64,
    last_byte_ms: f64,
    bytes: f64,
}

/// `end_to_end`, `added_latency_ms_p50` and the CPU's share.
pub(super) fn measure(directory: &Path, profile: Profile, quick: bool) -> Result<Value> {
    need(&["nginx", "curl"])?;
    let (rounds, many) = if quick { (4, 20) } else { (25, 400) };
    let directory = directory.join("delta");
    // A store of an earlier run would be a head start.
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(directory.join("www"))?;
    fs::write(directory.join("www/healthz"), "ok\n")?;
    let mut world = World::start(&directory, profile, Some(SHAPE))?;
    let mut kinds = serde_json::Map::new();
    for kind in KINDS {
        kinds.insert(kind.to_owned(), world.compare(kind, rounds)?);
    }
    drop(world);
    world = World::start(&directory, profile, None)?;
    let page = format!("https://{PAGES}/changing/100000");
    let plain = format!("https://{PLAIN}/changing/100000");
    let client =
        |world: &World, url: &str, count: usize| world.ask(world.edge_address, &vec![url.to_owned(); count], false);
    // In turns, so that what disturbs the machine disturbs both.
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        with.extend(client(&world, &page, many / 5 + 3)?.into_iter().skip(3));
        without.extend(client(&world, &plain, many / 5 + 3)?.into_iter().skip(3));
    }
    let last = |seen: &[Seen]| median(seen.iter().map(|seen| seen.last_byte_ms).collect());
    let added = last(&with) - last(&without);
    let ours = cpu(&[world.edge.id(), world.far.id()], || client(&world, &page, many))?;
    let theirs = cpu(&[world.near_nginx.id(), world.far_nginx.id()], || {
        world.ask(world.nginx_address, &vec![page.clone(); many], false)
    })?;
    Ok(json!({
        "end_to_end": kinds,
        "added_latency_ms_p50": added,
        "latency_ms_p50": { "with": last(&with), "without": last(&without) },
        "cpu_ms_per_mb": ours,
        "cpu_ms_per_mb_nginx_gzip": theirs,
    }))
}

/// Milliseconds of CPU that the processes used per MB of content that `work` got.
fn cpu(processes: &[u32], work: impl FnOnce() -> Result<Vec<Seen>>) -> Result<f64> {
    let used = || -> Result<Duration> { processes.iter().map(|&pid| process::cpu_time(pid)).sum() };
    let before = used()?;
    let seen = work()?;
    let spent = used()?.saturating_sub(before);
    let megabytes: f64 = seen.iter().map(|seen| seen.bytes / 1e6).sum();
    Ok(spent.as_secs_f64() * 1e3 / megabytes)
}

impl World {
    fn start(directory: &Path, profile: Profile, shape: Option<Shape>) -> Result<Self> {
        let clients = Authority::new("Edge bench CA")?;
        clients.write(&directory.join("ca.pem"))?;
        clients.write_leaf(directory, "leaf", &[PAGES, FILES, PLAIN])?;
        let hop = Authority::new("Edge bench hop CA")?;
        hop.write(&directory.join("hop-ca.pem"))?;
        hop.write_leaf(directory, "far-end", &[FAR])?;
        hop.write_leaf(directory, "near-end", &["near.example.test"])?;

        let (pages, files) = (free_address()?, free_address()?);
        let mut command = Command::new(workspace::binary("demo-origin", profile));
        let mut pages_origin = Process::spawn(command.arg(pages.to_string()), &directory.join("pages.log"))?;
        pages_origin.wait_line("listening", START)?;
        let www = directory.join("www");
        let http = format!(
            "access_log off; types {{ text/javascript js; }}
            server {{ listen {files}; root \"{}\"; add_header Cache-Control no-cache; }}",
            www.display()
        );
        let files_origin = start_nginx(&directory.join("files"), &http, files)?;

        let (far_address, edge_address) = (free_address()?, free_address()?);
        let edge = workspace::binary("edge", profile);
        fs::write(
            directory.join("far.toml"),
            far_file(far_address, pages, files, directory),
        )?;
        let mut command = Command::new(&edge);
        command.args(["far-end", "--config"]).arg(directory.join("far.toml"));
        let mut far = Process::spawn(&mut command, &directory.join("far.log"))?;
        far.wait_port(far_address, START)?;
        let edge_link = Link::start(far_address, shape)?;
        let file = edge_file(edge_address, edge_link.address(), pages, files, directory);
        fs::write(directory.join("edge.toml"), file)?;
        let mut command = Command::new(&edge);
        command
            .args(["run", "--xdp", "off", "--log-format", "json", "--config"])
            .arg(directory.join("edge.toml"));
        let mut edge = Process::spawn(&mut command, &directory.join("edge.log"))?;
        edge.wait_port(edge_address, START)?;

        let (far_nginx_address, nginx_address) = (free_address()?, free_address()?);
        let far_nginx = start_nginx(
            &directory.join("far-nginx"),
            &far_nginx_http(far_nginx_address, pages, files),
            far_nginx_address,
        )?;
        let nginx_link = Link::start(far_nginx_address, shape)?;
        let http = near_nginx_http(nginx_address, nginx_link.address(), directory);
        let near_nginx = start_nginx(&directory.join("near-nginx"), &http, nginx_address)?;
        Ok(Self {
            edge,
            far,
            near_nginx,
            far_nginx,
            _pages: pages_origin,
            _files: files_origin,
            edge_address,
            nginx_address,
            edge_link,
            nginx_link,
            directory: directory.to_owned(),
        })
    }

    /// One kind of content by all three.
    fn compare(&self, kind: &str, rounds: usize) -> Result<Value> {
        let mut by = serde_json::Map::new();
        let (mut first, mut last, mut up) = (serde_json::Map::new(), by.clone(), by.clone());
        for peer in PEERS {
            let (address, link) = match peer {
                "nginx_gzip" => (self.nginx_address, &self.nginx_link),
                _ => (self.edge_address, &self.edge_link),
            };
            // zstd alone: names that were never asked for, so that there is no version to refer to.
            let url = |round: usize| {
                let fresh = if peer == "zstd" {
                    format!("?{peer}{round}")
                } else {
                    String::new()
                };
                match kind {
                    "page" => format!("https://{PAGES}/changing/100000{fresh}"),
                    "json" => format!("https://{PAGES}/prices/200{fresh}"),
                    _ => format!("https://{FILES}/bundle.js{fresh}"),
                }
            };
            self.release(0)?;
            let mut before = link.bytes();
            let mut seen = Vec::new();
            if kind == "assets" {
                // A new release before each request; the first is a visit before it.
                for round in 0..=rounds {
                    self.release(round)?;
                    if round == 1 {
                        before = link.bytes();
                    }
                    // The client's handshake is the first one's affair.
                    let mut both = self.ask(address, &[format!("https://{FILES}/healthz"), url(round)], true)?;
                    seen.extend(both.pop());
                }
                seen.remove(0);
            } else {
                self.ask(address, &[url(9_998), url(9_999)], false)?;
                before = link.bytes();
                let mut urls = vec![format!("https://{PAGES}/healthz")];
                urls.extend((0..rounds).map(url));
                seen = self.ask(address, &urls, true)?;
                seen.remove(0);
            }
            let after = link.bytes();
            let content: f64 = seen.iter().map(|seen| seen.bytes).sum();
            let (sent, received) = (after.0 - before.0, after.1 - before.1);
            let of = |pick: fn(&Seen) -> f64| json!(median(seen.iter().map(pick).collect()));
            by.insert(peer.to_owned(), json!((sent + received) as f64 * 100.0 / content));
            up.insert(peer.to_owned(), json!(sent as f64 * 100.0 / content));
            first.insert(peer.to_owned(), of(|seen| seen.first_byte_ms));
            last.insert(peer.to_owned(), of(|seen| seen.last_byte_ms));
        }
        Ok(json!({
            "hop_pct": by["edge"],
            "hop_pct_by": by,
            "requests_pct_by": up,
            "first_byte_ms": first,
            "last_byte_ms": last,
        }))
    }

    /// Puts release `n` of the bundle where the origin serves it from.
    fn release(&self, n: usize) -> Result<()> {
        let mut noise = Noise::new(7);
        let mut bundle = changing::bulk(300_000).into_bytes();
        // Each release has the changes of those before it, and a dozen of its own.
        for _ in 0..n * 12 {
            let at = usize::try_from(noise.below(bundle.len() as u64)).unwrap_or(0);
            let put = format!("function f{:x}(a){{return a+{}}}", noise.draw(), noise.below(1_000));
            bundle.splice(at..at, put.into_bytes());
        }
        let new = self.directory.join("www/bundle.new");
        fs::write(&new, bundle)?;
        fs::rename(new, self.directory.join("www/bundle.js"))?;
        Ok(())
    }

    /// Asks for all of `urls`, one after the other on one connection; three a second, as a visitor
    /// at most would, or without a pause.
    fn ask(&self, address: SocketAddr, urls: &[String], visitor: bool) -> Result<Vec<Seen>> {
        let mut curl = Command::new("curl");
        if visitor {
            curl.args(["--rate", "3/s"]);
        }
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--compressed",
            "--http2",
            "--max-time",
            "120",
        ])
        .arg("--cacert")
        .arg(self.directory.join("ca.pem"))
        .args([
            "--write-out",
            "%{stderr}%{http_code} %{time_starttransfer} %{time_total} %header{x-none}%{size_download}\n",
        ])
        .args(["--connect-to", &format!("::{address}")]);
        for url in urls {
            curl.args(["--output", "/dev/null", url]);
        }
        let output = process::output(&mut curl, Duration::from_secs(180))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("curl at {address}: {said}");
        }
        let mut seen = Vec::new();
        for (line, url) in said.lines().zip(urls) {
            let words: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [200.0, first, total, wire] = words[..] else {
                bail!("{url} at {address}: {line}");
            };
            seen.push(Seen {
                first_byte_ms: first * 1e3,
                last_byte_ms: total * 1e3,
                // Content, whatever coding the client got it in.
                bytes: content_length(url, wire),
            });
        }
        if seen.len() == urls.len() {
            Ok(seen)
        } else {
            bail!("curl answered {} of {} requests: {said}", seen.len(), urls.len())
        }
    }
}

/// What nginx gives is compressed, so the client's count of bytes is not the content's.
fn content_length(url: &str, wire: f64) -> f64 {
    if url.contains("/changing/") {
        // Within a part in a thousand: the fields' lengths differ.
        changing::page(&changing::bulk(100_000), &mut Noise::new(1)).len() as f64
    } else if url.contains("/prices/") {
        changing::json(200, &mut Noise::new(1)).len() as f64
    } else if url.contains("bundle.js") {
        300_000_f64.max(wire)
    } else {
        wire
    }
}

fn start_nginx(prefix: &Path, http: &str, address: SocketAddr) -> Result<Process> {
    fs::create_dir_all(prefix)?;
    let mut process = nginx::spawn(Command::new("env"), prefix, http)?;
    process
        .wait_port(address, START)
        .with_context(|| format!("nginx in {}", prefix.display()))?;
    Ok(process)
}

/// nginx beside the origins: compresses what they give.
fn far_nginx_http(address: SocketAddr, pages: SocketAddr, files: SocketAddr) -> String {
    let server = |host: &str, origin: SocketAddr| {
        format!(
            "server {{ listen {address}; server_name {host}; location / {{
                proxy_pass http://{origin}; proxy_http_version 1.1; proxy_set_header Connection \"\";
                proxy_set_header Host $host; proxy_set_header Accept-Encoding \"\"; }} }}\n"
        )
    };
    format!(
        "access_log off; gzip on; gzip_types *; gzip_proxied any; gzip_min_length 200;\n{}{}",
        server(PAGES, pages),
        server(FILES, files)
    )
}

/// nginx at the edge: a cache that asks again, as the origins want it.
fn near_nginx_http(address: SocketAddr, link: SocketAddr, directory: &Path) -> String {
    format!(
        r#"access_log off;
    proxy_cache_path "{cache}" keys_zone=cache:8m;
    upstream far {{ server {link}; keepalive 16; keepalive_requests 1000000; }}
    server {{
        listen {address} ssl http2;
        server_name {PAGES} {FILES};
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.3;
        location / {{
            proxy_pass http://far;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header Accept-Encoding gzip;
            proxy_cache cache;
            proxy_cache_revalidate on;
            proxy_buffers 32 16k;
            proxy_busy_buffers_size 64k;
        }}
    }}"#,
        cache = directory.join("cache").display(),
        certificate = directory.join("leaf.pem").display(),
        key = directory.join("leaf.key").display(),
    )
}

fn far_file(address: SocketAddr, pages: SocketAddr, files: SocketAddr, directory: &Path) -> String {
    format!(
        r#"[server]
listen = ["{address}"]
certificate = "far-end.pem"
key = "far-end.key"
near_ends = "hop-ca.pem"
workers = 1
[store]
directory = "far-end-store"
[log]
format = "json"
access = false
[admin]
listen = "unix:{admin}"
[[zone]]
name = "pages"
hosts = ["{PAGES}"]
[zone.origin]
servers = [{{ address = "http://{pages}" }}]
[[zone]]
name = "files"
hosts = ["{FILES}"]
[zone.origin]
servers = [{{ address = "http://{files}" }}]
"#,
        admin = directory.join("far.sock").display()
    )
}

fn edge_file(address: SocketAddr, link: SocketAddr, pages: SocketAddr, files: SocketAddr, directory: &Path) -> String {
    let zone = |name: &str, host: &str, origin: SocketAddr, delta: &str| {
        format!(
            "[[zone]]\nname = \"{name}\"\nhosts = [\"{host}\"]\ncertificate = \"leaf.pem\"\nkey = \"leaf.key\"\n{delta}\n\
             [zone.origin]\nservers = [{{ address = \"http://{origin}\" }}]\n"
        )
    };
    format!(
        r#"[server]
https = ["{address}"]
workers = 1
[dataplane]
xdp = "off"
[log]
access = false
[admin]
listen = "unix:{admin}"
[[far_end]]
name = "far"
servers = [{{ address = "https://{link}" }}]
server_name = "{FAR}"
ca = "hop-ca.pem"
certificate = "near-end.pem"
key = "near-end.key"
{}{}{}"#,
        zone("pages", PAGES, pages, "delta = \"far\""),
        zone("files", FILES, files, "delta = \"far\""),
        zone("plain", PLAIN, pages, ""),
        admin = directory.join("edge.sock").display()
    )
}
