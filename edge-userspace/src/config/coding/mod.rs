//! Content coding towards clients: `[coding]`, what all zones share, `[zone.coding]`, and `[[zone.dictionary]]` (RFC 9842).

pub(super) mod check;
pub(super) mod raw;
#[cfg(test)]
mod tests;

pub use raw::Encoding;

/// What all zones share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Bytes of coded assets in memory.
    pub memory: u64,
    /// Bytes of dictionaries in memory.
    pub dictionaries: u64,
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
