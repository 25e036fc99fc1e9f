//! Versions on trial, and secrets: what an operator changes of a worker without the configuration.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::world::{World, run};

/// Deploys a script.
fn deploy(world: &World, zone: &str, script: &str, more: &[&str]) -> Result<String, String> {
    let file = world.path("script.js");
    fs::write(&file, script).unwrap();
    let mut arguments = vec!["deploy", zone, file.to_str().unwrap()];
    arguments.extend(more);
    world.control(&arguments)
}

/// What clients of different addresses of the loopback get.
fn asked(world: &World) -> Vec<String> {
    (1..=60)
        .map(|n| {
            world
                .ask("greeter", "/", &["--interface", &format!("127.0.9.{n}")])
                .body
        })
        .collect()
}

fn has(said: &[String], word: &str) -> usize {
    said.iter().filter(|body| body.as_str() == word).count()
}

/// A version that breaks for some clients would go on breaking, or a client see now the one and now
/// the other.
#[test]
fn a_version_is_tried_by_some_and_taken_back_if_it_fails() {
    let Some(mut world) = World::start() else { return };
    let says = |word: &str| format!("export default {{ fetch: () => new Response('{word}') }}");
    // The first one is nobody's trial.
    let said = deploy(&world, "greeter", &says("old"), &["--percent", "50"]).unwrap();
    assert!(said.contains("version 1 is active"), "{said}");
    let said = deploy(&world, "greeter", &says("new"), &["--percent", "50"]).unwrap();
    assert!(said.contains("version 2 is on trial for 50 percent"), "{said}");
    let first = asked(&world);
    let (old, new) = (has(&first, "old"), has(&first, "new"));
    assert!(old + new == 60 && old > 10 && new > 10, "{first:?}");
    assert_eq!(asked(&world), first, "a client gets what it got");
    // It outlasts a restart.
    world.restart(|_| {});
    assert_eq!(asked(&world), first);
    let said = world.control(&["rollout", "greeter", "0"]).unwrap();
    assert_eq!(said, "greeter: version 2 is out\n");
    assert_eq!(has(&asked(&world), "old"), 60);
    assert!(
        world.control(&["rollout", "greeter", "10"]).is_err(),
        "nothing is on trial"
    );
    // For all, and back.
    deploy(&world, "greeter", &says("third"), &["--percent", "1"]).unwrap();
    let said = world.control(&["rollout", "greeter", "100"]).unwrap();
    assert_eq!(said, "greeter: version 3 is active\n");
    assert_eq!(has(&asked(&world), "third"), 60);

    // One that throws, and one that answers with failures.
    for broken in [
        "throw new Error('broken')",
        "return new Response('broken', { status: 503 })",
    ] {
        let script = format!("export default {{ fetch() {{ {broken} }} }}");
        deploy(&world, "greeter", &script, &["--percent", "50"]).unwrap();
        let said = asked(&world);
        assert!(
            has(&said, "third") >= 40,
            "it was taken back within few requests: {said:?}"
        );
        assert_eq!(has(&asked(&world), "third"), 60);
        let list = (0..50).map(|_| {
            sleep(Duration::from_millis(100));
            world.control(&["list", "greeter"]).unwrap()
        });
        let list = list.into_iter().find(|list| list.contains("was taken back")).unwrap();
        assert!(list.contains("*3\t") && !list.contains("on trial"), "{list}");
    }
    assert!(world.daemon.log().contains("the version on trial failed too often"));
    world.restart(|_| {});
    assert_eq!(has(&asked(&world), "third"), 60);
}

/// A secret would be shown to who should not see it, or want a deployment.
#[test]
fn a_secret_is_given_without_the_configuration() {
    let Some(mut world) = World::start() else { return };
    let script = "export default { fetch: (request, env) => Response.json([env.API ?? null, env.greeting ?? null]) }";
    deploy(&world, "greeter", script, &[]).unwrap();
    assert_eq!(world.get("greeter", "/").body, "[null,\"good day\"]");
    let file = world.path("secret");
    fs::write(&file, "swordfish two\n").unwrap();
    let file = file.to_str().unwrap();
    world
        .control(&["secret", "put", "greeter", "API", "--file", file])
        .unwrap();
    assert_eq!(world.get("greeter", "/").body, "[\"swordfish two\",\"good day\"]");
    assert_eq!(world.control(&["secret", "list", "greeter"]).unwrap(), "API\n");
    let said = world
        .control(&["secret", "put", "greeter", "greeting", "--file", file])
        .unwrap_err();
    assert!(said.contains("in the configuration"), "{said}");
    assert!(
        world
            .control(&["secret", "put", "greeter", "a b", "--file", file])
            .is_err()
    );
    assert!(
        world
            .control(&["secret", "put", "none", "API", "--file", file])
            .is_err()
    );
    world.restart(|_| {});
    assert_eq!(world.get("greeter", "/").body, "[\"swordfish two\",\"good day\"]");
    assert!(!world.daemon.log().contains("swordfish two"));
    let mut curl = world.netns().command("curl").unwrap();
    let status = run(curl.args(["--silent", "http://127.0.0.1:9180/status"]));
    assert!(!String::from_utf8_lossy(&status.stdout).contains("swordfish two"));
    world.control(&["secret", "delete", "greeter", "API"]).unwrap();
    assert_eq!(world.get("greeter", "/").body, "[null,\"good day\"]");
    assert!(world.control(&["secret", "delete", "greeter", "API"]).is_err());
}

/// A version that nobody should see yet would be seen, or one that was to be seen not.
#[test]
fn a_preview_answers_under_its_own_host() {
    let Some(mut world) = World::start() else { return };
    let says = |word: &str| format!("export default {{ fetch: () => new Response('{word}') }}");
    deploy(&world, "links", &says("active"), &[]).unwrap();
    let said = deploy(&world, "greeter", &says("x"), &["--preview"]).unwrap_err();
    assert!(said.contains("previews ="), "{said}");
    let said = deploy(&world, "links", &says("preview"), &["--preview"]).unwrap();
    let host = said
        .split("https://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let (label, suffix) = host.split_once('.').unwrap();
    assert!(label.len() == 12 && suffix == "links.example", "{said}");
    let zone = format!("{label}.links");
    for _ in 0..2 {
        assert_eq!(world.get(&zone, "/").body, "preview");
        assert_eq!(world.get("links", "/").body, "active");
        assert_eq!(world.get("000000000000.links", "/").status, 404);
        world.restart(|_| {});
    }
    world.control(&["rollback", "links", "2"]).unwrap();
    assert_eq!(world.get("links", "/").body, "preview");
}
