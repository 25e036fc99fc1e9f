//! The text of a configuration: the file, with variables of the environment put in where it says
//! so, and the files that it includes after it. Lines stay what they are, so that a mistake is told
//! where it was written.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::mistake::{Included, Source};
use super::{Mistakes, Place};
use crate::base::file;

/// Bytes of one file, and of all files together.
const MOST: u64 = 64 << 20;

/// How what serde says of a text is told.
pub(super) type Tell = fn(&Source<'_>, &toml::de::Error) -> Mistakes;

/// A file's text with what it includes.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) included: Vec<Included>,
}

/// What a file says of others; all else of it is read later.
#[derive(Deserialize)]
struct Includes {
    #[serde(default)]
    include: Vec<Spanned<String>>,
}

/// What an included file may hold: tables that there are any number of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "read to see whether the file can be; its tables are taken from the whole text"
)]
struct Tables {
    #[serde(default)]
    zone: Vec<super::zone::ZoneText>,
    #[serde(default)]
    key_server: Vec<super::certificate::KeyServerText>,
    #[serde(default)]
    far_end: Vec<super::delta::FarEndText>,
}

/// Reads `file` with variables put in; `command` is what writes one.
///
/// # Errors
/// It cannot be read, is not text, or names a variable that there is not.
pub(super) fn one(file: &Path, command: &str) -> Result<String, Mistakes> {
    let length = std::fs::metadata(file).map(|meta| meta.len());
    if length.is_ok_and(|length| length > MOST) {
        let what = format!("is longer than {} MiB", MOST >> 20);
        let mistake = Place::whole(file).mistake(what, "name a configuration file");
        return Err(Mistakes(vec![mistake]));
    }
    filled(file, command, std::fs::read(file))
}

/// The same of what was `read`.
fn filled(file: &Path, command: &str, read: io::Result<Vec<u8>>) -> Result<String, Mistakes> {
    let wrong = |what: String, mend: &str| Mistakes(vec![Place::whole(file).mistake(what, mend)]);
    let written = format!("write one: `{command}`");
    let bytes = read.map_err(|e| wrong(format!("cannot be read: {e}"), &written))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let what = format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to());
        wrong(what, "save it as UTF-8")
    })?;
    let source = Source {
        file,
        text: &text,
        included: &[],
    };
    substitute(&source, |name| std::env::var(name).ok())
}

/// Reads `file` and what it includes.
///
/// # Errors
/// As [`one`], for each file; and what an included file says beside zones, key servers and far
/// ends.
pub(super) fn all(file: &Path, command: &str, tell: Tell) -> Result<Text, Mistakes> {
    let mut text = one(file, command)?;
    let source = Source {
        file,
        text: &text,
        included: &[],
    };
    let includes: Includes = toml::from_str(&text).map_err(|e| Mistakes(vec![source.toml_mistake(&e)]))?;
    let mut mistakes = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for pattern in &includes.include {
        match matching(file, pattern.get_ref()) {
            Ok(found) => files.extend(found.into_iter().filter(|one| !files.contains(one)).collect::<Vec<_>>()),
            Err((what, mend)) => mistakes.push(source.place(pattern.span()).mistake(what, mend)),
        }
    }
    let mut included = Vec::new();
    for file in files {
        match tables(&file, tell) {
            Ok(more) => {
                text.push('\n');
                included.push(Included {
                    file,
                    start: text.len(),
                });
                text.push_str(&more);
            }
            Err(wrong) => mistakes.extend(wrong.0),
        }
    }
    if mistakes.is_empty() {
        Ok(Text { text, included })
    } else {
        Err(Mistakes(mistakes))
    }
}

/// The headers of tables in a text: where their lines begin, and the first part of their names. A
/// bracket that begins a line of an array or of a string is none.
pub(super) fn headers(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut within, mut depth, mut begins) = (Within::Table, 0_usize, true);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        if within == Within::Table {
            match c {
                '[' if begins && depth == 0 => {
                    let line = rest
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .trim_start_matches(['[', ' ', '\t']);
                    let name = line.split(['.', ']', ' ', '\t']).next().unwrap_or_default();
                    found.push((at, name.trim_matches(['"', '\''])));
                    depth += 1;
                }
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        begins = c == '\n' || (begins && c.is_whitespace());
        let taken = within.step(rest).max(c.len_utf8());
        rest = rest.get(taken..).unwrap_or_default();
    }
    found
}

/// The text of an included file, which can stand after any other.
fn tables(file: &Path, tell: Tell) -> Result<String, Mistakes> {
    // Whatever lies in a directory that is included: nothing there is waited for, as the file that
    // the command line names may be.
    let read = file::plain(file, MOST);
    let text = filled(file, "edge check --print-defaults", read)?;
    let source = Source {
        file,
        text: &text,
        included: &[],
    };
    toml::from_str::<Tables>(&text).map_err(|e| tell(&source, &e))?;
    let mut lines = text.lines().map(str::trim_start);
    match lines.find(|line| !line.is_empty() && !line.starts_with('#')) {
        Some(line) if !line.starts_with('[') => Err(Mistakes(vec![Place::whole(file).mistake(
            "does not begin with a table",
            "write [[zone]], [[key_server]] or [[far_end]] first",
        )])),
        _ => Ok(text),
    }
}

/// The files that `pattern` names, in the order of their names; `*` stands for any characters of
/// the last part.
fn matching(file: &Path, pattern: &str) -> Result<Vec<PathBuf>, (String, &'static str)> {
    let whole = file.parent().unwrap_or(Path::new("")).join(pattern);
    let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((before, after)) = name.split_once('*') else {
        return Ok(vec![whole]);
    };
    let directory = whole.parent().unwrap_or(Path::new(""));
    let beyond = after.contains('*') || directory.to_string_lossy().contains('*');
    if beyond {
        return Err((
            format!("\"{pattern}\" has more than one `*`, or one in a directory"),
            "write one `*`, in the file's name",
        ));
    }
    let listed = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let listed = listed.map_err(|error| {
        let what = format!("{} cannot be read: {error}", directory.display());
        (what, "make the directory, or leave the pattern out")
    })?;
    let fits = |name: &str| {
        let rest = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        rest.is_some() && !name.starts_with('.')
    };
    let names = listed
        .iter()
        .filter(|entry| entry.file_name().to_str().is_some_and(fits));
    let mut files: Vec<_> = names.map(std::fs::DirEntry::path).collect();
    files.sort();
    Ok(files)
}

/// Puts variables in for `${NAME}`, which does not begin with a small letter or a digit, within
/// quoted values; `$${` is written for `${` itself. In comments and in literal strings (`'…'`)
/// everything stays as it is.
fn substitute(source: &Source<'_>, variable: impl Fn(&str) -> Option<String>) -> Result<String, Mistakes> {
    let mut out = String::with_capacity(source.text.len());
    let mut mistakes = Vec::new();
    let mut rest = source.text;
    let mut within = Within::Table;
    while let Some(c) = rest.chars().next() {
        let at = source.text.len() - rest.len();
        let taken = within.step(rest);
        let piece = rest.get(..taken).unwrap_or(rest);
        let escaped = rest.starts_with("$${");
        let name = rest
            .strip_prefix("${")
            .and_then(|rest| rest.split_once('}'))
            .map(|(name, _)| name)
            // Those of templates (`${client}`, `${1}`) are the zone rules'.
            .filter(|name| !name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()));
        match name.filter(|_| within.substitutes()) {
            _ if within.substitutes() && escaped => {
                out.push_str("${");
                rest = rest.get(3..).unwrap_or_default();
            }
            Some(name) => {
                match value(name, &variable) {
                    Ok(value) => quote(&value, &mut out),
                    Err((what, mend)) => mistakes.push(source.place(at..at + 2).mistake(what, mend)),
                }
                rest = rest.get(name.len() + 3..).unwrap_or_default();
            }
            None => {
                out.push_str(piece);
                rest = rest.get(taken.max(c.len_utf8())..).unwrap_or_default();
            }
        }
    }
    if mistakes.is_empty() {
        Ok(out)
    } else {
        Err(Mistakes(mistakes))
    }
}

fn value(name: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, (String, &'static str)> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(sound) {
        return Err((
            format!("\"${{{name}}}\" is not the name of a variable"),
            "write $${ for the characters themselves",
        ));
    }
    variable(name).ok_or_else(|| {
        let what = format!("the environment has no variable {name}");
        (what, "set it where edge is started, or write the value")
    })
}

/// `value` as the inside of a basic string of TOML, on one line.
fn quote(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Where in a TOML text a character stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// Keys, numbers, brackets.
    Table,
    Comment,
    /// A string that ends with this, with or without escapes.
    Quoted(&'static str, bool),
}

impl Within {
    const fn substitutes(self) -> bool {
        matches!(self, Self::Quoted(_, true))
    }

    /// Moves past what `rest` begins with; returns how many bytes that are.
    fn step(&mut self, rest: &str) -> usize {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        match *self {
            Self::Table => {
                let quotes = [("\"\"\"", true), ("'''", false), ("\"", true), ("'", false)];
                if let Some((quote, escapes)) = quotes.into_iter().find(|(quote, _)| rest.starts_with(quote)) {
                    *self = Self::Quoted(quote, escapes);
                    return quote.len();
                }
                if rest.starts_with('#') {
                    *self = Self::Comment;
                }
                first
            }
            Self::Comment => {
                if rest.starts_with('\n') {
                    *self = Self::Table;
                }
                first
            }
            Self::Quoted(_, true) if rest.starts_with('\\') => first + rest.chars().nth(1).map_or(0, char::len_utf8),
            Self::Quoted(quote, _) => {
                if rest.starts_with(quote) || (quote.len() == 1 && rest.starts_with('\n')) {
                    *self = Self::Table;
                    return if rest.starts_with(quote) { quote.len() } else { first };
                }
                first
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str) -> Result<String, String> {
        let source = Source {
            file: Path::new("edge.toml"),
            text,
            included: &[],
        };
        let variable = |name: &str| match name {
            "HOST" => Some("a.example".to_owned()),
            "ODD" => Some("\"\\\n".to_owned()),
            _ => None,
        };
        substitute(&source, variable).map_err(|mistakes| mistakes.to_string())
    }

    /// A value would be another than the operator wrote, or a variable could write keys of its own.
    #[test]
    fn variables_stand_in_values_alone() {
        let same = "# ${HOST}\na = '${HOST}'\nb = '''\n${HOST}'''\nc = 1 # \"${HOST}\"\n";
        assert_eq!(put(same).unwrap(), same);
        assert_eq!(
            put("a = \"x ${HOST}:${HOST}\" # ${NO}").unwrap(),
            "a = \"x a.example:a.example\" # ${NO}"
        );
        assert_eq!(
            put("a = \"$${HOST} $HOST {HOST}\"").unwrap(),
            "a = \"${HOST} $HOST {HOST}\""
        );
        assert_eq!(put("a = \"\\\"${HOST}\"").unwrap(), "a = \"\\\"a.example\"");
        let odd = put("a = \"${ODD}\"\nb = \"${HOST}\"").unwrap();
        let table: toml::Table = toml::from_str(&odd).unwrap();
        assert_eq!(
            (table["a"].as_str(), table["b"].as_str()),
            (Some("\"\\\n"), Some("a.example"))
        );
        let wrong = put("\na = \"${NO}\"\nb = \"${A B}\"").unwrap_err();
        assert!(
            wrong.contains("edge.toml:2: a: ") && wrong.contains("edge.toml:3: b: "),
            "{wrong}"
        );
    }

    /// A tenant's file would be left out, or a mistake in it told of another file.
    #[test]
    fn files_are_included_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let zone = |name: &str| {
            format!("[[zone]]\nname = \"{name}\"\nhosts = [\"{name}\"]\n[zone.origin]\ndirectory = \".\"\n")
        };
        let main = |include: &str| {
            format!(
                "include = [{include}]\n[server]\nhttp = [\"127.0.0.1:80\"]\n{}",
                zone("main")
            )
        };
        std::fs::create_dir(directory.path().join("zones.d")).unwrap();
        write("edge.toml", &main("\"zones.d/*.toml\""));
        write("zones.d/b.toml", &format!("# of b\n{}", zone("b")));
        write("zones.d/a.toml", &zone("a"));
        write("zones.d/a.toml.off", "nonsense");
        write("zones.d/.a.toml", "nonsense");
        let read = || super::super::Config::read(&directory.path().join("edge.toml"));
        let config = read().unwrap();
        let names: Vec<_> = config.zones.iter().map(|zone| zone.name.to_string()).collect();
        assert_eq!(names, ["main", "a", "b"]);
        assert!(config.faults.is_empty(), "paths are relative to the file they are in");
        let place = config.zones[2].place.mistake("x", "").to_string();
        assert!(place.contains("zones.d/b.toml:3: zone.name"), "{place}");

        let wrong = |name: &str, text: &str, words: &[&str]| {
            write(name, text);
            let told = read().unwrap_err().to_string();
            for word in words {
                assert!(told.contains(word), "{word}: {told}");
            }
            write(name, &zone("c"));
            assert!(read().is_ok());
        };
        let bounds = zone("c").replace(
            "directory = \".\"",
            "servers = [{ address = \"http://h\" }]\nretries = 99",
        );
        wrong("zones.d/c.toml", &bounds, &["c.toml:6: zone.origin.retries", "0 to 10"]);
        wrong("zones.d/c.toml", &zone("a"), &["c.toml:2: zone.name", "already"]);
        wrong(
            "zones.d/c.toml",
            "[server]\nworkers = 1\n",
            &["c.toml:1", "unknown key `server`"],
        );
        wrong(
            "zones.d/c.toml",
            "zone = []\n",
            &["c.toml", "does not begin with a table"],
        );
        wrong("zones.d/c.toml", "[[zone]\n", &["c.toml:1"]);
        // What waits for a writer would hold up a start, and every reload.
        let pipe = directory.path().join("zones.d/c.toml");
        std::fs::remove_file(&pipe).unwrap();
        file::tests::put_pipe(&pipe);
        let told = read().unwrap_err().to_string();
        assert!(told.contains("c.toml") && told.contains("no regular file"), "{told}");
        write("edge.toml", &main("\"gone.toml\", \"no.d/*\", \"*/*\""));
        let told = read().unwrap_err().to_string();
        assert!(
            told.contains("edge.toml:1: include") && told.contains("no.d cannot be read"),
            "{told}"
        );
        assert!(told.contains("more than one `*`"), "{told}");
    }
}
