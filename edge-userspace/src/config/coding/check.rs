//! From the raw form of content coding to the checked one.

use std::ops::Range;

use toml::Spanned;

use super::{Coding, Node, Rule, raw};
use crate::config::mistake::{Mistake, Source};
use crate::config::value::Size;

/// The longest value that a browser must take for `match`, `id` and the like (RFC 9842 section 2.1).
const LONGEST: usize = 1_024;
/// Request destinations (Fetch, section 2.2.5) that a dictionary can be for.
const DESTINATIONS: [&str; 16] = [
    "audio", "document", "embed", "font", "frame", "iframe", "image", "json", "manifest", "object", "report", "script",
    "style", "track", "worker", "xslt",
];

struct Checker<'a> {
    source: &'a Source<'a>,
    mistakes: Vec<Mistake>,
}

/// `[coding]`, and what is wrong with it.
pub(in crate::config) fn node(raw: &raw::Node, source: &Source<'_>) -> (Node, Vec<Mistake>) {
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
    };
    let node = Node {
        memory: checker.size(&raw.memory, 1 << 20, 1 << 40),
        dictionaries: checker.size(&raw.dictionaries, 1 << 20, 1 << 40),
    };
    (node, checker.mistakes)
}

/// `[zone.coding]` and `[[zone.dictionary]]`, and what is wrong with them; `None` where neither is written.
pub(in crate::config) fn zone(
    coding: Option<&raw::Coding>,
    dictionaries: &[Spanned<raw::Dictionary>],
    source: &Source<'_>,
) -> (Option<Coding>, Vec<Mistake>) {
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
    };
    if coding.is_none() && dictionaries.is_empty() {
        return (None, Vec::new());
    }
    let plain = raw::Coding::default();
    let mut this = Coding {
        encodings: coding.map(|raw| raw.encodings.get_ref().clone()).unwrap_or_default(),
        min_bytes: checker.size(&coding.unwrap_or(&plain).min_bytes, 0, 1 << 30),
        ..Coding::default()
    };
    for spanned in &coding.unwrap_or(&plain).types {
        let text = spanned.get_ref().to_ascii_lowercase();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b);
        match text.split_once('/') {
            Some((kind, name))
                if !kind.is_empty() && !name.is_empty() && kind.bytes().chain(name.bytes()).all(sound) => {}
            _ => checker.mistake(
                spanned.span(),
                format!("\"{text}\" is no media type"),
                "write \"text/css\" or \"text/*\"",
            ),
        }
        this.types.push(text);
    }
    for spanned in dictionaries {
        let rule = checker.rule(spanned.get_ref());
        this.dictionaries.push(rule);
    }
    (Some(this), checker.mistakes)
}

impl Checker<'_> {
    fn mistake(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.mistakes.push(self.source.place(span).mistake(what, mend));
    }

    fn size(&mut self, value: &Spanned<Size>, least: u64, most: u64) -> u64 {
        let bytes = value.get_ref().0;
        if bytes < least || bytes > most {
            let mend = format!("write {least}B to {}MiB", most >> 20);
            self.mistake(value.span(), "out of bounds", mend);
        }
        bytes
    }

    /// A path with `*`, of characters that mean themselves in a URL pattern too.
    fn pattern(&mut self, text: &Spanned<String>) -> String {
        let pattern = text.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._~/*%@!$&',;=".contains(&b);
        if !pattern.starts_with('/') || pattern.len() > LONGEST || !pattern.bytes().all(sound) {
            let what = format!("\"{pattern}\" is no path pattern");
            let mend = "write a path such as \"/app/*.js\", with nothing special but `*`";
            self.mistake(text.span(), what, mend);
        }
        pattern.clone()
    }

    fn rule(&mut self, raw: &raw::Dictionary) -> Rule {
        for spanned in &raw.destinations {
            if !DESTINATIONS.contains(&spanned.get_ref().as_str()) {
                let what = format!("\"{}\" is no destination", spanned.get_ref());
                self.mistake(
                    spanned.span(),
                    what,
                    format!("write one of {}", DESTINATIONS.join(", ")),
                );
            }
        }
        if let Some(id) = &raw.id {
            let sound = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
            if id.get_ref().is_empty() || id.get_ref().len() > LONGEST || !id.get_ref().bytes().all(sound) {
                let what = format!("\"{}\" is no dictionary id", id.get_ref());
                self.mistake(id.span(), what, "write letters, digits and -_.:/, at most 1024");
            }
        }
        let path = self.pattern(&raw.path);
        if let Some(link) = &raw.link_from
            && path.contains('*')
        {
            let mend = "give the dictionary a `path` without `*`, or leave link_from out";
            self.mistake(link.span(), "no single resource to link to", mend);
        }
        Rule {
            matches: raw
                .r#match
                .as_ref()
                .map_or_else(|| path.clone(), |text| self.pattern(text)),
            path,
            destinations: raw.destinations.iter().map(|text| text.get_ref().clone()).collect(),
            id: raw.id.as_ref().map(|id| id.get_ref().clone()),
            link_from: raw.link_from.as_ref().map(|text| self.pattern(text)),
            private: raw.private,
        }
    }
}
