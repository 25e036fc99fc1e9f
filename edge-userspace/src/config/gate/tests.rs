//! What an operator writes for the gate is what it does, and each mistake is told with its line and
//! mend.

use std::path::Path;
use std::time::Duration;

use http::Method;

use super::*;
use crate::config::{Config, Mistakes};

fn parse(gate: &str) -> Result<Gate, Mistakes> {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
         servers = [{{ address = \"http://127.0.0.1:8080\" }}]\n{gate}"
    );
    let config = Config::parse(Path::new("dir/edge.toml"), &text)?;
    Ok((**config.zones[0].gate.as_ref().unwrap()).clone())
}

/// A rule read otherwise than written would judge the wrong requests.
#[test]
fn rules() {
    let gate = parse(
        "[zone.gate]\nallow = [\"10.0.0.0/8\"]\npage = \"wait.html\"\n\
         [[zone.gate.rule]]\nname = \"api\"\npath = \"/api/\"\nmethods = [\"POST\"]\nheader = \"X-Plan = free\"\n\
         rate = { requests = 5, count = \"connections\" }\n\
         [[zone.gate.rule]]\nconcurrency = 9\ndry_run = true\n\
         [[zone.gate.rule]]\nqueue = { active = 3, paused = true }\n[[zone.gate.rule]]\nmanual = {}\n",
    )
    .unwrap();
    assert_eq!(gate.page.as_ref().unwrap().0, Path::new("dir/wait.html"));
    let [api, concurrency, queue, manual] = gate.rules.as_slice() else {
        panic!("{gate:?}");
    };
    assert_eq!(api.matches.methods, [Method::POST]);
    let (name, value) = api.matches.header.clone().unwrap();
    assert_eq!((name.as_str(), value.unwrap().to_str().unwrap()), ("x-plan", "free"));
    let rate = Rate {
        requests: 5,
        per: Duration::from_secs(60),
        burst: 20,
        connections: true,
        key: vec![KeyPart::Client],
        cost_field: None,
    };
    assert_eq!(api.policy, Policy::Rate(rate));
    assert_eq!((concurrency.name.as_str(), concurrency.dry_run), ("concurrency", true));
    assert!(matches!(queue.policy, Policy::Queue(q) if q.paused && q.active == 3));
    assert_eq!(manual.policy, Policy::Manual(Duration::from_secs(5)));
}

/// A text, and of the mistake in it: line, part of what it is, part of the mend.
type Case<'a> = (String, usize, &'a str, &'a str);

fn are_told(cases: &[Case<'_>]) {
    for (text, line, what, mend) in cases {
        let found = parse(text).unwrap_err().0;
        let hit = |m: &crate::config::Mistake| {
            m.line == *line && m.what.contains(what) && m.mend.contains(mend) && !m.mend.is_empty()
        };
        assert!(
            found.iter().any(hit),
            "wanted {line} {what:?} {mend:?}, got {found:#?}\nfor\n{text}"
        );
    }
}

/// An operator sees where the mistake is and how to mend it.
#[test]
fn mistakes_of_the_gate() {
    are_told(&[
        ("[zone.gate]\ngrase = 3\n".to_owned(), 9, "unknown key", "`grace`"),
        ("[zone.gate]\ngrace = 0\n".to_owned(), 9, "out of bounds", "1 to"),
        ("[zone.gate]\ndefer = \"0s\"\n".to_owned(), 9, "out of bounds", "1s to"),
        (
            "[zone.gate]\nstrike_cap = \"5s\"\n".to_owned(),
            9,
            "less than strike_base",
            "10s or more",
        ),
        (
            "[zone.gate]\ntoken_life = \"7d\"\n".to_owned(),
            9,
            "out of bounds",
            "6h",
        ),
        ("[zone.gate]\nallow = [\"10.0.0.1/99\"]\n".to_owned(), 9, "", ""),
    ]);
}

/// The same, of its rules.
#[test]
fn mistakes_of_rules() {
    let rule = "[zone.gate]\n[[zone.gate.rule]]\n";
    are_told(&[
        (format!("{rule}path = \"/\"\n"), 9, "without a policy", "rate = {"),
        (
            format!("{rule}concurrency = 1\nmanual = {{}}\n"),
            11,
            "both",
            "for each",
        ),
        (format!("{rule}concurrency = 0\n"), 10, "out of bounds", "1 to"),
        (
            format!("{rule}concurrency = 1\npath = \"x\"\n"),
            11,
            "not a path",
            "/api/",
        ),
        (
            format!("{rule}concurrency = 1\nmethods = [\"get\"]\n"),
            11,
            "not a method",
            "upper case",
        ),
        (
            format!("{rule}concurrency = 1\nheader = \"a b\"\n"),
            11,
            "not a field",
            "X-Plan=free",
        ),
        (
            format!("{rule}concurrency = 1\nname = \"a\\\"b\"\n"),
            11,
            "not a valid name",
            "letters",
        ),
        (format!("{rule}rate = {{ burst = 0 }}\n"), 10, "burst 0", "1 to"),
        (format!("{rule}rate = {{ per = \"9d\" }}\n"), 10, "per", "1d"),
        (
            format!("{rule}rate = {{ key = \"ip\" }}\n"),
            10,
            "part of a key",
            "\"address\"",
        ),
        (format!("{rule}rate = {{ key = [] }}\n"), 10, "0 parts", "1 to 4"),
        (
            format!("{rule}rate = {{ key = [\"segment:1\", \"segment:1\"] }}\n"),
            10,
            "twice",
            "once",
        ),
        (
            format!("{rule}rate = {{ cost_field = \"a b\" }}\n"),
            10,
            "cost_field",
            "X-Query-Cost",
        ),
        (format!("{rule}queue = {{ active = 0 }}\n"), 10, "active 0", "paused"),
        (format!("{rule}manual = {{ wait = \"0s\" }}\n"), 10, "wait", "1s"),
        (
            format!("{rule}queue = {{}}\n[[zone.gate.rule]]\nname = \"b\"\nqueue = {{}}\n"),
            11,
            "second queue",
            "one",
        ),
        (
            format!("{rule}manual = {{}}\n[[zone.gate.rule]]\nmanual = {{}}\n"),
            11,
            "already",
            "name",
        ),
    ]);
}

/// The same, of challenges and of the crawlers that need none.
#[test]
fn mistakes_of_challenges_and_crawlers() {
    let rule = "[zone.gate]\n[[zone.gate.rule]]\n";
    are_told(&[
        (
            format!("{rule}concurrency = 1\nnot_crawlers = [\"bot\"]\n"),
            11,
            "no crawler",
            "[[zone.gate.crawler]]",
        ),
        (format!("{rule}challenge = {{ bits = 40 }}\n"), 10, "40 bits", "8 to 24"),
        (format!("{rule}challenge = {{ kind = \"captcha\" }}\n"), 10, "", ""),
        (
            format!("{rule}challenge = {{ kind = \"external\" }}\n"),
            10,
            "without `url` or `key`",
            "challenge.key",
        ),
        (
            format!("{rule}challenge = {{ kind = \"external\", url = \"http://ask.example/\", key = \"k\" }}\n"),
            10,
            "not the https address",
            "https://",
        ),
        (
            format!("{rule}challenge = {{ kind = \"external\", url = \"https://a@ask.example/\", key = \"k\" }}\n"),
            10,
            "not the https address",
            "https://",
        ),
        (
            format!("{rule}challenge = {{ key = \"k\" }}\n"),
            10,
            "kind \"work\"",
            "external",
        ),
        (
            "[zone.gate]\ncookie = { same_site = \"strict\" }\n[[zone.gate.rule]]\n\
             challenge = { kind = \"external\", url = \"https://ask.example/\", key = \"k\" }\n"
                .to_owned(),
            9,
            "strict cookie",
            "lax",
        ),
        (
            "[zone.gate]\n[[zone.gate.crawler]]\nname = \"bot\"\n".to_owned(),
            9,
            "nothing says",
            "hosts",
        ),
        (
            "[zone.gate]\n[[zone.gate.crawler]]\nname = \"bot\"\nhosts = [\"localhost\"]\n".to_owned(),
            11,
            "not a domain",
            "crawl.example.com",
        ),
        (
            "[zone.gate]\n[[zone.gate.crawler]]\nname = \"x\"\nhosts = [\"x.example\"]\n".to_owned(),
            9,
            "too many",
            "agent",
        ),
    ]);
}
