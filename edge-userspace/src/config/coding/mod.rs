//! Content coding towards clients: `[coding]`, what all zones share, `[zone.coding]`, and `[[zone.dictionary]]` (RFC 9842).

#[cfg(test)]
mod tests;

use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::section::{Bytes, section};
use super::value::Size;

/// The longest value that a browser must take for `match`, `id` and the like (RFC 9842 section 2.1).
const LONGEST: usize = 1_024;
/// Request destinations (Fetch, section 2.2.5) that a dictionary can be for.
const DESTINATIONS: [&str; 16] = [
    "audio", "document", "embed", "font", "frame", "iframe", "image", "json", "manifest", "object", "report", "script",
    "style", "track", "worker", "xslt",
];

section! {
    /// What all zones share.
    NodeText => Node {
        /// Bytes of coded assets in memory.
        fixed memory: Bytes = Size(64 << 20), Size(1 << 20) => Size(1 << 40);
        /// Bytes of dictionaries in memory.
        fixed dictionaries: Bytes = Size(64 << 20), Size(1 << 20) => Size(1 << 40);
    }
}

/// A zone's content coding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coding {
    /// In the order in which they are preferred where the client does not mind; empty: none.
    pub encodings: Vec<Encoding>,
    /// Media types that are coded, lower case; `text/*` for all of a kind.
    pub types: Vec<String>,
    /// Shorter content is left as it is.
    pub min_bytes: u64,
    /// What browsers may keep as dictionaries.
    pub dictionaries: Vec<Rule>,
}

/// Resources that serve as dictionaries for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Paths of the resources; `*` stands for any characters.
    pub path: String,
    /// Paths that they are dictionaries for.
    pub matches: String,
    /// Destinations (`script`, `style`, `document`); empty: all.
    pub destinations: Vec<String>,
    /// Names the dictionary towards the browser.
    pub id: Option<String>,
    /// Pages that tell the browser to fetch the dictionary.
    pub link_from: Option<String>,
    /// Also for responses to credentials, and private ones.
    pub private: bool,
}

/// A content coding that every browser knows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// RFC 8878, within a window of 8 MiB (RFC 9659).
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// `[zone.coding]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct CodingText {
    encodings: Spanned<Vec<Encoding>>,
    types: Vec<Spanned<String>>,
    min_bytes: Spanned<Size>,
}

impl Default for CodingText {
    fn default() -> Self {
        let types = [
            "text/html",
            "text/css",
            "text/plain",
            "text/xml",
            "text/javascript",
            "text/markdown",
            "text/csv",
            "application/javascript",
            "application/json",
            "application/ld+json",
            "application/manifest+json",
            "application/xml",
            "application/rss+xml",
            "application/atom+xml",
            "application/wasm",
            "image/svg+xml",
        ];
        Self {
            encodings: spanned(vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip]),
            types: types.iter().map(|text| spanned((*text).to_owned())).collect(),
            min_bytes: spanned(Size(512)),
        }
    }
}

/// `[[zone.dictionary]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DictionaryText {
    path: Spanned<String>,
    #[serde(default)]
    r#match: Option<Spanned<String>>,
    #[serde(default)]
    destinations: Vec<Spanned<String>>,
    #[serde(default)]
    id: Option<Spanned<String>>,
    #[serde(default)]
    link_from: Option<Spanned<String>>,
    #[serde(default)]
    private: bool,
}

/// `[zone.coding]` and `[[zone.dictionary]]`; `None` if neither is written.
pub(super) fn zone(
    coding: Option<&CodingText>,
    dictionaries: &[Spanned<DictionaryText>],
    checker: &mut Checker<'_>,
) -> Option<Coding> {
    if coding.is_none() && dictionaries.is_empty() {
        return None;
    }
    let plain = CodingText::default();
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
        let rule = checker.dictionary(spanned.get_ref());
        this.dictionaries.push(rule);
    }
    Some(this)
}

impl Checker<'_> {
    /// A path with `*`, of characters that mean themselves in a URL pattern too.
    fn path_pattern(&mut self, text: &Spanned<String>) -> String {
        let pattern = text.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._~/*%@!$&',;=".contains(&b);
        if !pattern.starts_with('/') || pattern.len() > LONGEST || !pattern.bytes().all(sound) {
            let what = format!("\"{pattern}\" is no path pattern");
            let mend = "write a path such as \"/app/*.js\", with nothing special but `*`";
            self.mistake(text.span(), what, mend);
        }
        pattern.clone()
    }

    fn dictionary(&mut self, raw: &DictionaryText) -> Rule {
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
        let path = self.path_pattern(&raw.path);
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
                .map_or_else(|| path.clone(), |text| self.path_pattern(text)),
            path,
            destinations: raw.destinations.iter().map(|text| text.get_ref().clone()).collect(),
            id: raw.id.as_ref().map(|id| id.get_ref().clone()),
            link_from: raw.link_from.as_ref().map(|text| self.path_pattern(text)),
            private: raw.private,
        }
    }
}
