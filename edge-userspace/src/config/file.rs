//! The whole file of `edge run`: its sections, each once; the check of all; the printed defaults;
//! and what a reload cannot carry out.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::mistake::{Mistake, Mistakes, Source};
use super::section::Section;
use super::zone::{Around, Zone, ZoneText};
use super::{
    Config, TlsVersion, acme, admin, cache, certificate, coding, delta, error_page, files, fleet, gate, isolate,
    limits, origin, section,
};
use super::{dataplane, server, tls, zone};

/// Declares the sections that there is one of each, in the order in which they are printed.
macro_rules! sections {
    ($($name:ident: $text:ty,)*) => {
        /// A whole file.
        #[derive(Clone, Debug, Default, Deserialize, PartialEq)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct Raw {
            /// Read before by `text`.
            pub(super) include: Vec<Spanned<String>>,
            $(pub(super) $name: $text,)*
            pub(super) fleet: Option<Spanned<fleet::FleetText>>,
            pub(super) far_end: Vec<Spanned<delta::FarEndText>>,
            pub(super) key_server: Vec<Spanned<certificate::KeyServerText>>,
            pub(super) origin: Vec<Spanned<origin::OriginText>>,
            pub(super) zone: Vec<Spanned<ZoneText>>,
        }

        /// The keys of sections that there is one of each.
        fn node_sections() -> Vec<(&'static str, Vec<section::Entry>)> {
            vec![$((concat!("[", stringify!($name), "]"), <$text>::entries()),)*]
        }

        /// What the file says in keys that a reload does not carry out.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Fixed {
            $($name: $text,)*
            fleet: Option<fleet::FleetText>,
            /// Keys that the command line speaks for.
            overridden: Vec<&'static str>,
        }

        impl Fixed {
            fn of(raw: &Raw) -> Self {
                Self {
                    $($name: raw.$name.clone(),)*
                    fleet: raw.fleet.as_ref().map(|fleet| fleet.get_ref().clone()),
                    overridden: Vec::new(),
                }
            }

            /// The keys in which `new` says something else and that take a restart, as
            /// `section.key`.
            pub fn that_differ(&self, new: &Self) -> Vec<String> {
                let mut keys = Vec::new();
                $(for key in self.$name.fixed_keys_that_differ(&new.$name) {
                    keys.push(format!("{}.{key}", stringify!($name)));
                })*
                match (&self.fleet, &new.fleet) {
                    (None, None) => {}
                    (Some(old), Some(new)) => {
                        keys.extend(old.fixed_keys_that_differ(new).into_iter().map(|key| format!("fleet.{key}")));
                    }
                    _ => keys.push("fleet".to_owned()),
                }
                keys.retain(|key| !self.overridden.contains(&key.as_str()));
                keys
            }
        }
    };
}

sections! {
    server: server::ServerText,
    dataplane: dataplane::DataplaneText,
    tls: tls::TlsText,
    acme: acme::NodeText,
    quic: tls::QuicText,
    limits: limits::LimitsText,
    admin: admin::AdminText,
    log: admin::LogText,
    gate: gate::NodeText,
    delta: delta::NodeText,
    cache: cache::NodeText,
    coding: coding::NodeText,
    isolate: isolate::NodeText,
}

impl Fixed {
    /// The command line speaks for `key`, whatever the file says.
    pub fn overridden(&mut self, key: &'static str) {
        self.overridden.push(key);
    }
}

/// The keys of all sections, those that there is one of each first.
pub(super) fn all_sections() -> Vec<(&'static str, Vec<section::Entry>)> {
    let of_zones = [
        ("# [fleet]", fleet::FleetText::entries()),
        ("# [zone.acme]", acme::AcmeText::entries()),
        ("# [[far_end]]", delta::FarEndText::entries()),
        ("# [[key_server]]", certificate::KeyServerText::entries()),
        ("[[zone]]", ZoneText::entries()),
        ("[zone.origin]", origin::OriginText::entries()),
        ("[zone.origin.passive]", origin::PassiveText::entries()),
        ("[zone.origin.health]", origin::HealthText::entries()),
        ("[zone.gate]", gate::GateText::entries()),
        ("# [[zone.gate.crawler]]", gate::CrawlerText::entries()),
        ("# [[zone.gate.rule]]", gate::rule::RuleText::entries()),
        ("[zone.files]", files::FilesText::entries()),
        ("[zone.cache]", cache::CacheText::entries()),
        ("[zone.coding]", coding::CodingText::entries()),
        ("# [[zone.dictionary]]", coding::DictionaryText::entries()),
        ("# [[zone.error_page]]", error_page::ErrorPageText::entries()),
        ("[zone.worker]", isolate::WorkerText::entries()),
        ("[zone.worker.keyvalue]", isolate::KeyvalueText::entries()),
        ("# [[zone.route]]", isolate::RouteText::entries()),
    ];
    node_sections().into_iter().chain(of_zones).collect()
}

/// The commented defaults, for `edge check --print-defaults`: a template, with the sections that
/// are declared in place of its marks.
pub fn defaults() -> String {
    section::filled(include_str!("defaults.toml"), all_sections())
}

/// What serde says of the text, with the new names of keys that were renamed.
pub(super) fn told(source: &Source<'_>, error: &toml::de::Error) -> Mistakes {
    Mistakes(vec![section::with_new_name(
        source.toml_mistake(error),
        &all_sections(),
    )])
}

/// The rooms' configurations from a file's text.
///
/// # Errors
/// All mistakes.
pub(super) fn check(raw: &Raw, source: &Source<'_>) -> Result<Config, Mistakes> {
    let mut checker = Checker::new(source);
    let config = config(raw, &mut checker);
    checker.end(config)
}

fn config(raw: &Raw, checker: &mut Checker<'_>) -> Config {
    let server = server::server(&raw.server, checker);
    let dataplane = dataplane::dataplane(&raw.dataplane, &server, checker);
    let limits = limits::limits(&raw.limits, checker);
    let delta = raw.delta.check(checker);
    let far_ends = delta::far_ends(&raw.far_end, checker);
    let key_servers = certificate::servers(&raw.key_server, checker);
    let fleet = raw.fleet.as_ref().map(|raw| fleet::fleet(raw, checker));
    let acme = acme::node(&raw.acme, checker);
    let pools = origin::pools(&raw.origin, checker);
    let around = Around {
        server: &server,
        limits: &limits,
        far_ends: &far_ends,
        key_servers: &key_servers,
        acme: &acme,
        pools: &pools,
        in_fleet: raw.fleet.is_some(),
    };
    let zones = zone::zones(&raw.zone, &around, checker);
    if *raw.tls.min_version.get_ref() == TlsVersion::V1_3 {
        let static_rsa = zones
            .iter()
            .filter_map(|zone| zone.certificate.as_ref()?.legacy_rsa.as_ref());
        checker.mistakes.extend(static_rsa.map(|place| {
            place.mistake(
                "static RSA is of TLS 1.2, but [tls] min_version is 1.3",
                "write min_version = \"1.2\", or leave `legacy_rsa` out",
            )
        }));
    }
    let caches = zones.iter().filter_map(|zone| zone.cache.as_ref());
    let largest = caches.map(|cache| cache.object_bytes).max().unwrap_or(0);
    Config {
        dataplane,
        tls: raw.tls.check(checker),
        quic: tls::quic(&raw.quic, checker),
        limits: Arc::new(limits),
        admin: admin::admin(&raw.admin, checker),
        log: admin::log(&raw.log, checker),
        acme,
        fleet,
        gate: gate::node(&raw.gate, checker),
        delta,
        far_ends,
        cache: cache::node(&raw.cache, largest, checker),
        coding: raw.coding.check(checker),
        isolate: isolate::node(&raw.isolate, checker),
        key_servers,
        warnings: warnings(&server, &zones),
        lists_place: checker.place(raw.dataplane.deny.span()),
        server,
        zones,
        fixed: Fixed::of(raw),
        faults: std::mem::take(&mut checker.faults),
    }
}

/// What is sound, and will surprise.
fn warnings(server: &super::Server, zones: &[Zone]) -> Vec<Mistake> {
    let made = |zone: &&Zone| zone.cache.is_some() && zone.routes.iter().any(|route| route.to == isolate::To::Worker);
    let uncached = zones.iter().filter(made).map(|zone| {
        let what = format!(
            "zone \"{}\": [zone.cache] stores what its origin answers, not what its worker makes",
            zone.name
        );
        zone.place
            .mistake(what, "leave it so, or route what is to be stored to the origin")
    });
    let served = !server.https.is_empty() || !server.plain.is_empty();
    let unreachable = zones
        .iter()
        .filter(|zone| !served && (zone.worker.is_some() || !zone.routes.is_empty()));
    let unreachable = unreachable.map(|zone| {
        let what = format!(
            "nobody reaches the worker and the routes of zone \"{}\": without server.https, requests are only redirected \
             to https",
            zone.name
        );
        zone.place.mistake(what, "write [server] https, and the zone's certificate")
    });
    uncached.chain(unreachable).collect()
}
