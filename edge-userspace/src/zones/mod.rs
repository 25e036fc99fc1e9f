//! Host to zone: an immutable snapshot, swapped whole on reload. `tls` asks it by SNI, `http` by
//! authority, `route` for a request's way.

pub mod path;
pub mod query;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use self::path::Path;
use crate::config::isolate::{To, Worker};
use crate::config::rule::{Act, Rules};
use crate::config::value::{HostPattern, OriginAddress};
use crate::config::{self, Origin};

/// A tenant as requests see it.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Unique; a label in metrics and logs.
    pub name: Arc<str>,
    /// Serves clients that name no host of any zone.
    pub default: bool,
    /// Bytes of a request's content; `None`: no limit.
    pub body_bytes: Option<u64>,
    /// Between two pieces of a request's content, while the response stands still too.
    pub body_timeout: Duration,
    /// What of a request goes on.
    pub requests: Arc<config::requests::Requests>,
    /// Refuses paths that servers read in two ways.
    pub strict_paths: bool,
    /// The host of a request that names none, for those who must have one.
    pub stand_in: Arc<str>,
    /// A whole request; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// The far end that answers by differences; `None`: none does.
    pub delta: Option<Arc<str>>,
    /// What is stored of its responses; `None`: nothing.
    pub cache: Option<Arc<config::cache::Cache>>,
    /// How its files are served, if a directory answers.
    pub files: Arc<config::files::Files>,
    /// What its rules make of the keys that responses are stored by.
    pub cache_keys: Arc<config::cache::Keys>,
    /// How its responses are coded for clients; `None`: as they come.
    pub coding: Option<Arc<config::coding::Coding>>,
    /// What is done with its requests before they are routed; `None`: nothing.
    pub rules: Option<Arc<Rules>>,
    /// What is shown for failures; `None`: the edge's own phrases.
    pub error_pages: Option<Arc<[config::error_page::ErrorPage]>>,
    /// The zone as requests see it that a rule lets pass the cache by; `None`: no rule does.
    pub uncached: Option<Arc<Zone>>,
    /// Where responses come from.
    pub origin: Origin,
    /// Code that answers.
    pub worker: Option<Arc<Worker>>,
    /// Which requests go where, by patterns of paths; the first that matches.
    pub routes: Vec<(Box<str>, Way)>,
    /// Servers elsewhere that the worker may ask, each with the zone as the room `origin` is to see
    /// it then.
    pub elsewhere: Vec<(OriginAddress, Arc<Zone>)>,
    /// Files of the worker: the zone as the room `origin` is to see it for them.
    pub assets: Option<Arc<Zone>>,
    /// What its worker keeps in its cache by itself: the zone as the room `cache` is to see it
    /// then. `None`: the zone has no worker, or no cache.
    pub kept: Option<Arc<Zone>>,
    /// The zone as requests see it that a rule sends to a pool, by the pool's name.
    pub pools: Vec<(Arc<str>, Arc<Zone>)>,
    /// The pool that a rule has sent the request to.
    pub pool: Option<Arc<str>>,
    /// The zone as the rooms after the rules are to see it when a pool is asked about a request,
    /// by the pool's name.
    pub asked: Vec<(Arc<str>, Arc<Zone>)>,
    /// It could not be prepared: its requests are answered 503.
    pub out: bool,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Way {
    /// To the zone's worker.
    Worker,
    /// To the zone's origin.
    Origin,
    /// To files: the zone as the room `origin` is to see it then.
    Files(Arc<Zone>),
}

impl Zone {
    /// Without the views of it that some of its requests are given.
    fn alone(zone: &config::Zone) -> Self {
        Self {
            name: zone.name.clone(),
            default: zone.default,
            body_bytes: zone.body_bytes,
            body_timeout: zone.body_timeout,
            requests: zone.requests.clone(),
            strict_paths: !zone.requests.ambiguous_paths && goes_by_path(zone),
            stand_in: stand_in(&zone.hosts),
            request_timeout: zone.request_timeout,
            delta: zone.delta.clone(),
            cache: zone.cache.clone(),
            files: zone.files.clone(),
            cache_keys: Arc::new(config::cache::Keys::of_zone(
                zone.rules.as_deref(),
                zone.cache.as_deref(),
            )),
            coding: zone.coding.clone(),
            rules: zone.rules.clone(),
            error_pages: zone.error_pages.clone(),
            uncached: None,
            origin: zone.origin.clone(),
            worker: None,
            routes: Vec::new(),
            elsewhere: Vec::new(),
            assets: None,
            kept: None,
            pools: Vec::new(),
            pool: None,
            asked: Vec::new(),
            out: false,
        }
    }

    fn new(zone: &config::Zone) -> Self {
        let mut this = Self::alone(zone);
        // What is kept of the zone's own origin must not answer for another, nor may its far end be
        // asked for it.
        let with = |origin| {
            Arc::new(Self {
                origin,
                delta: None,
                cache: None,
                coding: None,
                rules: None,
                ..this.clone()
            })
        };
        let routes = zone.routes.iter().map(|route| {
            let way = match &route.to {
                To::Worker => Way::Worker,
                To::Origin => Way::Origin,
                To::Files(directory) => Way::Files(with(Origin::Directory(directory.clone()))),
            };
            (route.path.as_str().into(), way)
        });
        let routes = routes.collect();
        let origins = zone.worker.iter().flat_map(|worker| &worker.origins);
        let elsewhere = origins
            .filter_map(|upstream| {
                let server = upstream.servers.first()?;
                Some((server.address.clone(), with(Origin::Servers(upstream.clone()))))
            })
            .collect();
        let assets = zone.worker.as_ref().and_then(|worker| worker.assets.as_ref());
        let assets = assets.map(|directory| {
            Arc::new(Self {
                files: Arc::new(zone.files.beside_a_worker()),
                ..Self::clone(&with(Origin::Directory(directory.clone())))
            })
        });
        let kept = zone.worker.as_ref().and(zone.cache.clone()).map(|cache| {
            Arc::new(Self {
                cache: Some(cache),
                ..Self::clone(&with(Origin::None))
            })
        });
        // What it says is of one request, and is neither stored nor coded.
        let asked = zone.rules.iter().flat_map(|rules| rules.asked());
        let asked = asked.filter_map(|name| {
            let (name, upstream) = zone.pools.iter().find(|(pool, _)| pool == name)?;
            let seen = Self {
                pool: Some(name.clone()),
                ..Self::clone(&with(Origin::Servers(upstream.clone())))
            };
            Some((name.clone(), Arc::new(seen)))
        });
        let asked = asked.collect();
        this.worker.clone_from(&zone.worker);
        this.asked = asked;
        this.routes = routes;
        this.elsewhere = elsewhere;
        this.assets = assets;
        this.kept = kept;
        let mut rules = this.rules.iter().flat_map(|rules| &rules.all);
        let may_pass_by = rules.any(|rule| passes_by(&rule.act));
        let without_cache = |zone: &Self| {
            let uncached = || Self {
                cache: None,
                ..zone.clone()
            };
            may_pass_by.then(|| Arc::new(uncached()))
        };
        this.pools = zone
            .pools
            .iter()
            .map(|(name, upstream)| {
                let mut sent = Self {
                    origin: Origin::Servers(upstream.clone()),
                    pool: Some(name.clone()),
                    // The rule has said where it goes: no far end, worker or route has a say.
                    delta: None,
                    worker: None,
                    routes: Vec::new(),
                    assets: None,
                    kept: None,
                    rules: None,
                    ..this.clone()
                };
                sent.uncached = without_cache(&sent);
                (name.clone(), Arc::new(sent))
            })
            .collect();
        this.uncached = without_cache(&this);
        this
    }

    /// The zone as it is for requests that a rule sends to that pool.
    pub fn sent_to(&self, pool: &str) -> Option<&Arc<Self>> {
        of_pool(&self.pools, pool)
    }

    /// The zone as it is for what is asked of that pool about a request.
    pub fn asked(&self, pool: &str) -> Option<&Arc<Self>> {
        of_pool(&self.asked, pool)
    }

    /// The way of a request for `path`.
    pub fn way(&self, path: &Path<'_>) -> &Way {
        self.routes
            .iter()
            .find(|(pattern, _)| path.matches(pattern))
            .map_or(&Way::Origin, |(_, way)| way)
    }
}

fn of_pool<'a>(views: &'a [(Arc<str>, Arc<Zone>)], pool: &str) -> Option<&'a Arc<Zone>> {
    let mut views = views.iter();
    views.find(|(name, _)| **name == *pool).map(|(_, zone)| zone)
}

/// Whether a rule that does this may have a request pass the cache by.
fn passes_by(act: &Act) -> bool {
    act.uncached || act.mirror.is_some() || act.auth.is_some() || act.jwt.is_some() || act.forward.is_some()
}

/// Whether it matters to the edge which path a request asks for.
fn goes_by_path(zone: &config::Zone) -> bool {
    let rules = zone.gate.iter().flat_map(|gate| &gate.rules);
    let rules = rules.filter_map(|rule| rule.matches.path.as_deref());
    let routes = zone.routes.iter().map(|route| &*route.path);
    let ruled = zone.rules.iter().flat_map(|rules| &rules.all);
    let mut ruled = ruled.flat_map(|rule| [Some(&rule.when), rule.not.as_ref()]).flatten();
    // Those that are every path's tell none from another.
    rules.chain(routes).any(|pattern| !matches!(pattern, "/" | "*")) || ruled.any(|when| !when.paths.is_empty())
}

/// A zone's first name, or one that is nobody's (RFC 6761 section 6.4).
fn stand_in(hosts: &[HostPattern]) -> Arc<str> {
    let name = hosts.iter().find_map(|host| match host {
        HostPattern::Exact(name) if name.contains(':') => Some(format!("[{name}]")),
        HostPattern::Exact(name) => Some(name.clone()),
        HostPattern::Wildcard(_) => None,
    });
    name.map_or_else(|| "nohost.invalid".into(), Into::into)
}

/// All zones at one moment.
#[derive(Debug, Default)]
pub struct Zones {
    all: Vec<Arc<Zone>>,
    exact: HashMap<Box<str>, Arc<Zone>>,
    wildcard: HashMap<Box<str>, Arc<Zone>>,
    default: Option<Arc<Zone>>,
}

/// The snapshot in force, shared by all rooms; a request keeps the zone it began with.
pub type Current = Arc<ArcSwap<Zones>>;

impl Zones {
    /// The snapshot of a checked configuration (each host in one zone, one default at most).
    pub fn new(zones: &[config::Zone]) -> Self {
        Self::without(zones, |_| false)
    }

    /// The same, in which the zones for which `out` holds are answered 503.
    pub fn without(zones: &[config::Zone], out: impl Fn(&str) -> bool) -> Self {
        let mut this = Self::default();
        for zone in zones {
            let mut shared = Zone::new(zone);
            shared.out = out(&zone.name);
            let shared = Arc::new(shared);
            for host in &zone.hosts {
                let (map, name) = match host {
                    HostPattern::Exact(name) => (&mut this.exact, name),
                    HostPattern::Wildcard(suffix) => (&mut this.wildcard, suffix),
                };
                map.insert(name.as_str().into(), shared.clone());
            }
            if zone.default {
                this.default = Some(shared.clone());
            }
            this.all.push(shared);
        }
        this
    }

    /// The zone of `host` (lower case, no port, no trailing dot, address literals without
    /// brackets): the exact name, else the wildcard one label up, else the default zone, which an
    /// empty host names too.
    pub fn find(&self, host: &str) -> Option<&Arc<Zone>> {
        self.named(host).or(self.default.as_ref())
    }

    /// The zone that names `host` itself, the default zone left aside.
    pub fn named(&self, host: &str) -> Option<&Arc<Zone>> {
        self.exact.get(host).or_else(|| {
            let (_, suffix) = host.split_once('.')?;
            self.wildcard.get(suffix)
        })
    }

    /// All zones in the file's order.
    pub fn all(&self) -> &[Arc<Zone>] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let text = r#"
            [server]
            http = ["127.0.0.1:80"]
            [[zone]]
            name = "a"
            hosts = ["a.example", "*.a.example"]
            [zone.origin]
            servers = [{ address = "http://127.0.0.1:1" }]
            [[zone]]
            name = "b"
            hosts = ["b.a.example"]
            default = true
            [zone.origin]
            servers = [{ address = "http://127.0.0.1:1" }]
        "#;
        Zones::new(
            &config::Config::parse(std::path::Path::new("test.toml"), text)
                .unwrap()
                .zones,
        )
    }

    /// A host in the wrong zone is another tenant's traffic.
    #[test]
    fn exact_before_wildcard_before_default() {
        let zones = zones();
        let name = |host| zones.find(host).map(|z| z.name.to_string());
        assert_eq!(name("a.example").as_deref(), Some("a"));
        assert_eq!(name("x.a.example").as_deref(), Some("a"));
        assert_eq!(name("b.a.example").as_deref(), Some("b"));
        assert_eq!(
            name("x.y.a.example").as_deref(),
            Some("b"),
            "a wildcard covers one label"
        );
        assert_eq!(name("").as_deref(), Some("b"));
        assert!(zones.named("other.example").is_none());
    }
}
