//! `edge dev` as a worker's author meets it: without root, certificates and a configuration.
//!
//! If these fail, the first minutes with a worker are lost.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use edge_testbed::process::{self, Process};

/// The engine is compiled at the first start.
const START: Duration = Duration::from_secs(180);

/// A daemon of `edge dev`; it ends when this is dropped.
struct Dev {
    process: Process,
    address: SocketAddr,
    /// Its cache and its log.
    _directory: tempfile::TempDir,
}

impl Dev {
    fn start(worker: &Path, arguments: &[&str]) -> Self {
        checkout::build();
        let address = process::free_address().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(checkout::binaries().join("edge"));
        command
            .arg("dev")
            .arg(worker)
            .args(["--port", &address.port().to_string()]);
        // No bundler of the machine's: what is tried here is what there is without one.
        command
            .args(arguments)
            .env("XDG_CACHE_HOME", directory.path())
            .env("PATH", "/usr/bin:/bin");
        let mut process = Process::spawn(&mut command, &directory.path().join("log")).unwrap();
        process.wait_port(address, START).unwrap();
        Self {
            process,
            address,
            _directory: directory,
        }
    }

    /// curl's output for a path, with further arguments.
    fn curl(&self, path: &str, arguments: &[&str]) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--path-as-is"])
            .args(arguments);
        curl.arg(format!("http://{}{path}", self.address));
        let output = process::output(&mut curl, Duration::from_secs(30)).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks until the answer is `wanted`.
    fn until(&self, path: &str, wanted: &str) {
        let mut said = String::new();
        for _ in 0..200 {
            said = self.curl(path, &[]);
            if said == wanted {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("{said}, not {wanted}; {}", self.process.log());
    }
}

/// Files of a site would not be served, or in place of what the worker guards.
#[test]
fn files_come_before_the_worker_unless_it_is_asked_first() {
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("dist");
    fs::create_dir_all(site.join("docs")).unwrap();
    fs::create_dir_all(site.join("private")).unwrap();
    fs::create_dir_all(site.join("empty")).unwrap();
    fs::write(site.join("index.html"), "<p>home").unwrap();
    fs::write(site.join("docs/index.html"), "<p>docs").unwrap();
    fs::write(site.join("a.css"), "a{color:red}").unwrap();
    fs::write(site.join("private/a.txt"), "secret").unwrap();
    fs::write(directory.path().join("outside.txt"), "outside").unwrap();
    let worker = directory.path().join("worker.js");
    let script = "export default { async fetch(request, env) {
      const { pathname, searchParams } = new URL(request.url);
      if (searchParams.has('file')) return env.ASSETS.fetch(searchParams.get('file'));
      return new Response(`worker ${request.method} ${pathname}`);
    } }";
    fs::write(&worker, script).unwrap();
    let site = site.to_str().unwrap();
    let dev = Dev::start(&worker, &["--assets", site, "--worker-first", "/private/"]);
    assert_eq!(dev.curl("/", &[]), "<p>home");
    assert_eq!(dev.curl("/docs", &["--location"]), "<p>docs");
    let styled = dev.curl("/a.css", &["--include", "--range", "0-3"]);
    for part in ["206", "text/css", "etag: ", "bytes 0-3/12", "a{co"] {
        assert!(styled.contains(part), "{part}: {styled}");
    }
    let tag = styled
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap()
        .trim();
    let same = dev.curl("/a.css", &["--include", "--header", &format!("if-none-match: {tag}")]);
    assert!(same.starts_with("HTTP/1.1 304"), "{same}");
    // What is no file, not read, guarded, or written in another form is the worker's.
    for (path, arguments, said) in [
        ("/none", &[][..], "worker GET /none"),
        ("/empty", &[], "worker GET /empty"),
        ("/a.css", &["--data", "x"], "worker POST /a.css"),
        ("/private/a.txt", &[], "worker GET /private/a.txt"),
        ("/x/../private/a.txt", &[], "worker GET /private/a.txt"),
        ("//private/a.txt", &[], "worker GET //private/a.txt"),
        ("/%70rivate/a.txt", &[], "worker GET /%70rivate/a.txt"),
        ("/../outside.txt", &[], "worker GET /outside.txt"),
    ] {
        assert_eq!(dev.curl(path, arguments), said, "{path}");
    }
    assert_eq!(dev.curl("/private/x?file=/private/a.txt", &[]), "secret");
    for file in ["/private/%2e%2e/%2e%2e/outside.txt", "/..%2foutside.txt", "/none"] {
        let path = format!("/private/x?file={}", file.replace('%', "%25"));
        let said = dev.curl(&path, &["--include"]);
        assert!(said.starts_with("HTTP/1.1 404"), "{file}: {said}");
    }
    // A file that is written while it runs is there, and a changed worker is loaded.
    fs::write(directory.path().join("dist/new.txt"), "new").unwrap();
    assert_eq!(dev.curl("/new.txt", &[]), "new");
    fs::write(&worker, script.replace("`worker", "`changed")).unwrap();
    dev.until("/none", "changed GET /none");
}

/// TypeScript would want a bundler, a stack trace name a line that nobody wrote, or what a worker
/// keeps be the zone's.
#[test]
fn typescript_is_served_and_its_responses_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let worker = directory.path().join("worker.ts");
    let script = "enum Way { Kept = \"kept\", Made = \"made\" }

interface Env { NAME?: string }
const answer = (way: Way): Response => new Response(`${way} ${performance.timeOrigin}`, {
  headers: { \"cache-control\": \"max-age=60\" },
});
export default {
  async fetch(request: Request, env: Env, ctx: any): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === \"/fails\") {
      throw new Error(\"on line eleven\" as string);
    }
    const found = await caches.default.match(request);
    if (found) return new Response(await found.text(), found);
    const made = answer(pathname === \"/kept\" ? Way.Kept : Way.Made);
    if (request.method === \"GET\" && pathname === \"/kept\") await caches.default.put(request, made.clone());
    return made;
  },
} satisfies { fetch: unknown };
";
    fs::write(&worker, script).unwrap();
    let dev = Dev::start(&worker, &[]);
    let first = dev.curl("/kept", &[]);
    assert!(first.starts_with("kept "), "{first}");
    sleep(Duration::from_millis(20));
    assert_eq!(dev.curl("/kept", &[]), first, "not from the cache");
    assert_eq!(
        dev.curl("/kept", &["--request", "POST"]).split(' ').next(),
        Some("kept")
    );
    let made = dev.curl("/made", &[]);
    sleep(Duration::from_millis(20));
    assert_ne!(dev.curl("/made", &[]), made);
    assert!(dev.curl("/fails", &["--include"]).starts_with("HTTP/1.1 500"));
    let log = dev.process.log();
    assert!(log.contains("on line eleven") && log.contains("worker.ts:11"), "{log}");
    // A mistake is told with its place, and the old worker goes on.
    fs::write(&worker, script.replace("async fetch(", "async fetch(:")).unwrap();
    for _ in 0..200 {
        if dev.process.log().contains("worker.ts:8:") {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    assert!(dev.process.log().contains("worker.ts:8:"), "{}", dev.process.log());
    assert_eq!(dev.curl("/kept", &[]), first);
    // The same without a server.
    let mut check = Command::new(checkout::binaries().join("edge"));
    check
        .args(["worker", "check"])
        .arg(&worker)
        .env("XDG_CACHE_HOME", directory.path())
        .env("PATH", "/usr/bin:/bin");
    let checked = process::output(&mut check, Duration::from_secs(60)).unwrap();
    assert!(!checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stderr).contains("worker.ts:8:"));
}
