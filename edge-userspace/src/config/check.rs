//! From the raw form to the checked one: what one value alone cannot tell. Collects every mistake, then gives up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::checker::Checker;
use super::delta::FarEnd;
use super::mistake::{Mistake, Mistakes, Place, Source};
use super::raw::{self, Raw};
use super::value::{AdminAddress, HostPattern, Size, Time};
use super::{
    Admin, Certificate, Clients, Config, Dataplane, Health, Identity, Key, KeyServer, Limits, LimitsText, Log, Origin,
    OriginServer, Quic, QuicText, Server, Tls, TlsVersion, Upstream, Written, XdpMode, Zone,
};
use crate::base::ledger;

pub(super) fn check(raw: Raw, source: &Source<'_>) -> Result<Config, Mistakes> {
    let mut checker = Checker::new(source);
    let config = checker.config(raw);
    checker.end(config)
}

pub(super) fn networks(list: &[super::value::Network]) -> Vec<ipnet::IpNet> {
    list.iter().map(|network| network.0).collect()
}

/// Whether every part of a level list names a level: `Targets` would take an unknown word for a module's name.
pub(super) fn level_is_sound(list: &str) -> bool {
    list.split(',').all(|part| {
        let level = part.split_once('=').map_or(part, |(_, level)| level);
        level.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
    })
}

/// `limits.memory` and `limits.memory_per_address` are no less, bytes: some hundred connections with a request each.
const LEAST_MEMORY: u64 = 32 << 20;
const LEAST_MEMORY_PER_ADDRESS: u64 = 4 << 20;

/// No limit is written as zero.
fn limit(time: Time) -> Option<Duration> {
    (!time.0.is_zero()).then_some(time.0)
}

impl Checker<'_> {
    fn config(&mut self, raw: Raw) -> Config {
        let server = self.server(&raw.server);
        let dataplane = self.dataplane(&raw.dataplane, &server);
        let limits = self.limits(&raw.limits);
        let delta = raw.delta.check(self);
        let far_ends = super::delta::far_ends(&raw.far_end, self);
        let (key_servers, mistakes) = super::keys::servers(&raw.key_server, self.source);
        self.mistakes.extend(mistakes);
        self.in_fleet = raw.fleet.is_some();
        let fleet = raw
            .fleet
            .as_ref()
            .map(|fleet| super::fleet::check(fleet.get_ref(), self.source));
        let fleet = fleet.map(|(fleet, mistakes)| {
            self.mistakes.extend(mistakes);
            fleet
        });
        let acme = super::acme::node(&raw.acme, self);
        let zones = self.zones(&raw.zone, &server, &limits, (&far_ends, &key_servers, &acme));
        let too_new = zones
            .iter()
            .filter_map(|zone| zone.certificate.as_ref()?.legacy_rsa.as_ref())
            .filter(|_| raw.tls.min_version == TlsVersion::V1_3)
            .map(|place| {
                place.mistake(
                    "static RSA is of TLS 1.2, but [tls] min_version is 1.3",
                    "write min_version = \"1.2\", or leave `legacy_rsa` out",
                )
            });
        self.mistakes.extend(too_new);
        let (gate, mistakes) = super::gate::check::node(&raw.gate, self.source);
        self.mistakes.extend(mistakes);
        let largest = zones
            .iter()
            .filter_map(|zone| zone.cache.as_ref())
            .map(|cache| cache.object_bytes);
        let cache = super::cache::node(&raw.cache, largest.max().unwrap_or(0), self);
        let coding = raw.coding.check(self);
        let (isolate, mistakes) = super::isolate::check::node(&raw.isolate, self.source);
        self.mistakes.extend(mistakes);
        Config {
            server,
            dataplane,
            tls: Tls {
                min_version: raw.tls.min_version,
                ticket_rotation: self.ticket_rotation(&raw.tls),
                ticket_roaming: raw.tls.ticket_roaming,
                handshake_timeout: raw.tls.handshake_timeout.0,
                near_ends: None,
                key_server_timeout: self.key_server_timeout(&raw.tls),
                // A stack each, with two of the 65,530 mappings that a process has by default.
                waiting: self.number(&raw.tls.handshakes_waiting, 1, 1 << 20),
                waiting_per_address: self.number(&raw.tls.handshakes_waiting_per_address, 1, 1 << 20),
            },
            quic: self.quic(&raw.quic),
            limits: Arc::new(limits),
            admin: self.admin(&raw.admin),
            log: self.log(&raw.log),
            acme,
            gate,
            delta,
            far_ends,
            cache,
            coding,
            isolate,
            fleet,
            key_servers,
            warnings: self.warnings(&raw, &zones),
            lists_place: self.place(raw.dataplane.deny.span()),
            zones,
            faults: self.faults(),
        }
    }

    /// What is sound, and will surprise.
    fn warnings(&self, raw: &Raw, zones: &[Zone]) -> Vec<Mistake> {
        let made = zones.iter().filter(|zone| {
            zone.cache.is_some() && zone.routes.iter().any(|route| route.to == super::isolate::To::Worker)
        });
        let uncached = made.map(|zone| {
            zone.place.mistake(
                format!(
                    "zone \"{}\": [zone.cache] stores what its origin answers, not what its worker makes",
                    zone.name
                ),
                "leave it so, or route what is to be stored to the origin",
            )
        });
        if !raw.server.https.get_ref().is_empty() || !raw.server.plain.get_ref().is_empty() {
            return uncached.collect();
        }
        let unreachable = zones
            .iter()
            .filter(|zone| zone.worker.is_some() || !zone.routes.is_empty());
        let warning = |zone: &Zone| {
            zone.place.mistake(
                format!(
                    "nobody reaches the worker and the routes of zone \"{}\": without server.https, requests are only \
                     redirected to https",
                    zone.name
                ),
                "write [server] https, and the zone's certificate",
            )
        };
        uncached.chain(unreachable.map(warning)).collect()
    }

    fn server(&mut self, raw: &raw::Server) -> Server {
        let lists = [&raw.https, &raw.http, &raw.plain];
        if lists.iter().all(|list| list.get_ref().is_empty()) {
            self.mistake(
                raw.https.span(),
                "no listener",
                "write [server] https = [\"0.0.0.0:443\", \"[::]:443\"]",
            );
        }
        let mut seen = std::collections::HashSet::new();
        let outside = raw.plain.get_ref().iter().find(|address| !address.ip().is_loopback());
        if let (Some(address), true) = (outside, raw.plain_from.is_empty()) {
            self.mistake(
                raw.plain.span(),
                format!("other hosts can reach {address}, and what is served there is not encrypted"),
                "write an address of loopback, a TLS address in `https`, or who may ask there: plain_from = [\"10.0.0.0/8\"], the \
                 networks of the balancer in front",
            );
        }
        for list in lists {
            for address in list.get_ref() {
                if address.port() == 0 {
                    self.mistake(
                        list.span(),
                        format!("{address} has port 0"),
                        "write the port clients connect to",
                    );
                } else if !seen.insert(*address) {
                    self.mistake(list.span(), format!("{address} is listed twice"), "remove one");
                }
            }
        }
        Server {
            https: raw.https.get_ref().clone(),
            http: raw.http.get_ref().clone(),
            plain: raw.plain.get_ref().clone(),
            plain_from: networks(&raw.plain_from),
            client_address: raw
                .client_address
                .as_ref()
                .and_then(|raw| super::client_address::check(raw, self))
                .map(Arc::new),
            http3: raw.http3,
            redirect_port: raw.redirect_port.unwrap_or(443),
            // Who says where clients are sent to says which port they reach.
            alt_svc_port: raw.alt_svc_port.or(raw.redirect_port),
            workers: self.workers(&raw.workers),
            proxy_protocol_from: networks(&raw.proxy_protocol_from),
            drain: raw.drain.0,
            zones_fail: raw.zones_fail,
        }
    }

    /// None means one per processor.
    pub(super) fn workers(&mut self, raw: &Spanned<usize>) -> usize {
        match self.number(raw, 0, 1_024) {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        }
    }

    fn dataplane(&mut self, raw: &raw::Dataplane, server: &Server) -> Dataplane {
        let mut interfaces = raw.interfaces.clone();
        interfaces.sort();
        interfaces.dedup();
        let mut tcp_ports: Vec<u16> = server.reachable().map(std::net::SocketAddr::port).collect();
        tcp_ports.sort_unstable();
        tcp_ports.dedup();
        let mut udp_ports: Vec<u16> = match server.http3 {
            true => server.https.iter().map(std::net::SocketAddr::port).collect(),
            false => Vec::new(),
        };
        udp_ports.sort_unstable();
        udp_ports.dedup();
        let mut addresses: Vec<_> = server.reachable().map(std::net::SocketAddr::ip).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Dataplane {
            mode: if interfaces.is_empty() { XdpMode::Off } else { raw.xdp },
            interfaces,
            pin_directory: raw.pin_directory.clone(),
            tcp_ports,
            udp_ports,
            addresses,
            // Proxies speak for many: none of them is dropped for what one of its clients does.
            allow: [&networks(&raw.allow), server.trusted()].concat(),
            deny: networks(raw.deny.get_ref()),
            deny_entries: self.number(&raw.deny_entries, 16, 16 << 20),
            state_directory: raw.state_directory.as_ref().map(|path| self.source.path(path)),
            penalty_entries: self.number(&raw.penalty_entries, 1024, 16 << 20),
            syn_cookies: raw.syn_cookies,
            event_sample: raw.event_sample,
        }
    }

    /// Keys that seal tickets are kept for one and a half times as long: longer ones would open what was recorded yesterday.
    fn ticket_rotation(&mut self, raw: &raw::Tls) -> Duration {
        let time = raw.ticket_rotation.get_ref().0;
        if !(Duration::from_secs(60)..=Duration::from_secs(6 * 3600)).contains(&time) {
            self.mistake(raw.ticket_rotation.span(), "out of bounds", "write 1m to 6h");
        }
        time
    }

    fn key_server_timeout(&mut self, raw: &raw::Tls) -> Duration {
        let time = raw.key_server_timeout.get_ref().0;
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&time) {
            self.mistake(raw.key_server_timeout.span(), "out of bounds", "write 100ms to 60s");
        }
        time
    }

    fn quic(&mut self, raw: &QuicText) -> Quic {
        let quic = raw.check(self);
        let (above, below) = (quic.lockdown_above, quic.lockdown_below);
        if below > above {
            self.mistake(
                raw.lockdown_below.span(),
                format!(
                    "lockdown_below = {below} is more than lockdown_above = {above}: it would begin and end at once"
                ),
                "write less than lockdown_above, such as a quarter",
            );
        }
        quic
    }

    /// `[limits]`, with the memory worked out.
    pub(super) fn limits(&mut self, raw: &LimitsText) -> Limits {
        let mut limits = raw.check(self);
        for (size, least) in [
            (&raw.memory, LEAST_MEMORY),
            (&raw.memory_per_address, LEAST_MEMORY_PER_ADDRESS),
        ] {
            if (1..least).contains(&size.get_ref().0) {
                let mend = format!("write at least {}, or 0B for the default", Size(least));
                self.mistake(size.span(), "too little to serve anybody by", mend);
            }
        }
        if limits.memory == 0 {
            limits.memory = ledger::of_machine().map_or(u64::MAX, |bytes| bytes / 2);
        }
        limits.memory_per_address = match limits.memory_per_address {
            0 => limits.memory,
            bytes => bytes.min(limits.memory),
        };
        limits
    }

    pub(super) fn admin(&mut self, raw: &raw::Admin) -> Admin {
        let listen = raw.listen.as_ref();
        let tcp = listen.and_then(|listen| match listen.get_ref() {
            AdminAddress::Tcp(address) => Some((*address, listen.span())),
            AdminAddress::Unix(_) => None,
        });
        let read = raw.read.as_ref().map(|read| (*read.get_ref(), read.span()));
        for (address, span) in tcp.iter().chain(&read) {
            if !address.ip().is_loopback() && !raw.remote {
                self.mistake(
                    span.clone(),
                    format!("{address} can be reached by other hosts, and the endpoint has no authentication"),
                    "listen on 127.0.0.1 or unix:/run/edge/admin.sock, or say remote = true",
                );
            }
        }
        if let (Some((tcp, _)), Some((read, span))) = (&tcp, &read)
            && tcp == read
        {
            let mend = "leave it out: where commands are taken there is an answer for those who read, too";
            self.mistake(
                span.clone(),
                format!("{read} is already where commands are taken"),
                mend,
            );
        }
        // Who names a place for commands has said where to read, too.
        let by_default = listen.is_none().then(AdminAddress::reading);
        Admin {
            listen: listen.map_or_else(AdminAddress::commands, |listen| listen.get_ref().clone()),
            read: read.map(|(read, _)| read).or(by_default),
        }
    }

    pub(super) fn log(&mut self, raw: &raw::Log) -> Log {
        if !level_is_sound(raw.level.get_ref()) {
            self.mistake(
                raw.level.span(),
                format!("\"{}\" is no log level", raw.level.get_ref()),
                "write error, warn, info, debug or trace, or \"info,edge::origin=debug\"",
            );
        }
        let sample = self.number(&raw.access_sample, 1, u32::MAX);
        Log {
            format: raw.format,
            level: raw.level.get_ref().clone(),
            access_sample: raw.access.then_some(sample),
        }
    }

    pub(super) fn zones(
        &mut self,
        raw: &[Spanned<raw::Zone>],
        server: &Server,
        limits: &Limits,
        (far_ends, key_servers, acme): (&[FarEnd], &[KeyServer], &super::acme::Node),
    ) -> Vec<Zone> {
        if raw.is_empty() && !self.in_fleet {
            self.mistake(0..0, "no zone", "write a [[zone]] with name, hosts and [zone.origin]");
        }
        let mut names = HashMap::new();
        let mut hosts: HashMap<HostPattern, String> = HashMap::new();
        let mut default = None;
        let mut zones = Vec::with_capacity(raw.len());
        for zone in raw.iter().map(Spanned::get_ref) {
            let name = zone.name.get_ref();
            let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if name.is_empty() || name.len() > 64 || !name.bytes().all(sound) {
                self.mistake(
                    zone.name.span(),
                    format!("\"{name}\" is no zone name"),
                    "write letters, digits, `-`, `_`, `.`, at most 64",
                );
            }
            if let Some(line) = names.insert(name.clone(), self.place(zone.name.span()).line) {
                self.mistake(
                    zone.name.span(),
                    format!("zone \"{name}\" is already on line {line}"),
                    "give each zone a name of its own",
                );
            }
            if zone.hosts.get_ref().is_empty() && zone.default.as_ref().is_none_or(|d| !d.get_ref()) {
                self.mistake(
                    zone.hosts.span(),
                    "no hosts",
                    "name at least one, or make the zone the default",
                );
            }
            for host in zone.hosts.get_ref() {
                if let Some(other) = hosts.insert(host.get_ref().clone(), name.clone()) {
                    let what = format!("{} is already a host of zone \"{other}\"", host.get_ref());
                    self.mistake(host.span(), what, "remove it from one of them");
                }
            }
            let is_default = zone.default.as_ref().is_some_and(|d| *d.get_ref());
            if let (true, Some(span)) = (is_default, zone.default.as_ref().map(Spanned::span)) {
                if let Some(other) = &default {
                    self.mistake(
                        span,
                        format!("zone \"{other}\" is the default already"),
                        "remove one `default = true`",
                    );
                }
                default = Some(name.clone());
            }
            let shared: Arc<str> = name.as_str().into();
            let issued = super::acme::certificate(zone, server, acme, self);
            zones.push(Zone {
                name: shared.clone(),
                place: self.place(zone.name.span()),
                written: Written(Some(Arc::new(zone.clone()))),
                hosts: zone.hosts.get_ref().iter().map(|h| h.get_ref().clone()).collect(),
                default: is_default,
                certificate: match &issued {
                    Some((_, certificate)) => Some(Certificate {
                        clients: self.clients(zone),
                        ..certificate.clone()
                    }),
                    None => self.certificate(zone, server, key_servers),
                },
                acme: issued.map(|(acme, _)| acme),
                early_data: self.early_data(zone, server),
                min_version: zone.min_version,
                body_bytes: match zone.body_bytes {
                    Some(size) => (size.0 > 0).then_some(size.0),
                    None => limits.body_bytes,
                },
                body_timeout: zone.body_timeout.map_or(limits.body_timeout, |time| time.0),
                request_timeout: zone.request_timeout.map_or(limits.request_timeout, limit),
                requests: Arc::new(zone.requests.clone()),
                gate: zone.gate.as_ref().map(|gate| {
                    let hosts: Vec<_> = zone.hosts.get_ref().iter().map(|h| h.get_ref().clone()).collect();
                    let (gate, mistakes) = super::gate::check::gate(gate, &hosts, self.source);
                    self.mistakes.extend(mistakes);
                    Arc::new(gate)
                }),
                delta: zone.delta.as_ref().map(|end| {
                    let name = end.get_ref().as_str();
                    if !far_ends.iter().any(|known| *known.name == *name) {
                        let known: Vec<_> = far_ends.iter().map(|end| format!("\"{}\"", end.name)).collect();
                        let mend = if known.is_empty() {
                            "write a [[far_end]] with this name".to_owned()
                        } else {
                            format!("write {}", known.join(" or "))
                        };
                        self.mistake(end.span(), format!("no far end is called \"{name}\""), mend);
                    }
                    name.into()
                }),
                cache: zone.cache.as_ref().map(|cache| Arc::new(cache.check(self))),
                coding: super::coding::zone(zone.coding.as_ref(), &zone.dictionary, self).map(Arc::new),
                worker: zone.worker.as_ref().map(|worker| {
                    let (worker, found) = super::isolate::check::worker(worker, self.source);
                    self.take(&shared, found);
                    Arc::new(worker)
                }),
                routes: {
                    let (worker, origin) = (zone.worker.is_some(), zone.origin.is_some());
                    let (routes, found) = super::isolate::check::routes(&zone.route, worker, origin, self.source);
                    self.take(&shared, found);
                    routes
                },
                rules: {
                    let (rules, mistakes) = super::rule::file::rules(&zone.rule, self.source);
                    self.mistakes.extend(mistakes);
                    rules
                },
                origin: match &zone.origin {
                    Some(origin) => self.origin(&shared, origin),
                    None => {
                        if zone.worker.is_none() && zone.route.is_empty() && zone.rule.is_empty() {
                            let mend = "write [zone.origin] or [zone.worker]";
                            self.mistake(zone.name.span(), "a zone that nothing answers for", mend);
                        }
                        Origin::None
                    }
                },
            });
        }
        self.asked_zones(raw, &names);
        zones
    }

    fn take(&mut self, zone: &Arc<str>, found: super::isolate::check::Found) {
        self.mistakes.extend(found.mistakes);
        for fault in found.faults {
            self.faults.zone(zone, fault);
        }
    }

    /// A worker may only ask zones that there are.
    fn asked_zones(&mut self, raw: &[Spanned<raw::Zone>], names: &HashMap<String, usize>) {
        for (span, name) in raw
            .iter()
            .filter_map(|zone| zone.get_ref().worker.as_ref())
            .flat_map(super::isolate::raw::Worker::asked)
        {
            if !names.contains_key(name) {
                self.mistake(
                    span,
                    format!("there is no zone \"{name}\""),
                    "write the name of a [[zone]]",
                );
            }
        }
    }

    /// Whose certificates the zone asks of its clients.
    fn clients(&self, zone: &raw::Zone) -> Option<Clients> {
        zone.client_certificates.as_ref().map(|clients| Clients {
            ca: (self.path(&clients.ca), self.place(clients.ca.span())),
            required: clients.required,
            revoked: clients
                .revoked
                .iter()
                .map(|list| (self.path(list), self.place(list.span())))
                .collect(),
            revoked_must_be_current: clients.revoked_must_be_current,
        })
    }

    fn certificate(&mut self, zone: &raw::Zone, server: &Server, key_servers: &[KeyServer]) -> Option<Certificate> {
        let clients = self.clients(zone);
        let key = match super::keys::key(zone, key_servers, self.source) {
            Ok(key) => key,
            Err(mistakes) => {
                self.mistakes.extend(mistakes);
                return None;
            }
        };
        match (&zone.certificate, key) {
            (Some(chain), Some(key)) => Some(Certificate {
                chain: self.path(chain),
                chain_place: self.place(chain.span()),
                more: self.more_certificates(zone, &key),
                key,
                clients,
                legacy_rsa: self.legacy_rsa(zone),
                issued: false,
            }),
            (Some(chain), None) => {
                self.mistake(
                    chain.span(),
                    "a certificate without a key",
                    "write `key = \"….key\"` beside it, or `key_servers`",
                );
                None
            }
            (None, Some(Key::File(_, place) | Key::Servers { place, .. })) => {
                self.mistakes.push(place.mistake(
                    "a key without a certificate",
                    "write `certificate = \"….pem\"` beside it",
                ));
                None
            }
            (None, None) => {
                if !server.https.is_empty() {
                    let what = format!(
                        "zone \"{}\" has no certificate, but server.https listens",
                        zone.name.get_ref()
                    );
                    self.mistake(
                        zone.name.span(),
                        what,
                        "write `certificate`, and `key` or `key_servers`",
                    );
                }
                None
            }
        }
    }

    /// Whether the zone serves requests before the handshake is over.
    fn early_data(&mut self, zone: &raw::Zone, server: &Server) -> bool {
        let Some(written) = zone.early_data.as_ref().filter(|written| *written.get_ref()) else {
            return false;
        };
        let wrong = if zone.client_certificates.is_some() {
            Some((
                "`early_data` and `client_certificates`: who the client is, is shown by the handshake's end",
                "keep one of them",
            ))
        } else if server.https.is_empty() || !server.http3 {
            Some((
                "`early_data` is taken over HTTP/3 alone, which is not spoken here",
                "write `server.https`, without `server.http3 = false`; or leave `early_data` out",
            ))
        } else {
            None
        };
        if let Some((what, mend)) = wrong {
            self.mistake(written.span(), what, mend);
        }
        true
    }

    /// Certificates beside the zone's first one, whose key is `key`.
    fn more_certificates(&mut self, zone: &raw::Zone, key: &Key) -> Vec<Identity> {
        if let (Key::Servers { place, .. }, false) = (key, zone.more_certificates.is_empty()) {
            self.mistakes.push(place.mistake(
                "`key_servers` and `more_certificates`, whose keys are here",
                "keep one of them",
            ));
        }
        let more = zone.more_certificates.iter();
        more.map(|more| Identity {
            chain: self.path(&more.certificate),
            chain_place: self.place(more.certificate.span()),
            key: self.path(&more.key),
            key_place: self.place(more.key.span()),
        })
        .collect()
    }

    /// Where the zone lets in clients that know no key exchange but RSA's.
    fn legacy_rsa(&mut self, zone: &raw::Zone) -> Option<Place> {
        let written = zone.legacy_rsa.as_ref().filter(|written| *written.get_ref())?;
        if !cfg!(feature = "legacy-rsa") {
            self.mistake(
                written.span(),
                "this edge was built without static RSA",
                "build it with `--features legacy-rsa` (docs/keyless.md), or leave `legacy_rsa` out",
            );
        }
        if zone.client_certificates.is_some() {
            self.mistake(
                written.span(),
                "`legacy_rsa` and `client_certificates`: with static RSA no client is asked for a certificate",
                "keep one of them",
            );
        }
        Some(self.place(written.span()))
    }

    fn origin(&mut self, zone: &Arc<str>, spanned: &Spanned<raw::Origin>) -> Origin {
        let raw = spanned.get_ref();
        if let Some(directory) = &raw.directory {
            if !raw.servers.get_ref().is_empty() {
                self.mistake(directory.span(), "both `directory` and `servers`", "keep one");
            }
            let path = self.path(directory);
            if !path.is_dir() {
                let what = format!("{} is not a directory", path.display());
                let place = self.place(directory.span());
                self.faults.zone(zone, place.mistake(what, "make it, or name another"));
            }
            return Origin::Directory(path);
        }
        if raw.servers.get_ref().is_empty() {
            self.mistake(
                spanned.span(),
                "neither `servers` nor `directory`",
                "write servers = [{ address = \"http://127.0.0.1:8080\" }]",
            );
        }
        let mut servers = Vec::new();
        for server in raw.servers.get_ref() {
            let raw::OriginServer { address, weight } = server.get_ref().clone();
            if weight == 0 {
                self.mistake(server.span(), "weight 0", "write 1 or more, or remove the server");
            }
            if address.tls && rustls::pki_types::ServerName::try_from(address.host.as_str()).is_err() {
                self.mistake(
                    server.span(),
                    "TLS cannot verify this host",
                    "write a host name or an address",
                );
            }
            servers.push(OriginServer { address, weight });
        }
        let connections = self.number(&raw.connections, 1, 1 << 20);
        let passive = self.number(&raw.passive.failures, 0, 1_000_000);
        Origin::Servers(Arc::new(Upstream {
            servers,
            balance: raw.balance,
            http: raw.http,
            preserve_host: raw.preserve_host,
            server_name: raw.server_name.as_ref().map(|name| {
                if rustls::pki_types::ServerName::try_from(name.get_ref().as_str()).is_err() {
                    let what = format!("\"{}\" is no server name", name.get_ref());
                    self.mistakes.push(
                        self.source
                            .place(name.span())
                            .mistake(what, "write a host name or an address"),
                    );
                }
                name.get_ref().clone()
            }),
            ca: raw.ca.as_ref().map(|ca| (self.path(ca), self.place(ca.span()))),
            identity: None,
            connect_timeout: raw.connect_timeout.0,
            response_timeout: raw.response_timeout.0,
            body_timeout: raw.body_timeout.0,
            idle_timeout: raw.idle_timeout.0,
            idle_connections: raw.idle_connections,
            connections,
            connection_age: (!raw.connection_age.0.is_zero()).then_some(raw.connection_age.0),
            connection_requests: (raw.connection_requests > 0).then_some(raw.connection_requests),
            retries: self.number(&raw.retries, 0, 10),
            retry_status: self.errors(&raw.retry_status),
            retry_budget: self.number(&raw.retry_budget, 0, 100),
            upgrades: raw.upgrades,
            passive: (passive > 0).then_some((passive, raw.passive.cooldown.0)),
            passive_status: self.errors(&raw.passive.status),
            health: raw.health.as_ref().map(|health| self.health(health)),
            public_only: false,
            names_visitor: true,
        }))
    }

    /// Statuses that say that a server could not answer.
    fn errors(&mut self, statuses: &Spanned<Vec<u16>>) -> Vec<u16> {
        if statuses.get_ref().iter().any(|status| !(500..=599).contains(status)) {
            self.mistake(
                statuses.span(),
                "a status below 500 is the client's affair, not a failure of the server",
                "write statuses from 500 to 599, as [502, 503, 504]; or [] for none",
            );
        }
        statuses.get_ref().clone()
    }

    fn health(&mut self, raw: &raw::Health) -> Health {
        let path = raw.path.get_ref();
        if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
            self.mistake(
                raw.path.span(),
                format!("\"{path}\" is no path"),
                "write one that starts with /",
            );
        }
        if raw.interval.get_ref().0 < Duration::from_millis(100) {
            self.mistake(
                raw.interval.span(),
                "an interval this short is a load test",
                "write 100ms or more",
            );
        }
        if raw.status.get_ref().is_empty() || raw.status.get_ref().iter().any(|s| !(100..=599).contains(s)) {
            self.mistake(raw.status.span(), "not a list of statuses", "write status = [200, 204]");
        }
        Health {
            path: path.clone(),
            host: raw.host.clone(),
            interval: raw.interval.get_ref().0,
            timeout: raw.timeout.0,
            status: raw.status.get_ref().clone(),
            healthy: self.number(&raw.healthy, 1, 1_000),
            unhealthy: self.number(&raw.unhealthy, 1, 1_000),
        }
    }
}
