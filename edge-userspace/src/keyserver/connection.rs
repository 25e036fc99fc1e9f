//! One connection of a client that is let in: reads queries, does the quick ones itself, hands RSA
//! to its lane, and writes replies in whatever order they are ready, many in one write. `serve`
//! hands it over; it ends by itself.
//!
//! One task reads, works and writes, so that a client that takes no replies is not read from
//! either, and a turn of the loop costs one read and one write for all the queries that arrived
//! together.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zeroize::{Zeroize, Zeroizing};

use super::access::Client;
use super::ephemeral::Kept;
use super::lane::Job;
use super::rules::Stranger;
use super::shared::Shared;
use super::task::{self, Step};
use super::wire::{Answer, ErrorCode, KeyId, KeyInfo, LENGTH, MAX_QUERY, Op, PAGE, Query, Reply, Request};
use crate::base::clock::UnixTime;
use crate::base::shutdown::{Phase, Shutdown};

/// Quick queries done in one turn: a few hundred microseconds, after which others get the thread.
const TURN: usize = 16;
/// Bytes read ahead.
const AHEAD: usize = 16 << 10;
/// Between two looks at whether the client's certificate has ended, at most.
const LOOK: Duration = Duration::from_secs(5);
/// Malformed queries after which the connection ends.
const MALFORMED: u32 = 16;
/// While draining: how long nothing must have come before the connection ends. What was sent before
/// the notice arrived is served.
const QUIET: Duration = Duration::from_millis(250);

/// Why a connection ended; a closed set, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it.
    Closed,
    /// Nothing was asked for too long.
    Idle,
    /// The client takes no replies.
    Slow,
    /// It broke.
    Broken,
    /// Frames that cannot be told apart, or too many that mean nothing.
    Malformed,
    /// The client is no longer let in.
    Revoked,
    /// The client's certificate has ended.
    Expired,
    /// The server is on its way down.
    Drained,
}

impl End {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::Malformed => "malformed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Drained => "drained",
        }
    }
}

/// A client's connection.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    /// Unique in the process.
    pub(super) number: u64,
    pub(super) client: Arc<Client>,
    /// Of the rules by which the client was let in.
    pub(super) version: u64,
    pub(super) peer: SocketAddr,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// When the client's certificate ends.
    pub(super) ends: Option<UnixTime>,
}

/// What a connection holds while it is served.
struct State {
    kept: Kept,
    /// Queries that wait for RSA.
    pending: usize,
    replies: UnboundedSender<(Op, Reply)>,
    done: UnboundedReceiver<(Op, Reply)>,
    /// Frames to write. Never grown while secrets are in it: it is written when it is half full.
    out: Zeroizing<Vec<u8>>,
    /// Something secret is in `out`.
    secret: bool,
    malformed: u32,
}

impl Connection {
    /// Serves until it ends, and says why.
    pub(super) async fn serve(mut self, mut io: impl AsyncRead + AsyncWrite + Unpin, mut shutdown: Shutdown) -> End {
        let limits = self.shared.limits.clone();
        let (replies, done) = unbounded_channel();
        let mut state = State {
            kept: Kept::new(limits.ephemeral_keys, limits.ephemeral_time),
            pending: 0,
            replies,
            done,
            out: Zeroizing::new(Vec::with_capacity(AHEAD)),
            secret: false,
            malformed: 0,
        };
        let mut rules = self.shared.changed.subscribe();
        let end = self
            .turns(&mut io, &mut state, &mut shutdown, &mut rules, &limits)
            .await;
        self.shared.lane.forget(self.number);
        if !matches!(end, End::Broken | End::Slow) {
            // What was said stays said: close_notify goes behind it. A client that is gone already
            // does not mind.
            let _ = tokio::time::timeout(Duration::from_secs(1), io.shutdown()).await;
        }
        end
    }

    async fn turns(
        &mut self,
        io: &mut (impl AsyncRead + AsyncWrite + Unpin),
        state: &mut State,
        shutdown: &mut Shutdown,
        rules: &mut tokio::sync::watch::Receiver<u64>,
        limits: &crate::config::keyserver::Limits,
    ) -> End {
        let mut input: Vec<u8> = Vec::with_capacity(AHEAD);
        let mut last = Instant::now();
        // Looks at what is too old; far cheaper than a timer set anew for each query.
        let mut tick = tokio::time::interval(
            (limits.idle_timeout.min(limits.ephemeral_time) / 4).min(LOOK) + Duration::from_millis(1),
        );
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut eof = false;
        let mut draining = false;
        loop {
            if rules.has_changed().unwrap_or(false) {
                rules.mark_unchanged();
                if let Err(end) = self.judge_again(state) {
                    // Why, as far as the client takes it.
                    let _ = flush(io, state, limits.write_timeout).await;
                    return end;
                }
            }
            if !draining && shutdown.phase() >= Phase::Draining {
                draining = true;
                last = Instant::now();
                state.push(&Reply {
                    id: 0,
                    answer: Answer::Error(ErrorCode::Draining),
                });
            }
            let (used, ended) = self.turn(&input, state);
            input.drain(..used);
            while let Ok((op, reply)) = state.done.try_recv() {
                self.answered(state, op, &reply);
                if state.is_half_full() {
                    break;
                }
            }
            if let Err(end) = flush(io, state, limits.write_timeout).await {
                return end;
            }
            if let Some(end) = ended {
                return end;
            }
            if used > 0 {
                last = Instant::now();
                if whole(&input) {
                    // Others first.
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            if eof && state.pending == 0 {
                return if draining { End::Drained } else { End::Closed };
            }
            tokio::select! {
                read = io.read_buf(&mut input), if !eof => match read {
                    Ok(0) => eof = true,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return End::Closed,
                    Err(_) => return End::Broken,
                },
                Some((op, reply)) = state.done.recv(), if state.pending > 0 => {
                    self.answered(state, op, &reply);
                    last = Instant::now();
                }
                _ = tick.tick() => {
                    let now = Instant::now();
                    state.kept.forget(now);
                    if self.ends.is_some_and(|ends| UnixTime::now() > ends) {
                        let stranger = Stranger::Certificate(CertificateError::Expired.into());
                        self.dismiss(state, &stranger);
                        let _ = flush(io, state, limits.write_timeout).await;
                        return End::Expired;
                    }
                    if state.pending == 0 && now.saturating_duration_since(last) >= limits.idle_timeout {
                        return End::Idle;
                    }
                }
                _ = rules.changed() => rules.mark_changed(),
                () = shutdown.reached(if draining { Phase::Stopped } else { Phase::Draining }) => {
                    if draining {
                        return End::Drained;
                    }
                }
                () = tokio::time::sleep(QUIET), if draining && state.pending == 0 => return End::Drained,
            }
        }
    }

    /// Asks the rules anew whether this client is let in, and as whom.
    fn judge_again(&mut self, state: &mut State) -> Result<(), End> {
        let rules = self.shared.rules.load();
        if rules.version == self.version {
            return Ok(());
        }
        self.version = rules.version;
        match rules.client(&self.chain) {
            Ok(client) => {
                self.client = client;
                Ok(())
            }
            Err(stranger) => {
                self.dismiss(state, &stranger);
                Err(End::Revoked)
            }
        }
    }

    /// Tells the audit and the client that it is no longer let in.
    fn dismiss(&self, state: &mut State, why: &Stranger) {
        self.shared.refuse(self.peer, &why.to_string());
        state.push(&Reply {
            id: 0,
            answer: Answer::Error(ErrorCode::NotAllowed),
        });
    }

    /// Does what `input` holds, as much as one turn does. Gives the bytes used, and whether the
    /// connection ends.
    fn turn(&mut self, input: &[u8], state: &mut State) -> (usize, Option<End>) {
        let now = Instant::now();
        let mut used = 0;
        for _ in 0..TURN {
            if state.is_half_full() {
                break;
            }
            let decoded = match Query::decode(input.get(used..).unwrap_or_default()) {
                Ok(None) => break,
                Ok(Some(decoded)) => decoded,
                Err(broken) => {
                    self.shared.refuse(self.peer, &broken.to_string());
                    let answer = Answer::Error(ErrorCode::Malformed);
                    state.push(&Reply { id: 0, answer });
                    return (input.len(), Some(End::Malformed));
                }
            };
            used += decoded.used;
            match decoded.content {
                Ok(query) => self.query(now, query, state),
                Err(why) => {
                    let code = match why {
                        super::wire::Malformed::UnknownOp(_) => ErrorCode::UnknownOp,
                        _ => ErrorCode::Malformed,
                    };
                    let answer = Answer::Error(code);
                    state.push(&Reply { id: decoded.id, answer });
                    state.malformed += 1;
                    if state.malformed >= MALFORMED {
                        self.shared.refuse(self.peer, "too many malformed queries");
                        return (input.len(), Some(End::Malformed));
                    }
                }
            }
        }
        (used, None)
    }

    /// Answers one query, or hands it on.
    fn query(&self, now: Instant, query: Query, state: &mut State) {
        let (id, op) = (query.id, query.request.op());
        let answer = match self.answer(now, query, state) {
            Ok(Some(answer)) => answer,
            Ok(None) => return,
            Err(code) => Answer::Error(code),
        };
        self.shared.metrics.query(op, error(&answer));
        state.push(&Reply { id, answer });
    }

    /// `None`: the RSA lane answers.
    fn answer(&self, now: Instant, query: Query, state: &mut State) -> Result<Option<Answer>, ErrorCode> {
        let op = query.request.op();
        let refused = |key: &KeyId, refusal: super::access::Refusal| {
            let mut audit = self.client.audit.lock().unwrap_or_else(PoisonError::into_inner);
            let client = (&*self.client.name, self.peer);
            audit.query(now, &self.shared.metrics, client, op, key, &refusal.to_string());
            refusal.code()
        };
        self.client.admit(now).map_err(|refusal| refused(&query.key, refusal))?;
        let keys = self.shared.keys.load();
        match query.request {
            Request::Ping => return Ok(Some(Answer::Pong)),
            Request::List => return Ok(Some(self.list(&keys, query.key))),
            _ => {}
        }
        let key = match self.client.judge(&keys, &query) {
            Ok(key) => key,
            Err(refusal) => return Err(refused(&query.key, refusal)),
        };
        let id = query.id;
        // Before an ephemeral key is made for it.
        let slow = key.is_slow()
            && matches!(
                op,
                Op::SignTls13 | Op::SignTls12 | Op::KxSignTls12 | Op::RsaMaster | Op::RsaPremaster
            );
        if slow && state.pending >= self.shared.limits.pending {
            return Err(ErrorCode::Overload);
        }
        let task = match task::begin(query, &mut state.kept, now)? {
            Step::Done(answer) => return Ok(Some(answer)),
            Step::Needs(task) => task,
        };
        if !slow {
            return task.run(key).map(Some);
        }
        let job = Job {
            id,
            op,
            key: key.clone(),
            task,
            since: now,
            replies: state.replies.clone(),
        };
        if !self.shared.lane.submit(self.number, job) {
            return Err(ErrorCode::Overload);
        }
        state.pending += 1;
        Ok(None)
    }

    /// The lane answered.
    fn answered(&self, state: &mut State, op: Op, reply: &Reply) {
        state.pending = state.pending.saturating_sub(1);
        self.shared.metrics.query(op, error(&reply.answer));
        state.push(reply);
    }

    /// The keys behind `cursor` that this client has any grant on.
    fn list(&self, keys: &super::store::Keys, cursor: KeyId) -> Answer {
        let mut more = false;
        let mut page = Vec::new();
        for key in keys.after(cursor) {
            let Some(ops) = self.client.ops(key) else { continue };
            if page.len() == PAGE {
                more = true;
                break;
            }
            page.push(KeyInfo {
                kind: key.kind,
                ops: ops.intersection(key.kind.ops()),
                spki: key.spki.clone(),
            });
        }
        Answer::Keys { more, keys: page }
    }
}

impl State {
    fn push(&mut self, reply: &Reply) {
        self.secret |= reply.answer.is_secret();
        reply.encode(&mut self.out);
    }

    /// Time to write. A page of `list` may take it further, which is no secret.
    fn is_half_full(&self) -> bool {
        self.out.len() >= AHEAD / 2
    }
}

fn error(answer: &Answer) -> Option<ErrorCode> {
    match answer {
        Answer::Error(code) => Some(*code),
        _ => None,
    }
}

/// Whether a frame, or what ends the connection, is at the front.
fn whole(input: &[u8]) -> bool {
    !matches!(Query::decode(input), Ok(None))
}

/// Writes what there is to write, and wipes it.
async fn flush(io: &mut (impl AsyncWrite + Unpin), state: &mut State, limit: Duration) -> Result<(), End> {
    if state.out.is_empty() {
        return Ok(());
    }
    let written = tokio::time::timeout(limit, async {
        io.write_all(&state.out).await?;
        io.flush().await
    })
    .await;
    if std::mem::take(&mut state.secret) {
        let capacity = state.out.capacity();
        state.out.zeroize();
        debug_assert_eq!(state.out.capacity(), capacity);
    }
    state.out.clear();
    if state.out.capacity() > 4 * AHEAD {
        state.out.shrink_to(AHEAD);
    }
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Broken),
        Err(_) => Err(End::Slow),
    }
}

/// A frame always fits what is read ahead.
const _: () = assert!(AHEAD > 2 * (LENGTH + MAX_QUERY));
