//! The raw form of content coding, key by key, with the defaults of each. `defaults.toml` says what they mean.

use serde::Deserialize;
use toml::Spanned;

use crate::config::value::Size;

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// `[coding]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Node {
    pub(super) memory: Spanned<Size>,
    pub(super) dictionaries: Spanned<Size>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            memory: spanned(Size(64 << 20)),
            dictionaries: spanned(Size(64 << 20)),
        }
    }
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

/// `[zone.coding]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Coding {
    pub(super) encodings: Spanned<Vec<Encoding>>,
    pub(super) types: Vec<Spanned<String>>,
    pub(super) min_bytes: Spanned<Size>,
}

impl Default for Coding {
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
pub(in crate::config) struct Dictionary {
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) r#match: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) destinations: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) id: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) link_from: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) private: bool,
}
