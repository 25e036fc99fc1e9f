//! The agent's events: those of others are checked, applied and answered; its own are applied here,
//! numbered, published, and proven by the receipts of the nodes in service.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Agent, MOST_OUTBOX, lock};
use crate::base::clock::UnixTime;
use crate::fleet::carrier::{Carrier, Channel, Error, Log};
use crate::fleet::event::{self, Action, Event, Order};
use crate::fleet::index::{Index, Standing};
use crate::fleet::journal::Mark;
use crate::fleet::receipt::Receipt;
use crate::fleet::signed::{self, Kind};

/// Entries that are read of a log after an absence, at most; of more, the last ones.
const MOST_ENTRIES: u64 = 20_000;
/// Entries that are asked for at once.
const AT_ONCE: u64 = 32;
/// An issuer that says it has issued more than has come is believed after this: the event may be on
/// its way.
const TAIL_PATIENCE: Duration = Duration::from_secs(3);
/// A node tells its last number this often, for that long after its last event.
const TAIL_EVERY: Duration = Duration::from_secs(5);
const TAIL_FOR: Duration = Duration::from_secs(600);
/// Those who wait for receipts at once, at most.
const MOST_WAITS: usize = 64;

/// Somebody waits for an event to hold everywhere.
pub(super) struct Wait {
    number: u64,
    answers: watch::Sender<BTreeMap<String, Option<String>>>,
}

/// Where an event holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The event's number, of this node's.
    pub number: u64,
    /// Nodes on which it holds, each by its own word.
    pub proven: Vec<String>,
    /// Nodes that could not carry it out, and why.
    pub failed: BTreeMap<String, String>,
    /// Nodes in service that have not answered.
    pub silent: Vec<String>,
    /// Nodes that the manifest takes out of service, and that were not waited for.
    pub out: Vec<String>,
    /// How long it took, milliseconds.
    pub millis: u64,
}

impl Report {
    /// It holds on every node in service.
    pub fn is_proven(&self) -> bool {
        self.failed.is_empty() && self.silent.is_empty()
    }
}

/// An event was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// There is no manifest yet, or it does not name this node.
    #[error("this node is not in a manifest of its fleet yet; add it to fleet.toml and deploy")]
    NotAMember,
    /// It takes an operator.
    #[error("a node may not say this by itself; sign it with an operator's key: --key FILE")]
    Unordered,
    /// The order is not an operator's of the manifest in force.
    #[error("the order's key is not among the operators of the manifest in force")]
    NotAnOperator,
    /// The other nodes would take it for one that was said before.
    #[error("a later order of this key was given already; two operators want two keys, and a right clock")]
    OldOrder,
    /// This node cannot do it itself.
    #[error("{0}")]
    Here(String),
    /// Too long.
    #[error("that is too long for an event")]
    TooLong,
    /// Too many wait for the engine.
    #[error("the engine is away, and {MOST_OUTBOX} events wait for it already")]
    Full,
    /// The journal.
    #[error("the event cannot be numbered, for the journal cannot be written: {0}")]
    Journal(#[from] io::Error),
}

/// The text of a tail.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    series: u64,
    number: u64,
    /// Who has all of it says so: receipts are lost, too.
    ask: bool,
}

impl Agent {
    /// Reads what the log holds beyond what was read, and applies it. What is not there any more
    /// voids all that is stored.
    pub(super) async fn catch_up(&self, carrier: &dyn Carrier) -> Result<(), Error> {
        let extent = carrier.extent(Log::Events).await?;
        let position = lock(&self.journal)
            .position()
            .map(|(series, entry)| (series.to_owned(), entry));
        let (mut read, mut missed) = match position {
            Some((series, entry)) if series == extent.series && entry <= extent.last => (entry, false),
            // Nothing was read yet, or the engine lost its log: what was in it, nobody can tell.
            _ => (extent.first.saturating_sub(1), true),
        };
        let from = extent.first.max(extent.last.saturating_sub(MOST_ENTRIES)).max(1);
        if read.saturating_add(1) < from && extent.last > 0 {
            (read, missed) = (from - 1, true);
        }
        if missed {
            self.miss();
            lock(&self.journal).read_to(&extent.series, read);
        }
        while read < extent.last {
            let to = extent.last.min(read.saturating_add(AT_ONCE));
            let entries = (read + 1..=to).map(|number| carrier.entry(Log::Events, number));
            for entry in futures_util::future::join_all(entries).await {
                match entry? {
                    Some(bytes) => self.event(carrier, &bytes).await?,
                    None => self.miss(),
                }
            }
            read = to;
            lock(&self.journal).read_to(&extent.series, read);
        }
        Ok(())
    }

    /// Events were missed: what they would have voided is not known.
    fn miss(&self) {
        self.metrics.gap();
        self.host.void();
    }

    /// An entry of the log has arrived.
    pub(super) async fn entry(&self, carrier: &dyn Carrier, number: u64, bytes: &[u8]) -> Result<(), Error> {
        let read = lock(&self.journal).position().map_or(0, |(_, entry)| entry);
        if number > read.saturating_add(1) {
            // Those in between are read first; this one among them.
            self.catch_up(carrier).await?;
        }
        // The engine numbers as it likes: whether it is new, the issuer's own number says.
        self.event(carrier, bytes).await?;
        let mut journal = lock(&self.journal);
        let position = journal.position().map(|(series, entry)| (series.to_owned(), entry));
        if let Some((series, entry)) = position
            && number == entry.saturating_add(1)
        {
            journal.read_to(&series, number);
        }
        Ok(())
    }

    /// Checks an event, applies it and says so.
    async fn event(&self, carrier: &dyn Carrier, bytes: &[u8]) -> Result<(), Error> {
        let Some(index) = self.index() else { return Ok(()) };
        let now = UnixTime::now();
        let genuine = match event::open(self.fleet(), &index, bytes) {
            Ok(genuine) if genuine.issuer == self.settings.node => return Ok(()),
            Ok(genuine) => genuine,
            Err(refused) => {
                self.metrics.rejected("event", refused.label());
                return Ok(());
            }
        };
        let taken = lock(&self.journal).take(&genuine, now);
        match taken {
            Ok(taken) => {
                if taken.gap {
                    self.miss();
                }
                let Event { action, time, .. } = &genuine.event;
                let failed = self.host.apply(action, false).err();
                if let Some(why) = &failed {
                    tracing::warn!(target: "edge::fleet", issuer = genuine.issuer, why, "an event could not be carried out");
                }
                let lag = now.since(UnixTime::from_millis(*time)).as_millis();
                self.metrics
                    .event(action.label(), u64::try_from(lag).unwrap_or(u64::MAX));
                let mark = lock(&self.journal).mark(&genuine.issuer);
                self.say_receipt(carrier, &genuine.issuer, mark, failed).await
            }
            Err(refused) => {
                // Entries come twice, by arrival and by reading: that is no attack.
                if refused != event::Refused::Replayed {
                    self.metrics.rejected("event", refused.label());
                    tracing::warn!(target: "edge::fleet", issuer = genuine.issuer, "an event is not taken: {refused}");
                }
                Ok(())
            }
        }
    }

    /// An issuer tells its last number.
    pub(super) async fn tail(&self, carrier: &dyn Carrier, bytes: &[u8]) -> Result<(), Error> {
        let Some(index) = self.index() else { return Ok(()) };
        let Some((message, tail)) = self.genuine::<Tail>(&index, (Kind::Tail, "tail"), bytes) else {
            return Ok(());
        };
        let mark = Mark {
            series: tail.series,
            number: tail.number,
        };
        if message.by == self.settings.node {
            return Ok(());
        }
        let known = lock(&self.journal).mark(message.by);
        if mark > known {
            // At most one for each node of the manifest.
            let mut behind = lock(&self.behind);
            let missed = behind.entry(message.by.to_owned()).or_insert((mark, Instant::now()));
            missed.0 = missed.0.max(mark);
        } else if tail.ask {
            self.say_receipt(carrier, message.by, known, None).await?;
        }
        Ok(())
    }

    /// Once a second: what should have come, what waits to go, and the journal.
    pub(super) async fn tend(&self, carrier: &dyn Carrier) -> Result<(), Error> {
        let due: Vec<String> = {
            let (mut behind, journal) = (lock(&self.behind), lock(&self.journal));
            behind.retain(|issuer, (mark, _)| *mark > journal.mark(issuer));
            let due = behind.iter().filter(|(_, (_, since))| since.elapsed() >= TAIL_PATIENCE);
            due.map(|(issuer, _)| issuer.clone()).collect()
        };
        if !due.is_empty() {
            self.catch_up(carrier).await?;
            for issuer in due {
                let mark = lock(&self.behind).remove(&issuer);
                let missed = mark.is_some_and(|(mark, _)| lock(&self.journal).give_up(&issuer, mark));
                if missed {
                    tracing::warn!(target: "edge::fleet", issuer, "events were withheld: all that is stored is void");
                    self.miss();
                    let mark = lock(&self.journal).mark(&issuer);
                    self.say_receipt(carrier, &issuer, mark, None).await?;
                }
            }
        }
        self.flush().await?;
        let ago = lock(&self.issued)
            .map(|last| last.elapsed())
            .filter(|ago| *ago < TAIL_FOR);
        let ask = !lock(&self.waits).is_empty();
        if ago.is_some_and(|ago| ask || ago.as_secs().is_multiple_of(TAIL_EVERY.as_secs())) {
            let own = lock(&self.journal).own();
            let tail = Tail {
                series: own.series,
                number: own.number,
                ask,
            };
            let text = serde_json::to_vec(&tail).unwrap_or_default();
            let (node, signer) = (&self.settings.node, &self.settings.identity.signer);
            let bytes = signed::write(Kind::Tail, self.fleet(), node, signer, &text);
            carrier.say(&Channel::Tails, bytes.into()).await?;
        }
        if let Err(error) = lock(&self.journal).write() {
            tracing::warn!(target: "edge::fleet", %error, "the journal cannot be written; after a restart more is void than need be");
        }
        Ok(())
    }

    /// Gives the engine what waits for it, in order.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        let Some(carrier) = self.link() else { return Ok(()) };
        let mut outbox = self.outbox.lock().await;
        while let Some(bytes) = outbox.front() {
            carrier.append(Log::Events, bytes.clone()).await?;
            outbox.pop_front();
        }
        Ok(())
    }

    /// Makes `action` happen on every node, here first; waits at most `patience` for every node in
    /// service to say that it holds.
    ///
    /// # Errors
    /// It was not issued, and did not happen anywhere but perhaps here.
    pub async fn issue(&self, action: Action, order: Option<Order>, patience: Duration) -> Result<Report, IssueError> {
        let begun = Instant::now();
        let index = self.index().ok_or(IssueError::NotAMember)?;
        index.member(&self.settings.node).ok_or(IssueError::NotAMember)?;
        let now = UnixTime::now();
        match &order {
            Some(order) if !order.is_good(self.fleet(), &action, &index.operators) => {
                return Err(IssueError::NotAnOperator);
            }
            None if !action.is_for_nodes(now) => return Err(IssueError::Unordered),
            _ => {}
        }
        let mut outbox = self.outbox.lock().await;
        if outbox.len() >= MOST_OUTBOX {
            return Err(IssueError::Full);
        }
        if let Some(order) = &order {
            lock(&self.journal).order(order).map_err(|_| IssueError::OldOrder)?;
        }
        self.host.apply(&action, true).map_err(IssueError::Here)?;
        let Mark { series, number } = lock(&self.journal).number()?;
        let event = Event {
            series,
            number,
            time: now.millis(),
            action,
            order,
        };
        let bytes = event::write(
            self.fleet(),
            &self.settings.node,
            &self.settings.identity.signer,
            &event,
        )
        .ok_or(IssueError::TooLong)?;
        let (answers, answered) = watch::channel(BTreeMap::new());
        {
            let mut waits = lock(&self.waits);
            // Who waits longest has waited long enough.
            if waits.len() >= MOST_WAITS {
                waits.remove(0);
            }
            waits.push(Wait { number, answers });
        }
        outbox.push_back(Bytes::from(bytes));
        drop(outbox);
        *lock(&self.issued) = Some(Instant::now());
        match tokio::time::timeout(patience, self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(target: "edge::fleet", %error, "the event waits for the engine"),
            Err(_) => tracing::warn!(target: "edge::fleet", "the event waits for the engine, which does not answer"),
        }
        let patience = patience.saturating_sub(begun.elapsed());
        let report = self.gather(&index, number, answered, patience, begun).await;
        lock(&self.waits).retain(|wait| wait.number != number);
        Ok(report)
    }

    async fn gather(
        &self,
        index: &Arc<Index>,
        number: u64,
        mut answered: watch::Receiver<BTreeMap<String, Option<String>>>,
        patience: Duration,
        begun: Instant,
    ) -> Report {
        let ours = &self.settings.node;
        let others: Vec<&str> = index.in_service().filter(|node| node != ours).collect();
        let all = |answers: &BTreeMap<String, Option<String>>| others.iter().all(|node| answers.contains_key(*node));
        // Too late is told by what is missing.
        let _ = tokio::time::timeout(patience, answered.wait_for(all)).await;
        let answers = answered.borrow().clone();
        let mut report = Report {
            number,
            proven: vec![ours.clone()],
            millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..Report::default()
        };
        for node in &index.nodes {
            let name = node.name.clone();
            match answers.get(&name) {
                _ if name == *ours => {}
                Some(None) => report.proven.push(name),
                Some(Some(why)) => {
                    report.failed.insert(name, why.clone());
                }
                None if node.state == Standing::InService => report.silent.push(name),
                None => report.out.push(name),
            }
        }
        report
    }

    /// A node says what it has done.
    pub(super) fn receipt(&self, bytes: &[u8]) {
        let Some(index) = self.index() else { return };
        let Some((node, receipt)) = Receipt::open(self.fleet(), &index, &self.settings.node, bytes) else {
            self.metrics.rejected("receipt", "forged");
            return;
        };
        let own = lock(&self.journal).own();
        if receipt.applied.series != own.series {
            return;
        }
        for wait in lock(&self.waits).iter() {
            if wait.number <= receipt.applied.number {
                wait.answers.send_modify(|answers| {
                    // A later receipt covers an earlier event, but its failure is the later
                    // event's.
                    let failed = receipt.failed.clone().filter(|_| wait.number == receipt.applied.number);
                    answers.entry(node.clone()).or_insert(failed);
                });
            }
        }
    }
}
