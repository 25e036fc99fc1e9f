//! Redirects from a file: a line each, `from to [status]`, `#` for comments.

use std::collections::HashMap;

use http::StatusCode;

/// From paths to places.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    by_path: HashMap<Box<str>, (Box<str>, Option<StatusCode>)>,
}

/// A line that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Entries of one list.
const MOST: usize = 1_000_000;

impl List {
    /// Reads `text`.
    ///
    /// # Errors
    /// Each line that is wrong, at most 20.
    pub fn parse(text: &str) -> Result<Self, Vec<WrongLine>> {
        let mut this = Self::default();
        let mut wrong = Vec::new();
        for (line, written) in (1..).zip(text.lines()) {
            let written = written.trim();
            if written.is_empty() || written.starts_with('#') {
                continue;
            }
            match entry(written) {
                Ok((from, place, status)) => {
                    if this.by_path.insert(from.into(), (place.into(), status)).is_some() {
                        let what = "the path has a line already";
                        wrong.push(WrongLine { line, what });
                    }
                }
                Err(what) => wrong.push(WrongLine { line, what }),
            }
            if this.by_path.len() > MOST {
                let what = "more than 1,000,000 redirects";
                wrong.push(WrongLine { line, what });
                break;
            }
            if wrong.len() >= 20 {
                break;
            }
        }
        if wrong.is_empty() { Ok(this) } else { Err(wrong) }
    }

    /// Where `path`, in its normal form, leads, and by which status if the line says one.
    pub fn find(&self, path: &str) -> Option<(&str, Option<StatusCode>)> {
        let (place, status) = self.by_path.get(path)?;
        Some((place, *status))
    }
}

fn entry(line: &str) -> Result<(&str, &str, Option<StatusCode>), &'static str> {
    let mut words = line
        .split(|c: char| c.is_ascii_whitespace() || c == ',')
        .filter(|word| !word.is_empty());
    let from = words.next().unwrap_or_default();
    let place = words
        .next()
        .ok_or("no place to go to; write `/from /to` or `/from https://host/to`")?;
    if !from.starts_with('/') || from.contains(['?', '#']) {
        return Err("the first word is not a path without a query");
    }
    if !plain(from) {
        return Err("requests are compared in their plain form: no `.`, `..` or empty segments, no needless %");
    }
    let local = place.starts_with('/') && !place.starts_with("//");
    let absolute =
        (place.starts_with("https://") || place.starts_with("http://")) && place.parse::<http::Uri>().is_ok();
    if !(local || absolute) || !place.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the second word is neither a path nor an http or https URL");
    }
    let status = match words.next() {
        None => None,
        Some("301") => Some(StatusCode::MOVED_PERMANENTLY),
        Some("302") => Some(StatusCode::FOUND),
        Some("303") => Some(StatusCode::SEE_OTHER),
        Some("307") => Some(StatusCode::TEMPORARY_REDIRECT),
        Some("308") => Some(StatusCode::PERMANENT_REDIRECT),
        Some(_) => return Err("the third word is not one of 301, 302, 303, 307, 308"),
    };
    match words.next() {
        None => Ok((from, place, status)),
        Some(_) => Err("more than three words"),
    }
}

/// Whether `path` is written as the normal form of paths has it: what is not would never be asked
/// for.
fn plain(path: &str) -> bool {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if matches!(segment, "." | "..") || segment.is_empty() && !last {
            return false;
        }
    }
    let needless = |after: &str| {
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%'))
    };
    path.is_ascii() && !path.split('%').skip(1).any(needless)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of thousands would be half in force, with nobody told which half.
    #[test]
    fn lists_are_read_whole_or_refused() {
        let list = List::parse("# moved\n/old /new\n/a,https://b.example/x?y=1,302\n\n/c%20d /d 308\n").unwrap();
        assert_eq!(list.find("/old"), Some(("/new", None)));
        assert_eq!(
            list.find("/a"),
            Some(("https://b.example/x?y=1", Some(StatusCode::FOUND)))
        );
        assert_eq!(list.find("/c%20d"), Some(("/d", Some(StatusCode::PERMANENT_REDIRECT))));
        assert_eq!(list.find("/x"), None);
        let text = "/a\n/%61 /c\nb /c\n/d //evil\n/e /f 200\n/g /h 301 x\n/i /j\n/i /k\n/l javascript:x\n";
        let wrong = List::parse(text).unwrap_err();
        assert_eq!(
            wrong.iter().map(|w| w.line).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6, 8, 9]
        );
    }
}
