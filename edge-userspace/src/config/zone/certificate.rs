//! What a zone says of its certificates and of the keys to them.

use super::{Around, ZoneText};
use crate::config::Place;
use crate::config::acme::{Acme, Challenge};
use crate::config::certificate::{Certificate, Clients, Key, KeyExchange, KeyServer, More};
use crate::config::checker::Checker;
use crate::config::kind::{File, Kind, Maybe};
use crate::config::value::HostPattern;

/// The zone's certificate, and how it is ordered if it is by ACME.
pub(super) fn of(
    zone: &ZoneText,
    around: &Around<'_>,
    checker: &mut Checker<'_>,
) -> (Option<Certificate>, Option<Acme>) {
    match ordered(zone, around, checker) {
        Some((acme, certificate)) => (Some(certificate), Some(acme)),
        None => (own(zone, around, checker), None),
    }
}

/// How a zone gets its certificate by ACME, and where that will be; beside `[zone.acme]` it has no
/// other.
fn ordered(zone: &ZoneText, around: &Around<'_>, checker: &mut Checker<'_>) -> Option<(Acme, Certificate)> {
    let spanned = zone.acme.as_ref()?;
    let place = checker.place(spanned.span());
    let acme = spanned.get_ref().check(checker);
    let (server, node) = (around.server, around.acme);
    let hosts = zone.hosts.get_ref().as_deref().unwrap_or_default();
    let wildcard = hosts
        .iter()
        .find(|host| matches!(host.get_ref(), HostPattern::Wildcard(_)) && acme.challenge != Challenge::Dns);
    let has_own =
        zone.certificate.get_ref().is_some() || zone.key.get_ref().is_some() || zone.key_servers.get_ref().is_some();
    let wrong = [
        (
            has_own,
            "[zone.acme] beside a certificate or key of the zone's own",
            "keep one of them",
        ),
        (
            !node.is_on(),
            "[zone.acme], but no authority",
            "write [acme] directories = [\"https://acme-v02.api.letsencrypt.org/directory\"]",
        ),
        (
            acme.challenge == Challenge::Http && server.http.is_empty(),
            "the challenge http-01 is answered on port 80, and nothing listens there",
            "write [server] http = [\"0.0.0.0:80\", \"[::]:80\"], or challenge = \"tls-alpn-01\"",
        ),
        (
            acme.challenge == Challenge::TlsAlpn && server.https.is_empty(),
            "the challenge tls-alpn-01 is answered on port 443, and nothing listens there",
            "write [server] https",
        ),
        (
            (acme.challenge == Challenge::Dns) != acme.hook.is_some(),
            "the challenge dns-01 and `hook` go together",
            "name the program that sets records as `hook`, or write another challenge",
        ),
        (
            hosts.is_empty(),
            "[zone.acme] in a zone without hosts",
            "name its hosts",
        ),
        (
            zone.ocsp.get_ref().is_some(),
            "[zone.acme] and `ocsp`, which is of a certificate of the zone's own",
            "leave `ocsp` out: certificates are not ordered with must-staple",
        ),
    ];
    for (_, what, mend) in wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong) {
        checker.mistakes.push(place.mistake(what, mend));
    }
    if let Some(host) = wildcard {
        let what = format!(
            "no authority issues a certificate for {} by this challenge",
            host.get_ref()
        );
        checker
            .mistakes
            .push(place.mistake(what, "write challenge = \"dns-01\""));
    }
    let name = zone.name.get_ref().as_deref().unwrap_or_default();
    let file = |kind: &str| node.state_directory.0.join(format!("{name}.{kind}"));
    let certificate = Certificate {
        chain: file("pem"),
        chain_place: place.clone(),
        key: Key::File(file("key"), place),
        ocsp: None,
        more: Vec::new(),
        clients: clients(zone, checker),
        legacy_rsa: None,
        issued: true,
    };
    Some((acme, certificate))
}

/// Whose certificates the zone asks of its clients.
fn clients(zone: &ZoneText, checker: &Checker<'_>) -> Option<Clients> {
    zone.client_certificates.get_ref().as_ref().map(|raw| Clients {
        ca: checker.file(&raw.ca),
        required: raw.required,
        revoked: raw.revoked.iter().map(|list| checker.file(list)).collect(),
        revoked_must_be_current: raw.revoked_must_be_current,
    })
}

/// What the zone says of its certificate and key.
fn own(zone: &ZoneText, around: &Around<'_>, checker: &mut Checker<'_>) -> Option<Certificate> {
    let key = key(zone, around.key_servers, checker).ok()?;
    let chain = Maybe::<File>::check(&zone.certificate, None, checker);
    match (chain, key) {
        (Some((chain, chain_place)), Some(key)) => Some(Certificate {
            chain,
            chain_place,
            ocsp: Maybe::<File>::check(&zone.ocsp, None, checker),
            more: more(zone, &key, checker),
            key,
            clients: clients(zone, checker),
            legacy_rsa: legacy_rsa(zone, checker),
            issued: false,
        }),
        (Some((_, place)), None) => {
            let mend = "write `key = \"….key\"` beside it, or `key_servers`";
            checker
                .mistakes
                .push(place.mistake("a certificate without a key", mend));
            None
        }
        (None, Some(Key::File(_, place) | Key::Servers { place, .. })) => {
            let mend = "write `certificate = \"….pem\"` beside it";
            checker
                .mistakes
                .push(place.mistake("a key without a certificate", mend));
            None
        }
        (None, None) => {
            if !around.server.https.is_empty() {
                let name = zone.name.get_ref().as_deref().unwrap_or_default();
                let what = format!("zone \"{name}\" has no certificate, but server.https listens");
                checker.mistake(
                    zone.name.span(),
                    what,
                    "write `certificate`, and `key` or `key_servers`",
                );
            }
            None
        }
    }
}

/// What the zone says of its key: a file, or key servers. An error was told.
fn key(zone: &ZoneText, servers: &[KeyServer], checker: &mut Checker<'_>) -> Result<Option<Key>, ()> {
    let exchange = zone.key_exchange.get_ref();
    let Some(names) = zone.key_servers.get_ref() else {
        if *exchange == Some(KeyExchange::Remote) {
            checker.mistake(
                zone.key_exchange.span(),
                "key exchange at a key server, but no key server",
                "write `key_servers`, or leave `key_exchange` out",
            );
            return Err(());
        }
        let file = Maybe::<File>::check(&zone.key, None, checker);
        return Ok(file.map(|(path, place)| Key::File(path, place)));
    };
    let span = zone.key_servers.span();
    let before = checker.mistakes.len();
    if zone.key.get_ref().is_some() {
        checker.mistake(
            span.clone(),
            "both `key` and `key_servers`",
            "keep `key_servers`, and move the key to the key servers",
        );
    }
    if names.is_empty() {
        checker.mistake(span.clone(), "no key server", "name at least one, or write `key`");
    }
    for name in names {
        if !servers.iter().any(|server| *server.name == **name.get_ref()) {
            let known: Vec<_> = servers.iter().map(|server| &*server.name).collect();
            let mend = if known.is_empty() {
                "write a [[key_server]] of this name".to_owned()
            } else {
                format!("write a [[key_server]] of this name, or one of: {}", known.join(", "))
            };
            checker.mistake(
                name.span(),
                format!("there is no key server \"{}\"", name.get_ref()),
                mend,
            );
        }
    }
    if checker.mistakes.len() > before {
        return Err(());
    }
    Ok(Some(Key::Servers {
        names: names.iter().map(|name| name.get_ref().clone()).collect(),
        place: checker.place(span),
        exchange: exchange.unwrap_or(KeyExchange::Local),
    }))
}

/// Certificates beside the zone's first one, whose key is `key`.
fn more(zone: &ZoneText, key: &Key, checker: &mut Checker<'_>) -> Vec<More> {
    let elsewhere = matches!(key, Key::Servers { .. });
    let mut all = Vec::new();
    for more in zone.more_certificates.get_ref() {
        match (&more.key, elsewhere) {
            (Some(key), true) => checker.mistake(
                key.span(),
                "a key of its own in a zone with `key_servers`",
                "leave it out, and move the key to the key servers",
            ),
            (None, false) => checker.mistake(
                more.certificate.span(),
                "a certificate without a key",
                "write `key = \"….key\"` beside it",
            ),
            _ => {}
        }
        let (chain, chain_place) = checker.file(&more.certificate);
        all.push(More {
            chain,
            chain_place,
            key: more.key.as_ref().map(|key| checker.file(key)),
            ocsp: more.ocsp.as_ref().map(|ocsp| checker.file(ocsp)),
        });
    }
    all
}

/// Where the zone lets in clients that know no key exchange but RSA's.
fn legacy_rsa(zone: &ZoneText, checker: &mut Checker<'_>) -> Option<Place> {
    if !*zone.legacy_rsa.get_ref() {
        return None;
    }
    let span = zone.legacy_rsa.span();
    if !cfg!(feature = "legacy-rsa") {
        checker.mistake(
            span.clone(),
            "this edge was built without static RSA",
            "build it with `--features legacy-rsa` (docs/keyless.md), or leave `legacy_rsa` out",
        );
    }
    if zone.client_certificates.get_ref().is_some() {
        checker.mistake(
            span.clone(),
            "`legacy_rsa` and `client_certificates`: with static RSA no client is asked for a certificate",
            "keep one of them",
        );
    }
    Some(checker.place(span))
}
