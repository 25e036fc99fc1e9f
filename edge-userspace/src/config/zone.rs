//! `[[zone]]`: a tenant, and what holds for its requests.

mod certificate;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::certificate::{Certificate, ClientsText, KeyExchange, KeyServer, MoreText};
use super::checker::Checker;
use super::delta::FarEnd;
use super::kind::{Deadline, File, Flag, Host, Inline, Limit, List, Maybe, Must, Name, Own, Span, Text, Word};
use super::origin::{Origin, OriginText, Pools};
use super::requests::Requests;
use super::section::section;
use super::tls::TlsVersion;
use super::value::HostPattern;
use super::{Limits, Place, Server, Upstream, acme, cache, coding, error_page, files, gate, isolate, rule};

section! {
    /// A tenant.
    ZoneText => Zone {
        /// Unique; a label in metrics and logs. Letters, digits, `-`, `_`, `.`; at most 64.
        live name: Must<Name<64>> = None; like "example";
        /// Exact names, or *.suffix for one label in front of it; each in one zone alone.
        live hosts: Must<List<Host>> = None; like ["example.com", "*.example.com"];
        /// Serves clients that name no host (no SNI, HTTP/1.0) and hosts no zone has. One zone at
        /// most.
        live default: Flag = false;
        /// Serves GET, HEAD and OPTIONS over HTTP/3 before the handshake is over (0-RTT):
        /// docs/quic.md.
        live early_data: Flag = false;
        /// The oldest version of TLS that the zone speaks. Left out: as `[tls]` says.
        live min_version: Maybe<Word<TlsVersion>> = None; like "1.3";
        /// Bytes of a request's content; 0B: no limit. Left out: as `[limits]` says.
        live body_bytes: Own<Limit> = None; like "10MiB";
        /// Between two pieces of a request's content. Left out: as `[limits]` says.
        live body_timeout: Own<Span> = None; like "10m";
        /// A whole request; 0s: no limit. Left out: as `[limits]` says.
        live request_timeout: Own<Deadline> = None; like "60s";
        /// The `[[far_end]]` that answers by differences; `[zone.origin]` is asked while it is
        /// away.
        live delta: Maybe<Name<60>> = None; like "paris";
    }
    read {
        /// The zone's certificate (PEM), leaf first. Needed if `server.https` is not empty.
        live certificate: Maybe<File> = None; like "example.pem";
        /// Its private key (PKCS#8, SEC1 or PKCS#1 in PEM).
        live key: Maybe<File> = None; like "example.key";
        /// Instead of `key`: the key servers that have it.
        live key_servers: Maybe<List<Text>> = None; like ["keys-1"];
        /// Where the ephemeral keys of handshakes are made: local, or remote, at the key servers.
        live key_exchange: Maybe<Word<KeyExchange>> = None; like "local";
        /// An OCSP response of the certificate, in DER, stapled to it as long as it holds. Watched
        /// as the certificate is.
        live ocsp: Maybe<File> = None; like "example.ocsp";
        /// Others, for clients that do not take the first one's kind of signature: an RSA
        /// certificate beside one of ECDSA. The first that fits is shown. In a zone with
        /// `key_servers` without `key`: they have this one, too.
        live more_certificates: Inline<Vec<MoreText>> = Vec::new();
            like [{ certificate = "example-rsa.pem", key = "example-rsa.key", ocsp = "example-rsa.ocsp" }];
        /// Certificates of clients, signed by these CAs; required or not. With revocation lists
        /// (PEM) each CA needs one; a list whose next update is due is told, and refused if it must
        /// be current.
        live client_certificates: Inline<Option<ClientsText>> = None;
            like { ca = "clients-ca.pem", required = true, revoked = ["clients.crl"], revoked_must_be_current = false };
        /// Lets in devices that know no key exchange but RSA's, without forward secrecy. Needs an
        /// edge built with `--features legacy-rsa`.
        live legacy_rsa: Flag = false;
    }
    tables {
        acme: Option<Spanned<acme::AcmeText>>,
        requests: Requests,
        gate: Option<gate::GateText>,
        files: files::FilesText,
        cache: Option<cache::CacheText>,
        coding: Option<coding::CodingText>,
        dictionary: Vec<Spanned<coding::DictionaryText>>,
        error_page: Vec<Spanned<error_page::ErrorPageText>>,
        worker: Option<isolate::WorkerText>,
        route: Vec<Spanned<isolate::RouteText>>,
        rule: Vec<Spanned<rule::file::RawRule>>,
        origin: Option<Spanned<OriginText>>,
    }
    checked {
        /// Where it is named.
        place: Place,
        /// What the file says of it, to tell whether a reload changes that.
        written: Written,
        /// Its certificate, if there are TLS listeners.
        certificate: Option<Certificate>,
        /// How it is ordered by ACME; `None`: it is not.
        acme: Option<acme::Acme>,
        /// What of a request goes on.
        requests: Arc<Requests>,
        /// Who is let in; `None`: everybody.
        gate: Option<Arc<gate::Gate>>,
        /// How its files are served.
        files: Arc<files::Files>,
        /// What is stored of its responses; `None`: nothing.
        cache: Option<Arc<cache::Cache>>,
        /// How its responses are coded for clients; `None`: as they come.
        coding: Option<Arc<coding::Coding>>,
        /// Code that answers; `None`: none.
        worker: Option<Arc<isolate::Worker>>,
        /// Which requests go where; a request that none matches goes to the origin.
        routes: Vec<isolate::Route>,
        /// What is done with its requests before they are routed; `None`: nothing.
        rules: Option<Arc<rule::Rules>>,
        /// What is shown for failures, by status; `None`: the edge's own phrases.
        error_pages: Option<Arc<[error_page::ErrorPage]>>,
        /// Where its responses come from.
        origin: Origin,
        /// The pools that its rules name.
        pools: Vec<(Arc<str>, Arc<Upstream>)>,
    }
}

/// A zone as the file has it. Equal to another if they say the same, wherever they stand and
/// whatever the files they name hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written(Option<Arc<ZoneText>>);

/// What zones refer to.
pub(super) struct Around<'a> {
    pub(super) server: &'a Server,
    pub(super) limits: &'a Limits,
    pub(super) far_ends: &'a [FarEnd],
    pub(super) key_servers: &'a [KeyServer],
    pub(super) acme: &'a acme::Node,
    pub(super) pools: &'a Pools,
    /// Zones come from a fleet's manifest, which may be still to come.
    pub(super) in_fleet: bool,
}

/// All `[[zone]]`.
pub(super) fn zones(raw: &[Spanned<ZoneText>], around: &Around<'_>, checker: &mut Checker<'_>) -> Vec<Zone> {
    if raw.is_empty() && !around.in_fleet {
        checker.mistake(0..0, "no zone", "write a [[zone]] with name, hosts and [zone.origin]");
    }
    let mut names = HashMap::new();
    let mut hosts = HashMap::new();
    let mut default = None;
    let mut zones = Vec::with_capacity(raw.len());
    for spanned in raw {
        let text = spanned.get_ref();
        let zone = checker.table(spanned, |text, checker| zone(text, around, checker));
        if let Some(line) = names.insert(zone.name.clone(), zone.place.line) {
            checker.mistake(
                text.name.span(),
                format!("zone \"{}\" is already on line {line}", zone.name),
                "give each zone a name of its own",
            );
        }
        hosts_of(&zone, text, &mut hosts, checker);
        if zone.default
            && let Some(other) = default.replace(zone.name.clone())
        {
            checker.mistake(
                text.default.span(),
                format!("zone \"{other}\" is the default already"),
                "remove one `default = true`",
            );
        }
        zones.push(zone);
    }
    // A worker may only ask zones that there are.
    let asked = raw.iter().filter_map(|zone| zone.get_ref().worker.as_ref());
    for zone in asked.flat_map(|worker| worker.zones.get_ref()) {
        if !names.contains_key(zone.get_ref().as_str()) {
            checker.mistake(
                zone.span(),
                format!("there is no zone \"{}\"", zone.get_ref()),
                "write the name of a [[zone]]",
            );
        }
    }
    zones
}

/// Whether the zone's hosts are its alone.
fn hosts_of(zone: &Zone, text: &ZoneText, taken: &mut HashMap<HostPattern, Arc<str>>, checker: &mut Checker<'_>) {
    let Some(hosts) = text.hosts.get_ref() else { return };
    if hosts.is_empty() && !zone.default {
        let mend = "name at least one, or make the zone the default";
        checker.mistake(text.hosts.span(), "no hosts", mend);
    }
    for host in hosts {
        if let Some(other) = taken.insert(host.get_ref().clone(), zone.name.clone()) {
            let what = format!("{} is already a host of zone \"{other}\"", host.get_ref());
            checker.mistake(host.span(), what, "remove it from one of them");
        }
    }
}

fn zone(text: &ZoneText, around: &Around<'_>, checker: &mut Checker<'_>) -> Zone {
    let mut zone = text.check(checker);
    zone.place = checker.place(text.name.span());
    zone.written = Written(Some(Arc::new(text.clone())));
    inherit(&mut zone, text, around.limits);
    early_data(text, around.server, checker);
    if let Some(name) = &zone.delta {
        far_end(name, text.delta.span(), around.far_ends, checker);
    }
    (zone.certificate, zone.acme) = certificate::of(text, around, checker);
    zone.requests = Arc::new(text.requests.clone());
    zone.gate = text
        .gate
        .as_ref()
        .map(|gate| Arc::new(gate::gate(gate, &zone.hosts, checker)));
    zone.files = Arc::new(files::files(&text.files, checker));
    zone.cache = text.cache.as_ref().map(|cache| Arc::new(cache.check(checker)));
    zone.coding = coding::zone(text.coding.as_ref(), &text.dictionary, checker).map(Arc::new);
    zone.error_pages = error_page::pages(&zone.name, &text.error_page, checker);
    zone.worker = text
        .worker
        .as_ref()
        .map(|worker| Arc::new(isolate::worker(worker, (&zone.name, &zone.hosts), checker)));
    zone.routes = isolate::routes(
        &text.route,
        (text.worker.is_some(), text.origin.is_some()),
        &zone.name,
        checker,
    );
    let (rules, wrong) = rule::file::rules(&text.rule, around.pools, checker.source);
    checker.mistakes.extend(wrong.mistakes);
    for fault in wrong.faults {
        checker.faults.zone(&zone.name, fault);
    }
    let named = rules.iter().flat_map(|rules| rules.pools());
    zone.pools = named
        .filter_map(|name| around.pools.get_key_value(&name))
        .map(|(name, pool)| (name.clone(), pool.clone()))
        .collect();
    zone.rules = rules;
    cached(&zone, text, checker);
    match &text.origin {
        Some(origin) => zone.origin = super::origin::origin(&zone.name, origin, around.pools, checker),
        None if text.worker.is_none() && text.route.is_empty() && text.rule.is_empty() => {
            let mend = "write [zone.origin] or [zone.worker]";
            checker.mistake(text.name.span(), "a zone that nothing answers for", mend);
        }
        None => {}
    }
    zone
}

/// Whether what the zone and its rules say of caching can be carried out.
fn cached(zone: &Zone, text: &ZoneText, checker: &mut Checker<'_>) {
    if let (Some(cache), None) = (&text.cache, &text.worker)
        && *cache.after.get_ref() == cache::After::Worker
    {
        let mend = "write [zone.worker], or leave `after` out";
        checker.mistake(cache.after.span(), "the zone has no worker", mend);
    }
    let Some(rules) = &zone.rules else { return };
    // Each is where it stands in the file.
    let mut written = rules.all.iter().zip(&text.rule);
    let says = |(rule, _): &(&rule::Rule, _)| rule.act.cache.is_some();
    if let (Some((_, rule)), None) = (written.clone().find(says), &zone.cache) {
        let what = "a rule with `cache` in a zone that stores nothing";
        checker.mistake(rule.span(), what, "write [zone.cache]");
    }
    let object = zone.cache.as_ref().map_or(u64::MAX, |cache| cache.object_bytes);
    let too_long = |(rule, _): &(&rule::Rule, _)| {
        let slice = rule.act.cache.as_ref().and_then(|cache| cache.slice);
        slice.is_some_and(|slice| slice > object)
    };
    if let Some((_, rule)) = written.clone().find(too_long) {
        let what = "its slices are longer than what the zone stores";
        checker.mistake(
            rule.span(),
            what,
            "write a smaller `slice`, or a greater `object_bytes`",
        );
    }
    let most = cache::MOST_QUERIES;
    if cache::Keys::of(rules).queries.len() > most
        && let Some((_, rule)) = written.rfind(says)
    {
        let what = "the rules of the zone change queries in too many ways";
        checker.mistake(rule.span(), what, format!("write at most {most} different `key.query`"));
    }
}

/// What the zone does not say is as the node has it.
fn inherit(zone: &mut Zone, text: &ZoneText, limits: &Limits) {
    if text.body_bytes.get_ref().is_none() {
        zone.body_bytes = limits.body_bytes;
    }
    if text.body_timeout.get_ref().is_none() {
        zone.body_timeout = limits.body_timeout;
    }
    if text.request_timeout.get_ref().is_none() {
        zone.request_timeout = limits.request_timeout;
    }
}

/// Whether the zone can serve requests before the handshake is over, if it says so.
fn early_data(text: &ZoneText, server: &Server, checker: &mut Checker<'_>) {
    if !*text.early_data.get_ref() {
        return;
    }
    if text.client_certificates.get_ref().is_some() {
        checker.mistake(
            text.early_data.span(),
            "`early_data` and `client_certificates`: who the client is, is shown by the handshake's end",
            "keep one of them",
        );
    } else if server.https.is_empty() || !server.http3 {
        checker.mistake(
            text.early_data.span(),
            "`early_data` is taken over HTTP/3 alone, which is not spoken here",
            "write `server.https`, without `server.http3 = false`; or leave `early_data` out",
        );
    }
}

fn far_end(name: &str, span: Range<usize>, far_ends: &[FarEnd], checker: &mut Checker<'_>) {
    if far_ends.iter().any(|known| *known.name == *name) {
        return;
    }
    let known: Vec<_> = far_ends.iter().map(|end| format!("\"{}\"", end.name)).collect();
    let mend = if known.is_empty() {
        "write a [[far_end]] with this name".to_owned()
    } else {
        format!("write {}", known.join(" or "))
    };
    checker.mistake(span, format!("no far end is called \"{name}\""), mend);
}

impl Zone {
    /// A zone that only leads to `origin`: without hosts, gate, cache and code, and without limits
    /// of its own.
    pub fn bare(name: Arc<str>, place: Place, origin: Origin, body_timeout: Duration) -> Self {
        Self {
            name,
            place,
            origin,
            body_timeout,
            requests: Arc::new(Requests::of_near_ends()),
            ..Self::default()
        }
    }
}
