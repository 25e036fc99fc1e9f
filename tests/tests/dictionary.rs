//! Compression dictionaries as a browser meets them (RFC 9842): Chromium keeps release one of a script and gets release two as
//! what changed, and runs it; everybody else gets it whole.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;
#[expect(dead_code, reason = "this test uses a part of the browser's commands")]
#[path = "browser/webdriver.rs"]
mod webdriver;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use edge_testbed::netns::Netns;
use edge_testbed::pki::Authority;
use edge_testbed::privilege;
use edge_testbed::process::{self, Process};
use webdriver::Browser;

const HOST: &str = "site.example.test";
const ORIGIN: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9180";
const START: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(20);

struct World {
    _edge: Process,
    _origin: Process,
    netns: Netns,
    directory: tempfile::TempDir,
}

impl World {
    fn start() -> Option<Self> {
        if !privilege::can_attach(&checkout::root()) {
            return None;
        }
        checkout::build();
        let netns = Netns::create("dictionary").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("Edge test CA").unwrap();
        authority.write(&directory.path().join("ca.pem")).unwrap();
        authority.write_leaf(directory.path(), "site", &[HOST]).unwrap();
        fs::write(
            directory.path().join("edge.toml"),
            format!(
                r#"[server]
https = ["127.0.0.1:443"]
[admin]
listen = "{ADMIN}"
[[zone]]
name = "site"
hosts = ["{HOST}"]
certificate = "site.pem"
key = "site.key"
[zone.origin]
servers = [{{ address = "http://{ORIGIN}" }}]
[zone.cache]
[zone.coding]
[[zone.dictionary]]
path = "/release.*.js"
destinations = ["script"]
id = "release"
"#
            ),
        )
        .unwrap();
        let mut command = netns.command(checkout::binaries().join("demo-origin")).unwrap();
        let mut origin = Process::spawn(command.arg(ORIGIN), &directory.path().join("origin.log")).unwrap();
        origin.wait_line("listening", START).unwrap();
        let mut command = netns.command(checkout::binaries().join("edge")).unwrap();
        command
            .args(["run", "--no-xdp", "--log-format", "json", "--config"])
            .arg(directory.path().join("edge.toml"));
        let mut edge = Process::spawn(&mut command, &directory.path().join("log")).unwrap();
        edge.wait_until("be ready", START, || {
            let mut curl = netns.command("curl")?;
            let curl = curl.args(["--silent", "--fail", &format!("http://{ADMIN}/readyz")]);
            Ok(process::output(curl, START)?.status.success())
        })
        .unwrap();
        Some(Self {
            _edge: edge,
            _origin: origin,
            netns,
            directory,
        })
    }

    /// The figure in that line of the metrics.
    fn figure(&self, line: &str) -> u64 {
        let mut curl = self.netns.command("curl").unwrap();
        let output = process::output(curl.args(["--silent", &format!("http://{ADMIN}/metrics")]), START).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let figure = text
            .lines()
            .find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        figure.unwrap_or(0)
    }
}

fn wait_title(browser: &Browser<'_>, title: &str) {
    let deadline = Instant::now() + LONGEST;
    while browser.title() != title {
        assert!(
            Instant::now() < deadline,
            "the page is {:?}, not {title:?}",
            browser.title()
        );
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn chromium_gets_what_changed_and_runs_it() {
    let Some(world) = World::start() else { return };
    let Some(browser) = Browser::start(&world.netns, world.directory.path(), HOST, "127.0.0.1") else {
        return;
    };
    browser.open(&format!("https://{HOST}/release/1"));
    wait_title(&browser, "release 1");
    // The browser digests and stores the dictionary behind the page; until it has, it asks for the whole.
    let coded = |coding: &str| world.figure(&format!("edge_delta_browser_responses_total{{coding=\"{coding}\"}} "));
    let deadline = Instant::now() + LONGEST;
    let mut release = 2;
    loop {
        sleep(Duration::from_millis(300));
        browser.open(&format!("https://{HOST}/release/{release}"));
        wait_title(&browser, &format!("release {release}"));
        if coded("dcz") > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "no dcz up to release {release}");
        release += 1;
    }
    assert_eq!(
        world.figure("edge_delta_browser_offers_total{outcome=\"used\"} "),
        coded("dcz")
    );
    let sent = world.figure("edge_delta_browser_sent_bytes_total{coding=\"dcz\"} ");
    let whole = world.figure("edge_delta_browser_content_bytes_total{coding=\"dcz\"} ");
    assert!(sent * 50 < whole, "{sent} bytes for {whole}");
}
