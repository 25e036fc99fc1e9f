//! One question of one handshake: the server to ask, another where the first fails or takes long,
//! and an end in time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::health::Breaker;
use super::link::{Link, Pending};
use super::{Leg, Question, Refusal, Reply, Route};
use crate::keyserver::wire::{self, Answer, ErrorCode, Request};

/// With every server down, they are looked at again this often, or when one is back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Gets the answer by `deadline`, or the reason why there is none. Dropped, it leaves nothing
/// behind.
///
/// # Errors
/// The last server's refusal, or that time is over.
pub async fn ask(question: Question, deadline: Instant) -> Result<Reply, Refusal> {
    let Question { route, request, on } = question;
    match on {
        Some(link) => one(&route, request, &link, deadline).await,
        None => Asking::new(&route, &request, deadline).answer().await,
    }
}

/// On the connection that has the ephemeral key, and nowhere else.
async fn one(route: &Route, request: Request, link: &Arc<Link>, deadline: Instant) -> Result<Reply, Refusal> {
    let pending = link.send(route.key.id, request)?;
    let answer = tokio::time::timeout_at(deadline, pending.answer()).await;
    Ok(Reply {
        answer: answer.unwrap_or(Err(Refusal::Timeout))?,
        by: link.clone(),
    })
}

struct Asking<'a> {
    route: &'a Route,
    request: &'a Request,
    deadline: Instant,
    /// Servers asked in this round.
    asked: usize,
    /// Where this round begins among the servers of the first priority.
    turn: usize,
    /// The last failure.
    refusal: Refusal,
    /// Whether some failure of this round may be over soon.
    passing: bool,
    /// Rounds that have found nobody.
    rounds: usize,
}

/// What came of one attempt: whose it was, when it was sent, the answer and the connection.
type Attempt<'a> = (&'a Leg, Instant, Result<Answer, Refusal>, Arc<Link>);

async fn attempt(leg: &Leg, pending: Pending) -> Attempt<'_> {
    let sent = Instant::now();
    let link = pending.link().clone();
    (leg, sent, pending.answer().await, link)
}

impl<'a> Asking<'a> {
    fn new(route: &'a Route, request: &'a Request, deadline: Instant) -> Self {
        Self {
            route,
            request,
            deadline,
            asked: 0,
            turn: route.turn.fetch_add(1, Relaxed),
            refusal: Refusal::Unreachable,
            passing: false,
            rounds: 0,
        }
    }

    /// The n-th server of this round: by priority, and in turns within one.
    fn leg(&self, n: usize) -> Option<&'a Leg> {
        let leg = self.route.legs.get(n)?;
        let priority = leg.server.priority();
        let first = self.route.legs.partition_point(|leg| leg.server.priority() < priority);
        let end = self.route.legs.partition_point(|leg| leg.server.priority() <= priority);
        self.route.legs.get(first + (n - first + self.turn) % (end - first))
    }

    /// Sends to the next server that takes it.
    fn next(&mut self) -> Option<(&'a Leg, Pending)> {
        while let Some(leg) = self.leg(self.asked) {
            self.asked += 1;
            let sent = match leg.open() {
                Some(link) => link.send(self.route.key.id, self.request.clone()),
                None => Err(Refusal::Unreachable),
            };
            match sent {
                Ok(pending) => return Some((leg, pending)),
                Err(refusal) => self.failed(leg, refusal),
            }
        }
        None
    }

    fn failed(&mut self, leg: &Leg, refusal: Refusal) {
        let target = leg.server.target();
        // A handshake that looks around all the time it has is one that found nobody.
        if self.rounds == 0 || refusal != Refusal::Unreachable {
            target.handles.refused(refusal);
        }
        match refusal {
            Refusal::Unreachable | Refusal::Refused(ErrorCode::Draining) => self.passing = true,
            // Of this key: the server's others may be sound.
            Refusal::Refused(ErrorCode::Internal) | Refusal::Unfitting | Refusal::WrongKey
                if leg.key.failed(target.now()) =>
            {
                tracing::warn!(
                    server = target.name,
                    zone = %self.route.zone,
                    key = %self.route.key.id,
                    reason = %refusal,
                    "the key server fails with this key; its handshakes go elsewhere for now"
                );
            }
            _ => {}
        }
        // What a server says tells more than that there was none.
        if refusal != Refusal::Unreachable || self.refusal == Refusal::Timeout {
            self.refusal = refusal;
        }
    }

    async fn answer(&mut self) -> Result<Reply, Refusal> {
        let mut attempts = FuturesUnordered::new();
        // Those still waited for, to blame them at the end: the server, and since when.
        let mut open: Vec<(&'a Leg, Instant)> = Vec::new();
        let timer = sleep_until(self.deadline);
        tokio::pin!(timer);
        loop {
            if attempts.is_empty() {
                open.clear();
                match self.next() {
                    Some((leg, pending)) => {
                        open.push((leg, Instant::now()));
                        attempts.push(attempt(leg, pending));
                        timer.as_mut().reset(self.hedge(leg));
                    }
                    None => {
                        self.wait().await?;
                        continue;
                    }
                }
            }
            tokio::select! {
                biased;
                Some((leg, sent, answer, link)) = attempts.next() => {
                    match answer.and_then(|answer| self.check(leg, answer)) {
                        Ok(answer) => {
                            leg.answered(sent.elapsed());
                            for (other, since) in &open {
                                if !std::ptr::eq(*other, leg) {
                                    // At least so long: its tail must know.
                                    other.server.target().health.observe(since.elapsed());
                                }
                            }
                            return Ok(Reply { answer, by: link });
                        }
                        Err(refusal) => {
                            self.failed(leg, refusal);
                            open.retain(|(other, _)| !std::ptr::eq(*other, leg));
                        }
                    }
                }
                () = &mut timer => {
                    if Instant::now() >= self.deadline {
                        for (leg, since) in &open {
                            let target = leg.server.target();
                            target.handles.refused(Refusal::Timeout);
                            target.health.observe(since.elapsed());
                            target.failed();
                        }
                        return Err(Refusal::Timeout);
                    }
                    if let Some((leg, pending)) = self.next() {
                        if let Some((slow, _)) = open.last() {
                            slow.server.target().handles.hedges.inc();
                        }
                        open.push((leg, Instant::now()));
                        attempts.push(attempt(leg, pending));
                        timer.as_mut().reset(self.hedge(leg));
                    } else {
                        timer.as_mut().reset(self.deadline);
                    }
                }
            }
        }
    }

    /// When to ask another server too: never, where there is none.
    fn hedge(&self, leg: &Leg) -> Instant {
        if self.asked >= self.route.legs.len() {
            return self.deadline;
        }
        (Instant::now() + leg.server.target().health.hedge_after()).min(self.deadline)
    }

    /// After a round in vain: waits until another may be worth it.
    async fn wait(&mut self) -> Result<(), Refusal> {
        if !self.passing || Instant::now() >= self.deadline {
            return Err(self.refusal);
        }
        let again = (Instant::now() + LOOK_AGAIN).min(self.deadline);
        if let Some(leg) = self.route.legs.first() {
            let _ = tokio::time::timeout_at(again, leg.server.target().changed.notified()).await;
        }
        self.asked = 0;
        self.passing = false;
        self.rounds += 1;
        Ok(())
    }

    /// The first signature of each server is verified: one that has another key is found here and
    /// not by the clients.
    fn check(&self, leg: &Leg, answer: Answer) -> Result<Answer, Refusal> {
        let Answer::Signature(signature) = &answer else {
            return Ok(answer);
        };
        if leg.proven.load(Relaxed) {
            return Ok(answer);
        }
        let (scheme, message) = match self.request {
            Request::SignTls13 { scheme, transcript } => (*scheme, wire::tls13(transcript)),
            Request::SignTls12 {
                scheme,
                client_random,
                server_random,
                share,
            } => (*scheme, wire::tls12(client_random, server_random, share)),
            _ => return Err(Refusal::Unfitting),
        };
        if !self.route.key.verify(scheme, &message, signature) {
            tracing::error!(
                server = leg.server.target().name,
                zone = %self.route.zone,
                key = %self.route.key.id,
                "the key server's signature is not by the certificate's key"
            );
            return Err(Refusal::WrongKey);
        }
        leg.proven.store(true, Relaxed);
        Ok(answer)
    }
}

impl Leg {
    /// This worker's connection, where a request for this key may be sent to it now.
    fn open(&self) -> Option<Arc<Link>> {
        if self.key.breaker(self.server.target().now()) == Breaker::Open {
            return None;
        }
        self.server.open()
    }

    fn answered(&self, took: Duration) {
        let target = self.server.target();
        if self.key.succeeded() {
            tracing::info!(server = target.name, "the key server is in use again for a key");
        }
        target.handles.ok();
        target.handles.latency.observe(took.as_secs_f64());
        target.health.observe(took);
        target.answered();
    }
}
