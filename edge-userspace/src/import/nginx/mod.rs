//! An nginx configuration read into edge's own: `lexer` and `syntax` read it, `node`, `zones` and
//! `rules` translate it, `told` says why of what is left. Nothing is left out in silence: each
//! directive is taken by somebody who translates it, or told of at the end.

mod asked;
mod branch;
mod condition;
mod context;
mod draft;
mod fields;
mod files;
mod guards;
mod lexer;
mod limits;
mod listen;
mod location;
mod maps;
mod networks;
mod node;
mod pages;
mod passed;
mod paths;
mod pattern;
mod pools;
mod rules;
mod served;
mod spot;
mod stored;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod zones;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::write::{File, Writer};
use super::{Imported, Weight};
use context::{Context, Levels, WHOLE};
use files::{Disk, Files, Nowhere};
use listen::Server;
use syntax::{Directive, Parser};

/// Why a configuration cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The file.
    pub file: Arc<Path>,
    /// Its line, from 1; 0: the whole file is meant.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.what),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.what),
        }
    }
}

/// What is wrong on a line.
#[derive(Debug)]
struct Wrong {
    line: usize,
    what: String,
}

impl Wrong {
    fn new(line: usize, what: impl Into<String>) -> Self {
        Self {
            line,
            what: what.into(),
        }
    }
}

/// Reads `file` and what it includes. `prefix` is the directory that relative names are relative
/// to, as nginx has it from its main file.
///
/// # Errors
/// A file cannot be read, or is none that nginx reads; it is named with the line.
pub fn import(file: &Path, prefix: &Path) -> Result<Imported, Error> {
    let tree = Parser::new(&Disk, prefix).file(file)?;
    Ok(translated(&tree, file, &Disk, prefix))
}

/// The same with `text`, which is said to stand in `file`; it can include nothing, and no other
/// file is read.
///
/// # Errors
/// As [`import`].
pub fn import_text(file: &Path, text: &str) -> Result<Imported, Error> {
    let prefix = file.parent().unwrap_or(Path::new("/"));
    let tree = Parser::new(&Nowhere, prefix).text(file, text)?;
    Ok(translated(&tree, file, &Nowhere, prefix))
}

fn translated(tree: &[Directive], file: &Path, files: &dyn Files, prefix: &Path) -> Imported {
    let mut cx = Context::new(files, prefix);
    let mut out = File::default();
    // A file of one site has what stands in `http` elsewhere.
    let blocks: Vec<&[Directive]> = match tree.iter().any(|directive| directive.name == "http") {
        true => tree
            .iter()
            .filter(|directive| directive.name == "http")
            .map(Directive::inner)
            .collect(),
        false => vec![tree],
    };
    for directive in tree
        .iter()
        .filter(|directive| matches!(directive.name.as_str(), "http" | "events"))
    {
        cx.take(directive);
        if directive.name == "events" {
            cx.cover(directive);
        }
    }
    for block in blocks {
        let http = Levels::new(block);
        shared(&mut cx, block);
        let servers: Vec<Server<'_>> = block
            .iter()
            .filter(|directive| directive.name == "server" && directive.block.is_some())
            .map(|directive| Server::of(&mut cx, directive, &http))
            .collect();
        let node = node::node(&mut cx, &mut out, tree, &http, &servers);
        out.zones.extend(zones::zones(&mut cx, &servers, &node));
    }
    out.pools = std::mem::take(&mut cx.pools);
    tree.iter().for_each(|directive| left(&mut cx, directive));
    finished(tree, file, cx, out)
}

/// What servers refer to by name.
fn shared<'t>(cx: &mut Context<'t>, block: &'t [Directive]) {
    for directive in block {
        match directive.name.as_str() {
            "upstream" => drop(cx.upstreams.insert(directive.argument(0), directive)),
            "limit_req_zone" | "limit_conn_zone" => {
                let zone = directive.arguments.iter().find_map(|word| word.strip_prefix("zone="));
                let name = zone
                    .map(|zone| zone.split(':').next().unwrap_or(zone))
                    .unwrap_or_default();
                let zones = match directive.name.as_str() {
                    "limit_req_zone" => &mut cx.limits,
                    _ => &mut cx.crowds,
                };
                zones.insert(name, directive);
            }
            // The idiom of WebSocket: edge passes upgrades on by itself.
            "map" if directive.argument(0) == "$http_upgrade" => {
                cx.tell(directive, Weight::Idle, "edge sets Connection of upgrades by itself");
                cx.cover(directive);
            }
            "map" | "geo" | "split_clients" => {
                let variable = directive.arguments.last().map(String::as_str).unwrap_or_default();
                let name = variable
                    .trim_start_matches('$')
                    .trim_matches(['{', '}'])
                    .to_ascii_lowercase();
                cx.made.insert(name, directive);
            }
            _ => {}
        }
    }
}

/// Tells of what nobody has taken.
fn left(cx: &mut Context<'_>, directive: &Directive) {
    if cx.is_taken(directive) {
        directive.inner().iter().for_each(|inner| left(cx, inner));
        return;
    }
    let (weight, why) = match directive.name.as_str() {
        "upstream" => (Weight::Idle, "nothing leads there"),
        "limit_req_zone" | "limit_conn_zone" => (Weight::Idle, "only limits that are there count"),
        "proxy_cache_path" => (
            Weight::Different,
            "128 MiB in memory: write [cache] with directory and sizes for more (docs/cache.md)",
        ),
        "types" => (Weight::Different, "media types are edge's own table"),
        name => told::reason(name),
    };
    let weight = match directive.name.as_str() {
        "if" | "location" if location::guards(directive) => Weight::Protection,
        _ => weight,
    };
    cx.tell(directive, weight, why);
}

/// The text, with each note in front of what its directive belongs to.
fn finished(tree: &[Directive], file: &Path, cx: Context<'_>, mut out: File) -> Imported {
    let mut owners = BTreeMap::new();
    tree.iter().for_each(|directive| owned(directive, WHOLE, &mut owners));
    let mut notes = cx.into_notes();
    notes.sort_by(|(a, one), (b, other)| (one.weight, a).cmp(&(other.weight, b)));
    out.head = format!("Made of {} by `edge import nginx`.", file.display());
    if notes.iter().any(|(_, note)| note.weight == Weight::Protection) {
        out.head += "\nLOSS OF PROTECTION: something that nginx guards is not guarded so here, or shut (rules closed…). Search for these words.";
    }
    let shown = notes.iter().filter(|(_, note)| note.weight != Weight::Idle);
    let shown = shown.map(|(id, note)| (owners.get(id).copied().unwrap_or(WHOLE), note));
    let text = Writer::new(shown).file(&out);
    Imported {
        text,
        notes: notes.into_iter().map(|(_, note)| note).collect(),
    }
}

/// The block that each directive's notes stand in front of.
fn owned(directive: &Directive, owner: usize, owners: &mut BTreeMap<usize, usize>) {
    let own = match directive.name.as_str() {
        "location" | "upstream" => directive.id,
        "server" if directive.block.is_some() => directive.id,
        _ => owner,
    };
    owners.insert(directive.id, own);
    directive.inner().iter().for_each(|inner| owned(inner, own, owners));
}
