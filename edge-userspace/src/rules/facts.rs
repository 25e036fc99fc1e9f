//! What rules can ask of a request. Borrowed from it: nothing is copied for a rule that does not
//! fit.

use std::net::IpAddr;

use http::{HeaderMap, Method, Version};

use super::jwt::Claims;
use crate::base::clock::UnixTime;
use crate::base::peer::Identity;
use crate::config::rule::{Pattern, Protocol, When};
use crate::config::value::HostPattern;
use crate::http::fields;
use crate::zones::path::Path;

/// A request as rules see it: as it came through the door, whatever earlier rules have changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) method: &'a Method,
    /// In the forms that an origin may read it in.
    pub(super) path: &'a Path<'a>,
    /// Without `?`, as the client wrote it; empty without one.
    pub(super) query: &'a str,
    /// Path and query, as the client wrote them.
    pub(super) target: &'a str,
    /// Lower case, with a port that is not the scheme's own.
    pub(super) authority: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) client: IpAddr,
    pub(super) version: Version,
    /// The client came by https, to the edge or to a trusted proxy.
    pub(super) secure: bool,
    /// The TLS version, if the connection is encrypted.
    pub(super) tls: Option<&'static str>,
    pub(super) certificate: Option<&'a Identity>,
    pub(super) zone: &'a str,
    pub(super) request_id: [u8; 16],
    /// Who has shown a password to an earlier rule, or to the one that is applied.
    pub(super) user: &'a str,
    /// What the token says that an earlier rule has checked, or the one that is applied.
    pub(super) claims: Option<&'a Claims>,
    /// When it is judged.
    pub(super) now: UnixTime,
}

impl<'a> Facts<'a> {
    /// The host without port and brackets.
    pub(super) fn host(&self) -> &'a str {
        let authority = self.authority;
        match authority.strip_prefix('[') {
            Some(literal) => literal.split_once(']').map_or(literal, |(host, _)| host),
            None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
        }
    }

    /// The values of a cookie, the first one first.
    pub(super) fn cookies(&self, name: &str) -> impl Iterator<Item = &'a str> {
        fields::cookies(self.headers, name)
    }

    /// The values of a parameter of the query, as the client wrote them; a parameter without `=`
    /// has an empty one.
    pub(super) fn parameters(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.query.split('&').filter_map(move |pair| {
            let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
            (known == name).then_some(value)
        })
    }

    /// The first condition of `when` that the request does not fulfil; `None` if it fulfils all.
    pub(super) fn missing(&self, when: &When) -> Option<&'static str> {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        if !when.methods.is_empty() && !when.methods.contains(self.method) {
            return Some("methods");
        }
        if !when.protocols.is_empty() && !when.protocols.contains(&Protocol::of(self.version)) {
            return Some("protocols");
        }
        if when.secure.is_some_and(|secure| secure != self.secure) {
            return Some("secure");
        }
        if !when.hosts.is_empty() && !when.hosts.iter().any(|host| fits(host, self.host())) {
            return Some("hosts");
        }
        if !when.paths.is_empty() && !self.path.readings().any(|path| any(&when.paths, path)) {
            return Some("paths");
        }
        if !when.network_fits(self.client) {
            return Some("networks");
        }
        let field = |(name, pattern): &(http::HeaderName, Pattern)| {
            let mut values = self.headers.get_all(name).iter();
            // Bytes beyond ASCII are compared as what UTF-8 makes of them.
            values.any(|value| pattern.matches(&String::from_utf8_lossy(value.as_bytes())))
        };
        if !when.headers.iter().all(field) {
            return Some("headers");
        }
        let mut cookies = when.cookies.iter();
        if !cookies.all(|(name, pattern)| self.cookies(name).any(|value| pattern.matches(value))) {
            return Some("cookies");
        }
        let mut query = when.query.iter();
        if !query.all(|(name, pattern)| self.parameters(name).any(|value| pattern.matches(value))) {
            return Some("query");
        }
        if when
            .certificate
            .is_some_and(|shown| shown != self.certificate.is_some())
        {
            return Some("certificate");
        }
        self.lacks(when)
    }

    /// The first condition on the client's certificate that it does not fulfil.
    fn lacks(&self, when: &When) -> Option<&'static str> {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        let fits = |fits: &dyn Fn(&Identity) -> bool| self.certificate.is_some_and(fits);
        if !when.subjects.is_empty() && !fits(&|client| any(&when.subjects, &client.subject)) {
            return Some("subjects");
        }
        if !when.issuers.is_empty() && !fits(&|client| any(&when.issuers, &client.issuer)) {
            return Some("issuers");
        }
        let named = |client: &Identity| client.names.iter().any(|name| any(&when.alternative_names, name));
        if !when.alternative_names.is_empty() && !fits(&named) {
            return Some("alternative_names");
        }
        if !when.spki.is_empty() && !fits(&|client| when.spki.iter().any(|key| **key == *client.spki)) {
            return Some("spki");
        }
        None
    }
}

/// Whether `host` (lower case, no port) is one of `pattern`; a wildcard covers one label.
fn fits(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => host.split_once('.').is_some_and(|(_, rest)| rest == suffix),
    }
}
