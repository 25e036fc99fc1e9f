//! An operator's mistake: where it stands, what is wrong, and the mend. Made from serde's errors and by the checks.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

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

/// Where a value stands, kept with values that later rooms check (a certificate file, say).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The configuration file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The key with its table.
    pub key: String,
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

/// Turns byte spans of one file into places.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// A path as the file means it: relative to the directory it is in.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        match self.file.parent() {
            Some(directory) => directory.join(path),
            None => path.to_owned(),
        }
    }

    /// The place of `span`, with the key it belongs to.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        Place {
            file: self.file.to_owned(),
            line,
            key: self.key(line, start),
        }
    }

    /// The dotted key at `line`: the table header above it and the nearest `key =` at or above it that is no part of a
    /// nested value. Good enough for a message; the line is what counts.
    fn key(&self, line: usize, offset: usize) -> String {
        let mut table = String::new();
        let mut key = String::new();
        let mut depth = 0i32;
        for (n, text) in self.text.lines().enumerate().take(line) {
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
                let line_start = self.text.lines().take(n).map(|l| l.len() + 1).sum::<usize>();
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
