//! A worker's life: deployed, asked, replaced, rolled back; and what two finished ones do.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread::sleep;
use std::time::Duration;

use crate::world::{GROUP, World, run, worker};

/// Another program of the daemon's user would read private keys out of its memory, or a crash would
/// leave them on the disk.
#[test]
fn a_node_with_workers_is_closed_to_others() {
    let Some(world) = World::start() else { return };
    let proc = |file: &str| format!("/proc/{}/{file}", world.daemon.id());
    let limits = fs::read_to_string(proc("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(fs::read_to_string(proc("coredump_filter")).unwrap().trim(), "00000000");
    // Not dumpable: what is in /proc belongs to root's group, not to the daemon's.
    let status = fs::read_to_string(proc("status")).unwrap();
    assert!(status.contains(&format!("Gid:\t{GROUP}\t{GROUP}")), "{status}");
    assert_eq!(fs::metadata(proc("mem")).unwrap().gid(), 0);
    // And workers work all the same.
    let said = world.control(&["deploy", "greeter", worker("greeter").to_str().unwrap()]);
    assert!(said.unwrap().starts_with("greeter: version 1 is active"));
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 1\n");
}

/// An operator could not trust a deployment: what is broken must not replace what works, and what
/// is changed behind the node's back must not run.
#[test]
fn deployed_rolled_back_and_never_replaced_by_what_is_broken() {
    let Some(mut world) = World::start() else { return };
    assert_eq!(world.get("greeter", "/ann").status, 503, "nothing is deployed yet");
    let said = world
        .control(&["deploy", "greeter", worker("greeter").to_str().unwrap()])
        .unwrap();
    assert!(said.starts_with("greeter: version 1 is active, compiled in "), "{said}");
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 1\n");

    // Whatever is wrong with a file is said, and nothing else happens.
    let broken = world.path("broken.wasm");
    let whole = fs::read(worker("front")).unwrap();
    for (bytes, words) in [
        (whole[..whole.len() / 2].to_vec(), "refused"),
        (b"\0asm\x01\0\0\0".to_vec(), "wasm32-wasip2"),
        (vec![0xff; 100], "neither"),
        (b"\0asm\x0d\0\x01\0".to_vec(), "incoming-handler"),
    ] {
        fs::write(&broken, bytes).unwrap();
        let said = world
            .control(&["deploy", "greeter", broken.to_str().unwrap()])
            .unwrap_err();
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = world
        .control(&["deploy", "attacks", broken.to_str().unwrap()])
        .unwrap_err();
    assert!(said.contains("in the configuration"), "{said}");
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 2\n");

    // A request under way ends on the version it began with.
    world.deploy("greeter", "attacks");
    let mut curl = world.curl();
    let waiting = std::thread::spawn(move || run(curl.arg("https://greeter.example/wait")));
    sleep(Duration::from_millis(500));
    let said = world.control(&["rollback", "greeter"]).unwrap();
    assert_eq!(said, "greeter: version 1 is active\n");
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 3\n");
    let waited = waiting.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&waited.stdout), "waited");
    let said = world.control(&["rollback", "greeter", "7"]).unwrap_err();
    assert!(said.contains("no version 7"), "{said}");

    let logs = world.control(&["logs", "greeter"]).unwrap();
    assert!(logs.contains("greeter: greets ann"), "{logs}");

    // After a restart the same version answers from the code that was kept, and what was stored is
    // there.
    world.restart(|_| {});
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 4\n");
    let list = world.control(&["list", "greeter"]).unwrap();
    assert!(list.contains("*1\t") && list.contains(" 2\t"), "{list}");

    // Changed code is not run, and the other zones do not care.
    world.restart(|directory| {
        let text = fs::read(directory.join("state/zones/zone-greeter/versions.json")).unwrap();
        let versions: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let digest = versions["all"][0]["digest"].as_str().unwrap();
        let mut changed = 0;
        for entry in fs::read_dir(directory.join("state/code")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(digest) && name.ends_with(".cwasm") {
                let mut code = fs::read(&path).unwrap();
                let middle = code.len() / 2;
                code[middle] ^= 1;
                fs::write(&path, code).unwrap();
                changed += 1;
            }
        }
        assert_eq!(changed, 1);
    });
    assert_eq!(world.get("greeter", "/ann").status, 503);
    assert!(world.daemon.log().contains("the compiled code was changed"));
    assert_eq!(world.get("mirror", "/").status, 200);
}

/// Two zones' workers in one process: the one asks the other, and its own origin for everything
/// else.
#[test]
fn one_zone_asks_another_and_its_own_origin() {
    let Some(world) = World::start() else { return };
    world.deploy("greeter", "greeter");
    world.deploy("front", "front");
    assert_eq!(world.get("front", "/greet/bob").body, "good day, bob, visit 1\n");
    let page = world.get("front", "/");
    assert_eq!((page.status, &*page.body), (200, "the page\n"));
    assert!(page.head.contains("x-worker: front"), "{}", page.head);
    assert_eq!(world.get("front", "/none").status, 404);

    // One request and what it made, under one name.
    let log = world.daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("\"sub-request\"") && line.contains("\"zone\":\"greeter\""));
    let line = line.unwrap_or_else(|| panic!("no sub-request in {log}"));
    let id = line.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    // Access lines are written together, after a moment.
    let access = (0..100).find_map(|_| {
        sleep(Duration::from_millis(50));
        let log = world.daemon.log();
        let access = log
            .lines()
            .find(|line| line.contains("edge::access") && line.contains(id));
        access.map(str::to_owned)
    });
    assert!(access.is_some_and(|line| line.contains("\"/greet/bob\"")), "{log}");
    let told = log
        .lines()
        .find(|line| line.contains("edge::worker") && line.contains(id));
    assert!(told.is_some_and(|line| line.contains("greets bob")), "{log}");

    // A client that goes takes its guest with it: in HTTP/2, for one of HTTP/1.1 may have closed
    // its own side alone, and listen.
    let before = world.metric("edge_isolate_active{zone=\"reused\"}");
    let gone = world.ask("reused", "/hang", &["--http2", "--max-time", "0.5"]);
    assert_eq!(gone.status, 0);
    let active = || world.metric("edge_isolate_active{zone=\"reused\"}");
    let ended = (0..50).any(|_| {
        sleep(Duration::from_millis(100));
        active() <= before
    });
    assert!(ended, "the guest lives on: {}", active());
}
