//! The demo as a user meets it: started by its command, used by curl from the client's namespace,
//! ended, crashed.
//!
//! If these fail, the first thing that the README promises is broken.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;
#[expect(dead_code, reason = "this test uses a part of the browser's commands")]
#[path = "browser/webdriver.rs"]
mod webdriver;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use edge_testbed::netns::Netns;
use edge_testbed::privilege;
use edge_testbed::process::{self, Process};
use rustix::process::Signal;
use webdriver::{Browser, public_key};

const START: Duration = Duration::from_secs(60);
/// What a browser may take over a page.
const LONGEST: Duration = Duration::from_secs(20);
/// The daemon drains before it ends.
const STOP: Duration = Duration::from_secs(30);

/// A demo that answered, and its shell variables.
struct Demo {
    process: Process,
    variables: HashMap<String, String>,
    _one: MutexGuard<'static, ()>,
    _log: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        /// There is one demo per checkout.
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        checkout::build();

        let log = tempfile::tempdir().unwrap();
        let mut command = Command::new(checkout::binaries().join("xtask"));
        command
            .args(["run", "--dev", "--no-build"])
            .current_dir(checkout::root());
        let mut process = Process::spawn(&mut command, &log.path().join("log")).unwrap();
        let output = log.path().join("log");
        process
            .wait_until("line `ready`", START, || {
                Ok(fs::read_to_string(&output)?.lines().any(|line| line == "ready"))
            })
            .unwrap();
        let text = fs::read_to_string(checkout::root().join("target/demo/env")).unwrap();
        let variables = text
            .lines()
            .map(|line| {
                let (name, value) = line.split_once('=').unwrap();
                (name.to_owned(), value.trim_matches('\'').to_owned())
            })
            .collect();
        Self {
            process,
            variables,
            _one: one,
            _log: log,
        }
    }

    fn variable(&self, name: &str) -> &str {
        &self.variables[&format!("EDGE_DEMO_{name}")]
    }

    /// curl in the client's namespace, as the demo's sheet shows it.
    fn curl(&self, host: &str, address: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args([
                "netns",
                "exec",
                self.variable("CLIENT_NETNS"),
                "curl",
                "--silent",
                "--show-error",
            ])
            .args(["--cacert", self.variable("CA")])
            .args([
                "--resolve",
                &format!("{host}:443:{address}"),
                "--resolve",
                &format!("{host}:80:{address}"),
            ])
            .args(arguments);
        command
    }

    fn get(&self, host: &str, address: &str, path: &str) -> Output {
        let url = format!("https://{host}{path}");
        let json = "accept: application/json";
        run(&mut self.curl(host, address, &["--fail", "--max-time", "3", "--header", json, &url]))
    }

    /// A command in the edge's namespace that must succeed; gives what it printed.
    fn inside(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.variable("EDGE_NETNS"), program])
            .args(arguments);
        let output = run(&mut command);
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn deny(&self, action: &str, address: &str) -> String {
        let mut arguments = vec!["deny", "--admin", self.variable("ADMIN"), action];
        if action != "list" {
            arguments.push(address);
        }
        self.inside(self.variable("BIN"), &arguments)
    }

    fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.variable("ADMIN"));
        self.inside("curl", &["--silent", "--fail", &url])
    }

    /// Packets that the XDP program dropped so far, for whatever reason.
    fn dropped(&self) -> u64 {
        let metrics = self.metrics();
        let samples: Vec<u64> = metrics
            .lines()
            .filter(|line| line.starts_with("edge_dataplane_packets_total{") && line.contains("verdict=\"drop\""))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(!samples.is_empty(), "no counters of drops in:\n{metrics}");
        samples.iter().sum()
    }

    fn namespaces(&self) -> [PathBuf; 2] {
        ["CLIENT_NETNS", "EDGE_NETNS"].map(|name| Path::new("/run/netns").join(self.variable(name)))
    }

    fn pins(&self) -> PathBuf {
        self.variable("PINS").into()
    }
}

fn run(command: &mut Command) -> Output {
    process::output(command, Duration::from_secs(30)).unwrap()
}

fn body(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    str::from_utf8(&output.stdout).unwrap()
}

/// A denied client's attempts end in the kernel; what it has open goes on, and so does its other
/// family.
fn deny_and_let_in_again(demo: &Demo, shop: &str, v4: &str, v6: &str) {
    let client = demo.variable("CLIENT_ADDR").to_owned();
    let before = demo.dropped();
    let log = tempfile::tempdir().unwrap();
    let slow = ["--fail", "--max-time", "20", &format!("https://{shop}/slow/4000")];
    let mut open = Process::spawn(&mut demo.curl(shop, v4, &slow), &log.path().join("slow")).unwrap();
    let connected = format!("{v4}:443");
    open.wait_until("open connection", START, || {
        let sockets = demo.inside("ss", &["-tnH", "state", "established", "src", &connected]);
        Ok(!sockets.trim().is_empty())
    })
    .unwrap();
    // Long enough for the handshake and the request on a busy machine, short enough for the answer
    // to be open.
    std::thread::sleep(Duration::from_millis(1000));
    demo.deny("add", &client);
    let refused = demo.get(shop, v4, "/");
    assert_eq!(refused.status.code(), Some(28), "not a timeout: {refused:?}");
    assert!(demo.dropped() > before, "the drop was not counted");
    assert!(demo.deny("list", &client).contains(&client));
    assert!(
        open.wait(START).unwrap().success(),
        "an established connection was cut: {}",
        open.log()
    );
    body(&demo.get(shop, v6, "/"));
    demo.deny("del", &client);
    body(&demo.get(shop, v4, "/"));
}

#[test]
fn a_visitor_uses_the_demo_from_start_to_end() {
    if !privilege::can_attach(&checkout::root()) {
        return;
    }
    let mut demo = Demo::start();
    let (v4, v6) = (
        demo.variable("ADDR").to_owned(),
        format!("[{}]", demo.variable("ADDR6")),
    );
    let hosts: Vec<_> = demo.variable("HOSTS").split(' ').collect();
    let [shop, files, changing, worker] = hosts[..] else {
        panic!("{hosts:?}")
    };

    // The proxied zone tells its origin who asked, by both families.
    for (address, client) in [
        (&v4, demo.variable("CLIENT_ADDR")),
        (&v6, demo.variable("CLIENT_ADDR6")),
    ] {
        let seen: serde_json::Value = serde_json::from_str(body(&demo.get(shop, address, "/inspect/a?b=c"))).unwrap();
        assert_eq!(
            (&seen["method"], &seen["path"]),
            (&"GET".into(), &"/inspect/a?b=c".into()),
            "{seen}"
        );
        let headers = seen["headers"].to_string();
        assert!(
            headers.contains(client),
            "the origin was not told of {client}: {headers}"
        );
    }
    // A name below the wildcard is the same zone; files come from the other one.
    assert!(body(&demo.get(&format!("www.{shop}"), &v4, "/")).contains("You came through the edge"));
    for address in [&v4, &v6] {
        assert!(body(&demo.get(files, address, "/")).contains("served by the edge itself"));
    }
    let missing = run(&mut demo.curl(
        files,
        &v4,
        &["-w", "%{http_code}", "-o", "/dev/null", &format!("https://{files}/no")],
    ));
    assert_eq!(body(&missing), "404");
    let plain = [
        "-w",
        "%{http_code} %{redirect_url}",
        "-o",
        "/dev/null",
        &format!("http://{shop}/x?y"),
    ];
    let redirect = run(&mut demo.curl(shop, &v4, &plain));
    let (code, target) = body(&redirect).split_once(' ').unwrap();
    assert!(
        code.starts_with("30") && target == format!("https://{shop}/x?y"),
        "{redirect:?}"
    );

    // A page by differences is whole, time and again; a worker in Rust asks one in JavaScript.
    for _ in 0..3 {
        let page = demo.get(changing, &v4, "/changing/20000");
        assert!(body(&page).len() > 10_000);
    }
    assert!(body(&demo.get(worker, &v4, "/greet/ann")).contains("ann"));

    deny_and_let_in_again(&demo, shop, &v4, &v6);

    // The end leaves nothing.
    let edge = format!("/proc/{}", demo.variable("PID"));
    assert!(Path::new(&edge).exists() && demo.pins().exists());
    let status = demo.process.stop(STOP).unwrap();
    assert!(status.success(), "{status}: {}", demo.process.log());
    for gone in
        demo.namespaces()
            .into_iter()
            .chain([demo.pins(), edge.into(), checkout::root().join("target/demo/env")])
    {
        assert!(!gone.exists(), "{} is still there", gone.display());
    }
}

/// Release one of a script is the dictionary of the next (RFC 9842): Chromium gets that as what
/// changed, by its own network log, and runs it.
#[test]
fn chromium_gets_what_changed_and_runs_it() {
    if !privilege::can_attach(&checkout::root()) {
        return;
    }
    let mut demo = Demo::start();
    let hosts = demo.variable("HOSTS");
    let shop = hosts.split(' ').next().unwrap();
    let client = Netns::existing(demo.variable("CLIENT_NETNS")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let certificate = Path::new(demo.variable("CA")).with_file_name("shop.pem");
    fs::copy(certificate, directory.path().join("shop.pem")).unwrap();
    {
        let Some(browser) = Browser::start(&client, directory.path(), shop, demo.variable("ADDR")) else {
            return;
        };
        browser.open(&format!("https://{shop}/release/1"));
        wait_title(&browser, "release 1");
        // The browser digests and stores the dictionary behind the page; until it has, it asks for
        // the whole.
        let deadline = Instant::now() + LONGEST;
        for release in 2.. {
            sleep(Duration::from_millis(300));
            browser.open(&format!("https://{shop}/release/{release}"));
            wait_title(&browser, &format!("release {release}"));
            let script = format!("https://{shop}/release.{release}.js");
            let responses = browser.responses();
            let (_, fields) = responses.iter().find(|(url, _)| *url == script).unwrap();
            if fields["content-encoding"] == "dcz" {
                let vary = fields["vary"].as_str().unwrap_or_default();
                assert!(vary.contains("available-dictionary"), "{fields}");
                break;
            }
            assert!(Instant::now() < deadline, "no dcz up to release {release}: {fields}");
        }
    }
    let metrics = demo.metrics();
    let figure = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in:\n{metrics}"))
            .trim()
            .parse()
            .unwrap()
    };
    assert_eq!(
        figure("edge_delta_browser_offers_total{outcome=\"used\"} "),
        figure("edge_delta_browser_responses_total{coding=\"dcz\"} ")
    );
    let sent = figure("edge_delta_browser_sent_bytes_total{coding=\"dcz\"} ");
    let whole = figure("edge_delta_browser_content_bytes_total{coding=\"dcz\"} ");
    assert!(sent * 50 < whole, "{sent} bytes for {whole}");
    assert!(demo.process.stop(STOP).unwrap().success());
}

/// HTTP/3 as the page itself sees it: at once, after a wait, and while the kernel answers newcomers
/// with Retry. A browser for each, because one keeps its connection.
#[test]
fn chromium_loads_pages_over_quic() {
    if !privilege::can_attach(&checkout::root()) {
        return;
    }
    let mut demo = Demo::start();
    let host = demo.variable("HOSTS").split(' ').nth(1).unwrap().to_owned();
    let client = Netns::existing(demo.variable("CLIENT_NETNS")).unwrap();
    let certificate = Path::new(demo.variable("CA")).with_file_name("static.pem");
    let arguments = [
        "--enable-quic".to_owned(),
        format!("--origin-to-force-quic-on={host}:443"),
        format!(
            "--ignore-certificate-errors-spki-list={}",
            public_key(&certificate).unwrap()
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    let browser = |place: &str| {
        let files = directory.path().join(place);
        fs::create_dir(&files).unwrap();
        Browser::start_with(&client, &files, &arguments, &[&host], demo.variable("ADDR"))
    };
    let shows = |browser: &Browser<'_>, path: &str, title: &str| {
        browser.open(&format!("https://{host}{path}"));
        wait_title(browser, title);
        let protocol = browser.evaluate("return performance.getEntriesByType(\"navigation\")[0].nextHopProtocol");
        assert_eq!(protocol, "h3", "{path}");
    };
    {
        let Some(first) = browser("first") else { return };
        shows(&first, "/", "edge demo: static");
        shows(&first, "/limited/", "edge demo: limited");
        shows(&first, "/limited/?again", "Please wait");
        wait_title(&first, "edge demo: limited");
    }
    let lockdown = |to| {
        demo.inside(
            demo.variable("BIN"),
            &["lockdown", "--admin", demo.variable("ADMIN"), to],
        )
    };
    lockdown("on");
    let retried = || -> u64 {
        let metrics = demo.metrics();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("edge_quic_retries_total{by=\"kernel\"} "));
        line.unwrap().parse().unwrap()
    };
    assert_eq!(retried(), 0);
    {
        let Some(second) = browser("second") else { return };
        shows(&second, "/", "edge demo: static");
    }
    let deadline = Instant::now() + LONGEST;
    while retried() == 0 {
        assert!(Instant::now() < deadline, "the kernel answered nobody");
        sleep(Duration::from_millis(100));
    }
    assert!(demo.process.stop(STOP).unwrap().success());
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
fn what_a_crashed_demo_left_is_removed_by_the_next() {
    if !privilege::can_attach(&checkout::root()) {
        return;
    }
    let mut crashed = Demo::start();
    let leftovers: Vec<PathBuf> = crashed.namespaces().into_iter().chain([crashed.pins()]).collect();
    crashed.process.signal(Signal::KILL).unwrap();
    crashed.process.wait(START).unwrap();
    assert!(
        leftovers.iter().all(|path| path.exists()),
        "nothing is left: this test shows nothing"
    );
    drop(crashed);

    let mut next = Demo::start();
    for path in leftovers {
        assert!(!path.exists(), "{} is still there", path.display());
    }
    assert!(next.process.stop(STOP).unwrap().success());
}
