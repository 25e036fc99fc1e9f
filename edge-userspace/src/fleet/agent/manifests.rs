//! The agent's manifests: a newer head is checked, what it names is fetched and prepared, and then
//! it is in force. One that cannot be prepared changes nothing, and says why. An engine that has
//! lost the manifest gets it back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use super::{Agent, PREPARE_AGAIN, Unprepared, lock};
use crate::fleet::carrier::{self, Carrier, Log, Lost, fetch_blob, put_blob};
use crate::fleet::head::{self, Head, Trusted};
use crate::fleet::index::{self, Index, Outline};
use crate::fleet::journal::Mark;
use crate::fleet::store::{self, Held};
use crate::fleet::{Digest, deploy};

/// Blobs that are fetched at once.
const AT_ONCE: usize = 8;
/// Heads that are looked through for the newest, from the last on: others may write into the log,
/// too.
const LOOKED_THROUGH: u64 = 16;

/// A blob on its way.
type Fetching<'a> = Pin<Box<dyn Future<Output = (Digest, Result<(Vec<u8>, u64), Lost>)> + Send + 'a>>;

/// A manifest could not be put into force.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// It was not fetched: it is tried again.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It cannot be stored, or is not sound.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The node cannot be what it says.
    #[error("{0}")]
    Unprepared(String),
}

impl Agent {
    /// A head has arrived.
    pub(super) fn heard_of(&self, bytes: &[u8]) {
        let head = Head::parse(bytes).and_then(|head| head.check(self.store.trust()));
        match head.and_then(|head| {
            head.follows(lock(&self.held).as_ref().map(|held| held.head.said().counter))
                .map(|()| head)
        }) {
            Ok(head) => {
                self.newest.send_if_modified(|newest| {
                    let newer = newest
                        .as_ref()
                        .is_none_or(|old| old.said().counter < head.said().counter);
                    if newer {
                        *newest = Some(head);
                    }
                    newer
                });
            }
            // What is held is said again at every look.
            Err(head::Refused::Old) => {}
            Err(refused) => self.metrics.rejected("head", refused.label()),
        }
    }

    /// Looks for a newer manifest than what is held, and gives the engine what it lacks.
    pub(super) async fn look(&self, carrier: &dyn Carrier) -> Result<(), carrier::Error> {
        let extent = carrier.extent(Log::Heads).await?;
        let first = extent.first.max(extent.last.saturating_sub(LOOKED_THROUGH - 1)).max(1);
        let mut newest = 0;
        for number in (first..=extent.last).rev() {
            let Some(bytes) = carrier.entry(Log::Heads, number).await? else {
                continue;
            };
            let genuine = Head::parse(&bytes).and_then(|head| head.check(self.store.trust()));
            if let Ok(head) = &genuine {
                newest = newest.max(head.said().counter);
            }
            self.heard_of(&bytes);
            if genuine.is_ok() {
                break;
            }
        }
        let again = lock(&self.unprepared)
            .as_ref()
            .is_some_and(|unprepared| unprepared.tried.elapsed() >= PREPARE_AGAIN);
        if again {
            self.newest.send_modify(|_| {});
        }
        if let Some(held) = self.held().filter(|held| held.head.said().counter > newest) {
            self.give_back(carrier, &held, newest).await?;
        }
        Ok(())
    }

    /// The engine does not have the manifest that is in force here: it gets it, unless another node
    /// was faster.
    async fn give_back(&self, carrier: &dyn Carrier, held: &Held, newest: u64) -> Result<(), carrier::Error> {
        let spread = self.settings.identity.signer.public().spread();
        tokio::time::sleep(Duration::from_secs(2).mul_f64(f64::from(spread))).await;
        let extent = carrier.extent(Log::Heads).await?;
        if let Some(bytes) = carrier.entry(Log::Heads, extent.last).await?
            && let Ok(head) = Head::parse(&bytes).and_then(|head| head.check(self.store.trust()))
            && head.said().counter > newest
        {
            return Ok(());
        }
        tracing::warn!(
            target: "edge::fleet",
            counter = held.head.said().counter,
            "the engine has lost the manifest in force; it gets it back"
        );
        let roster = held.index.roster.iter().map(|roster| roster.digest);
        let digests = held
            .index
            .files
            .iter()
            .map(|file| file.digest)
            .chain(roster)
            .chain([held.head.said().index]);
        for digest in digests.collect::<std::collections::BTreeSet<Digest>>() {
            if carrier.part(&digest, 0).await?.is_none()
                && let Ok(bytes) = self.store.blob(&digest)
            {
                put_blob(carrier, &digest, &bytes).await?;
            }
        }
        // Without the right to write there, an operator has to deploy again: nothing else depends
        // on it.
        match carrier.append(Log::Heads, held.head.write().into()).await {
            Ok(_) | Err(carrier::Error::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts the newest head into force, whenever there is one.
    pub(super) async fn follow_heads(self: Arc<Self>) {
        let mut newest = self.newest.subscribe();
        loop {
            let head = newest.borrow_and_update().clone();
            let held = self.counter();
            if let Some(head) = head.filter(|head| head.said().counter > held) {
                self.take(head).await;
            }
            if newest.changed().await.is_err() {
                return;
            }
        }
    }

    async fn take(self: &Arc<Self>, head: Trusted) {
        let counter = head.said().counter;
        let Some(carrier) = self.link_soon().await else { return };
        let taken = self.put_into_force(&*carrier, head).await;
        let mut again = None;
        match taken {
            Ok(true) => {
                *lock(&self.unprepared) = None;
                self.metrics.manifest("in_force");
                tracing::info!(target: "edge::fleet", counter, "the manifest is in force");
            }
            Ok(false) => {
                self.metrics.manifest("fetched");
                tracing::info!(target: "edge::fleet", counter, "the manifest is fetched, and not for this node yet");
            }
            Err(failed) => {
                self.metrics.manifest(match failed {
                    Failed::Lost(_) => "lost",
                    Failed::Store(_) => "unsound",
                    Failed::Unprepared(_) => "unprepared",
                });
                let why = failed.to_string();
                for line in why.lines() {
                    tracing::error!(target: "edge::fleet", counter, "the manifest is not put into force: {line}");
                }
                if matches!(failed, Failed::Lost(_)) {
                    again = Some(Duration::from_secs(1));
                }
                *lock(&self.unprepared) = Some(Unprepared {
                    counter,
                    why,
                    tried: Instant::now(),
                });
            }
        }
        // A connection that is gone by now: whoever deploys asks again.
        let _ = self
            .say_receipt(&*carrier, deploy::CHANNEL, Mark::default(), None)
            .await;
        if let Some(pause) = again {
            tokio::time::sleep(pause).await;
            self.newest.send_modify(|_| {});
        }
    }

    /// The connection; a head is heard a moment before it counts as made.
    async fn link_soon(&self) -> Option<Arc<dyn Carrier>> {
        for _ in 0..50 {
            if let Some(link) = self.link() {
                return Some(link);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The next look, after the next connection, brings it again.
        self.newest.send_modify(|newest| *newest = None);
        None
    }

    /// Whether it is in force now: it may be for other nodes.
    async fn put_into_force(self: &Arc<Self>, carrier: &dyn Carrier, head: Trusted) -> Result<bool, Failed> {
        let index = Arc::new(self.fetch(carrier, &head).await?);
        self.fetched.fetch_max(head.said().counter, Ordering::AcqRel);
        if !index.is_for(&self.settings.node) {
            return Ok(false);
        }
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || this.prepare(head, index)).await;
        done.unwrap_or_else(|panic| Err(Failed::Unprepared(format!("this is a defect of edge: {panic}"))))?;
        Ok(true)
    }

    /// Fetches the index and all blobs that are not here.
    async fn fetch(&self, carrier: &dyn Carrier, head: &Trusted) -> Result<Index, Failed> {
        let said = head.said();
        if said.length > index::MOST {
            return Err(store::Error::TooLarge(said.length, index::MOST).into());
        }
        if !self.store.has(&said.index) {
            let (bytes, carried) = fetch_blob(carrier, &said.index, said.length).await?;
            self.metrics.fetched(carried);
            self.store.put(&said.index, &bytes)?;
        }
        let outline = self.store.blob(&said.index)?;
        let roster = Outline::parse(&outline).map_err(store::Error::Index)?.roster();
        if !self.store.has(&roster.digest) {
            let (bytes, carried) = fetch_blob(carrier, &roster.digest, roster.length.min(index::MOST)).await?;
            self.metrics.fetched(carried);
            self.store.put(&roster.digest, &bytes)?;
        }
        let index = self.store.index(head)?;
        let lacking = index.files.iter().filter(|file| !self.store.has(&file.digest));
        let missing: std::collections::BTreeMap<Digest, u64> = lacking.map(|file| (file.digest, file.length)).collect();
        let fetch = |(digest, length): (Digest, u64)| -> Fetching<'_> {
            Box::pin(async move { (digest, fetch_blob(carrier, &digest, length).await) })
        };
        let mut fetches = futures_util::stream::iter(missing.into_iter().map(fetch)).buffer_unordered(AT_ONCE);
        while let Some((digest, blob)) = fetches.next().await {
            let (bytes, carried) = blob?;
            self.metrics.fetched(carried);
            self.store.put(&digest, &bytes)?;
        }
        drop(fetches);
        Ok(index)
    }

    /// Builds, prepares, commits, installs: everything that can fail before anything is changed.
    fn prepare(&self, head: Trusted, index: Arc<Index>) -> Result<(), Failed> {
        let begun = Instant::now();
        let tree = self.store.build(&head, &index)?;
        let install = self.host.prepare(&tree).map_err(Failed::Unprepared)?;
        self.store.commit(&head)?;
        install();
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.prepared_millis.store(took, Ordering::Relaxed);
        let said = head.said();
        self.metrics.in_force(said.counter, said.time.secs());
        let now = Held { head, index };
        let before = lock(&self.held).replace(now.clone());
        let keep: Vec<&Held> = before.iter().chain([&now]).collect();
        if let Err(error) = self.store.tidy(&keep) {
            tracing::warn!(target: "edge::fleet", %error, "old manifests cannot be removed");
        }
        Ok(())
    }
}
