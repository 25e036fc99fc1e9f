//! Three nodes and an engine in memory, honest and hostile. Each test ends as soon as what it waits
//! for is so.

use super::*;
use crate::base::shutdown;
use crate::fleet::Digest;
use crate::fleet::deploy::{Deployer, Draft, Fleet};
use crate::fleet::event::Order;
use crate::fleet::head::{Head, Said};
use crate::fleet::index::{File, Member};
use crate::fleet::key::Signer;
use crate::fleet::memory::Memory;

const SECOND: Duration = Duration::from_secs(1);

/// A node that remembers what was done to it.
#[derive(Default)]
struct Fake {
    actions: Mutex<Vec<Action>>,
    voids: AtomicU64,
    /// What `edge.toml` of the manifest in force says.
    text: Mutex<String>,
    /// Keys of session tickets.
    keys: Mutex<Vec<TicketKey>>,
}

impl Host for Arc<Fake> {
    fn prepare(&self, tree: &Path) -> Result<Install, String> {
        let text = std::fs::read_to_string(tree.join("edge.toml")).map_err(|error| error.to_string())?;
        if text.contains("wrong") {
            return Err("edge.toml:1: it is wrong".to_owned());
        }
        let this = self.clone();
        Ok(Box::new(move || *lock(&this.text) = text))
    }

    fn apply(&self, action: &Action, _: bool) -> Result<(), String> {
        lock(&self.actions).push(action.clone());
        Ok(())
    }

    fn void(&self) {
        self.voids.fetch_add(1, Ordering::SeqCst);
    }

    fn ticket_life(&self) -> Option<Duration> {
        Some(SECOND * 3_600)
    }

    fn share(&self, keys: &[TicketKey]) {
        *lock(&self.keys) = keys.to_vec();
    }
}

struct Node {
    agent: Arc<Agent>,
    fake: Arc<Fake>,
    task: tokio::task::JoinHandle<()>,
    ends: shutdown::Trigger,
}

impl Node {
    fn heard(&self, action: &Action) -> bool {
        lock(&self.fake.actions).contains(action)
    }

    fn voids(&self) -> u64 {
        self.fake.voids.load(Ordering::SeqCst)
    }

    fn text(&self) -> String {
        lock(&self.fake.text).clone()
    }

    async fn stop(self) {
        self.ends.advance(Phase::Draining);
        self.task.await.unwrap();
    }
}

struct Bed {
    engine: Memory,
    directory: tempfile::TempDir,
    deploy: Signer,
    fleet: Fleet,
    keys: Vec<(String, Arc<Identity>)>,
}

impl Bed {
    fn new(names: &[&str]) -> Self {
        let deploy = Signer::generate().unwrap();
        let keys: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), Arc::new(Identity::generate().unwrap())))
            .collect();
        let node = keys.iter().map(|(name, key)| Member {
            name: name.clone(),
            key: key.signer.public(),
            seal: key.recipient(),
            state: Standing::InService,
        });
        let fleet = Fleet {
            name: "shop".to_owned(),
            engine: Vec::new(),
            keys: vec![deploy.public()],
            threshold: 1,
            replicas: 1,
            ca: None,
            operators: vec![deploy.public()],
            secrets: Vec::new(),
            vault: Vec::new(),
            node: node.collect(),
        };
        Self {
            engine: Memory::default(),
            directory: tempfile::tempdir().unwrap(),
            deploy,
            fleet,
            keys,
        }
    }

    /// Whether it was ever started.
    fn runs(&self, name: &str) -> bool {
        self.directory.path().join(name).exists()
    }

    async fn start(&self, name: &str) -> Node {
        let fake = Arc::new(Fake::default());
        let identity = self.keys.iter().find(|(known, _)| known == name).unwrap().1.clone();
        let settings = Settings {
            node: name.to_owned(),
            identity,
            trust: self.fleet.trust(),
            directory: self.directory.path().join(name),
            most: 1 << 20,
        };
        let agent = Agent::open(
            settings,
            Arc::new(self.engine.clone()),
            Arc::new(fake.clone()),
            Metrics::default(),
        )
        .unwrap();
        if let Some(held) = agent.held() {
            let tree = agent.store.tree(&held.head);
            Host::prepare(&fake, &tree).unwrap()();
        }
        agent.wake(SECOND / 2).await;
        let (ends, shutdown) = shutdown::channel();
        let task = tokio::spawn(agent.clone().run(shutdown));
        Node {
            agent,
            fake,
            task,
            ends,
        }
    }

    fn draft(&self, text: &str) -> Draft {
        let digest = Digest::of(text.as_bytes());
        let file = File {
            path: "edge.toml".to_owned(),
            digest,
            length: text.len() as u64,
            vault: None,
        };
        Draft {
            index: Index {
                files: vec![file],
                nodes: self.fleet.node.clone(),
                operators: self.fleet.operators.clone(),
                ..Index::default()
            },
            blobs: BTreeMap::from([(digest, text.as_bytes().to_vec())]),
        }
    }

    /// Deploys, and says where it is in force.
    async fn deploy(&self, text: &str) -> super::super::deploy::Outcome {
        self.deploy_draft(self.draft(text)).await
    }

    async fn deploy_draft(&self, draft: Draft) -> super::super::deploy::Outcome {
        let deployer = Deployer::connect(&self.engine, &self.fleet).await.unwrap();
        let index = draft.index.clone();
        let (head, sent) = deployer
            .publish(draft, std::slice::from_ref(&self.deploy))
            .await
            .unwrap();
        let absent = index.in_service().any(|node| !self.runs(node));
        let patience = if absent { SECOND * 2 } else { SECOND * 10 };
        deployer.outcome(&head, &index, sent, patience).await.unwrap()
    }
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < SECOND * 20, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn purge(n: u32) -> Action {
    Action::PurgeUrl(format!("https://shop.example/{n}"))
}

/// A deployment would reach some nodes, or one that cannot take it would stop serving.
#[tokio::test]
async fn a_manifest_is_in_force_everywhere_or_refused_with_the_reason() {
    let bed = Bed::new(&["a", "b", "c"]);
    let (a, b) = (bed.start("a").await, bed.start("b").await);
    let first = bed.draft("one");
    let outcome = bed.deploy_draft(first).await;
    assert_eq!(outcome.in_force.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(outcome.silent.iter().collect::<Vec<_>>(), ["c"]);
    // A node that comes later takes what there is.
    let c = bed.start("c").await;
    until("c takes it", || c.text() == "one").await;
    let refused = bed.deploy("wrong").await;
    assert_eq!(refused.refused.len(), 3);
    assert!(refused.refused["a"].contains("edge.toml:1: it is wrong"));
    assert_eq!(
        (a.text(), a.agent.counter()),
        ("one".to_owned(), 1),
        "the old one stays"
    );
    assert_eq!(a.agent.view().refused.unwrap().0, 2);
    let outcome = bed.deploy("three").await;
    assert!(outcome.is_whole() && outcome.counter == 3, "{outcome:?}");
    assert_eq!((b.text(), c.text()), ("three".to_owned(), "three".to_owned()));

    // A restart with the engine away serves what is on the disk.
    bed.engine.fall();
    b.stop().await;
    let b = bed.start("b").await;
    assert_eq!((b.text(), b.agent.counter()), ("three".to_owned(), 3));
    assert_eq!(b.voids(), 1, "what was purged meanwhile is not known");
    bed.engine.rise();
    until("b is back", || {
        b.agent.view().connected && a.agent.view().connected && c.agent.view().connected
    })
    .await;
    let outcome = bed.deploy("four").await;
    assert!(outcome.is_whole(), "{outcome:?}");
}

/// Canaries take a manifest first; the others would be hit by what was to be tried.
#[tokio::test]
async fn canaries_first() {
    let bed = Bed::new(&["a", "b"]);
    let (a, b) = (bed.start("a").await, bed.start("b").await);
    assert!(bed.deploy("one").await.is_whole());
    let mut draft = bed.draft("two");
    draft.index.only = vec!["a".to_owned()];
    let outcome = bed.deploy_draft(draft).await;
    assert!(outcome.is_whole() && outcome.fetched.contains("b"), "{outcome:?}");
    assert_eq!((a.text(), b.text()), ("two".to_owned(), "one".to_owned()));
    assert!(bed.deploy("two").await.is_whole());
    assert_eq!(b.text(), "two");
    let deployer = Deployer::connect(&bed.engine, &bed.fleet).await.unwrap();
    let (counter, draft) = deployer.earlier(Some(1)).await.unwrap();
    assert_eq!(counter, 1);
    assert!(bed.deploy_draft(draft).await.is_whole());
    assert_eq!((a.text(), a.agent.counter()), ("one".to_owned(), 4));
    // A drained node says so, and nothing waits for it.
    let drained = deployer.restanding("b", Standing::Drained).await.unwrap();
    assert!(bed.deploy_draft(drained).await.in_force.contains_key("a"));
    until("b is drained", || !b.agent.is_ready()).await;
    b.stop().await;
    let report = a.agent.issue(purge(1), None, SECOND * 5).await.unwrap();
    assert!(report.is_proven() && report.out == ["b"], "{report:?}");
}

/// A purge would be called done while a node serves the old page.
#[tokio::test]
async fn a_purge_is_proven_by_every_node_in_service() {
    let bed = Bed::new(&["a", "b", "c"]);
    let (a, b, c) = (bed.start("a").await, bed.start("b").await, bed.start("c").await);
    assert!(
        a.agent.issue(purge(0), None, SECOND).await.is_err(),
        "there is no manifest yet"
    );
    assert!(bed.deploy("one").await.is_whole());
    let report = a.agent.issue(purge(1), None, SECOND * 10).await.unwrap();
    assert!(report.is_proven() && report.proven.len() == 3, "{report:?}");
    assert!(a.heard(&purge(1)) && b.heard(&purge(1)) && c.heard(&purge(1)));
    let voids = (b.voids(), c.voids());

    // One is away: it is named, and hears of it when it comes back, before it serves.
    c.stop().await;
    let report = b.agent.issue(purge(2), None, SECOND / 4).await.unwrap();
    assert!(!report.is_proven() && report.silent == ["c"], "{report:?}");
    let c = bed.start("c").await;
    assert!(
        c.heard(&purge(2)) && c.voids() == 0,
        "heard before it serves, and nothing was missed"
    );
    assert_eq!((a.voids(), b.voids()), (voids.0, voids.0));

    // Operators say what nodes may not.
    let deny = Action::Deny("198.51.100.0/24".parse().unwrap());
    assert!(matches!(
        a.agent.issue(deny.clone(), None, SECOND).await,
        Err(IssueError::Unordered)
    ));
    let stranger = Order::new("shop", &deny, UnixTime::now(), &Signer::generate().unwrap());
    assert!(matches!(
        a.agent.issue(deny.clone(), Some(stranger), SECOND).await,
        Err(IssueError::NotAnOperator)
    ));
    let order = Order::new("shop", &deny, UnixTime::now(), &bed.deploy);
    let report = a.agent.issue(deny.clone(), Some(order), SECOND * 10).await.unwrap();
    assert!(report.is_proven() && c.heard(&deny), "{report:?}");
    let old = Order::new("shop", &deny, UnixTime::from_secs(1), &bed.deploy);
    assert!(matches!(
        b.agent.issue(deny, Some(old), SECOND).await,
        Err(IssueError::OldOrder)
    ));
}

/// Events and manifests that are dropped, replayed, turned round or withheld by the engine: old
/// pages would be served, or old rules be in force.
#[tokio::test]
async fn a_hostile_engine_delays_and_nothing_else() {
    let bed = Bed::new(&["a", "b"]);
    let (a, b) = (bed.start("a").await, bed.start("b").await);
    assert!(bed.deploy("one").await.is_whole());
    assert!(bed.deploy("two").await.is_whole());
    let kept = bed.engine.kept(Log::Heads);

    // It replays an old manifest, changes one, and forges one.
    for (number, bytes) in (3_u64..).zip([
        kept[0].clone(),
        Bytes::from(
            String::from_utf8(kept[0].to_vec())
                .unwrap()
                .replace("counter 1", "counter 9"),
        ),
        {
            let mut forged = Head::new(Said {
                counter: 9,
                ..Head::parse(&kept[1]).unwrap().said().clone()
            });
            forged.sign(&Signer::generate().unwrap());
            Bytes::from(forged.write())
        },
    ]) {
        bed.engine.inject(&Arrival::Entry {
            log: Log::Heads,
            number,
            bytes,
        });
    }
    // It drops arrivals: what is read makes up for it.
    bed.engine.twist(Some(Box::new(|arrival| match arrival {
        Arrival::Entry { log: Log::Events, .. } => Vec::new(),
        other => vec![other.clone()],
    })));
    let report = a.agent.issue(purge(1), None, SECOND * 15).await.unwrap();
    assert!(report.is_proven() && b.heard(&purge(1)), "{report:?}");
    assert_eq!(
        (a.agent.counter(), b.agent.counter(), b.text()),
        (2, 2, "two".to_owned())
    );

    // It replays events: they are not done again.
    bed.engine.twist(None);
    let before = lock(&b.fake.actions).len();
    let events = bed.engine.kept(Log::Events);
    for number in [1, 2, 77] {
        bed.engine.inject(&Arrival::Entry {
            log: Log::Events,
            number,
            bytes: events[0].clone(),
        });
    }
    let report = a.agent.issue(purge(2), None, SECOND * 10).await.unwrap();
    assert!(report.is_proven(), "{report:?}");
    assert_eq!(lock(&b.fake.actions).len(), before + 1);

    // It withholds one, in reading as in arrivals: the issuer's own number tells, and all that is
    // stored is void.
    let voids = b.voids();
    bed.engine.withhold(true);
    bed.engine.twist(Some(Box::new(|arrival| match arrival {
        Arrival::Entry { log: Log::Events, .. } => Vec::new(),
        other => vec![other.clone()],
    })));
    let report = a.agent.issue(purge(3), None, SECOND * 15).await.unwrap();
    assert!(!b.heard(&purge(3)) && b.voids() > voids, "{report:?}");
    assert!(report.is_proven(), "voiding everything is stronger: {report:?}");
    bed.engine.withhold(false);
    bed.engine.twist(None);

    // It turns two round.
    let stash: Arc<Mutex<Vec<Arrival>>> = Arc::default();
    let kept = stash.clone();
    bed.engine.twist(Some(Box::new(move |arrival| match arrival {
        Arrival::Entry { log: Log::Events, .. } => {
            let mut stash = lock(&kept);
            stash.push(arrival.clone());
            if stash.len() == 2 {
                stash.drain(..).rev().collect()
            } else {
                Vec::new()
            }
        }
        other => vec![other.clone()],
    })));
    let (four, five) = tokio::join!(
        a.agent.issue(purge(4), None, SECOND * 10),
        a.agent.issue(purge(5), None, SECOND * 10)
    );
    assert!(four.unwrap().is_proven() && five.unwrap().is_proven());
    until("b hears both", || b.heard(&purge(4)) && b.heard(&purge(5))).await;
}

/// An engine that forgot everything, or lies about blobs, would leave nodes without what they are.
#[tokio::test]
async fn a_wiped_engine_gets_the_manifest_back_and_forged_blobs_are_not_taken() {
    let bed = Bed::new(&["a", "b"]);
    let a = bed.start("a").await;
    assert_eq!(bed.deploy("one").await.in_force.len(), 1);
    bed.engine.wipe();
    until("the manifest is back", || !bed.engine.kept(Log::Heads).is_empty()).await;
    let b = bed.start("b").await;
    until("a new node takes it", || b.text() == "one").await;
    bed.engine.forge_blobs();
    let draft = bed.draft("two");
    let deployer = Deployer::connect(&bed.engine, &bed.fleet).await.unwrap();
    let (head, ..) = deployer
        .publish(draft, std::slice::from_ref(&bed.deploy))
        .await
        .unwrap();
    bed.engine.forge_blobs();
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!((a.agent.counter(), b.text()), (1, "one".to_owned()));
    assert_eq!(head.said().counter, 2);
}

/// A node whose clock is off would refuse what is sound, or take what is not.
#[tokio::test]
async fn clocks_decide_nothing_about_manifests_and_purges() {
    let bed = Bed::new(&["a", "b"]);
    let b = bed.start("b").await;
    // Signed ten years ahead, and ten years ago: the counter alone decides.
    let deployer = Deployer::connect(&bed.engine, &bed.fleet).await.unwrap();
    let (first, _) = deployer
        .publish(bed.draft("one"), std::slice::from_ref(&bed.deploy))
        .await
        .unwrap();
    until("b takes it", || b.text() == "one").await;
    let carrier = bed.engine.connect().await.unwrap();
    for (counter, time) in [(5, u64::MAX), (6, 0)] {
        let mut head = Head::new(Said {
            counter,
            time: UnixTime::from_millis(time),
            ..first.said().clone()
        });
        head.sign(&bed.deploy);
        carrier.append(Log::Heads, head.write().into()).await.unwrap();
        until("b takes it", || b.agent.counter() == counter).await;
    }
}

/// A client that comes to another node would shake hands in full; or whoever runs the engine would
/// read what clients resume.
#[tokio::test]
async fn nodes_share_the_keys_of_session_tickets() {
    let bed = Bed::new(&["a", "b", "c"]);
    let (a, b) = (bed.start("a").await, bed.start("b").await);
    // c has not been started yet.
    bed.deploy("one").await;
    let names = |node: &Node| lock(&node.fake.keys).iter().map(|key| key.name).collect::<Vec<_>>();
    until("a and b share", || !names(&a).is_empty() && names(&a) == names(&b)).await;
    let secret = lock(&a.fake.keys)[0].secret.clone();
    assert_eq!(**lock(&b.fake.keys)[0].secret, **secret);
    // One that is started later, and one that has lost all, get what there is.
    let c = bed.start("c").await;
    let known = names(&a);
    until("c is given them", || names(&c) == known).await;
    b.stop().await;
    let b = bed.start("b").await;
    until("b is given them again", || names(&b) == known).await;
    assert_eq!(names(&a), known);
    for node in [a, b, c] {
        node.stop().await;
    }
}
