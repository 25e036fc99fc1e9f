//! An operator's mistake: where it stands, what is wrong, and the mend. Made from serde's errors
//! and by the checks.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file as the operator named it.
    pub file: PathBuf,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// The key, with its table: `zone.origin.servers`; empty where none is.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)?;
        if self.mend.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.mend)
        }
    }
}

/// A configuration that cannot be used: every mistake that was found.
#[derive(Debug, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

/// Mistakes that were found while a configuration was prepared: those of the node, and those of one
/// zone each, which need not stop the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    node: Vec<Mistake>,
    zones: BTreeMap<Arc<str>, Vec<Mistake>>,
}

impl Faults {
    /// A mistake that stops the node.
    pub fn node(&mut self, mistake: Mistake) {
        self.node.push(mistake);
    }

    /// A mistake that stops this zone.
    pub fn zone(&mut self, zone: &Arc<str>, mistake: Mistake) {
        self.zones.entry(zone.clone()).or_default().push(mistake);
    }

    /// Whether this zone has a mistake.
    pub fn has(&self, zone: &str) -> bool {
        self.zones.contains_key(zone)
    }

    /// Those that stop the node.
    pub fn of_node(&self) -> &[Mistake] {
        &self.node
    }

    /// Those that stop one zone each, by its name.
    pub const fn of_zones(&self) -> &BTreeMap<Arc<str>, Vec<Mistake>> {
        &self.zones
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.node.is_empty() && self.zones.is_empty()
    }

    /// `value` if nothing was found; else everything that was, the node's first.
    ///
    /// # Errors
    /// The mistakes.
    pub fn or<T>(self, value: T) -> Result<T, Mistakes> {
        if self.is_empty() {
            return Ok(value);
        }
        Err(Mistakes(
            self.node
                .into_iter()
                .chain(self.zones.into_values().flatten())
                .collect(),
        ))
    }
}

/// Where a value stands, kept with values that later rooms check (a certificate file, say). Two
/// places are always equal: a value that moved to another line is the same value, and what a reload
/// compares must not take it for a change.
#[derive(Clone, Debug)]
pub struct Place {
    /// The configuration file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The key with its table.
    pub key: String,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Default for Place {
    fn default() -> Self {
        Self::nowhere()
    }
}

impl Place {
    /// Of what no file says.
    pub(super) fn nowhere() -> Self {
        Self {
            file: PathBuf::new(),
            line: 0,
            key: String::new(),
        }
    }

    /// The whole of a file.
    pub fn whole(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            ..Self::nowhere()
        }
    }

    /// A mistake at this place.
    pub fn mistake(&self, what: impl Into<String>, mend: impl Into<String>) -> Mistake {
        Mistake {
            file: self.file.clone(),
            line: self.line,
            key: self.key.clone(),
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// Turns byte spans of a text into places of the files it was read from.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    /// Of the file, and of those that it includes, one after the other.
    pub(super) text: &'a str,
    /// The files that it includes, in the order of their texts.
    pub(super) included: &'a [Included],
}

/// A file that another one includes.
#[derive(Debug)]
pub(super) struct Included {
    pub(super) file: PathBuf,
    /// Where its text begins.
    pub(super) start: usize,
}

impl Source<'_> {
    /// The file that `offset` lies in, its part of the text, and where that begins.
    fn part(&self, offset: usize) -> (&Path, &str, usize) {
        let after = self.included.partition_point(|included| included.start <= offset);
        let end = self.included.get(after).map_or(self.text.len(), |next| next.start);
        let (file, start) = match after.checked_sub(1).and_then(|at| self.included.get(at)) {
            Some(included) => (included.file.as_path(), included.start),
            None => (self.file, 0),
        };
        (file, self.text.get(start..end).unwrap_or_default(), start)
    }

    /// A path as the file means it that it is written in: relative to the directory of that file.
    pub(super) fn path(&self, path: &Spanned<PathBuf>) -> PathBuf {
        let (file, _, _) = self.part(path.span().start);
        match file.parent() {
            Some(directory) => directory.join(path.get_ref()),
            None => path.get_ref().clone(),
        }
    }

    /// The place of `span`, with the key it belongs to.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let (file, text, begins) = self.part(span.start.min(self.text.len()));
        let start = span.start.saturating_sub(begins).min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        Place {
            file: file.to_owned(),
            line,
            key: key(text, line, start),
        }
    }

    /// A mistake from what serde or the TOML parser said.
    pub(super) fn toml_mistake(&self, error: &toml::de::Error) -> Mistake {
        let place = match error.span() {
            Some(span) => self.place(span),
            None => Place {
                file: self.file.to_owned(),
                line: 0,
                key: String::new(),
            },
        };
        let message = error.message();
        if let Some((unknown, known)) = unknown_field(message) {
            let nearest = known
                .iter()
                .map(|k| (strsim::damerau_levenshtein(unknown, k), *k))
                .min()
                .filter(|(distance, k)| *distance <= (k.len().max(unknown.len()) / 2).max(2));
            let mend = match nearest {
                Some((_, key)) => format!("did you mean `{key}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            return place.mistake(format!("unknown key `{unknown}`"), mend);
        }
        // Our own value types say the mend behind a semicolon.
        let (what, mend) = message
            .split_once("; ")
            .unwrap_or((message, "see `edge check --print-defaults`"));
        place.mistake(what.replace('\n', ", "), mend)
    }
}

/// The dotted key at `line`: the table header above it and the nearest `key =` at or above it that
/// is no part of a nested value. Good enough for a message; the line is what counts.
fn key(whole: &str, line: usize, offset: usize) -> String {
    let mut table = String::new();
    let mut key = String::new();
    let mut depth = 0i32;
    for (n, text) in whole.lines().enumerate().take(line) {
        let code = strip_comment(text);
        let trimmed = code.trim();
        if depth == 0 && trimmed.starts_with('[') {
            table = trimmed.trim_matches(['[', ']']).trim().to_owned();
            key.clear();
            continue;
        }
        if depth == 0
            && let Some((name, _)) = trimmed.split_once('=')
        {
            name.trim().clone_into(&mut key);
        }
        if n + 1 < line {
            depth += bracket_balance(code);
        } else if depth == 0 || trimmed.contains('{') {
            // Inside an inline table the key nearest before the offset is meant.
            let line_start = whole.lines().take(n).map(|l| l.len() + 1).sum::<usize>();
            let upto = text.get(..offset.saturating_sub(line_start)).unwrap_or_default();
            if let Some(inner) = upto.rfind('{').and_then(|brace| innermost_key(text, brace, upto.len())) {
                key = format!("{key}.{inner}");
            }
        }
    }
    match (table.is_empty(), key.is_empty()) {
        (true, _) => key,
        (false, true) => table,
        (false, false) => format!("{table}.{key}"),
    }
}

/// The key whose value spans `at` within an inline table that opens at `brace`.
fn innermost_key(line: &str, brace: usize, at: usize) -> Option<&str> {
    let inside = line.get(brace + 1..at)?;
    let last = inside.rsplit(',').next()?;
    let name = match last.split_once('=') {
        Some((name, _)) => name,
        // The span is the key itself.
        None => line.get(at..)?.split(['=', ',', '}']).next()?,
    };
    let name = name.trim();
    (!name.is_empty()).then_some(name)
}

/// The names in "unknown field `a`, expected one of `b`, `c`" (serde's fixed words).
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((unknown, known))
}

/// The line without its comment; `#` inside quotes stays.
fn strip_comment(line: &str) -> &str {
    let mut quote = None;
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return line.get(..i).unwrap_or_default(),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
    }
    line
}

/// Opened minus closed brackets and braces outside quotes.
fn bracket_balance(code: &str) -> i32 {
    let mut quote = None;
    let mut balance = 0;
    for c in code.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '[' | '{') => balance += 1,
            (None, ']' | '}') => balance -= 1,
            _ => {}
        }
    }
    balance
}
