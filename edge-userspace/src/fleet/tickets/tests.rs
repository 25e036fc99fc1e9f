//! Nodes that hear each other, and some that do not.

use std::collections::BTreeMap;

use super::*;
use crate::fleet::index::{Member, Standing};

const LIFE: Duration = Duration::from_secs(6 * 3_600);

/// Nodes, and what is on its way between them.
struct World {
    now: UnixTime,
    index: Arc<Index>,
    nodes: BTreeMap<String, Tickets>,
    /// Who is cut off.
    away: BTreeSet<String>,
    /// What has been said, as the engine saw it.
    seen: Vec<String>,
}

fn index(names: &[&str]) -> Arc<Index> {
    let nodes = names.iter().map(|name| {
        let identity = Identity::generate().unwrap();
        Member {
            name: (*name).to_owned(),
            key: identity.signer.public(),
            seal: identity.recipient(),
            state: Standing::InService,
        }
    });
    Arc::new(Index {
        nodes: nodes.collect(),
        ..Index::default()
    })
}

impl World {
    fn new(names: &[&str]) -> Self {
        let mut world = Self {
            now: UnixTime::from_secs(1_000_000),
            index: index(names),
            nodes: BTreeMap::new(),
            away: BTreeSet::new(),
            seen: Vec::new(),
        };
        for name in names {
            world.start(name);
        }
        world
    }

    fn start(&mut self, name: &str) {
        self.nodes.insert(name.to_owned(), Tickets::new("shop", name).unwrap());
    }

    /// A second goes by.
    fn second(&mut self) {
        self.now = self.now.after(Duration::from_secs(1));
        // One after the other, as in life.
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            if !self.away.contains(&name) {
                let node = self.nodes.get_mut(&name).unwrap();
                let said = node.tick(self.now, &self.index, LIFE).unwrap();
                self.carry(said.into_iter().map(|said| (name.clone(), said)).collect());
            }
        }
    }

    fn carry(&mut self, mut queue: VecDeque<(String, (Target, Said))>) {
        let mut hops = 0;
        while let Some((by, (target, said))) = queue.pop_front() {
            hops += 1;
            assert!(hops < 1_000, "messages without end");
            let text = serde_json::to_string(&said).unwrap();
            assert!(text.len() < 4_096, "{text}");
            self.seen.push(text.clone());
            for (name, node) in &mut self.nodes {
                let is_to = match &target {
                    Target::All => true,
                    Target::Node(to) => to == name,
                };
                if is_to && *name != by && !self.away.contains(name) {
                    let said = serde_json::from_str(&text).unwrap();
                    let answers = node.heard(self.now, &by, said).unwrap_or_default();
                    queue.extend(answers.into_iter().map(|said| (name.clone(), said)));
                }
            }
        }
    }

    fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second();
        }
    }

    fn names(&self, node: &str) -> Vec<[u8; NAME]> {
        self.nodes[node].held.iter().map(|held| held.key.name).collect()
    }

    /// What seals at a node.
    fn newest(&self, node: &str) -> &TicketKey {
        &self.nodes[node].held[0].key
    }
}

/// Nodes would seal by keys of their own, or by one for ever, or each by another one of the
/// fleet's.
#[test]
fn nodes_seal_by_the_same_keys_which_are_replaced() {
    let mut world = World::new(&["a", "b", "c"]);
    world.seconds(60);
    let first = world.newest("a").clone();
    for node in ["a", "b", "c"] {
        assert_eq!(world.newest(node).name, first.name);
        assert_eq!(**world.newest(node).secret, **first.secret);
    }
    let secret = BASE64.encode(first.secret.as_slice());
    let hex = HEXLOWER.encode(first.secret.as_slice());
    assert!(
        !world
            .seen
            .iter()
            .any(|text| text.contains(&secret) || text.contains(&hex))
    );
    assert!(
        world
            .nodes
            .get_mut("b")
            .unwrap()
            .changed()
            .is_some_and(|keys| keys.len() == 1)
    );
    assert!(world.nodes.get_mut("b").unwrap().changed().is_none());
    // One that comes later is given what there is.
    world.start("c");
    world.seconds(10);
    assert_eq!(world.newest("c").name, first.name);
    // Half a life later there is another one, and the old one goes when its last ticket has ended.
    world.now = world.now.after(LIFE / 2);
    world.seconds(60);
    let second = world.newest("b").name;
    assert_ne!(second, first.name);
    for node in ["a", "b", "c"] {
        assert_eq!(world.names(node), [second, first.name], "{node}");
    }
    world.now = first.made.after(ends(LIFE).1);
    world.seconds(120);
    for node in ["a", "b", "c"] {
        assert!(
            !world.names(node).contains(&first.name) && world.names(node).len() <= 3,
            "{node}"
        );
    }
    assert_eq!(world.names("a"), world.names("b"));
}

/// Two halves of a fleet that did not hear each other would never know each other's clients again.
#[test]
fn halves_come_together() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.away.extend(["c".to_owned(), "d".to_owned()]);
    world.seconds(60);
    assert!(world.names("c").is_empty() && world.names("a") == world.names("b"));
    world.away = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    world.seconds(60);
    assert_ne!(world.names("a"), world.names("c"));
    world.away.clear();
    world.seconds(300);
    for node in ["b", "c", "d"] {
        assert_eq!(world.names("a"), world.names(node), "{node}");
    }
    assert_eq!(world.names("a").len(), 2);
}

/// A stolen node would read tickets after it was taken out, by keys that it has, or that a node
/// hands it which has not heard of that.
#[test]
fn a_node_that_is_taken_out_knows_no_key() {
    let mut world = World::new(&["a", "b", "c"]);
    world.seconds(60);
    let known = world.names("c");
    let full = world.index.clone();
    let without = Arc::new(Index {
        nodes: full.nodes.iter().filter(|node| node.name != "c").cloned().collect(),
        ..Index::default()
    });
    // a has heard of it, b not yet.
    let now = world.now;
    let a = world.nodes.get_mut("a").unwrap();
    a.tick(now, &without, LIFE).unwrap();
    assert!(a.changed().is_some_and(|keys| keys.is_empty()));
    let session = world.nodes["a"].session.recipient();
    let b = world.nodes.get_mut("b").unwrap();
    let offer = b.holds(false);
    let given = b.answer(now, "a", &session, &[], true);
    assert_eq!(given.len(), 1);
    let a = world.nodes.get_mut("a").unwrap();
    assert_eq!(a.heard(now, "b", offer).unwrap_err(), Refused::Members);
    for (_, said) in given {
        assert_eq!(a.heard(now, "b", said).unwrap_err(), Refused::Members);
    }
    world.index = without;
    world.seconds(60);
    assert_eq!(world.names("a"), world.names("b"));
    assert!(!world.names("a").is_empty() && !known.iter().any(|name| world.names("a").contains(name)));
    // One that comes is no reason to forget.
    let before = world.names("a");
    let mut more = Index::clone(&world.index);
    more.nodes.extend(index(&["e"]).nodes.iter().cloned());
    world.index = Arc::new(more);
    world.nodes.remove("c");
    world.start("e");
    world.seconds(60);
    assert_eq!(world.names("e"), before);
}

/// Whoever carries messages could give a node keys that it knows, or old ones again.
#[test]
fn keys_are_for_one_process_and_time() {
    let mut world = World::new(&["a", "b"]);
    world.seconds(60);
    let now = world.now;
    let session = world.nodes["b"].session.recipient();
    let said = world.nodes.get_mut("a").unwrap().answer(now, "b", &session, &[], true);
    let Some((_, Said::Gives { members, session, keys })) = said.into_iter().next() else {
        panic!()
    };
    let gives = |keys: Vec<Given>| Said::Gives { members, session, keys };
    world.start("b");
    world.seconds(1);
    let b = world.nodes.get_mut("b").unwrap();
    assert_eq!(
        b.heard(now, "a", gives(keys.clone())).unwrap_err(),
        Refused::Stray,
        "another process"
    );
    let session = b.session.recipient();
    let said = world.nodes.get_mut("a").unwrap().answer(now, "b", &session, &[], true);
    let Some((_, Said::Gives { keys, .. })) = said.into_iter().next() else {
        panic!()
    };
    let gives = |keys: Vec<Given>| Said::Gives { members, session, keys };
    let b = world.nodes.get_mut("b").unwrap();
    b.held.clear();
    let mut late = keys.clone();
    late[0].made += 1;
    assert_eq!(
        b.heard(now, "a", gives(late)).unwrap_err(),
        Refused::Unsound,
        "another time"
    );
    let mut named = keys.clone();
    named[0].name = Name([9; NAME]);
    assert_eq!(
        b.heard(now, "a", gives(named)).unwrap_err(),
        Refused::Unsound,
        "another name"
    );
    let old = now.after(ends(LIFE).1 * 2);
    assert_eq!(b.heard(old, "a", gives(keys.clone())).unwrap_err(), Refused::Untimely);
    let many: Vec<_> = std::iter::repeat_n(keys[0].clone(), MOST_KEYS + 1).collect();
    assert_eq!(b.heard(now, "a", gives(many)).unwrap_err(), Refused::Unsound);
    assert_eq!(
        b.heard(now, "x", gives(keys.clone())).unwrap_err(),
        Refused::Members,
        "a stranger"
    );
    assert_eq!(b.count(), 0);
    b.heard(now, "a", gives(keys)).unwrap();
    assert_eq!(b.count(), 1);
}

/// A node on its own would keep a key that nobody else has, or ask itself.
#[test]
fn a_fleet_of_one_says_nothing() {
    let mut world = World::new(&["a"]);
    world.seconds(120);
    assert!(world.seen.is_empty() && world.names("a").is_empty());
}
