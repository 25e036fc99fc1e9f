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

/// `edge worker test` on a directory: whether it succeeded, and what it said.
fn tested(directory: &Path, cache: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(checkout::binaries().join("edge"));
    command
        .args(["worker", "test"])
        .arg(directory)
        .args(arguments)
        .env("XDG_CACHE_HOME", cache)
        .env("PATH", "/usr/bin:/bin");
    let output = process::output(&mut command, START).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), format!("{said}{log}"))
}

/// An author would take a broken worker for a good one, or look for a failure in the wrong line;
/// and the example of a new project would fail.
#[test]
fn tests_of_a_worker_run_without_a_node() {
    checkout::build();
    let (directory, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let project = directory.path().join("hello");
    let mut new = Command::new(checkout::binaries().join("edge"));
    new.args(["worker", "new", "--lang", "js"]).arg(&project);
    assert!(process::output(&mut new, START).unwrap().status.success());
    let (good, said) = tested(&project, cache.path(), &[]);
    assert!(good && said.contains("3 ok, 0 failed\n"), "{said}");
    assert!(
        said.contains("ok      worker.test.js > the greeting > names a stranger ("),
        "{said}"
    );

    fs::create_dir_all(project.join("src/more")).unwrap();
    fs::create_dir_all(project.join("node_modules")).unwrap();
    fs::write(project.join("node_modules/x.test.js"), "throw new Error('not mine')").unwrap();
    fs::write(
        project.join("src/count.ts"),
        "export const count = async (env: Env): Promise<number> => {\n  const next = Number(await env.KV.get('n')) + 1;\n  \
         await env.KV.put('n', `${next}`);\n  return next;\n};\n",
    )
    .unwrap();
    fs::write(
        project.join("src/more/count.test.ts"),
        "import { count } from '../count';\nimport { afterEach, assert, beforeEach, describe, it, test } from 'edge:test';\n\
         interface Unused { a: string }\nlet hooks = '';\nbeforeEach(() => { hooks += '('; });\nafterEach(() => { hooks += ')'; });\n\
         test('counts', async ({ env }) => assert.equal(await count(env), 1));\n\
         describe('group', () => {\n  beforeEach(async () => { hooks += '['; });\n  \
         it('counts on', async ({ env }) => { assert.equal(await count(env), 2); assert.equal(hooks, '()(['); });\n  \
         it('is wrong', () => {\n    const wanted: number = 3;\n    assert.deepEqual([1, { a: 2 }], [1, { a: wanted }]);\n  });\n});\n\
         test.skip('later');\n",
    )
    .unwrap();
    // The same store would have 2 in it.
    fs::write(
        project.join("src/apart.test.js"),
        "import { count } from './count.ts';\ntest('has a store of its own', async ({ env }) => assert.equal(await count(env), 1));\n\
         test('waits', async () => { await new Promise(done => setTimeout(done, 20)); await assert.rejects(async () => { throw new RangeError('x'); }, RangeError); assert.throws(() => null.x, TypeError); });\n\
         test('setting', ({ env }) => assert.ok(env.MINE === 'a b'));\n",
    )
    .unwrap();
    fs::write(project.join(".dev.vars"), "MINE=a b\n").unwrap();
    let (good, said) = tested(&project, cache.path(), &[]);
    assert!(!good && said.contains("8 ok, 1 failed, 1 skipped\n"), "{said}");
    assert!(
        said.contains("FAILED  src/more/count.test.ts > group > is wrong"),
        "{said}"
    );
    assert!(
        said.contains("AssertionError") && said.contains("count.test.ts:13:"),
        "{said}"
    );
    assert!(!said.contains("edge:test:") && !said.contains("not mine"), "{said}");
    // Alone, and with a store that has nothing in it.
    let (good, said) = tested(&project, cache.path(), &["--filter", "group > counts"]);
    assert!(
        !good && said.contains("0 ok, 1 failed\n") && said.contains("1 !== 2"),
        "{said}"
    );
    let (good, said) = tested(&project, cache.path(), &["--filter", "no such name"]);
    assert!(!good && said.contains("no test has"), "{said}");
}

/// A test that hangs would hang the author, and a file that cannot be loaded hide the others.
#[test]
fn tests_that_cannot_end_or_begin_have_failed() {
    checkout::build();
    let (directory, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write(
        "a.test.js",
        "test('first', () => {}); test('loops', () => { for (;;); }); test('last', () => {});",
    );
    write("b.test.js", "test('waits', () => new Promise(() => {}));");
    write("c.test.js", "import './none.js';");
    write("d.test.js", "\nthrow new Error('at once');");
    write("e.test.js", "test('good', () => { console.log('said by the test'); });");
    let (good, said) = tested(directory.path(), cache.path(), &["--cpu", "300ms"]);
    assert!(!good && said.contains("2 ok, 4 failed\n"), "{said}");
    for part in [
        "ok      a.test.js > first",
        "FAILED  a.test.js > loops",
        "FAILED  b.test.js > waits",
        "c.test.js imports ./none.js, which is not there",
        "at once",
        "d.test.js:2",
        "ok      e.test.js > good",
        "said by the test",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("> last"), "{said}");
    let (good, said) = tested(&directory.path().join("e.test.js"), cache.path(), &[]);
    assert!(good && said.contains("1 ok, 0 failed\n"), "{said}");
    let (good, _) = tested(cache.path(), cache.path(), &[]);
    assert!(!good);
}
