//! Deploying: a directory becomes blobs, an index and a head that deploy keys sign; nodes then say
//! what became of it. Run by the command line, with the engine alone: no node has to be asked, and
//! none can deploy.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::Digest;
use super::carrier::{self, Arrival, Carrier, Channel, Engine, Log, put_blob};
use super::head::{Head, Said, Trust, Trusted};
use super::index::{self, File, Index, Member, Outline, Standing, Text};
use super::key::{Public, Signer};
use super::receipt::Receipt;
use super::seal::Vault;
use crate::base::clock::UnixTime;
use crate::base::file;

/// Where nodes say what became of a manifest.
pub const CHANNEL: &str = "deploy";
/// The file beside the configuration that says what the fleet is.
pub const FLEET_FILE: &str = "fleet.toml";

/// A deployment that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the directory.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// `fleet.toml`.
    #[error("{0}: {1}")]
    Fleet(PathBuf, String),
    /// The engine.
    #[error(transparent)]
    Carrier(#[from] carrier::Error),
    /// A blob that the engine lost.
    #[error(transparent)]
    Lost(#[from] carrier::Lost),
    /// The manifest would not be sound.
    #[error(transparent)]
    Index(#[from] index::Unsound),
    /// Too few keys.
    #[error("the fleet's nodes demand {0} signatures of its deploy keys; give as many with --key")]
    TooFew(usize),
    /// A key that no node knows.
    #[error("{0} is not among the deploy keys in fleet.toml")]
    Stranger(Public),
    /// There is nothing to go back to.
    #[error("the engine holds no earlier manifest")]
    NoEarlier,
    /// There is no manifest.
    #[error("the engine holds no manifest of this fleet; deploy one first")]
    None,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] super::NoRandomness),
    /// A recipient that is no key.
    #[error("{0}: {1}")]
    Seal(String, #[source] super::seal::Sealed),
}

/// `fleet.toml`: who the fleet is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The fleet's name.
    pub name: String,
    /// Where the engine is.
    pub engine: Vec<String>,
    /// Deploy keys.
    pub keys: Vec<Public>,
    /// How many of them must sign.
    #[serde(default = "one")]
    pub threshold: usize,
    /// Servers that keep each stream.
    #[serde(default = "one_server")]
    pub replicas: u8,
    /// Authorities of the engine's certificates instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Keys whose orders (`edge deny --fleet`) go beyond what nodes may say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<Public>,
    /// Files that are sealed, with `*` for any characters, beside all that hold a private key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Secrets that not every node is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vault: Vec<OfNodes>,
    /// The nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node: Vec<Member>,
}

/// Secrets for some nodes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OfNodes {
    /// Files, with `*` for any characters.
    pub files: Vec<String>,
    /// The nodes that serve them.
    pub nodes: Vec<String>,
}

const fn one() -> usize {
    1
}

const fn one_server() -> u8 {
    1
}

impl Fleet {
    /// Reads `fleet.toml` in `directory`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FLEET_FILE);
        let text = file::read(&path).map_err(|error| Error::File(path.clone(), error))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let wrong = |what: String| Error::Fleet(path.clone(), what);
        let fleet: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if !super::is_name(&fleet.name) {
            return Err(wrong(format!(
                "name \"{}\" is not 1 to 64 of a-z, 0-9 and -",
                fleet.name
            )));
        }
        let keys: BTreeSet<_> = fleet.keys.iter().collect();
        if fleet.threshold == 0 || fleet.threshold > keys.len() {
            return Err(wrong(format!("threshold is not 1 to {}", keys.len())));
        }
        let known: BTreeSet<&str> = fleet.node.iter().map(|node| node.name.as_str()).collect();
        if let Some(stranger) = fleet
            .vault
            .iter()
            .flat_map(|vault| &vault.nodes)
            .find(|name| !known.contains(name.as_str()))
        {
            return Err(wrong(format!(
                "[[vault]] names the node \"{stranger}\", which there is not"
            )));
        }
        Ok(fleet)
    }

    /// What its nodes trust.
    pub fn trust(&self) -> Trust {
        Trust {
            fleet: self.name.clone(),
            keys: self.keys.clone(),
            threshold: self.threshold,
        }
    }
}

/// A manifest that is not signed yet.
pub struct Draft {
    /// Its index.
    pub index: Index,
    /// What the index names.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
}

/// Reads all files below `directory`: hidden ones and `fleet.toml` are left out, secrets are
/// sealed.
///
/// # Errors
/// As [`Error`] says.
pub fn draft(directory: &Path, fleet: &Fleet) -> Result<Draft, Error> {
    let mut paths = Vec::new();
    walk(directory, "", &mut paths)?;
    let mut blobs = BTreeMap::new();
    let mut index = Index {
        nodes: fleet.node.clone(),
        operators: fleet.operators.clone(),
        ..Index::default()
    };
    // The first vault is every node's; it is made when something is in it.
    let everybody: Vec<&str> = fleet.node.iter().map(|node| node.name.as_str()).collect();
    let mut sets: Vec<Vec<&str>> = vec![everybody];
    sets.extend(
        fleet
            .vault
            .iter()
            .map(|vault| vault.nodes.iter().map(String::as_str).collect()),
    );
    let mut vaults: BTreeMap<usize, (usize, Vault)> = BTreeMap::new();
    for path in paths {
        let whole = directory.join(&path);
        let bytes = file::read(&whole).map_err(|error| Error::File(whole.clone(), error))?;
        let matches = |patterns: &[String]| patterns.iter().any(|pattern| crate::base::glob::fits(pattern, &path));
        let of_some = fleet
            .vault
            .iter()
            .position(|vault| matches(&vault.files))
            .map(|at| at + 1);
        let secret = matches(&fleet.secrets) || is_private_key(&bytes);
        let set = of_some.or(secret.then_some(0));
        let (blob, vault) = match set {
            None => (bytes.to_vec(), None),
            Some(set) => {
                if let Entry::Vacant(vacant) = vaults.entry(set) {
                    let vault = Vault::new()?;
                    index
                        .vaults
                        .push(wrapped(&vault, fleet, sets.get(set).map_or(&[], Vec::as_slice))?);
                    vacant.insert((index.vaults.len() - 1, vault));
                }
                let Some((number, vault)) = vaults.get(&set) else {
                    continue;
                };
                let sealed = vault
                    .seal(&fleet.name, &path, &bytes)
                    .map_err(|error| Error::Seal(path.clone(), error))?;
                (sealed, Some(*number))
            }
        };
        let digest = Digest::of(&blob);
        index.files.push(File {
            path,
            digest,
            length: blob.len() as u64,
            vault,
        });
        blobs.insert(digest, blob);
    }
    Ok(Draft { index, blobs })
}

/// The vault's key for each of these nodes.
fn wrapped(vault: &Vault, fleet: &Fleet, names: &[&str]) -> Result<BTreeMap<String, String>, Error> {
    let nodes = fleet.node.iter().filter(|node| names.contains(&node.name.as_str()));
    let wrap = |node: &Member| {
        let key = vault.wrap(&fleet.name, &node.seal);
        let key = key.map_err(|error| Error::Seal(node.name.clone(), error))?;
        Ok((node.name.clone(), BASE64.encode(&key)))
    };
    nodes.map(wrap).collect()
}

/// Whether a file holds a private key in PEM (RFC 7468), whatever its name: it never leaves in the
/// clear.
fn is_private_key(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"PRIVATE KEY-----").is_some()
}

fn walk(root: &Path, below: &str, found: &mut Vec<String>) -> Result<(), Error> {
    let directory = root.join(below);
    let wrong = |error| Error::File(directory.clone(), error);
    for entry in std::fs::read_dir(&directory).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        let hidden = name.starts_with('.') && name != ".well-known";
        if hidden || path == FLEET_FILE {
            continue;
        }
        // Links are followed: a repository may keep one file for two zones.
        let meta = std::fs::metadata(entry.path()).map_err(|error| Error::File(entry.path(), error))?;
        if meta.is_dir() {
            walk(root, &path, found)?;
        } else if meta.is_file() {
            found.push(path);
        }
        if found.len() > index::MOST_FILES {
            return Err(index::Unsound::TooMany("files").into());
        }
    }
    found.sort();
    Ok(())
}

/// A connection for who deploys.
pub struct Deployer<'a> {
    carrier: Box<dyn Carrier>,
    fleet: &'a Fleet,
}

/// What became of a manifest, node by node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Its counter.
    pub counter: u64,
    /// It is in force there: for each node, milliseconds since it was published, of which it
    /// prepared so many.
    pub in_force: BTreeMap<String, (u64, u64)>,
    /// It is there, and waits for its turn.
    pub fetched: BTreeSet<String>,
    /// It cannot be put into force, and why.
    pub refused: BTreeMap<String, String>,
    /// Nodes in service that have not answered.
    pub silent: BTreeSet<String>,
}

impl Outcome {
    /// It is in force on every node in service that it is for.
    pub fn is_whole(&self) -> bool {
        self.refused.is_empty() && self.silent.is_empty()
    }
}

impl<'a> Deployer<'a> {
    /// Connects.
    ///
    /// # Errors
    /// The engine.
    pub async fn connect(engine: &dyn Engine, fleet: &'a Fleet) -> Result<Self, Error> {
        let carrier = engine.connect().await?;
        carrier.listen(&Channel::Receipts(CHANNEL.to_owned())).await?;
        Ok(Self { carrier, fleet })
    }

    /// Heads of this fleet that the engine holds and that are signed, the newest first.
    ///
    /// # Errors
    /// The engine.
    pub async fn heads(&self) -> Result<Vec<Trusted>, Error> {
        let extent = self.carrier.extent(Log::Heads).await?;
        let trust = self.fleet.trust();
        let mut heads: BTreeMap<u64, Trusted> = BTreeMap::new();
        for number in extent.first.max(1)..=extent.last {
            let Some(bytes) = self.carrier.entry(Log::Heads, number).await? else {
                continue;
            };
            if let Ok(head) = Head::parse(&bytes).and_then(|head| head.check(&trust)) {
                heads.insert(head.said().counter, head);
            }
        }
        Ok(heads.into_values().rev().collect())
    }

    /// The index of a head.
    ///
    /// # Errors
    /// The engine has lost it.
    pub async fn index(&self, head: &Trusted) -> Result<Index, Error> {
        let said = head.said();
        let (bytes, _) = carrier::fetch_blob(&*self.carrier, &said.index, said.length.min(index::MOST)).await?;
        let outline = Outline::parse(&bytes)?;
        let named = outline.roster();
        let (roster, _) = carrier::fetch_blob(&*self.carrier, &named.digest, named.length.min(index::MOST)).await?;
        Ok(Index::parse(outline, &roster)?)
    }

    /// Signs `draft` as the next manifest and publishes it: blobs first, then the head. Returns the
    /// head and when it was sent.
    ///
    /// # Errors
    /// As [`Error`] says; nodes have noticed nothing then.
    pub async fn publish(&self, mut draft: Draft, signers: &[Signer]) -> Result<(Trusted, Instant), Error> {
        let trust = self.fleet.trust();
        if let Some(stranger) = signers.iter().map(Signer::public).find(|key| !trust.keys.contains(key)) {
            return Err(Error::Stranger(stranger));
        }
        let Text { index, roster } = draft.index.write()?;
        let counter = self
            .heads()
            .await?
            .first()
            .map_or(1, |head| head.said().counter.saturating_add(1));
        let mut head = Head::new(Said {
            fleet: self.fleet.name.clone(),
            counter,
            time: UnixTime::now(),
            index: Digest::of(&index),
            length: index.len() as u64,
        });
        signers.iter().for_each(|signer| head.sign(signer));
        let head = head.check(&trust).map_err(|_| Error::TooFew(trust.threshold))?;
        draft.blobs.insert(Digest::of(&roster), roster);
        draft.blobs.insert(head.said().index, index);
        for (digest, bytes) in &draft.blobs {
            if self.carrier.part(digest, 0).await?.is_none() {
                put_blob(&*self.carrier, digest, bytes).await?;
            }
        }
        let sent = Instant::now();
        self.carrier.append(Log::Heads, head.write().into()).await?;
        Ok((head, sent))
    }

    /// Waits at most `patience` for the nodes in service to say what became of a manifest.
    ///
    /// # Errors
    /// The engine.
    pub async fn outcome(
        &self,
        head: &Trusted,
        index: &Index,
        sent: Instant,
        patience: Duration,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome {
            counter: head.said().counter,
            silent: index.in_service().map(str::to_owned).collect(),
            ..Outcome::default()
        };
        let until = tokio::time::Instant::now() + patience;
        let mut ask = tokio::time::interval(Duration::from_secs(1));
        ask.tick().await;
        while !outcome.silent.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                // Receipts get lost.
                _ = ask.tick() => self.carrier.say(&Channel::Roll, CHANNEL.into()).await?,
                arrival = self.carrier.arrival() => {
                    let Arrival::Message { bytes, .. } = arrival? else { continue };
                    if let Some((node, receipt)) = Receipt::open(&self.fleet.name, index, CHANNEL, &bytes) {
                        outcome.hear(node, receipt, index, sent);
                    }
                }
            }
        }
        Ok(outcome)
    }

    /// What every node says that it holds, within `patience`; nodes that say nothing are missing.
    ///
    /// # Errors
    /// The engine.
    pub async fn roll(&self, index: &Index, patience: Duration) -> Result<BTreeMap<String, Receipt>, Error> {
        self.carrier.say(&Channel::Roll, CHANNEL.into()).await?;
        let asked = UnixTime::now();
        let mut roll = BTreeMap::new();
        let until = tokio::time::Instant::now() + patience;
        while roll.len() < index.nodes.len() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                arrival = self.carrier.arrival() => {
                    let Arrival::Message { bytes, .. } = arrival? else { continue };
                    if let Some((node, receipt)) = Receipt::open(&self.fleet.name, index, CHANNEL, &bytes) {
                        roll.insert(node, receipt);
                    }
                }
            }
        }
        tracing::debug!(target: "edge::fleet", asked = asked.millis(), nodes = roll.len(), "the roll");
        Ok(roll)
    }

    /// An earlier manifest as a draft of the next one; `counter`: which, else the one before the
    /// newest. Nodes and operators are today's: a rollback brings nobody back.
    ///
    /// # Errors
    /// There is none, or the engine has lost what it names.
    pub async fn earlier(&self, counter: Option<u64>) -> Result<(u64, Draft), Error> {
        let heads = self.heads().await?;
        let newest = heads.first().ok_or(Error::None)?;
        let head = match counter {
            Some(counter) => heads.iter().find(|head| head.said().counter == counter),
            None => heads.get(1),
        };
        let head = head.ok_or(Error::NoEarlier)?;
        let today = self.index(newest).await?;
        let mut index = self.index(head).await?;
        index.nodes = today.nodes;
        index.operators = today.operators;
        index.only = Vec::new();
        Ok((
            head.said().counter,
            Draft {
                index,
                blobs: BTreeMap::new(),
            },
        ))
    }

    /// The newest manifest with other standings of its nodes, as a draft of the next one.
    ///
    /// # Errors
    /// There is none, or it does not know the node.
    pub async fn restanding(&self, node: &str, standing: Standing) -> Result<Draft, Error> {
        let heads = self.heads().await?;
        let mut index = self.index(heads.first().ok_or(Error::None)?).await?;
        let member = index.nodes.iter_mut().find(|member| member.name == node);
        let member = member.ok_or_else(|| {
            Error::Fleet(
                PathBuf::from(FLEET_FILE),
                format!("the manifest in force has no node \"{node}\""),
            )
        })?;
        member.state = standing;
        Ok(Draft {
            index,
            blobs: BTreeMap::new(),
        })
    }
}

impl Outcome {
    fn hear(&mut self, node: String, receipt: Receipt, index: &Index, sent: Instant) {
        if receipt.counter >= self.counter {
            let millis = u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.silent.remove(&node);
            self.refused.remove(&node);
            self.fetched.remove(&node);
            self.in_force.entry(node).or_insert((millis, receipt.prepared_millis));
        } else if let Some((_, why)) = receipt.refused.filter(|(counter, _)| *counter >= self.counter) {
            self.silent.remove(&node);
            self.refused.insert(node, why);
        } else if receipt.fetched >= self.counter && !index.is_for(&node) {
            self.silent.remove(&node);
            self.fetched.insert(node);
        }
    }
}

/// Requests that canaries must have answered before they are judged by their failures.
const ENOUGH: u64 = 100;

/// Whether canaries did no worse than the others between two rolls: answered, refused nothing, and
/// failed at most 1 % of requests more often. In words.
///
/// # Errors
/// Why not, in words.
pub fn judge(
    canaries: &[String],
    begun: &BTreeMap<String, Receipt>,
    ended: &BTreeMap<String, Receipt>,
) -> Result<String, String> {
    let mut sums = [(0_u64, 0_u64); 2];
    for (node, end) in ended {
        let zero = Receipt::default();
        let begin = begun.get(node).unwrap_or(&zero);
        let canary = canaries.contains(node);
        // A node that was started anew counts from zero.
        let since = |end: u64, begin: u64| end.checked_sub(begin).unwrap_or(end);
        let [others, ours] = &mut sums;
        let sum = if canary { ours } else { others };
        sum.0 = sum.0.saturating_add(since(end.requests, begin.requests));
        sum.1 = sum.1.saturating_add(since(end.failures, begin.failures));
        if let Some((counter, why)) = end.refused.as_ref().filter(|_| canary) {
            return Err(format!("canary {node} has refused manifest {counter}: {why}"));
        }
    }
    if let Some(silent) = canaries.iter().find(|node| !ended.contains_key(*node)) {
        return Err(format!("canary {silent} does not answer any more"));
    }
    let [others, ours] = sums;
    // Per 10,000, rounded down; the others' share of none is none.
    let share = |(requests, failures): (u64, u64)| failures.saturating_mul(10_000) / requests.max(1);
    let words = format!(
        "canaries failed {} of {} requests, the others {} of {}",
        ours.1, ours.0, others.1, others.0
    );
    if ours.0 >= ENOUGH && share(ours) > share(others).saturating_add(100) {
        return Err(words);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::key::Identity;

    fn fleet(nodes: &[(&str, &Identity)]) -> Fleet {
        Fleet {
            name: "shop".to_owned(),
            engine: Vec::new(),
            keys: Vec::new(),
            threshold: 1,
            replicas: 1,
            ca: None,
            operators: Vec::new(),
            secrets: vec!["*.secret".to_owned()],
            vault: vec![OfNodes {
                files: vec!["tenants/*".to_owned()],
                nodes: vec!["b".to_owned()],
            }],
            node: nodes
                .iter()
                .map(|(name, key)| Member {
                    name: (*name).to_owned(),
                    key: key.signer.public(),
                    seal: key.recipient(),
                    state: Standing::InService,
                })
                .collect(),
        }
    }

    /// A private key would lie at the engine in the clear, or go to a node that does not serve it.
    #[test]
    fn secrets_leave_sealed_and_to_their_nodes() {
        let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let fleet = fleet(&[("a", &a), ("b", &b)]);
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let pem = "text\n-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        write("edge.toml", "plain");
        write("fleet.toml", "left out");
        write(".git/config", "left out");
        write("certs/whatever.txt", pem);
        write("db.secret", "a password");
        write("tenants/of-b", "only b's");
        let draft = draft(directory.path(), &fleet).unwrap();
        let paths: Vec<_> = draft
            .index
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.vault.is_some()))
            .collect();
        assert_eq!(
            paths,
            [
                ("certs/whatever.txt", true),
                ("db.secret", true),
                ("edge.toml", false),
                ("tenants/of-b", true)
            ]
        );
        for blob in draft.blobs.values().filter(|blob| blob.as_slice() != b"plain") {
            for clear in [&b"PRIVATE KEY"[..], b"a password", b"only b's"] {
                assert!(memchr::memmem::find(blob, clear).is_none());
            }
        }
        let nodes: Vec<Vec<&str>> = draft
            .index
            .vaults
            .iter()
            .map(|vault| vault.keys().map(String::as_str).collect())
            .collect();
        assert_eq!(nodes, [vec!["a", "b"], vec!["b"]]);
    }

    /// A bad manifest would go on to every node, or a good one be taken back because of a handful
    /// of requests.
    #[test]
    fn canaries_are_judged_against_the_others() {
        let receipt = |requests, failures| Receipt {
            requests,
            failures,
            ..Receipt::default()
        };
        let roll = |a: Receipt, b: Receipt| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let begun = roll(receipt(1_000, 10), receipt(1_000, 10));
        let judged = |ended: &BTreeMap<String, Receipt>| judge(&["a".to_owned()], &begun, ended);
        assert!(judged(&roll(receipt(2_000, 20), receipt(2_000, 20))).is_ok());
        assert!(judged(&roll(receipt(2_000, 40), receipt(2_000, 10))).is_err());
        assert!(
            judged(&roll(receipt(2_000, 500), receipt(2_000, 510))).is_ok(),
            "the origin fails everywhere"
        );
        assert!(
            judged(&roll(receipt(1_010, 20), receipt(2_000, 10))).is_ok(),
            "ten requests tell nothing"
        );
        assert!(
            judged(&roll(receipt(200, 100), receipt(2_000, 10))).is_err(),
            "it was started anew"
        );
        let mut silent = roll(receipt(2_000, 10), receipt(2_000, 10));
        silent.remove("a");
        assert!(judged(&silent).is_err());
        let mut refused = receipt(2_000, 10);
        refused.refused = Some((8, "why".to_owned()));
        assert!(judged(&roll(refused, receipt(2_000, 10))).is_err());
    }
}
