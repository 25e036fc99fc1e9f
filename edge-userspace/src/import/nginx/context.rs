//! What the translation of one configuration holds: what was told of its directives, and what of
//! them nobody has looked at yet. The other files of the room write here.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::Files;
use super::syntax::Directive;
use crate::config::value::{Size, Time};
use crate::import::write::Pool;
use crate::import::{Note, Weight};

/// Told of all that has no place of its own.
pub(super) const WHOLE: usize = usize::MAX;

/// A translation under way. `'t` is the tree's.
pub(super) struct Context<'t> {
    pub(super) files: &'t dyn Files,
    /// What relative names are relative to.
    pub(super) prefix: PathBuf,
    /// `upstream`s by name.
    pub(super) upstreams: BTreeMap<&'t str, &'t Directive>,
    /// `limit_req_zone`s by name.
    pub(super) limits: BTreeMap<&'t str, &'t Directive>,
    /// `limit_conn_zone`s by name.
    pub(super) crowds: BTreeMap<&'t str, &'t Directive>,
    /// `map`, `geo` and `split_clients` by the variable that they make, without `$`.
    pub(super) made: BTreeMap<String, &'t Directive>,
    /// Locations that other directives of edge's lead to, by their numbers.
    pub(super) led: HashSet<usize>,
    pub(super) pools: Vec<Pool>,
    notes: Vec<(usize, Note)>,
    told: HashSet<(usize, String)>,
    taken: HashSet<usize>,
    /// Servers that only redirect to TLS.
    redirects: HashSet<usize>,
}

impl<'t> Context<'t> {
    pub(super) fn new(files: &'t dyn Files, prefix: &Path) -> Self {
        Self {
            files,
            prefix: prefix.to_owned(),
            upstreams: BTreeMap::new(),
            limits: BTreeMap::new(),
            crowds: BTreeMap::new(),
            made: BTreeMap::new(),
            led: HashSet::new(),
            pools: Vec::new(),
            notes: Vec::new(),
            told: HashSet::new(),
            taken: HashSet::new(),
            redirects: HashSet::new(),
        }
    }

    /// The directive was translated, or told of.
    pub(super) fn take(&mut self, directive: &Directive) {
        self.taken.insert(directive.id);
    }

    /// What stands in the block of a directive is told of with it.
    pub(super) fn cover(&mut self, directive: &Directive) {
        for inner in directive.inner() {
            self.take(inner);
            self.cover(inner);
        }
    }

    /// The server only redirects: the node's listeners do that.
    pub(super) fn redirect(&mut self, server: &Directive) {
        self.redirects.insert(server.id);
    }

    /// Whether it does.
    pub(super) fn is_redirect(&self, server: &Directive) -> bool {
        self.redirects.contains(&server.id)
    }

    /// Whether somebody has looked at it.
    pub(super) fn is_taken(&self, directive: &Directive) -> bool {
        self.taken.contains(&directive.id)
    }

    /// Tells something of a directive, once.
    pub(super) fn tell(&mut self, directive: &Directive, weight: Weight, why: impl Into<String>) {
        let why = why.into();
        self.take(directive);
        if self.told.insert((directive.id, why.clone())) {
            let note = Note {
                weight,
                file: directive.file.clone(),
                line: directive.line,
                directive: directive.shown(),
                why,
            };
            self.notes.push((directive.id, note));
        }
    }

    /// What was told, each with the number of its directive.
    pub(super) fn into_notes(self) -> Vec<(usize, Note)> {
        self.notes
    }

    /// A file's name as the configuration has it, whole.
    pub(super) fn path(&self, name: &str) -> String {
        self.prefix.join(name).display().to_string()
    }
}

/// The blocks that a directive stands in, the outermost first.
#[derive(Clone, Debug)]
pub(super) struct Levels<'t>(Vec<&'t [Directive]>);

impl<'t> Levels<'t> {
    pub(super) fn new(outermost: &'t [Directive]) -> Self {
        Self(vec![outermost])
    }

    /// One block more.
    pub(super) fn within(&self, block: &'t [Directive]) -> Self {
        let mut levels = self.0.clone();
        levels.push(block);
        Self(levels)
    }

    /// The innermost block.
    pub(super) fn own(&self) -> &'t [Directive] {
        self.0.last().copied().unwrap_or_default()
    }

    /// The first directive of this name in the innermost block.
    pub(super) fn own_one(&self, name: &str) -> Option<&'t Directive> {
        self.own().iter().find(|directive| directive.name == name)
    }

    /// The directives of these names of the nearest block that has any: the outer ones count only
    /// if there are none nearer.
    pub(super) fn nearest(&self, names: &[&str]) -> Vec<&'t Directive> {
        let named = |block: &&'t [Directive]| -> Vec<&'t Directive> {
            let named = |directive: &&Directive| names.contains(&directive.name.as_str());
            block.iter().filter(named).collect()
        };
        let mut blocks = self.0.iter().rev().map(named);
        blocks.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The same with one name.
    pub(super) fn all(&self, name: &str) -> Vec<&'t Directive> {
        self.nearest(&[name])
    }

    /// The last of them.
    pub(super) fn one(&self, name: &str) -> Option<&'t Directive> {
        self.all(name).last().copied()
    }

    /// Whether the nearest one says `word`.
    pub(super) fn says(&self, name: &str, word: &str) -> bool {
        self.one(name).is_some_and(|directive| directive.argument(0) == word)
    }
}

/// A time as nginx writes it (`1h 30m`, `90`, `250ms`), seconds without a unit.
pub(super) fn time(text: &str) -> Option<Duration> {
    let (mut all, mut rest) = (Duration::ZERO, text.trim());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "M" => 30 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        all = all.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after.trim_start();
    }
    // A century, beyond which edge writes none.
    (all <= Duration::from_secs(3_155_760_000)).then_some(all)
}

/// As edge writes it.
pub(super) fn span(time: Duration) -> String {
    format!(
        "\"{}\"",
        Time(Duration::from_millis(
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        ))
    )
}

/// A size as nginx writes it: `8k`, `1m`, `1g`, bytes without a unit.
pub(super) fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (number, shift) = match lower.chars().last()? {
        'k' => (lower.trim_end_matches('k'), 10),
        'm' => (lower.trim_end_matches('m'), 20),
        'g' => (lower.trim_end_matches('g'), 30),
        _ => (lower.as_str(), 0),
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= 1 << 50)
}

/// As edge writes it.
pub(super) fn bytes(size: u64) -> String {
    format!("\"{}\"", Size(size))
}

/// A name that rules, pools and zones may have, made of `text`.
pub(super) fn name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().take(40) {
        if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches(|c| c == '-' || c == '.').to_owned()
}

/// `wanted`, or with a number after it if it is taken already.
pub(super) fn unlike(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    let numbered = (2_u32..).map(|n| format!("{wanted}-{n}"));
    numbered.into_iter().find(|name| !taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit would be another one.
    #[test]
    fn times_and_sizes() {
        for (text, millis) in [
            ("90", 90_000),
            ("1h 30m", 5_400_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("0", 0),
            ("1M", 2_592_000_000),
        ] {
            assert_eq!(time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "x", "1x", "-1", "99999999999999999999", "200y", "s"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        for (text, size) in [
            ("8k", 8 << 10),
            ("1M", 1 << 20),
            ("0", 0),
            ("512", 512),
            ("2g", 2 << 30),
        ] {
            assert_eq!(super::size(text), Some(size), "{text}");
        }
        for wrong in ["", "k", "1t", "1kk1", "99999999999999999g"] {
            assert_eq!(super::size(wrong), None, "{wrong}");
        }
        assert_eq!(span(Duration::from_secs(90)), "\"90s\"");
        assert_eq!(bytes(1 << 20), "\"1MiB\"");
        assert_eq!(name("/api/v1.0/é"), "api-v1.0");
        assert_eq!(unlike("a", |name| name == "a" || name == "a-2"), "a-3");
    }
}
