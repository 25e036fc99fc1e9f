//! Content coding towards clients: `[coding]`, what all zones share, `[zone.coding]`, and
//! `[[zone.dictionary]]` (RFC 9842).

#[cfg(test)]
mod tests;

use toml::Spanned;

use super::checker::Checker;
use super::kind::{self, Bytes, Flag, Kind, List, Maybe, Must, Word, unbounded, words};
use super::section::section;
use super::value::Size;

/// The longest value that a browser must take for `match`, `id` and the like (RFC 9842 section
/// 2.1).
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

section! {
    /// A zone's content coding.
    CodingText => Coding {
        /// In the order in which they are preferred if the client does not mind.
        live encodings: List<Word<Encoding>> = kind::list([Encoding::Zstd, Encoding::Br, Encoding::Gzip]);
        /// What is coded: media types, or text/* for all of a kind; and not what is shorter than
        /// `min_bytes`.
        live types: List<MediaType> = kind::list(TYPES.map(str::to_owned));
        /// Shorter content is left as it is.
        live min_bytes: Bytes = Size(512), Size(0) => Size(1 << 30);
    }
    checked {
        /// What browsers may keep as dictionaries.
        dictionaries: Vec<Rule>,
    }
}

const TYPES: [&str; 16] = [
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

section! {
    /// Resources that serve as dictionaries for others.
    DictionaryText => Rule {
        /// Paths of the resources; `*` stands for any characters.
        live path: Must<PathPattern> = None; like "/app.*.js";
        /// Request destinations (script, style, document, …) that it is a dictionary for; none:
        /// all.
        live destinations: List<Destination> = Vec::new(); like ["script"];
        /// Comes back in Dictionary-ID.
        live id: Maybe<Id> = None; like "app";
        /// Pages that tell browsers to fetch it; only for a path without `*`.
        live link_from: Maybe<PathPattern> = None; like "/*.html";
        /// Also for responses to credentials, and private ones: read docs/delta.md first.
        live private: Flag = false;
    }
    read {
        /// Paths that they are dictionaries for. Left out: `path`.
        live r#match: Maybe<PathPattern> = None; like "/app.*.js";
    }
    checked {
        /// Paths that they are dictionaries for.
        matches: String,
    }
}

words! {
    /// A content coding that every browser knows.
    #[derive(Hash)]
    Encoding {
        /// RFC 8878, within a window of 8 MiB (RFC 9659).
        Zstd = "zstd",
        /// RFC 7932.
        Br = "br",
        /// RFC 1952.
        Gzip = "gzip",
    }
}

unbounded! {
    /// A media type, lower case; `text/*` for all of a kind.
    MediaType: String => String, |text| format!("{text:?}"), |written, checker| {
        let text = written.get_ref().to_ascii_lowercase();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b);
        let parts = text.split_once('/').filter(|(kind, name)| {
            !kind.is_empty() && !name.is_empty() && kind.bytes().chain(name.bytes()).all(sound)
        });
        if parts.is_none() {
            let what = format!("\"{text}\" is not a media type");
            checker.mistake(written.span(), what, "write \"text/css\" or \"text/*\"");
        }
        text
    }
}
unbounded! {
    /// A path with `*`, of characters that mean themselves in a URL pattern too.
    PathPattern: String => String, |text| format!("{text:?}"), |written, checker| {
        let pattern = written.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._~/*%@!$&',;=".contains(&b);
        if !pattern.starts_with('/') || pattern.len() > LONGEST || !pattern.bytes().all(sound) {
            let what = format!("\"{pattern}\" is not a path pattern");
            let mend = "write a path such as \"/app/*.js\", with nothing special but `*`";
            checker.mistake(written.span(), what, mend);
        }
        pattern.clone()
    }
}
unbounded! {
    /// A request destination.
    Destination: String => String, |text| format!("{text:?}"), |written, checker| {
        let text = written.get_ref();
        if !DESTINATIONS.contains(&text.as_str()) {
            let mend = format!("write one of {}", DESTINATIONS.join(", "));
            checker.mistake(written.span(), format!("\"{text}\" is not a destination"), mend);
        }
        text.clone()
    }
}
unbounded! {
    /// A dictionary's id.
    Id: String => String, |text| format!("{text:?}"), |written, checker| {
        let id = written.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
        if id.is_empty() || id.len() > LONGEST || !id.bytes().all(sound) {
            let what = format!("\"{id}\" is not a dictionary id");
            checker.mistake(written.span(), what, "write letters, digits and -_.:/, at most 1024");
        }
        id.clone()
    }
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
    let mut this = match coding {
        Some(coding) => coding.check(checker),
        None => Coding {
            encodings: Vec::new(),
            ..Coding::default()
        },
    };
    let dictionaries = dictionaries.iter().map(|raw| checker.table(raw, dictionary));
    this.dictionaries = dictionaries.collect();
    Some(this)
}

fn dictionary(raw: &DictionaryText, checker: &mut Checker<'_>) -> Rule {
    let mut rule = raw.check(checker);
    let matches = Maybe::<PathPattern>::check(&raw.r#match, None, checker);
    rule.matches = matches.unwrap_or_else(|| rule.path.clone());
    if rule.link_from.is_some() && rule.path.contains('*') {
        let mend = "give the dictionary a `path` without `*`, or leave link_from out";
        checker.mistake(raw.link_from.span(), "no single resource to link to", mend);
    }
    rule
}
