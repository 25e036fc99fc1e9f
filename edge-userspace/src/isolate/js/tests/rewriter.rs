//! HTMLRewriter against documents as authors and attackers write them. What is expected is what
//! Cloudflare's documentation and the HTML standard say; the statements are JavaScript.

use std::fmt::Write as _;
use std::sync::Arc;

use super::harness::{World, ask, bed, check, get, limits, load, run};

/// What the statements share: documents in pieces, and a rewriter's text.
const SHARED: &str = include_str!("rewriter/shared.js");

fn checked(statements: &str) {
    check(&format!("{SHARED}\n{statements}"));
}

/// A page would come out otherwise than the worker's author wrote.
#[test]
fn elements_are_changed_as_documented() {
    checked(include_str!("rewriter/elements.js"));
}

/// A tag within a script or a comment would be taken for one, or the other way round: what a worker
/// adds for safety would be missing, or appear where it runs.
#[test]
fn tokens_are_those_of_the_standard() {
    checked(include_str!("rewriter/tokens.js"));
}

/// A handler would be called for elements that nobody meant, or not for those that were.
#[test]
fn selectors_choose_what_they_say() {
    checked(include_str!("rewriter/selectors.js"));
}

/// What a page becomes would depend on how the network cut it.
#[test]
fn any_chunking_gives_the_same() {
    checked(include_str!("rewriter/chunks.js"));
}

/// A handler's mistake would be half a page that looks whole, or a long tag cost any memory.
#[test]
fn failures_fail_the_body() {
    checked(include_str!("rewriter/failures.js"));
}

/// A script that builds its names would have no HTMLRewriter, and every other one pay for it.
#[test]
fn it_is_made_when_it_is_named() {
    if bed().is_none() {
        return;
    }
    let body = "{ const r = new globalThis['HTML' + 'Rewriter']().on('p', { element(e) { e.append('!'); } }); \
                return r.transform(new Response('<p>a</p>')); }";
    let hidden = load(&format!("export default {{ fetch() {body} }}")).unwrap();
    let named = load(&format!("// HTMLRewriter\nexport default {{ fetch() {body} }}")).unwrap();
    for script in [&hidden, &named] {
        let (_, body) = run(ask(
            script,
            &Arc::new(World::default()),
            get("https://a.test/"),
            limits(),
        ))
        .unwrap();
        assert_eq!(&body[..], b"<p>a!</p>");
    }
    let replaced =
        "globalThis.HTMLRewriter = class {}; export default { fetch: () => new Response(`${new HTMLRewriter().on}`) }";
    let script = load(replaced).unwrap();
    let (_, body) = run(ask(
        &script,
        &Arc::new(World::default()),
        get("https://a.test/"),
        limits(),
    ))
    .unwrap();
    assert_eq!(&body[..], b"undefined");
}

/// A rewritten page would be cut at the length that it had before, or a large one cost more than a
/// request may.
#[test]
fn a_large_page_streams_through() {
    if bed().is_none() {
        return;
    }
    let script = load(
        "export default { async fetch(request) { const got = await fetch('https://files.test/'); return new HTMLRewriter().on('a[href]', \
         { element(e) { e.setAttribute('href', 'https://b.test' + e.getAttribute('href')); } }).transform(got); } }",
    )
    .unwrap();
    let mut page = String::from("<!doctype html><ul class=\"list of things\">");
    for number in 0..2_000 {
        writeln!(
            page,
            "<li id=\"n{number}\" data-x='y'><a href=\"/p/{number}\">a &amp; b é</a></li>"
        )
        .unwrap();
    }
    let wanted = page.replace("href=\"/p", "href=\"https://b.test/p");
    let served = page.clone();
    let world = World {
        server: Some(Box::new(move |_| {
            let mut response = http::Response::new(served.clone().into());
            let length = http::HeaderValue::from(served.len());
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
            response
        })),
        ..World::default()
    };
    let (head, body) = run(ask(&script, &Arc::new(world), get("https://a.test/"), limits())).unwrap();
    assert_eq!(head.headers.get(http::header::CONTENT_LENGTH), None);
    assert!(body == wanted.as_bytes(), "{}", String::from_utf8_lossy(&body));
}
