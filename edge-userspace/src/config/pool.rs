//! What a request is placed by among the servers of a pool (`balance = "hash"`), and how a rule
//! spreads requests over pools.

use std::str::FromStr;
use std::sync::Arc;

use http::HeaderName;

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address; of IPv6 the /64.
    Client,
    /// The path without its query.
    Path,
    /// The first value of a field.
    Header(HeaderName),
    /// The first value of a cookie.
    Cookie(Box<str>),
    /// Each request for itself.
    Random,
}

impl FromStr for HashKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not something that requests can be placed by");
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong());
        match text.split_once(':') {
            None if text == "client" => Ok(Self::Client),
            None if text == "path" => Ok(Self::Path),
            None if text == "random" => Ok(Self::Random),
            Some(("header", field)) => Ok(Self::Header(name(field)?)),
            // A cookie's name is a token (RFC 6265 section 4.1.1), as a field's is.
            Some(("cookie", cookie)) if name(cookie).is_ok() => Ok(Self::Cookie(cookie.into())),
            _ => Err(wrong()),
        }
    }
}

/// The mend of a key that is none.
pub(super) const KEYS: &str = "write \"client\", \"path\", \"header:NAME\" or \"cookie:NAME\"";

/// Parts of a rule's requests that go to other pools.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Requests with the same key go the same way.
    pub by: HashKey,
    /// Pools, each with its share in hundredths of a percent; together at most 10,000.
    pub to: Vec<(Arc<str>, u32)>,
}

/// A pool that is sent copies of requests; its answers are dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Which.
    pub to: Arc<str>,
    /// Share of the requests in hundredths of a percent.
    pub share: u32,
    /// Requests with longer content are not copied, bytes.
    pub body_bytes: u64,
}
