//! `cargo xtask layers`: imports point left, as DESIGN's house draws them.
//!
//! The rule lives here; [`source`] finds the paths in the code and hands them over one by one.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;
use source::Import;

/// Check that imports in edge-userspace point left.
///
/// A room imports only rooms to its left; rules, route, isolate, cache, delta and origin never
/// import each other; tls knows of the key server its wire format alone; only node knows everybody;
/// aya stays in dataplane and wasmtime in isolate; what lets requests in, by the door and by the
/// gate, is used by nobody else. Test code may import what it likes.
#[derive(clap::Args)]
pub(crate) struct Layers {}

/// The rooms in the order in which data meets them. `node`, `admin`, `keyserver`, `fleet`, `import`
/// and `cli` have rules of their own.
const ROW: &[&str] = &[
    "base",
    "config",
    "zones",
    "dataplane",
    "gate",
    "tls",
    "acme",
    "quic",
    "http",
    "rules",
    "route",
    "isolate",
    "cache",
    "delta",
    "origin",
];
/// Rooms that implement `http::Handler` and are nested by node: a call between them would hide a
/// hop from it.
const HANDLERS: &[&str] = &["rules", "route", "isolate", "cache", "delta", "origin"];
/// Left of everything: what any room may import.
const GROUND: &[&str] = &["base", "config", "zones"];
/// Libraries that one room keeps to itself.
const OWNED: &[(&str, &str)] = &[
    ("aya", "dataplane"),
    ("aya_log", "dataplane"),
    ("wasmtime", "isolate"),
    ("wasmtime_wasi", "isolate"),
    ("wasmtime_wasi_http", "isolate"),
];
/// What a room shows to these others alone, and why: a request passes the door and the gate once,
/// where the types say so.
const KEPT: &[(&[&str], &[&str], &str)] = &[
    (&["http", "door"], &["isolate"], DOOR),
    (&["http", "door", "client"], &[], DOOR),
    (&["http", "door", "guest"], &["isolate"], DOOR),
    (&["http", "message", "Unjudged"], &["route"], GATE),
    (&["http", "handler", "Front"], &["route", "node"], GATE),
    (&["gate", "verdict", "Ungated"], &["route", "node"], GATE),
    (&["gate", "verdict", "Admitted"], &["http", "route"], GATE),
];
const DOOR: &str =
    "heads are made normal once, for clients in http and for guests in isolate: take the `Head` of the request";
const GATE: &str = "requests are let in once, in route::gated: take an `http::message::Request`";
/// The daemon's library crate, as its binaries call it.
const CRATE: &str = "edge";

/// Rooms in which files still import each other in circles, each with the number of its circles: no
/// room may be added, and no number may grow. A circle that is mended is taken from here.
const KNOTS: &[(&str, usize)] = &[("gate", 2)];

/// Checks the whole house; every wrong arrow and every circle is printed with its mend.
pub(crate) fn run(_: &Layers) -> Result<()> {
    let root = workspace::root();
    let house = root.join("edge-userspace/src");
    let mut wrong = check(&house)?;
    let knots = knotted(&circles(&house)?, KNOTS);
    for knot in &knots {
        eprintln!("{knot}");
    }
    for contract in ["edge-common/src", "edge-ebpf/src"] {
        let directory = root.join(contract);
        if directory.exists() {
            wrong.extend(check_contract(&directory)?);
        }
    }
    for arrow in &wrong {
        let file = arrow.file.strip_prefix(&root).unwrap_or(&arrow.file);
        eprintln!("{}:{}: {arrow}", file.display(), arrow.line);
    }
    if !wrong.is_empty() || !knots.is_empty() {
        bail!(
            "{} import(s) point the wrong way, and {} room(s) have files that import each other in a circle",
            wrong.len(),
            knots.len()
        );
    }
    println!("layers: every import points left, and no new circle of files");
    Ok(())
}

/// One import that breaks the rule.
#[derive(Debug)]
struct Arrow {
    file: PathBuf,
    line: usize,
    from: String,
    path: String,
    mend: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} may not import {}\n    mend: {}",
            self.from, self.path, self.mend
        )
    }
}

fn check(source: &Path) -> Result<Vec<Arrow>> {
    let externals: Vec<&str> = OWNED.iter().map(|(library, _)| *library).chain([CRATE]).collect();
    let mut wrong = Vec::new();
    for file in source::files(source).with_context(|| format!("reading {}", source.display()))? {
        let room = room(&file.module);
        for import in &file.imports(&externals)? {
            if let Some(mend) = judge(room, import) {
                wrong.push(Arrow {
                    file: file.path.clone(),
                    line: import.line,
                    from: room.to_owned(),
                    path: import.to_string(),
                    mend,
                });
            }
        }
    }
    Ok(wrong)
}

/// Files of one room that import each other in a circle: each time all of them, in the order of
/// their names.
///
/// A file may use what its parent declares, which is no arrow; nor is the way from a parent to its
/// parts.
fn circles(source: &Path) -> Result<Vec<Vec<String>>> {
    let files = source::files(source)?;
    let modules: BTreeSet<&[String]> = files.iter().map(|file| file.module.as_slice()).collect();
    let mut arrows: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for file in &files {
        let from = file.module.as_slice();
        for import in file.imports(&[])? {
            let parts = (1..=import.path.len()).rev();
            let Some(to) = parts
                .filter_map(|n| import.path.get(..n))
                .find_map(|path| modules.get(path).copied())
            else {
                continue;
            };
            if room(from) == room(to) && !from.starts_with(to) && !to.starts_with(from) {
                arrows.entry(from).or_default().insert(to);
            }
        }
    }
    // What each file leads to; files that lead to each other are a circle.
    let reach: BTreeMap<_, _> = arrows.keys().map(|from| (*from, reached(&arrows, from))).collect();
    let mut circles = BTreeSet::new();
    for (from, all) in &reach {
        if all.contains(from) {
            let back = |to: &&&[String]| reach.get(**to).is_some_and(|all| all.contains(from));
            circles.insert(all.iter().filter(back).map(|file| file.join("::")).collect());
        }
    }
    Ok(circles.into_iter().collect())
}

fn reached<'a>(arrows: &BTreeMap<&'a [String], BTreeSet<&'a [String]>>, from: &[String]) -> BTreeSet<&'a [String]> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<_> = arrows.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = next.pop() {
        if seen.insert(file) {
            next.extend(arrows.get(file).into_iter().flatten().copied());
        }
    }
    seen
}

/// What is wrong with rooms that have more circles than `known` says.
fn knotted(circles: &[Vec<String>], known: &[(&str, usize)]) -> Vec<String> {
    let mut of_rooms: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (room, _) in known {
        of_rooms.entry(room).or_default();
    }
    for circle in circles {
        let room = circle.first().and_then(|file| file.split("::").next()).unwrap_or("lib");
        of_rooms.entry(room).or_default().push(circle.join(", "));
    }
    let mut wrong = Vec::new();
    for (room, found) in of_rooms {
        let most = known.iter().find(|(known, _)| *known == room).map_or(0, |(_, n)| *n);
        if found.len() > most {
            wrong.push(format!(
                "files of room {room} import each other in a circle: {}\n    mend: move what they share into a file of its own",
                found.join("; and ")
            ));
        }
    }
    wrong
}

/// The crates shared with the kernel know nothing of the daemon.
fn check_contract(source: &Path) -> Result<Vec<Arrow>> {
    let mut wrong = Vec::new();
    for file in source::files(source)? {
        for import in file
            .imports(&[CRATE, "edge_userspace"])?
            .iter()
            .filter(|import| import.library.is_some())
        {
            wrong.push(Arrow {
                file: file.path.clone(),
                line: import.line,
                from: "the contract between kernel and user space".to_owned(),
                path: import.to_string(),
                mend: "move what both need into edge-common".to_owned(),
            });
        }
    }
    Ok(wrong)
}

/// The room a module belongs to; `bin/edge.rs` is in "bin", `lib.rs` in "lib".
fn room(module: &[String]) -> &str {
    module.first().map_or("lib", String::as_str)
}

/// Why `from` may not import that, as the mend; `None` if it may.
fn judge(from: &str, import: &Import) -> Option<String> {
    let path: Vec<&str> = import.path.iter().map(String::as_str).collect();
    if let Some(library) = &import.library {
        if library == CRATE {
            // A binary sees the library from outside.
            return match path.first() {
                _ if from != "bin" => Some("inside the library write `crate::`".to_owned()),
                Some(&("node" | "cli" | "keyserver")) | None => None,
                Some(_) => {
                    Some("a binary only reads its arguments: let cli, node or keyserver offer what it needs".to_owned())
                }
            };
        }
        let owner = OWNED.iter().find(|(name, _)| name == library)?.1;
        return (from != owner)
            .then(|| format!("only {owner} uses {library}: offer what is needed there under its own types"));
    }
    let &to = path.first()?;
    if to == from {
        return None;
    }
    let kept = KEPT.iter().find(|(kept, ..)| *kept == path.as_slice());
    if let Some((_, rooms, mend)) = kept
        && !rooms.contains(&from)
    {
        return Some((*mend).to_owned());
    }
    if from == "bin" {
        return Some("a binary only reads its arguments".to_owned());
    }
    let known = ROW.contains(&to) || ["admin", "fleet", "import", "keyserver", "node", "cli"].contains(&to);
    if !known {
        return Some(format!(
            "`{to}` is no room: move it into one, or add the room to ROW in xtask/src/layers.rs and to ARCHITECTURE.md"
        ));
    }
    if to == "cli" && from != "node" {
        return Some("nothing but node and the binaries knows the command line: let node pass the value in".to_owned());
    }
    if from == "node"
        || (from == "cli"
            && [
                "base",
                "config",
                "zones",
                "admin",
                "node",
                "dataplane",
                "fleet",
                "gate",
                "import",
                "isolate",
            ]
            .contains(&to))
    {
        return None;
    }
    if to == "node" {
        return Some("node assembles the others: take what is needed as an argument that node passes in".to_owned());
    }
    let allowed: Vec<&str> = match from {
        // The wire format is shared, so that both ends are built from one definition.
        "tls" if to == "keyserver" && path.get(1) == Some(&"wire") => return None,
        // A process of its own, with the operator's side that the edge has.
        "keyserver" => ["base", "config", "admin"].to_vec(),
        "admin" | "fleet" | "import" => GROUND.to_vec(),
        _ => match ROW.iter().position(|room| *room == from) {
            Some(position) => ROW[..position]
                .iter()
                .copied()
                .filter(|room| !(HANDLERS.contains(&from) && HANDLERS.contains(room)))
                .collect(),
            None => Vec::new(),
        },
    };
    if allowed.contains(&to) {
        return None;
    }
    Some(if HANDLERS.contains(&from) && HANDLERS.contains(&to) {
        "handlers never know each other: take an `Arc<dyn http::Handler>` and let node nest them".to_owned()
    } else if allowed.is_empty() {
        "this file only declares modules".to_owned()
    } else {
        format!(
            "{from} may import {}: move the type to the left-most room that owns its meaning, or let node pass it in",
            allowed.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A circle would grow unseen: nobody could read one of its files without the others.
    #[test]
    fn files_that_import_each_other() {
        let found = |files: &[(&str, &str)]| {
            let directory = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = directory.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            circles(directory.path()).unwrap()
        };
        let two = [
            ("gate/mod.rs", "mod a; mod b; mod c; pub use a::A;"),
            ("gate/a.rs", "use super::b::B; pub struct A;"),
            ("gate/b.rs", "use crate::gate::a::A; use super::c::C; pub struct B;"),
            (
                "gate/c.rs",
                "use super::A; pub struct C; #[cfg(test)] mod tests { use super::super::a::A; }",
            ),
        ];
        assert_eq!(found(&two), [["gate::a", "gate::b"]]);
        assert!(found(&two[1..2]).is_empty() && found(&two[2..]).is_empty());
        let circle = &found(&two);
        assert_eq!(knotted(circle, &[]).len(), 1);
        assert!(knotted(circle, &[("gate", 1)]).is_empty());
        assert!(knotted(&[], &[("gate", 1)]).is_empty());
    }

    fn wrong(files: &[(&str, &str)]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut found: Vec<String> = check(directory.path())
            .unwrap()
            .iter()
            .map(|arrow| {
                let file = arrow.file.strip_prefix(directory.path()).unwrap();
                format!("{}:{} {} {}", file.display(), arrow.line, arrow.from, arrow.path)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn arrows_to_the_left_pass() {
        let none = wrong(&[
            ("lib.rs", "pub mod base; pub mod http; pub mod origin; pub mod node;"),
            (
                "base/mod.rs",
                "use std::sync::Arc; mod clock; pub use clock::Clock; use self::clock::x;",
            ),
            (
                "http/mod.rs",
                "use crate::tls::Accepted; use crate::{base::Clock, zones::{Zone, Zones}};",
            ),
            (
                "http/h1.rs",
                "use super::Handler; use super::super::base; use crate::http::body::Body;",
            ),
            (
                "origin/mod.rs",
                "use crate::http::Handler; pub(in crate::origin) fn f() -> crate::tls::Client { todo() }",
            ),
            (
                "dataplane/load.rs",
                "use aya::Ebpf; fn f() { aya_log::EbpfLogger::init(&mut x) }",
            ),
            (
                "node.rs",
                "use crate::{admin, cache, config, delta, gate, http, isolate, origin, route, tls};",
            ),
            (
                "keyserver/serve.rs",
                "use crate::config::Place; use crate::base::Clock; use crate::admin::metrics;",
            ),
            ("tls/remote.rs", "use crate::keyserver::wire::{Query, Reply};"),
            ("bin/edge.rs", "fn main() { edge::node::run(edge::cli::parse()) }"),
            ("bin/edge-keyserver.rs", "fn main() { edge::keyserver::main() }"),
        ]);
        assert_eq!(none, Vec::<String>::new());
    }

    #[test]
    fn every_way_to_write_a_wrong_arrow_is_seen() {
        let found = wrong(&[
            ("base/mod.rs", "\nuse crate::config::Config;"),
            ("base/clock.rs", "use super::super::node::Node;"),
            ("http/h2.rs", "use crate::{\n    base,\n    route::{self, Router},\n};"),
            (
                "http/inline.rs",
                "mod a { mod b { use super::super::super::super::origin::Pool; } }",
            ),
            (
                "cache/mod.rs",
                "fn f() -> u8 { let x = crate::origin::pool::size(); x }",
            ),
            (
                "origin/mod.rs",
                "macro_rules! m { () => { $crate::cache::Store } }\nfn g() { log!(x = crate::delta::ratio()) }",
            ),
            ("tls/mod.rs", "#[serde(default = \"crate::http::limit\")]\nstruct A;"),
            (
                "gate/mod.rs",
                "use aya::maps::HashMap; fn f() { ::wasmtime::Engine::new() }",
            ),
            ("zones/mod.rs", "use crate::Unknown;\nuse crate::*;"),
            ("admin/mod.rs", "use crate::origin::Health; use crate::cli;"),
            ("keyserver/mod.rs", "use crate::tls::Acceptor;"),
            ("tls/local.rs", "use crate::keyserver::store::Key;"),
            ("http/sign.rs", "use crate::keyserver::wire::Query;"),
            ("bin/edge.rs", "use edge::tls::Acceptor; fn main() {}"),
            (
                "delta/mod.rs",
                "use crate::http::door::{self, Head}; use crate::http::message::{Request, Unjudged};",
            ),
            ("isolate/grant.rs", "use crate::http::door::{self, Authority, client};"),
        ]);
        assert_eq!(
            found,
            [
                "admin/mod.rs:1 admin crate::cli",
                "admin/mod.rs:1 admin crate::origin::Health",
                "base/clock.rs:1 base crate::node::Node",
                "base/mod.rs:2 base crate::config::Config",
                "bin/edge.rs:1 bin edge::tls::Acceptor",
                "cache/mod.rs:1 cache crate::origin::pool::size",
                "delta/mod.rs:1 delta crate::http::door",
                "delta/mod.rs:1 delta crate::http::message::Unjudged",
                "gate/mod.rs:1 gate aya::maps::HashMap",
                "gate/mod.rs:1 gate wasmtime::Engine::new",
                "http/h2.rs:3 http crate::route",
                "http/h2.rs:3 http crate::route::Router",
                "http/inline.rs:1 http crate::origin::Pool",
                "http/sign.rs:1 http crate::keyserver::wire::Query",
                "isolate/grant.rs:1 isolate crate::http::door::client",
                "keyserver/mod.rs:1 keyserver crate::tls::Acceptor",
                "origin/mod.rs:1 origin crate::cache::Store",
                "origin/mod.rs:2 origin crate::delta::ratio",
                "tls/local.rs:1 tls crate::keyserver::store::Key",
                "tls/mod.rs:1 tls crate::http::limit",
                "zones/mod.rs:1 zones crate::Unknown",
                "zones/mod.rs:2 zones crate::*",
            ]
        );
    }

    #[test]
    fn test_code_and_text_are_no_imports() {
        let found = wrong(&[
            (
                "base/mod.rs",
                "//! See [`crate::node`].\n// use crate::node;\nconst A: &str = r#\"use crate::node;\"#;\n\
                 #[cfg(test)]\nmod tests { use crate::node::Node; }\n#[cfg(test)]\nuse crate::{origin::Pool};\n\
                 #[cfg(all(test, unix))]\nfn helper<A, B>() { crate::http::x() }\n\
                 struct S { #[cfg(test)] seen: crate::http::Seen, b: crate::tls::Late }\n\
                 #[cfg(not(test))]\nuse crate::gate::Live;\n#[cfg(test)]\nmod fixtures;",
            ),
            ("base/fixtures.rs", "use crate::node::Node;"),
            ("base/whole.rs", "#![cfg(test)]\nuse crate::node::Node;"),
        ]);
        assert_eq!(
            found,
            [
                "base/mod.rs:10 base crate::tls::Late",
                "base/mod.rs:12 base crate::gate::Live"
            ]
        );
    }

    #[test]
    fn kernel_contract_knows_nothing_of_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("lib.rs"),
            "use edge::zones::Zone;\nuse crate::map::Value;",
        )
        .unwrap();
        let found = check_contract(directory.path()).unwrap();
        assert_eq!(found.iter().map(|arrow| arrow.line).collect::<Vec<_>>(), [1]);
    }
}
