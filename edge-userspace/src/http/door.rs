//! The door: whatever comes, by a client in any version of HTTP or by a worker, becomes one
//! [`Head`] here, or is refused. The rooms to the right take nothing else, so that no rule has to
//! be written for each way in. What the edge adds is added after the door, and nothing that came
//! can take it away.

mod authority;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use http::header::{EXPECT, HOST, HeaderName, HeaderValue, TE, UPGRADE, VIA};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri, Version, request};

pub use self::authority::Authority;
use super::failure::{Failure, Reason};
use super::fields;
use crate::base::peer::Peer;
use crate::zones::path::Path;
use crate::zones::{Zone, Zones};

/// A request's head in normal form. There is none that has not passed the door:
/// - its target is in origin form, and begins with `/`, but for `OPTIONS *`; an extended CONNECT
///   has a path as well;
/// - no field is of a connection (`Connection` and what it names, `TE`, `Upgrade`, `Expect`, ...):
///   what of them is still meant is said by the methods here;
/// - no field looks like one of framing; `Cookie` is one line; `Host` is at most one, in the form
///   of `exchange.host`;
/// - what the zone does not pass on is gone (`[zone.requests]`), and its path has one reading if
///   the zone goes by paths.
#[derive(Clone, Debug)]
pub struct Head {
    parts: request::Parts,
    meant: Meant,
}

/// What of the fields of a connection is meant for the next one.
#[derive(Clone, Debug, Default)]
pub struct Meant {
    /// The client takes trailers (RFC 9110 section 10.1.4).
    pub trailers: bool,
    /// The protocols that the client would switch to, by `Upgrade` in HTTP/1.1 (section 7.8).
    pub upgrade: Option<HeaderValue>,
    /// The client sends its content when it is told to (section 10.1.1).
    pub waits: bool,
}

impl Deref for Head {
    type Target = request::Parts;

    fn deref(&self) -> &request::Parts {
        &self.parts
    }
}

/// For what the edge changes and adds.
impl DerefMut for Head {
    fn deref_mut(&mut self) -> &mut request::Parts {
        &mut self.parts
    }
}

impl Head {
    /// What of the fields of a connection is still meant.
    pub fn meant(&self) -> &Meant {
        &self.meant
    }

    /// Whether an upgrade to another protocol is asked for.
    pub fn upgrades(&self) -> bool {
        self.meant.upgrade.is_some()
    }

    /// Has it ask for `protocol`, as the client did for which a guest sends it.
    pub fn ask_upgrade(&mut self, protocol: HeaderValue) {
        self.meant.upgrade = Some(protocol);
    }

    /// Has it take trailers, as who reads the answer for the client does.
    pub fn take_trailers(&mut self) {
        self.meant.trailers = true;
    }

    /// A GET for `target` beside it, of the edge's own: without content, with those of its fields
    /// that `takes` holds for, and those by which loops are seen.
    pub fn beside(&self, target: PathAndQuery, takes: impl Fn(&HeaderName) -> bool) -> Self {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.version = self.parts.version;
        parts.uri = Uri::from(target);
        let taken = |name: &HeaderName| takes(name) || *name == fields::CDN_LOOP || *name == VIA;
        let fields = self.parts.headers.iter().filter(|(name, _)| taken(name));
        parts.headers = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self {
            parts,
            meant: Meant::default(),
        }
    }

    /// Apart, for who writes it anew.
    pub fn into_parts(self) -> (request::Parts, Meant) {
        (self.parts, self.meant)
    }

    /// Its path, as rules and routes are compared with it.
    pub fn path(&self) -> Path<'_> {
        Path::of(self.parts.uri.path())
    }
}

#[cfg(test)]
impl From<request::Parts> for Head {
    /// What the door makes of a head that names no host and is of no zone, for tests of the rooms
    /// behind it.
    fn from(parts: request::Parts) -> Self {
        let mut head = Self {
            parts,
            meant: Meant::default(),
        };
        fields::join_cookies(&mut head.headers);
        connection(&mut head).expect("a test's own head");
        head
    }
}

/// The host that a request names, and the zone that serves it.
#[derive(Clone, Debug)]
pub struct Host {
    /// In one spelling ([`Authority::text`]); empty if the request names none.
    pub authority: Arc<str>,
    /// Its zone.
    pub zone: Arc<Zone>,
}

/// A connection's last host: nearly always the next request's as well, which saves parsing, a
/// lookup and an allocation.
#[derive(Debug, Default)]
pub struct Recent {
    raw: Vec<u8>,
    secure: bool,
    zones: Option<Arc<Zones>>,
    host: Option<Host>,
}

fn malformed(what: &'static str) -> Failure {
    Failure::new(Reason::Malformed, what)
}

/// Lets a client's request in: one that came from `peer`, with at most `most` fields.
///
/// # Errors
/// What the client is to be told.
pub fn client(
    parts: request::Parts,
    most: usize,
    peer: &Peer,
    zones: &Arc<Zones>,
    recent: &mut Recent,
) -> Result<(Head, Host), Failure> {
    let mut head = Head {
        parts,
        meant: Meant::default(),
    };
    plain(&head.headers)?;
    fields::join_cookies(&mut head.headers);
    if head.headers.len() > most {
        return Err(Failure::new(Reason::HeadTooLarge, "more fields than the limit"));
    }
    let extended = head.extensions.get::<hyper::ext::Protocol>().is_some();
    method(&head.method, extended)?;
    let host = host(&head, peer, zones, recent)?;
    one_host(&mut head.headers, &host.authority);
    target(&mut head, extended)?;
    connection(&mut head)?;
    for_zone(&mut head, &host.zone, true)?;
    Ok((head, host))
}

/// Lets in what a worker asks of `authority`: of `zone`, by its rules and routes (`routed`), or of
/// its servers without. A target in any form; trailers are for others to judge. One that `upgrades`
/// repeats its client's wish for another protocol, and may be an extended CONNECT.
///
/// # Errors
/// It cannot be sent.
pub fn guest(
    mut parts: request::Parts,
    authority: &Authority,
    zone: &Zone,
    routed: bool,
    upgrades: bool,
) -> Result<Head, Failure> {
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    let mut head = Head {
        parts,
        meant: Meant::default(),
    };
    plain(&head.headers)?;
    fields::join_cookies(&mut head.headers);
    method(&head.method, upgrades)?;
    let host = HeaderValue::from_str(&authority.text).map_err(|_| malformed("host against the grammar"))?;
    head.headers.insert(HOST, host);
    target(&mut head, upgrades)?;
    // A guest has no connection: it cannot switch protocols, and its content is there when it is
    // asked for.
    let trailers = fields::has(&head.headers, TE, "trailers");
    head.headers.remove(EXPECT);
    connection(&mut head)?;
    head.meant = Meant {
        trailers,
        ..Meant::default()
    };
    for_zone(&mut head, zone, routed)?;
    Ok(head)
}

/// Refuses fields that someone may take for those of framing; in HTTP/1.1 the guard has done so.
fn plain(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.keys().any(|name| fields::looks_like_framing(name.as_str())) {
        return Err(malformed("a field that looks like one of framing"));
    }
    Ok(())
}

/// CONNECT would make us a proxy for whoever asks; TRACE would show a script what only the browser
/// should see.
fn method(method: &Method, extended: bool) -> Result<(), Failure> {
    if *method == Method::TRACE || *method == Method::CONNECT && !extended {
        return Err(Failure::new(Reason::Method, "CONNECT or TRACE"));
    }
    Ok(())
}

fn host(head: &request::Parts, peer: &Peer, zones: &Arc<Zones>, recent: &mut Recent) -> Result<Host, Failure> {
    let standing = peer
        .handshake
        .as_ref()
        .and_then(|handshake| handshake.standing.as_ref());
    if standing.is_some_and(|standing| !standing.holds()) {
        return Err(Failure::new(
            Reason::Outdated,
            "the zone asks for more by now than the connection has shown",
        ));
    }
    let secure = peer.is_secure();
    let raw = named(head, secure)?;
    if let (Some(known), Some(host)) = (&recent.zones, &recent.host)
        && recent.raw == raw
        && recent.secure == secure
        && Arc::ptr_eq(known, zones)
    {
        return Ok(host.clone());
    }
    let Authority { text, name } = if raw.is_empty() {
        Authority {
            text: String::new(),
            name: String::new(),
        }
    } else {
        Authority::read(raw, secure).ok_or_else(|| malformed("host against the grammar"))?
    };
    let unknown = || Failure::new(Reason::UnknownHost, "no zone for the host");
    let zone = zones.find(&name).ok_or_else(unknown)?.clone();
    if let Some(handshake) = &peer.handshake {
        // The certificate shown was that of the name's zone, or of the default zone (RFC 9110
        // section 7.4). By name: a reload makes new zones.
        let shown = zones.find(handshake.server_name.as_deref().unwrap_or_default());
        if shown.is_none_or(|shown| shown.name != zone.name) {
            return Err(Failure::new(
                Reason::Misdirected,
                "the host's zone is not the certificate's",
            ));
        }
    }
    let host = Host {
        authority: text.into(),
        zone,
    };
    recent.secure = secure;
    recent.raw.clear();
    recent.raw.extend_from_slice(raw);
    recent.zones = Some(zones.clone());
    recent.host = Some(host.clone());
    Ok(host)
}

/// The authority that a request names, as written; empty if it names none.
fn named(head: &request::Parts, secure: bool) -> Result<&[u8], Failure> {
    let mut fields = head.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => None,
        (Some(field), None) => Some(field.as_bytes()),
        _ => return Err(malformed("several Host fields")),
    };
    let target = head.uri.authority().map(|a| a.as_str().as_bytes());
    match (target, field) {
        (Some(target), Some(field)) if target.eq_ignore_ascii_case(field) => Ok(target),
        (Some(target), Some(field)) => {
            let [ours, other] = [target, field].map(|raw| Authority::read(raw, secure));
            // An absolute target is the host, whatever the field says (RFC 9112 section 3.2.2);
            // which has to be a host all the same. `:authority` and `Host` have to be one (RFC 9113
            // section 8.3.1): whoever believes the other one would route it elsewhere.
            let absolute = head.version <= Version::HTTP_11;
            match other {
                Some(_) if absolute => Ok(target),
                None if absolute && field.is_empty() => Ok(target),
                Some(_) if ours == other => Ok(target),
                _ => Err(malformed("Host and target name different hosts")),
            }
        }
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) if head.version >= Version::HTTP_11 => Err(malformed("no host")),
        (None, None) => Ok(b""),
    }
}

/// Writes `Host` as everybody else is told it.
fn one_host(headers: &mut HeaderMap, authority: &str) {
    let Some(field) = headers.get(HOST) else { return };
    if field.as_bytes() != authority.as_bytes() {
        match HeaderValue::from_str(authority) {
            Ok(value) => drop(headers.insert(HOST, value)),
            Err(_) => drop(headers.remove(HOST)),
        }
    }
}

/// Leaves path and query, or `*`.
fn target(head: &mut request::Parts, extended: bool) -> Result<(), Failure> {
    let written = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let absolute = head.uri.authority().is_some() || head.uri.scheme().is_some();
    // An empty path is `/` (RFC 9110 section 4.2.3), where it can be empty: in an absolute target,
    // not in `:path`.
    let bare = written.starts_with('?') && absolute && head.version <= Version::HTTP_11;
    if !(bare || written.starts_with('/') || written == "*" && head.method == Method::OPTIONS) {
        return Err(malformed("target in a form that does not fit the method"));
    }
    if !absolute {
        return Ok(());
    }
    if !matches!(head.uri.scheme_str(), Some("http" | "https")) && !extended {
        return Err(malformed("target with another scheme"));
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = if bare {
        PathAndQuery::from_maybe_shared(bytes::Bytes::from(format!("/{written}"))).ok()
    } else {
        std::mem::take(&mut head.uri).into_parts().path_and_query
    };
    head.uri = Uri::from_parts(parts).map_err(|_| malformed("target against the grammar"))?;
    Ok(())
}

/// Takes out what is of the connection, and notes what of it is still meant.
fn connection(head: &mut Head) -> Result<(), Failure> {
    let http11 = head.version == Version::HTTP_11;
    let headers = &head.parts.headers;
    let mut meant = Meant::default();
    if headers.contains_key(TE) {
        meant.trailers = fields::has(headers, TE, "trailers");
    }
    if let Some(protocol) = headers.get(UPGRADE)
        && http11
        && fields::has(headers, http::header::CONNECTION, "upgrade")
    {
        meant.upgrade = Some(protocol.clone());
    }
    // From a client of HTTP/1.0 it means nothing (RFC 9110 section 10.1.1).
    if head.version >= Version::HTTP_11 && headers.contains_key(EXPECT) {
        let mut expected = fields::list(headers, EXPECT);
        if !expected.all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
            return Err(Failure::new(
                Reason::Expectation,
                "an expectation other than 100-continue",
            ));
        }
        meant.waits = fields::list(headers, EXPECT).next().is_some();
    }
    head.meant = meant;
    fields::strip_hop_by_hop(&mut head.parts.headers);
    head.parts.headers.remove(EXPECT);
    Ok(())
}

/// Takes out what `zone` does not pass on, and refuses what its rules and routes could be walked
/// around by.
fn for_zone(head: &mut Head, zone: &Zone, routed: bool) -> Result<(), Failure> {
    let mut dropped: Vec<HeaderName> = Vec::new();
    for name in head.headers.keys() {
        if zone.requests.drops(name.as_str()) {
            dropped.push(name.clone());
        }
    }
    for name in dropped {
        head.headers.remove(name);
    }
    if routed && zone.strict_paths && head.path().is_ambiguous() {
        return Err(malformed("a path that servers read in two ways"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
