//! The gate as `node` builds it: zones with their state, replaced on reload, and the figures a tick
//! brings up to date. Plain HTTP types only; `route::gated` stands between it and the handlers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use zeroize::Zeroizing;

use super::account::Account;
use super::clock::{Clock, Now, nanos};
use super::crawlers::Directory;
use super::decide::Judge;
use super::door::Door;
use super::external::Service;
use super::feed::{self, Changes};
use super::keys::Secret;
use super::metrics::Metrics;
use super::page::Template;
use super::pass::{Passes, Used};
use super::penalty::Book;
use super::reverse::{Named, Reverse};
use super::texts::Catalogue;
use super::token::Tokens;
use super::verdict::{Admission, Admitted, Attempt, Decision};
use super::zone::{Files, Meter, ZoneGate};
use crate::base::file;
use crate::base::penalty::Level;
use crate::config::gate::{Cookie, Crawler, External, Node, Policy, Rule};
use crate::config::{self, Faults, Mistake, Mistakes, Place};

/// Changes that may wait for the kernel.
const FEED_ROOM: usize = 8_192;
/// Bytes of a waiting page, of its texts, and of a crawler's keys.
const TEXT_BYTES: u64 = 1 << 20;

/// All gates of a node.
pub struct Gate {
    clock: Clock,
    judge: Judge,
    passes: Arc<dyn Passes>,
    zones: ArcSwap<HashMap<Arc<str>, Arc<ZoneGate>>>,
    /// Held while zones are replaced.
    reloading: std::sync::Mutex<()>,
    reverse: Reverse,
    metrics: Metrics,
    /// When the gauges were brought up to date last, on the steady clock, in nanoseconds.
    ticked: AtomicU64,
}

/// The waiting pages of the zones that have a gate, the keys of crawlers and those of challenges,
/// by the zone's name: all of a gate that can fail.
#[derive(Debug, Default)]
pub struct Pages(HashMap<Arc<str>, Files>);

impl Pages {
    /// Those of a zone.
    pub(super) fn take(&mut self, zone: &str) -> Option<Files> {
        self.0.remove(zone)
    }
}

/// Reads the waiting pages that `zones` name. A zone whose page cannot be used is told among the
/// faults.
pub fn pages(zones: &[config::Zone], faults: &mut Faults) -> Pages {
    let mut pages = HashMap::new();
    for zone in zones {
        let Some(config) = zone.gate.as_ref().filter(|gate| !gate.rules.is_empty()) else {
            continue;
        };
        let texts = config.texts.as_ref().map_or_else(|| Ok(Catalogue::default()), texts);
        let page = config.page.as_ref().map_or_else(|| Ok(Template::default()), page);
        let crawlers = crawlers(&config.crawlers);
        let services = services(&config.rules);
        let files = texts.and_then(|texts| {
            Ok(Files {
                page: page?.with_texts(texts),
                crawlers: crawlers?,
                services: services?,
            })
        });
        match files {
            Ok(files) => {
                pages.insert(zone.name.clone(), files);
            }
            Err(mistake) => faults.zone(&zone.name, mistake),
        }
    }
    Pages(pages)
}

/// The text of a file that a gate names; one that is a pipe is refused, not waited for.
fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    file::text(path, TEXT_BYTES)
}

fn page((path, place): &(PathBuf, Place)) -> Result<Template, Mistake> {
    let wrong = |what: String, mend: &str| place.mistake(format!("{}: {what}", path.display()), mend);
    let text = read(path).map_err(|e| wrong(e.to_string(), "name a file that can be read, of at most 1MiB"))?;
    let known = "known: {{refresh}} {{nonce}} {{seconds}} {{ahead}} {{estimate}} {{zone}} {{message}} {{title}} \
                 {{language}} {{direction}} {{bar}} {{work}}";
    Template::parse(&text).map_err(|e| wrong(e.to_string(), known))
}

fn crawlers(crawlers: &[Crawler]) -> Result<Directory, Mistake> {
    let mut directory = Directory::default();
    for Crawler {
        name,
        keys,
        hosts,
        agent,
        ..
    } in crawlers
    {
        if !hosts.is_empty() {
            directory.add_named(name, agent.as_deref().unwrap_or(name), hosts);
        }
        let Some((path, place)) = keys else { continue };
        let wrong = |what: String, mend: &str| place.mistake(format!("{}: {what}", path.display()), mend);
        let text = read(path).map_err(|e| wrong(e.to_string(), "name a file that can be read, of at most 1MiB"))?;
        let mend =
            "write the crawler's directory of keys: {\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": …}]}";
        directory.add(name, &text).map_err(|e| wrong(e.to_string(), mend))?;
    }
    Ok(directory)
}

/// The services that rules hand visitors to, by the rule's name.
fn services(rules: &[Rule]) -> Result<HashMap<String, Arc<Service>>, Mistake> {
    let external = rules.iter().filter_map(|rule| match &rule.policy {
        Policy::External(external) => Some((&rule.name, external)),
        _ => None,
    });
    let service = |(
        name,
        External {
            url,
            key: (path, place),
        },
    ): (&String, &External)| {
        let key = Secret::read(path).map_err(|error| error.mistake(place))?;
        Ok((name.clone(), Arc::new(Service::new(url, &key))))
    };
    external.map(service).collect()
}

fn texts((path, place): &(PathBuf, Place)) -> Result<Catalogue, Mistake> {
    let wrong = |what: String, mend: &str| place.mistake(format!("{}: {what}", path.display()), mend);
    let text = read(path).map_err(|e| wrong(e.to_string(), "name a file that can be read, of at most 1MiB"))?;
    let mend = "write a table for each language, like [de], with the texts that docs/gate.md names";
    Catalogue::parse(&text).map_err(|e| wrong(e.to_string(), mend))
}

impl Gate {
    /// Gates for `zones`; the changes are for the thread that feeds the kernel.
    ///
    /// # Errors
    /// Templates that cannot be read or used.
    pub fn new(
        node: &Node,
        zones: &[config::Zone],
        passes: Arc<dyn Passes>,
        metrics: Metrics,
    ) -> Result<(Self, Changes), Mistakes> {
        let (gate, changes) = Self::empty(node, passes, metrics);
        let mut faults = Faults::default();
        let pages = pages(zones, &mut faults);
        faults.or(())?;
        gate.install(zones, pages, |_| false);
        Ok((gate, changes))
    }

    /// The same without zones, until they are installed.
    pub fn empty(node: &Node, passes: Arc<dyn Passes>, metrics: Metrics) -> (Self, Changes) {
        let (feed, changes) = feed::channel(FEED_ROOM);
        let changes = changes.timed_by(metrics.latency.clone());
        let book = Arc::new(Book::new(node.penalties, feed));
        let gate = Self {
            clock: Clock::new(),
            judge: Judge::new((node.clients, node.keys), node.trials, book, passes.clone()),
            passes,
            zones: ArcSwap::default(),
            reloading: std::sync::Mutex::default(),
            reverse: Reverse::new(&node.resolvers),
            metrics,
            ticked: AtomicU64::new(0),
        };
        (gate, changes)
    }

    /// Replaces the zones by `zones` with their `pages`; queues, permits and buckets of what has
    /// not changed live on. A zone for which `keeps` holds stays as it is; one without a page has
    /// no gate.
    pub fn install(&self, zones: &[config::Zone], mut pages: Pages, keeps: impl Fn(&str) -> bool) {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.zones.load();
        let mut new = HashMap::new();
        for zone in zones {
            let known = old.get(&zone.name);
            if keeps(&zone.name) {
                new.extend(known.map(|gate| (zone.name.clone(), gate.clone())));
                continue;
            }
            let Some((config, files)) = zone.gate.as_ref().zip(pages.take(&zone.name)) else {
                continue;
            };
            let id = self.judge.zone_id(&zone.name);
            let named = (&zone.name, &zone.hosts[..]);
            let gate = ZoneGate::new(named, id, config, files, &self.metrics, known.map(|old| &**old));
            new.insert(zone.name.clone(), Arc::new(gate));
        }
        self.zones.store(Arc::new(new));
    }

    /// The gate of zone `name`.
    ///
    /// # Errors
    /// It has none: everybody is let in.
    pub fn zone(&self, name: &str) -> Result<Arc<ZoneGate>, Admitted> {
        self.zones.load().get(name).cloned().ok_or(Admitted::decided())
    }

    /// Decides about one request now.
    pub fn decide(&self, zone: &ZoneGate, attempt: &Attempt<'_>) -> Decision {
        self.judge.decide(self.clock.now(), zone, attempt)
    }

    /// The crawler of these whose address this is. Takes part of a second at most, and no time if
    /// there are none.
    pub async fn crawler(&self, claimed: Claimed, address: IpAddr) -> Option<Arc<str>> {
        for crawler in claimed.0 {
            let by = (&*self.judge.buckets, &self.clock);
            if self.reverse.is_of(by, address, &crawler).await {
                return Some(crawler.name);
            }
        }
        None
    }

    /// What an admitted request owes, if it does: to be kept until the response is there, and among
    /// the request's extensions.
    pub fn account(&self, admission: &mut Admission) -> Option<Account> {
        let debts = std::mem::take(&mut admission.debts);
        if debts.is_empty() {
            return None;
        }
        Some(Account::new(self.clock.clone(), self.judge.buckets.clone(), debts))
    }

    /// How long an operator's word keeps whoever is behind `address` from being served, in whatever
    /// zone.
    pub fn barred(&self, address: IpAddr) -> Option<Duration> {
        if !self.judge.book.any_added() {
            return None;
        }
        self.judge.barred(self.clock.now(), address)
    }

    /// 128 random bits for a page.
    pub fn nonce(&self) -> u128 {
        u128::from(self.passes.client()) << 64 | u128::from(self.passes.client())
    }

    /// What judges clients of penalised addresses at the ClientHello, by tickets that carry headers
    /// of `tokens`.
    pub fn door(&self, tokens: Arc<Tokens>) -> Door {
        let Judge { book, neighbours, .. } = &self.judge;
        Door::new(self.clock.clone(), book.clone(), neighbours.clone(), tokens)
    }

    /// The gate's clock: penalties are reckoned by it.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Offences and penalties: list, add and lift for operators, and the feeding thread's source.
    pub fn book(&self) -> &Arc<Book> {
        &self.judge.book
    }

    /// Brings the gauges up to date; once a second or so.
    pub fn tick(&self) {
        let now: Now = self.clock.now();
        let told = self.ticked.swap(nanos(now.mono), Ordering::Relaxed);
        self.judge.book.turn(now.mono, Duration::from_nanos(told));
        let list = self.judge.book.list(now.mono);
        let blocked = list.iter().filter(|c| c.level == Some(Level::Blocked)).count();
        self.metrics.set_penalties(list.len() - blocked, blocked);
        let [clients, keys] = self.judge.buckets.fill();
        self.metrics.set_table("buckets", clients);
        self.metrics.set_table("keys", keys);
        let [penalties, attempts] = self.judge.book.fill();
        self.metrics.set_table("penalties", penalties);
        self.metrics.set_table("attempts", attempts);
        self.used(self.passes.used());
        self.metrics.set_feed(self.judge.book.feed().counts());
        for zone in self.zones.load().values() {
            for rule in &zone.rules {
                if let Meter::Queue(queue) = &rule.meter {
                    let (waiting, active, _) = queue.lengths(now);
                    self.metrics.set_queue(&zone.name, waiting, active);
                }
            }
        }
    }
}

impl Gate {
    /// Figures of the admissions that are remembered; a word in the log when there was no room for
    /// one.
    fn used(&self, used: Used) {
        let Used {
            remembered,
            room,
            refused,
        } = used;
        self.metrics.set_table("used_tokens", (remembered, room, 0));
        if self.metrics.count_full(refused) {
            tracing::warn!(
                target: "edge::gate",
                refused,
                remembered,
                room,
                "visitors who have waited are not let in: more admissions than [gate] used_tokens remembers; raise it"
            );
        }
    }
}

/// The crawlers that a request says that it is of.
#[derive(Debug)]
pub struct Claimed(Vec<Named>);

impl ZoneGate {
    /// The crawlers that a request with these fields says that it is of, of those that are known by
    /// the names of their addresses.
    pub fn claimed(&self, headers: &HeaderMap) -> Claimed {
        Claimed(self.crawlers.claimed(headers).cloned().collect())
    }

    /// The zone's cookie.
    pub fn cookie(&self) -> &Cookie {
        &self.config.cookie
    }

    /// The zone's waiting page.
    pub fn page(&self) -> &Template {
        &self.page
    }

    /// Whether the zone only counts.
    pub fn is_dry_run(&self) -> bool {
        self.config.dry_run
    }
}
