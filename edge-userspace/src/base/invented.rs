//! A request that nobody has sent: the command line invents it, the zone rules are tried on it.

use std::net::IpAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version};

/// The parts of a request that rules can ask for.
#[derive(Clone, Debug)]
pub struct Invented {
    /// Its method.
    pub method: Method,
    /// Whether it comes by https.
    pub secure: bool,
    /// The host, lower case, with a port that is not the scheme's own.
    pub authority: String,
    /// Path and query.
    pub target: PathAndQuery,
    /// Its fields.
    pub headers: HeaderMap,
    /// Who sends it.
    pub client: IpAddr,
    /// The version it is sent in.
    pub version: Version,
}
