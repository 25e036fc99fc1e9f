//! Handshakes of zones whose keys are elsewhere: rustls runs suspended (`suspend`), its questions
//! are answered by the zone's key servers (`remote`), and the finished or half-finished session is
//! handed to tokio-rustls. `accept` calls it once the ClientHello is there. Before the first
//! question, the handshake needs a place among those that wait (`flights`): who resumes a session
//! asks nothing and needs none.

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::server::{Accepted, AcceptedAlert};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::closed::Closed;
use super::flights::{self, Flights};
#[cfg(feature = "legacy-rsa")]
use super::remote::Question;
use super::remote::ask::ask;
use super::remote::{Notes, Refusal, Route};
use super::suspend::{Stacks, Step, Task};
use crate::config;
#[cfg(feature = "legacy-rsa")]
use crate::keyserver::wire;

/// A fatal alert `internal_error` in the clear (RFC 8446 section 6): nothing that the client has
/// seen is encrypted yet.
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
/// More stacks than handshakes that wait: those that resume, or have not asked yet, need one for a
/// moment.
const SPARE_STACKS: usize = 64;
/// Bytes read at once while a handshake is not yet tokio-rustls's.
const PIECE: usize = 4096;

/// What all suspended handshakes of a node share.
#[derive(Debug)]
pub struct Keyless {
    stacks: Arc<Stacks>,
    flights: Arc<Flights>,
    /// Milliseconds that all answers of one handshake may take.
    patience: AtomicU64,
}

/// Whose handshake it is.
#[derive(Clone, Debug)]
pub struct Whose {
    /// The zone's key.
    pub route: Arc<Route>,
    /// Ephemeral keys are made by the key server too.
    pub exchange: bool,
    /// The client, for its share of the places.
    pub client: IpAddr,
}

impl Keyless {
    /// Sets up from a configuration.
    pub fn new(tls: &config::Tls, registry: &mut Registry) -> Self {
        let stacks = Gauge::default();
        registry.register(
            "edge_tls_stacks",
            "Stacks for suspended handshakes, in use or kept for the next",
            stacks.clone(),
        );
        let this = Self {
            stacks: Stacks::new(tls.handshakes_waiting + SPARE_STACKS, stacks),
            flights: Flights::new(tls.handshakes_waiting, tls.handshakes_waiting_per_address),
            patience: AtomicU64::new(0),
        };
        this.flights.register(registry);
        this.adjust(tls);
        this
    }

    /// Other bounds from now on.
    pub fn adjust(&self, tls: &config::Tls) {
        let millis = u64::try_from(tls.key_server_timeout.as_millis()).unwrap_or(u64::MAX);
        self.patience.store(millis, Relaxed);
        self.stacks.adjust(tls.handshakes_waiting + SPARE_STACKS);
        self.flights
            .adjust(tls.handshakes_waiting, tls.handshakes_waiting_per_address);
    }

    /// Gives memory back that is not used any more; to be called every few seconds.
    pub fn sweep(&self) {
        self.stacks.sweep();
    }

    /// Stacks there are, stacks free, and handshakes that wait.
    pub fn count(&self) -> (usize, usize, usize) {
        let (made, free) = self.stacks.count();
        (made, free, self.flights.waiting())
    }

    /// Runs `code`, which may use the zone's remote key, and answers its questions, all of which
    /// have one place and one deadline: pass the same `seat` as long as nobody else is waited for.
    /// Dropped, it leaves nothing behind.
    ///
    /// # Errors
    /// No stack. Whatever else goes wrong, `code` is told by rustls's error.
    pub async fn run<R: Send + 'static>(
        &self,
        whose: &Whose,
        seat: &mut Seat,
        code: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Refusal> {
        let notes = Notes {
            exchange: whose.exchange.then(|| whose.route.clone()),
        };
        let mut task = Task::new(&self.stacks, notes, code).map_err(|_| Refusal::NoStack)?;
        let mut answer = Ok(None);
        loop {
            let question = match task.resume(answer) {
                Some(Step::Done(value)) => return Ok(value),
                Some(Step::Asked(question)) => question,
                None => return Err(Refusal::Outside),
            };
            answer = match self.seated(whose, seat) {
                Ok(deadline) => ask(*question, deadline).await.map(Some),
                Err(refusal) => Err(refusal),
            };
        }
    }

    /// Asks one question for a handshake that waits by itself, under the same bounds: a place as
    /// long as it waits, and a deadline.
    ///
    /// # Errors
    /// No place, or why there is no answer.
    #[cfg(feature = "legacy-rsa")]
    pub(super) async fn ask(&self, whose: &Whose, request: wire::Request) -> Result<wire::Answer, Refusal> {
        let mut seat = Seat::default();
        let deadline = self.seated(whose, &mut seat)?;
        let question = Question {
            route: whose.route.clone(),
            request,
            on: None,
        };
        Ok(ask(question, deadline).await?.answer)
    }

    fn seated(&self, whose: &Whose, seat: &mut Seat) -> Result<Instant, Refusal> {
        if let Some((_, deadline)) = &seat.0 {
            return Ok(*deadline);
        }
        let place = self
            .flights
            .board(&whose.route.zone, whose.client)
            .map_err(|_| Refusal::Shed)?;
        let deadline = Instant::now() + Duration::from_millis(self.patience.load(Relaxed));
        seat.0 = Some((place, deadline));
        Ok(deadline)
    }

    /// Shakes hands with a client whose ClientHello is `accepted`; `config` is the zone's own.
    /// `settle` sees the session once the ClientHello has been answered.
    ///
    /// # Errors
    /// The client's fault, the connection's, or a refusal; the client has its alert.
    pub async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        accepted: Accepted,
        mut io: S,
        config: Arc<ServerConfig>,
        whose: &Whose,
        settle: impl FnOnce(&mut ServerConnection),
    ) -> Result<TlsStream<S>, Closed> {
        let mut seat = Seat::default();
        let terms = config.clone();
        // Boxed: results cross from one stack to another.
        let first = self
            .run(whose, &mut seat, move || accepted.into_connection(terms).map(Box::new))
            .await;
        let mut session = match first {
            Ok(Ok(session)) => session,
            Ok(Err((error, alert))) => return Err(refuse(&mut io, error, Some(alert)).await),
            Err(refusal) => return Err(refuse(&mut io, refusal.into(), None).await),
        };
        settle(&mut session);
        let mut again = asks_again(&session, whose);
        while again {
            send(&mut session, &mut io).await?;
            // Now the client is waited for: another may have the place, and the key servers' time
            // does not run.
            seat = Seat::default();
            let mut piece = [0; PIECE];
            let n = io.read(&mut piece).await?;
            let mut bytes = piece.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                return Err(Closed::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            while !bytes.is_empty() {
                session.read_tls(&mut bytes)?;
                let step = move || {
                    let processed = session.process_new_packets().map(drop);
                    (session, processed)
                };
                let result = match self.run(whose, &mut seat, step).await {
                    Ok((same, processed)) => {
                        session = same;
                        processed
                    }
                    Err(refusal) => return Err(refuse(&mut io, refusal.into(), None).await),
                };
                if let Err(error) = result {
                    if Refusal::behind(&error).is_none() {
                        // rustls has queued its alert.
                        send(&mut session, &mut io).await?;
                        return Err(Closed::Handshake(error));
                    }
                    return Err(refuse(&mut io, error, None).await);
                }
            }
            // After the second ClientHello our flight waits to be written, and was the last to need
            // the key.
            again = asks_again(&session, whose) && !session.wants_write();
        }
        // The rest is the client's turn, or its alone: no key is needed for it, and nobody waits
        // for a key server.
        drop(seat);
        Ok(TlsAcceptor::from(config).accept_with(io, |new| *new = *session).await?)
    }
}

/// A handshake's place among those that wait, and the time its answers have; taken with its first
/// question.
#[derive(Debug, Default)]
pub struct Seat(Option<(flights::Place, Instant)>);

/// What is settled already decides whether the client's next messages can lead to another question.
fn asks_again(session: &ServerConnection, whose: &Whose) -> bool {
    match session.protocol_version() {
        // The client's value for the ephemeral key.
        Some(ProtocolVersion::TLSv1_2) => whose.exchange && session.is_handshaking(),
        // A second ClientHello, and with it the signature.
        _ => session.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest),
    }
}

async fn send<S: AsyncWrite + Unpin>(session: &mut ServerConnection, io: &mut S) -> Result<(), Closed> {
    let mut flight = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut flight)?;
    }
    io.write_all(&flight).await?;
    io.flush().await?;
    Ok(())
}

/// Says goodbye to a client: by rustls's alert where the client is at fault, by `internal_error`
/// where we are.
async fn refuse<S: AsyncWrite + Unpin>(io: &mut S, error: rustls::Error, alert: Option<AcceptedAlert>) -> Closed {
    let refusal = Refusal::behind(&error);
    let mut bytes = Vec::new();
    match (refusal, alert) {
        (None, Some(mut alert)) => {
            // Into memory: cannot fail.
            let _ = alert.write_all(&mut bytes);
        }
        _ => bytes.extend(INTERNAL_ERROR),
    }
    // A client that is gone needs no goodbye.
    let _ = io.write_all(&bytes).await;
    let _ = io.shutdown().await;
    match refusal {
        Some(refusal) => Closed::KeyServer(refusal),
        None => Closed::Handshake(error),
    }
}
