//! The rooms, made in the order in which a request meets them: [`Ground`], which they stand on;
//! [`Entrance`], which packets and connections meet; [`Inside`], which requests meet. [`Chain`]
//! nests the handlers of each thread.

use std::sync::Arc;

use anyhow::Context;
use prometheus_client::registry::Registry;

use super::{Node, acme, cache, coding, delta, gates, isolates, ledger, lockdown, reload, threads};
use crate::acme::Acme;
use crate::admin::access::NodeLogs;
use crate::base::clock::UnixTime;
use crate::base::ledger::Ledger;
use crate::config::{Config, Mistakes, XdpMode};
use crate::dataplane::{Dataplane, Links, Lists};
use crate::delta::{Near, near};
use crate::gate::handler::Gate;
use crate::gate::sealed;
use crate::gate::token::Tokens;
use crate::gate::verdict::Ungated;
use crate::http::handler::{Front, Handler};
use crate::isolate::handler::Isolated;
use crate::isolate::isolates::Isolates;
use crate::origin::{self, Fleet, Origin};
use crate::route::gated::{Gated, Open};
use crate::route::ready::Ready;
use crate::route::routed::Routed;
use crate::rules::{self, Ruled};
use crate::{http, quic, tls, zones};

/// What the rooms stand on: bound sockets, and what the file names, read and checked.
pub(super) struct Ground {
    pub(super) sockets: threads::Sockets,
    pub(super) zones: zones::Current,
    /// The accounts of what is held for clients.
    pub(super) ledger: Ledger,
    /// Without a worker yet.
    pub(super) isolates: Option<Arc<Isolates>>,
    /// Without a server yet.
    pub(super) fleet: Arc<Fleet>,
    pub(super) gathered: reload::Gathered,
}

impl Ground {
    /// Binds, then reads and checks.
    ///
    /// # Errors
    /// An address is taken; or every mistake of the file.
    pub(super) fn lay(config: Config, registry: &mut Registry) -> anyhow::Result<Self> {
        // Sockets first: a port that is taken must not cost an attached program.
        let sockets = threads::Sockets::bind(&config.server)?;
        let zones: zones::Current = Arc::default();
        let ledger = ledger::start(config.serving(), registry);
        let isolates = isolates::start(&config, zones.clone(), &ledger, registry)?;
        let fleet = Fleet::empty(origin::Metrics::register(registry));
        let gathered = reload::gather_first(config, &reload::Rooms::empty(&fleet, isolates.as_deref()))?;
        gathered.tell();
        zones.store(Arc::new(gathered.zones()));
        Ok(Self {
            sockets,
            zones,
            ledger,
            isolates,
            fleet,
            gathered,
        })
    }
}

/// Rooms 1 to 4: what packets and connections meet.
pub(super) struct Entrance {
    pub(super) dataplane: Option<Dataplane>,
    pub(super) links: Arc<Links>,
    pub(super) listed: Arc<Lists>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) gates: Option<gates::Gates>,
    pub(super) front: Arc<tls::Front>,
    /// Orders certificates for zones.
    pub(super) acme: Option<Acme>,
    pub(super) quic: Option<Arc<quic::Front>>,
    pub(super) lockdowns: Option<lockdown::Lockdowns>,
    /// The kernel gives each thread the datagrams of its own QUIC connections.
    pub(super) steered: bool,
}

impl Entrance {
    /// # Errors
    /// What the operator, the kernel or the machine keeps a room from.
    pub(super) fn build(ground: &mut Ground, registry: &mut Registry) -> anyhow::Result<Self> {
        let pages = std::mem::take(&mut ground.gathered.pages);
        let loaded = std::mem::take(&mut ground.gathered.loaded);
        let config = &ground.gathered.state.config;

        // 1 dataplane
        let (dataplane, links) = attach(config)?;
        registry.register_collector(Box::new(links.metrics()));
        let listed = match &dataplane {
            Some(dataplane) => {
                registry.register_collector(Box::new(dataplane.metrics()));
                dataplane.lists().clone()
            }
            None => Arc::new(Lists::alone(&config.dataplane)?),
        };

        // 2 gate
        let lasting = gates::lasting(config);
        let tokens = sealed::tokens(&config.gate, lasting, UnixTime::now());
        let tokens = tokens.map_err(|mistake| Mistakes(vec![mistake]))?;
        ground.fleet.seal(&tokens.derive(b"cookies that lead to servers"));
        let gates = gates::Gates::start(config, dataplane.as_ref(), &tokens, registry)?;
        if let Some(gates) = &gates {
            gates.gate.install(&config.zones, pages, |_| false);
        }

        // 3 tls, and certificates that are ordered for zones
        let door = gates.as_ref().map(|gates| gates.door(&tokens));
        let front = tls::Front::new(config.serving(), loaded, tokens.clone(), door, listed.clone(), registry)?;
        let acme = config
            .acme
            .is_on()
            .then(|| acme::start(config, front.certificates(), registry));

        // 4 quic
        let mut quic = None;
        if !ground.sockets.open().quic.is_empty() {
            let ids = lockdown::ids(&tokens, sealed::lasts(&config.gate, lasting), dataplane.as_ref())?;
            let of_udp = quic::Front::new(config.serving(), &front, tokens.clone(), ids.clone(), registry)?;
            quic = Some((of_udp, ids));
        }
        let steered = quic.is_some() && steer(dataplane.as_ref(), &ground.sockets);
        let mut lockdowns = None;
        if quic.is_some() || dataplane.is_some() {
            let (quic, front, tokens) = (quic.clone(), front.clone(), tokens.clone());
            let started = lockdown::Lockdowns::start(config, quic, front, tokens, dataplane.as_ref())?;
            lockdowns = Some(started);
        }
        Ok(Self {
            dataplane,
            links,
            listed,
            tokens,
            gates,
            front,
            acme,
            quic: quic.map(|(front, _)| front),
            lockdowns,
            steered,
        })
    }
}

/// Rooms 5 to 10: what requests meet.
pub(super) struct Inside {
    pub(super) http: Arc<http::Shared>,
    pub(super) redirect: Arc<http::Redirect>,
    pub(super) rules: rules::Shared,
    pub(super) cache: Option<Arc<crate::cache::Shared>>,
    pub(super) coding: Arc<crate::delta::browser::Shared>,
    pub(super) near: Arc<near::Shared>,
}

impl Inside {
    /// # Errors
    /// What the operator or the machine keeps a room from.
    pub(super) fn build(
        ground: &mut Ground,
        entrance: &Entrance,
        logs: &NodeLogs,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let state = &ground.gathered.state;
        let config = &state.config;

        // 5 http
        let advertised = ground.sockets.open().advertised(&config.server);
        let zones = &ground.zones;
        let accounts = (ground.ledger.clone(), logs.lines());
        let http = http::Shared::new(config.serving(), &advertised, zones.clone(), accounts, registry);
        http.keep_to(entrance.listed.clone());
        let redirect = Arc::new(http::Redirect::new(zones.clone(), config.server.redirect_port));

        // 6 rules
        let rules = rules::Shared::new(registry).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;

        // 7 isolate
        if let (Some(isolates), Some(plan)) = (&ground.isolates, ground.gathered.isolates.take()) {
            isolates.install(plan, |_| false, |zone| state.is_out(zone));
        }

        // 8 cache
        let cache = cache::start(config, &ground.ledger, registry)?;

        // 9 delta
        let coding = coding::start(config, registry);
        let near = delta::start(config, registry);

        // 10 origin, and the far ends, which it connects to like to origins
        ground.gathered.install_fleet(&ground.fleet, &near);
        Ok(Self {
            http,
            redirect,
            rules,
            cache,
            coding,
            near,
        })
    }
}

/// What the handlers of each thread are made of.
pub(super) struct Chain {
    node: Arc<Node>,
    rules: rules::Shared,
    entry: Entry,
    steered: bool,
}

/// How requests are let in.
enum Entry {
    Gated(Arc<Gate>),
    Open(Ungated),
}

impl Chain {
    /// # Errors
    /// A zone has a gate, and the node has none.
    pub(super) fn new(node: Arc<Node>, rules: rules::Shared, steered: bool) -> anyhow::Result<Self> {
        let entry = match &node.gates {
            Some(gates) => Entry::Gated(gates.gate.clone()),
            None => {
                let ungated = Ungated::of(&node.state.load().config.zones);
                Entry::Open(ungated.context("a zone has a gate, and the node has none")?)
            }
        };
        Ok(Self {
            node,
            rules,
            entry,
            steered,
        })
    }

    /// What one thread runs.
    pub(super) fn thread(&self) -> threads::Worker {
        let node = &self.node;
        // Right to left, behind the door: gate(rules(route(coding(cache(isolate)) |
        // coding(cache(near(origin)))))).
        let mut handler: Arc<dyn Handler> = Arc::new(Origin::new(node.fleet.clone()));
        handler = Arc::new(Near::new(node.near.clone(), handler));
        handler = cache::around(node.cache.as_ref(), handler);
        handler = coding::around(&node.coding, handler);
        let isolated = node.isolates.as_ref();
        let isolated = isolated.map(|isolates| Arc::new(Isolated::new(isolates.clone(), handler.clone())));
        // What a worker makes is coded as what comes from the origin, and stored if its zone says
        // so.
        let worker = isolated.clone().map(|isolated| {
            let stored = cache::around_worker(node.cache.as_ref(), isolated.isolates(), isolated.clone());
            coding::around(&node.coding, stored)
        });
        handler = Arc::new(Routed::new(worker, handler));
        handler = Arc::new(Ready::new(handler));
        handler = Arc::new(Ruled::new(handler, self.rules.clone()));
        if let Some(isolated) = &isolated {
            // What workers ask of other zones travels back to where their own requests came from.
            isolated.join(Arc::downgrade(&handler));
        }
        let warmer = node.warming.warmer(&handler, &node.zones);
        let handler: Arc<dyn Front> = match &self.entry {
            Entry::Gated(gate) => Arc::new(Gated::new(gate.clone(), handler)),
            Entry::Open(ungated) => Arc::new(Open::new(*ungated, handler)),
        };
        let plain = plain(&node.redirect, &node.front, handler.clone());
        threads::Worker {
            front: node.front.clone(),
            quic: node.quic.clone(),
            generation: node.dataplane.as_ref().map_or(0, Dataplane::generation),
            steered: self.steered,
            server: http::Server::new(node.http.clone(), handler, node.shutdown.clone()),
            redirect: http::Server::new(node.http.clone(), plain, node.shutdown.clone()),
            shutdown: node.shutdown.clone(),
            clock: isolated,
            warmer,
        }
    }
}

/// What plain listeners answer: a redirect, but for challenges of ACME servers, which go where all
/// requests of the zone go.
fn plain(redirect: &Arc<http::Redirect>, tls: &tls::Front, next: Arc<dyn Front>) -> Arc<dyn Front> {
    let challenges = tls.certificates().challenges().clone();
    Arc::new(http::redirect::Plain::new(redirect.clone(), challenges, next))
}

/// The program on its interfaces. In mode `auto` a kernel, machine or device that refuses leaves
/// the node without XDP, and says so.
///
/// # Errors
/// A mistake of the operator's, or another daemon in the way; in the other modes any refusal.
fn attach(config: &Config) -> anyhow::Result<(Option<Dataplane>, Arc<Links>)> {
    let interfaces = &config.dataplane.interfaces;
    if config.dataplane.mode == XdpMode::Off {
        return Ok((None, Links::open(&[], "")));
    }
    match Dataplane::start(&config.dataplane) {
        Ok(dataplane) => {
            let links = dataplane.links().clone();
            Ok((Some(dataplane), links))
        }
        Err(error) if config.dataplane.mode == XdpMode::Auto && error.is_refusal() => {
            let reason = error.to_string();
            tracing::warn!(
                target: "edge::dataplane",
                reason,
                ?interfaces,
                "this node runs WITHOUT XDP: no packet is judged in the kernel (xdp = \"off\" says that this is meant)"
            );
            Ok((None, Links::open(interfaces, &reason)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Has the kernel give each worker the datagrams of its own QUIC connections. Without that they go
/// by the hash of addresses and ports, which a client that moves to another network changes.
/// Whether it does.
fn steer(dataplane: Option<&Dataplane>, sockets: &threads::Sockets) -> bool {
    match dataplane {
        Some(dataplane) => match dataplane.steer(&sockets.of_quic()) {
            Ok(()) => return true,
            Err(error) => {
                tracing::warn!(
                    target: "edge::quic",
                    %error,
                    "datagrams are not steered: QUIC clients that change their address lose their connection, and a \
                     restart ends those that there are"
                );
            }
        },
        // Clients on this machine do not move.
        None if sockets.open().threads > 1 && sockets.open().quic.iter().any(|at| !at.ip().is_loopback()) => {
            tracing::warn!(
                target: "edge::quic",
                threads = sockets.open().threads,
                "without XDP datagrams are not steered: QUIC clients that change their address may lose their connection"
            );
        }
        None => {}
    }
    false
}
