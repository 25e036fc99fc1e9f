//! docs/workers-js.md against what is there.

use std::collections::BTreeSet;

use super::harness::{answer, bed};

/// Somebody would write a worker for what the page says, or do without what it forgot.
#[test]
fn the_page_lists_what_there_is() {
    if bed().is_none() {
        return;
    }
    let page = include_str!("../../../../../docs/workers-js.md");
    let table = page
        .split("## What there is")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let listed: BTreeSet<String> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert!(listed.len() > 40, "{listed:?}");
    let names =
        answer("export default { fetch() { return Response.json(Object.getOwnPropertyNames(globalThis)); } }").unwrap();
    let there: Vec<String> = serde_json::from_str(&names).unwrap();
    // ECMAScript 2025, section 19, and annex B; what engines have of the next edition, and an error
    // of their own.
    let language: BTreeSet<&str> = include_str!("ecmascript.txt").split_whitespace().collect();
    let there: BTreeSet<String> = there
        .into_iter()
        .filter(|name| !language.contains(name.as_str()))
        .collect();
    assert_eq!(there, listed);
}
