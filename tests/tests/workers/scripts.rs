//! Workers in JavaScript on a running node: deployed as a file, asked by a worker in Rust, refused
//! and rolled back like any other.

use std::fs;
use std::path::PathBuf;

use crate::checkout;
use crate::world::World;

/// An example script of this repository.
fn script(name: &str) -> PathBuf {
    checkout::root().join("tests/workers/scripts").join(name)
}

/// A script could not be deployed as it is, or a worker in another language not ask it.
#[test]
fn a_script_is_deployed_and_asked_by_a_component() {
    let Some(mut world) = World::start() else { return };
    let deploy =
        |world: &World, zone: &str, path: &std::path::Path| world.control(&["deploy", zone, path.to_str().unwrap()]);
    let said = deploy(&world, "greeter", &script("greeter.js")).unwrap();
    assert!(said.starts_with("greeter: version 1 is active"), "{said}");
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 1\n");
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 2\n");
    world.deploy("front", "front");
    assert_eq!(world.get("front", "/greet/bob").body, "good day, bob, visit 1\n");
    // What cannot run says why, with its line, and the old one goes on.
    let broken = world.path("broken.js");
    for (text, words) in [
        ("export default {\n  fetch( }", "worker.js:2"),
        ("throw new Error('no luck')", "no luck"),
        ("for (;;) {}", "longer than 1 s"),
        (
            "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1))",
            "memory",
        ),
        ("export const nothing = 1", "no handler"),
    ] {
        fs::write(&broken, text).unwrap();
        let said = deploy(&world, "greeter", &broken).unwrap_err();
        assert!(said.contains(words), "{text}: {said}");
    }
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 3\n");

    // One request and what it made, under one name.
    let log = world.daemon.log();
    let asked = log
        .lines()
        .find(|line| line.contains("\"sub-request\"") && line.contains("\"zone\":\"greeter\""));
    let id = asked
        .unwrap()
        .split("\"id\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let told = log
        .lines()
        .find(|line| line.contains("edge::worker") && line.contains(id));
    assert!(told.is_some_and(|line| line.contains("greets bob")), "{log}");

    // Errors, with the script's lines, are in the zone's log; the client gets a 500 and no word of
    // them.
    fs::write(&broken, "export default {\n  fetch() {\n    missing();\n  }\n}").unwrap();
    deploy(&world, "greeter", &broken).unwrap();
    let answer = world.get("greeter", "/");
    assert!(
        answer.status == 500 && !answer.body.contains("missing"),
        "{}",
        answer.body
    );
    let logs = world.control(&["logs", "greeter"]).unwrap();
    assert!(
        logs.contains("missing is not defined") && logs.contains("worker.js:3"),
        "{logs}"
    );
    assert!(world.failures("greeter", "exception") >= 1.0);
    world.control(&["rollback", "greeter"]).unwrap();
    // From the code that was kept.
    world.restart(|_| {});
    assert_eq!(world.get("greeter", "/ann").body, "good day, ann, visit 4\n");
}

/// The second example: secrets, HMAC, the zone's own origin, a body that is changed as it streams.
#[test]
fn signed_links_in_front_of_an_origin() {
    let Some(world) = World::start() else { return };
    world
        .control(&["deploy", "links", script("links.js").to_str().unwrap()])
        .unwrap();
    let page = world.get("links", "/");
    assert_eq!((page.status, &*page.body), (200, "the page\npassed by links.js\n"));
    assert_eq!(world.get("links", "/sign?path=/private/a").status, 401);
    assert_eq!(world.get("links", "/private/a?until=1&mac=00").status, 403);
    let password = "authorization: Bearer swordfish";
    let signed = world.ask("links", "/sign?path=/private/a", &["--header", password]);
    let signed: serde_json::Value = serde_json::from_str(&signed.body).unwrap();
    let link = signed["link"].as_str().unwrap();
    // Good, so it is the origin that knows no such page.
    assert_eq!(world.get("links", link).status, 404);
    assert_eq!(world.get("links", &link.replace("private/a", "private/b")).status, 403);
}

/// A written project would not deploy.
#[test]
fn a_new_project_is_deployed_as_it_is() {
    let Some(world) = World::start() else { return };
    let project = world.path("my-script");
    let said = world
        .control(&["new", "--lang", "js", project.to_str().unwrap()])
        .unwrap();
    assert!(said.contains("edge worker deploy"), "{said}");
    let file = project.join("worker.js");
    world.control(&["deploy", "greeter", file.to_str().unwrap()]).unwrap();
    assert_eq!(world.get("greeter", "/?name=eve").body, "hello from my-script, eve\n");
    assert_eq!(
        world.ask("greeter", "/echo", &["--data", "back again"]).body,
        "back again"
    );
}
