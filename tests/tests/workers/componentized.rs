//! A component of componentize-js on a running node: JavaScript with an engine of its own. `cargo
//! xtask test --componentize-js` builds it of tests/workers/scripts/platform.js, in a project of
//! `edge worker new`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use edge_testbed::process;

use crate::checkout;
use crate::world::{World, run};

/// A component that is a hundred times as large as others, compiled by a compiler that was built
/// without optimisation.
const COMPILE: Duration = Duration::from_secs(900);

/// Code that needs the whole web platform could not be deployed, would meet a limit that is meant
/// for others, or not be kept to its own.
#[test]
#[ignore = "`cargo xtask test --componentize-js` builds the component"]
fn a_component_of_componentize_js_serves() {
    let component = checkout::root().join("target/componentize/platform/worker.wasm");
    assert!(component.is_file(), "`cargo xtask test --componentize-js` builds it");
    let Some(mut world) = World::start() else { return };
    world.restart(|directory| {
        let file = directory.join("edge.toml");
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace("[isolate]\n", "[isolate]\ncompile_time = \"10m\"\n");
        // A mebibyte through this engine takes most of the default 50 ms on a slow processor.
        let text = text.replace("zones = [\"greeter\"]\n", "zones = [\"greeter\"]\ncpu = \"1s\"\n");
        fs::write(&file, text).unwrap();
    });
    world.deploy("greeter", "greeter");
    let mut deploy = world.netns().command(checkout::binaries().join("edge")).unwrap();
    deploy.args(["worker", "--admin", "127.0.0.1:9180", "deploy", "front"]);
    let said = process::output(deploy.arg(&component), COMPILE).unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.starts_with("front: version 1 is active"), "{said}");

    for _ in 0..20 {
        assert_eq!(world.get("front", "/").body, "componentized\n");
    }
    assert_eq!(
        world.get("front", "/greet").body,
        "greeter said: good day, ann, visit 1\n"
    );
    let file = world.path("content");
    let content = vec![b'x'; 1 << 20];
    fs::write(&file, &content).unwrap();
    let data = format!("@{}", file.display());
    let page = format!("file=@{}", world.path("www/index.html").display());
    let form = world.ask("front", "/form", &["--form", "name=ann", "--form", &page]);
    assert_eq!(form.body, "[\"ann\",\"index.html\"]");
    let mut echo = world.curl();
    echo.args(["--data-binary", &data, "https://front.example/echo"]);
    assert!(run(&mut echo).stdout == content, "a body comes back whole");
    let mut gzip = world.curl();
    gzip.args(["--data-binary", &data, "https://front.example/gzip"]);
    let packed = run(&mut gzip).stdout;
    assert!(
        packed.starts_with(&[0x1F, 0x8B]) && packed.len() < content.len() / 50,
        "{}",
        packed.len()
    );

    // Its limits are those of any worker, and an error is one of its request alone.
    assert_eq!(world.get("front", "/spin").status, 500);
    assert!(world.failures("front", "cpu") >= 1.0);
    assert_eq!(world.get("front", "/throw").status, 500);
    assert_eq!(world.get("front", "/log").body, "logged");
    let logs = world.control(&["logs", "front"]).unwrap();
    assert!(logs.contains("a line of its log") && logs.contains("no luck"), "{logs}");
    assert_eq!(world.get("front", "/").body, "componentized\n");

    // The page says what there is.
    let page = fs::read_to_string(checkout::root().join("docs/workers-js.md")).unwrap();
    let part = page.split("## For more of the web platform").nth(1).unwrap();
    let list = |mark: &str| -> BTreeSet<String> {
        let row = part.lines().find(|line| line.starts_with(mark)).unwrap();
        let names = row.split('|').nth(2).unwrap().split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    };
    let names = |path: &str| -> BTreeSet<String> { serde_json::from_str(&world.get("front", path).body).unwrap() };
    let language = include_str!("../../../edge-userspace/src/isolate/js/tests/ecmascript.txt");
    let language: BTreeSet<&str> = language.split_whitespace().collect();
    let mut there = names("/names");
    there.retain(|name| !language.contains(name.as_str()));
    assert_eq!(there, list("| globals"));
    assert_eq!(names("/subtle"), list("| `crypto.subtle`"));
}
