//! Keys that seal TLS session tickets, the same on all nodes of a fleet, so that a client that
//! comes to another node is known there. Made by a node when there is none that is young enough,
//! and handed from node to node: sealed to a key that the receiver made at its start, keeps in
//! memory alone, and has signed, so that neither the engine nor any file of a node opens a ticket
//! (RFC 9325 section 3.3). Nodes hand keys only to those that agree with them on who is a node;
//! when one is taken out of the manifest, all keys are forgotten. A node that the fleet has left
//! alone goes on with keys of its own.
//!
//! A pure core: [`Tickets`] takes the time and messages, and gives messages. `agent` drives it once
//! a second, and gives the keys to the node through its host.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::index::Index;
use super::key::{Identity, Public, Recipient};
use super::{Digest, NoRandomness, key, random, seal};
use crate::base::clock::UnixTime;

/// Bytes of a key's name, which stands in front of what it seals.
pub const NAME: usize = 4;
/// Keys at once: three in a ticket's life, and those that were made beside them while nodes did not
/// hear each other.
pub const MOST_KEYS: usize = 8;
/// A key seals for half of a ticket's life; while nobody makes the next one, so much longer.
const GRACE: Duration = Duration::from_secs(300);
/// By which the clocks of nodes may be apart.
const SKEW: Duration = Duration::from_secs(300);
/// Others are asked so often, once a second, before a node makes a key itself; then it waits for a
/// random part of its turn among all.
const TRIES: u32 = 4;
/// Nodes do not make a key in the same moment: a second for each of them, up to this.
const MOST_TURN: u64 = 30;
/// A key that another node has is waited for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nodes tell what they hold this often, but all together not more than once a second.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Keys that are handed out in one second, so that askers cost little.
const MOST_GIVEN: u32 = 256;
/// Nodes that are remembered for holding a key that is missing here.
const MOST_SOURCES: usize = 8;

/// A key of the fleet's tickets.
#[derive(Clone)]
pub struct TicketKey {
    /// Its name.
    pub name: [u8; NAME],
    /// The key, for AES-256-GCM: in one place, that is wiped.
    pub secret: Arc<Zeroizing<[u8; 32]>>,
    /// When it was made, by the maker's clock.
    pub made: UnixTime,
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketKey({})", HEXLOWER.encode(&self.name))
    }
}

/// Until when a key of this age seals and opens tickets that live for `life`.
pub fn ends(life: Duration) -> (Duration, Duration) {
    let seals = life / 2 + GRACE;
    (seals, seals + life)
}

/// The recipients of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All nodes.
    All,
    /// One.
    Node(String),
}

/// What a node says to others.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// I hold these keys.
    Holds {
        /// Who is a node, as I know it.
        members: Digest,
        /// Keys for me are sealed to this, which is gone when I am.
        session: Recipient,
        /// Their names.
        names: Vec<Name>,
        /// Give me what I lack.
        asks: bool,
    },
    /// Here are keys.
    Gives {
        /// Who is a node, as I know it.
        members: Digest,
        /// The node that they are sealed for.
        session: Recipient,
        /// The keys.
        keys: Vec<Given>,
    },
}

/// A key's name, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name([u8; NAME]);

impl TryFrom<String> for Name {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let name = bytes.and_then(|bytes| bytes.try_into().ok());
        name.map(Self).ok_or("a key's name is eight hexadecimal digits")
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        HEXLOWER.encode(&name.0)
    }
}

/// A key on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    name: Name,
    /// Milliseconds since 1970.
    made: u64,
    /// Sealed, base64.
    sealed: String,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another idea of who is a node: one of both hears of a manifest later.
    Members,
    /// Sealed for somebody else, or for a process that is gone.
    Stray,
    /// It cannot be opened, or is longer than it may be.
    Unsound,
    /// A key that is too old, or of a time to come.
    Untimely,
}

impl Refused {
    /// For metrics; `None`: it happens in an honest fleet, at a deployment or a restart.
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Members | Self::Stray => None,
            Self::Unsound => Some("malformed"),
            Self::Untimely => Some("untimely"),
        }
    }
}

struct Held {
    key: TicketKey,
    /// Made here: others are told of it.
    ours: bool,
}

/// A key is missing, and others are asked for it.
struct Lack {
    tries: u32,
    /// When this node makes one itself.
    makes: UnixTime,
}

/// A node's part; see the module.
pub struct Tickets {
    fleet: String,
    node: String,
    /// Others seal to it.
    session: Identity,
    index: Option<Arc<Index>>,
    nodes: BTreeSet<(String, Public)>,
    members: Digest,
    life: Duration,
    held: Vec<Held>,
    lack: Option<Lack>,
    /// Who holds what is missing here.
    sources: VecDeque<String>,
    /// When all are told next what is held.
    tells: Option<UnixTime>,
    /// In this second.
    given: u32,
    changed: bool,
}

impl Tickets {
    /// For a node of a fleet, without keys.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(fleet: &str, node: &str) -> Result<Self, key::Error> {
        Ok(Self {
            fleet: fleet.to_owned(),
            node: node.to_owned(),
            session: Identity::generate()?,
            index: None,
            nodes: BTreeSet::new(),
            members: Digest::of(b""),
            life: Duration::ZERO,
            held: Vec::new(),
            lack: None,
            sources: VecDeque::new(),
            tells: None,
            given: 0,
            changed: false,
        })
    }

    /// The keys, if they have changed since this was asked last; the newest first.
    pub fn changed(&mut self) -> Option<Vec<TicketKey>> {
        let keys = || self.held.iter().map(|held| held.key.clone()).collect();
        let keys = self.changed.then(keys);
        self.changed = false;
        keys
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// Who is a node, from now on. If one of them is gone, or has another key, so are all keys: it
    /// knows them.
    fn roster(&mut self, index: &Arc<Index>) {
        if self.index.as_ref().is_some_and(|known| Arc::ptr_eq(known, index)) {
            return;
        }
        self.index = Some(index.clone());
        let nodes: BTreeSet<_> = index.nodes.iter().map(|node| (node.name.clone(), node.key)).collect();
        if nodes == self.nodes {
            return;
        }
        if !self.nodes.is_subset(&nodes) && !self.held.is_empty() {
            self.held.clear();
            self.changed = true;
        }
        let lines = nodes.iter().map(|(name, key)| format!("{name} {key}\n"));
        self.members = Digest::of(lines.collect::<String>().as_bytes());
        self.nodes = nodes;
        self.sources.clear();
        self.lack = None;
    }

    fn has(&self, name: Name) -> bool {
        self.held.iter().any(|held| held.key.name == name.0)
    }

    fn holds(&self, asks: bool) -> Said {
        Said::Holds {
            members: self.members,
            session: self.session.recipient(),
            names: self.held.iter().map(|held| Name(held.key.name)).collect(),
            asks,
        }
    }

    /// Wipes the keys whose last ticket has ended; to be called while the fleet cannot be reached,
    /// too.
    pub fn expire(&mut self, now: UnixTime) {
        let (_, opens) = ends(self.life);
        let before = self.held.len();
        self.held.retain(|held| now.since(held.key.made) <= opens);
        self.changed |= self.held.len() != before;
    }

    /// Once a second while the fleet can be reached, with the manifest in force and the life of
    /// tickets.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn tick(
        &mut self,
        now: UnixTime,
        index: &Arc<Index>,
        life: Duration,
    ) -> Result<Vec<(Target, Said)>, NoRandomness> {
        self.roster(index);
        self.given = 0;
        if self.life != life {
            self.life = life;
            self.changed |= !self.held.is_empty();
        }
        self.expire(now);
        let others = u64::try_from(self.nodes.len()).unwrap_or(u64::MAX).saturating_sub(1);
        let is_one = self.nodes.iter().any(|(name, _)| *name == self.node);
        if others == 0 || !is_one {
            return Ok(Vec::new());
        }
        let mut messages = Vec::new();
        if let Some(source) = self.sources.pop_front() {
            messages.push((Target::Node(source), self.holds(true)));
        }
        let young = |held: &Held| now.since(held.key.made) < life / 2;
        if self.held.iter().any(young) {
            self.lack = None;
        } else {
            self.seek(now, others, &mut messages)?;
        }
        if self.tells.is_none_or(|at| at <= now) {
            let first = self.tells.is_none();
            let pause = TOLD_EVERY.max(Duration::from_secs(others)).as_millis();
            let part = u128::from(u16::from_ne_bytes(random()?)) * pause / 65_536;
            let pause = u64::try_from(pause / 2 + part).unwrap_or(u64::MAX);
            self.tells = Some(now.after(Duration::from_millis(pause)));
            if !first && !self.held.is_empty() {
                messages.push((Target::All, self.holds(false)));
            }
        }
        Ok(messages)
    }

    /// No key is young enough to seal: another node is asked, and then another; when they have had
    /// time to answer, this one makes a key.
    fn seek(&mut self, now: UnixTime, others: u64, messages: &mut Vec<(Target, Said)>) -> Result<(), NoRandomness> {
        let chance = u64::from(u32::from_ne_bytes(random()?));
        let lack = match &mut self.lack {
            Some(lack) => lack,
            none => {
                let turn = others.min(MOST_TURN) * 1_000 * (chance >> 16) / 65_536;
                let wait = Duration::from_secs(u64::from(TRIES) + 1) + Duration::from_millis(turn);
                none.insert(Lack {
                    tries: 0,
                    makes: now.after(wait),
                })
            }
        };
        if lack.tries < TRIES {
            lack.tries += 1;
            let at = usize::try_from(chance % others).unwrap_or(0);
            let other = self.nodes.iter().filter(|(name, _)| *name != self.node).nth(at);
            if let Some((name, _)) = other {
                messages.push((Target::Node(name.clone()), self.holds(true)));
            }
        } else if lack.makes <= now {
            let key = TicketKey {
                name: random()?,
                secret: Arc::new(Zeroizing::new(random()?)),
                made: now,
            };
            self.insert(key, true);
            self.lack = None;
            messages.push((Target::All, self.holds(false)));
        }
        Ok(())
    }

    /// Keeps the newest.
    fn insert(&mut self, key: TicketKey, ours: bool) {
        self.held.push(Held { key, ours });
        self.held
            .sort_by_key(|held| (std::cmp::Reverse(held.key.made), held.key.name));
        self.held.truncate(MOST_KEYS);
        self.changed = true;
    }

    /// `by`, a node of the manifest, has said something, to all or to this node.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn heard(&mut self, now: UnixTime, by: &str, said: Said) -> Result<Vec<(Target, Said)>, Refused> {
        let (Said::Holds { members, .. } | Said::Gives { members, .. }) = &said;
        if *members != self.members || !self.nodes.iter().any(|(name, _)| name == by) || by == self.node {
            return Err(Refused::Members);
        }
        match said {
            Said::Holds { names, .. } if names.len() > MOST_KEYS => Err(Refused::Unsound),
            Said::Holds {
                session, names, asks, ..
            } => Ok(self.answer(now, by, &session, &names, asks)),
            Said::Gives { session, keys, .. } => {
                if session != self.session.recipient() {
                    return Err(Refused::Stray);
                }
                self.take(now, &keys)?;
                Ok(Vec::new())
            }
        }
    }

    fn answer(
        &mut self,
        now: UnixTime,
        by: &str,
        session: &Recipient,
        names: &[Name],
        asks: bool,
    ) -> Vec<(Target, Said)> {
        let to = || Target::Node(by.to_owned());
        let missing = names.iter().any(|name| !self.has(*name));
        if let (true, Some(lack)) = (missing, &mut self.lack) {
            // It may be what is sought: no other one is made before it has come.
            lack.makes = lack.makes.max(now.after(PATIENCE));
        }
        if missing && self.sources.len() < MOST_SOURCES && !self.sources.iter().any(|known| known == by) {
            self.sources.push_back(by.to_owned());
        }
        let lacks = |held: &&Held| !names.contains(&Name(held.key.name));
        if !asks {
            // Who holds a key tells those who do not, and the maker of a key is enough for that.
            let untold = self.held.iter().filter(lacks).any(|held| held.ours);
            if untold && self.given < MOST_GIVEN {
                self.given += 1;
                return vec![(to(), self.holds(false))];
            }
            return Vec::new();
        }
        let room = usize::try_from(MOST_GIVEN.saturating_sub(self.given)).unwrap_or(0);
        let given: Vec<Given> = self
            .held
            .iter()
            .filter(lacks)
            .take(room)
            .filter_map(|held| {
                let made = held.key.made.millis();
                let what = self.what(Name(held.key.name), made);
                let sealed = seal::hand(&self.fleet, &what, &held.key.secret, session).ok()?;
                Some(Given {
                    name: Name(held.key.name),
                    made,
                    sealed: BASE64.encode(&sealed),
                })
            })
            .collect();
        if given.is_empty() {
            return Vec::new();
        }
        self.given = self
            .given
            .saturating_add(u32::try_from(given.len()).unwrap_or(u32::MAX));
        let said = Said::Gives {
            members: self.members,
            session: *session,
            keys: given,
        };
        vec![(to(), said)]
    }

    /// What a sealed key is bound to, beside the fleet.
    fn what(&self, name: Name, made: u64) -> String {
        format!("{} {} {made}", self.members, String::from(name))
    }

    /// All of them are opened before one is kept.
    fn take(&mut self, now: UnixTime, keys: &[Given]) -> Result<(), Refused> {
        if keys.len() > MOST_KEYS {
            return Err(Refused::Unsound);
        }
        let (_, opens) = ends(self.life);
        let mut taken = Vec::new();
        for given in keys.iter().filter(|given| !self.has(given.name)) {
            let made = UnixTime::from_millis(given.made);
            if made > now.after(SKEW) || now.since(made) > opens {
                return Err(Refused::Untimely);
            }
            let sealed = BASE64.decode(given.sealed.as_bytes()).map_err(|_| Refused::Unsound)?;
            let what = self.what(given.name, given.made);
            let secret = seal::receive(&self.fleet, &what, &sealed, &self.session).map_err(|_| Refused::Unsound)?;
            taken.push(TicketKey {
                name: given.name.0,
                secret: Arc::new(secret),
                made,
            });
        }
        for key in taken {
            if !self.has(Name(key.name)) {
                self.insert(key, false);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
