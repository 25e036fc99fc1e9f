//! One connection's TLS, from the ClientHello on: quinn asks for a session before it knows whom the
//! client wants; this one chooses zone and certificate when the ClientHello is there, and only then
//! makes rustls's. `front` makes an [`Opening`] for each attempt; `accept` reads from it how the
//! handshake went. A zone's key that is elsewhere is asked for beforehand (`prepare`), and what
//! rustls then wrote is played back here; where that could not be, and for a second ClientHello,
//! the question is asked from here, and the answer leaves with the client's next packet: quinn
//! looks for bytes to send only then.

use std::any::Any;
use std::io::Cursor;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::BytesMut;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn_proto::crypto::{
    CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use rustls::quic::{KeyChange, Secrets, ServerConnection, Suite, Version};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::budget::Budget;
use super::initial::Cid;
use super::strangers::Stranger;
use super::{hello, parameters, settings};
use crate::base::peer::{Identity, Standing};
use crate::gate::token::ClientId;
use crate::tls::certificates::{Entry, Store};
use crate::tls::clients;
use crate::tls::keyless::{Keyless, Seat, Whose};
use crate::tls::remote::Refusal;
use crate::tls::sessions::Sessions;
use crate::tls::shown::Shown;
use crate::tls::tickets::{Ticketer, Tickets};

/// What all connections of a configuration share.
pub(super) struct Terms {
    /// For zones that need no configuration of their own.
    pub(super) tls: rustls::ServerConfig,
    pub(super) certificates: Arc<Store>,
    pub(super) tickets: Tickets,
    /// Of zones that take early data.
    pub(super) sessions: Arc<Sessions>,
    pub(super) keyless: Arc<Keyless>,
    /// Of Initial packets.
    pub(super) initial: Suite,
    /// quinn's own, for what is no session's matter.
    pub(super) stock: Arc<QuicServerConfig>,
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terms").finish_non_exhaustive()
    }
}

/// One attempt's TLS: what quinn makes its session of, and what the session tells.
pub(super) struct Opening {
    terms: Arc<Terms>,
    address: IpAddr,
    client: ClientId,
    chosen: OnceLock<Chosen>,
    settled: OnceLock<Settled>,
    refusal: OnceLock<Refusal>,
    refused: Notify,
    early: Notify,
    took_early: AtomicBool,
    prepared: Mutex<Option<Prepared>>,
    /// Its place among the handshakes with addresses that have proven nothing; until this one has.
    stranger: Mutex<Option<Stranger>>,
    /// Where it had to: kept as long as the connection lives, for a transmit of which half is sent.
    budget: Option<Budget>,
    proof: Notify,
}

/// What an attempt holds whose address has proven nothing.
pub(super) struct Unproven {
    /// Its place among such handshakes.
    pub(super) place: Stranger,
    /// What may be sent to it.
    pub(super) budget: Budget,
}

/// What the ClientHello decided.
pub(super) struct Chosen {
    /// The server name in it, normal.
    pub(super) server_name: Option<Arc<str>>,
    /// The zone's certificate.
    pub(super) entry: Arc<Entry>,
    pub(super) ticketer: Arc<Ticketer>,
    /// The client has early data to send.
    offers_early: bool,
    config: Arc<rustls::ServerConfig>,
}

/// What the finished handshake has shown.
pub(super) struct Settled {
    pub(super) resumed: bool,
    pub(super) certificate: Option<Arc<Identity>>,
    pub(super) standing: Arc<dyn Standing>,
}

/// A ClientHello that was answered before quinn knew of it.
pub(super) struct Prepared {
    /// The message.
    pub(super) hello: Vec<u8>,
    /// Our connection id in the transport parameters of the answer: the one that quinn must use.
    pub(super) source: ConnectionId,
    /// The session that has read the message, or what is wrong with it.
    pub(super) outcome: Result<Box<ServerConnection>, TransportError>,
}

impl Opening {
    /// For an attempt of `client`, who comes from `address`; `unproven`: which quinn has not found
    /// valid.
    pub(super) fn new(terms: Arc<Terms>, address: IpAddr, client: ClientId, unproven: Option<Unproven>) -> Arc<Self> {
        let (stranger, budget) =
            unproven.map_or((None, None), |Unproven { place, budget }| (Some(place), Some(budget)));
        Arc::new(Self {
            terms,
            address,
            client,
            chosen: OnceLock::new(),
            settled: OnceLock::new(),
            refusal: OnceLock::new(),
            refused: Notify::new(),
            early: Notify::new(),
            took_early: AtomicBool::new(false),
            prepared: Mutex::new(None),
            stranger: Mutex::new(stranger),
            budget,
            proof: Notify::new(),
        })
    }

    fn stranger(&self) -> std::sync::MutexGuard<'_, Option<Stranger>> {
        self.stranger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client has shown that it receives what is sent to its address (RFC 9000 section
    /// 8.1).
    pub(super) fn is_proven(&self) -> bool {
        self.stranger().is_none()
    }

    /// Waits until it has; to be asked once, for an attempt that has not.
    pub(super) async fn proven(&self) {
        self.proof.notified().await;
    }

    fn prove(&self) {
        if self.stranger().take().is_some() {
            if let Some(budget) = &self.budget {
                budget.prove();
            }
            self.proof.notify_one();
        }
    }

    /// What the ClientHello decided; `None` before there was one.
    pub(super) fn chosen(&self) -> Option<&Chosen> {
        self.chosen.get()
    }

    /// What the handshake has shown; `None` before its end.
    pub(super) fn settled(&self) -> Option<&Settled> {
        self.settled.get()
    }

    /// Why the zone's key could not be used, if so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    /// Waits for a [`refusal`](Self::refusal) that quinn cannot be told of.
    pub(super) async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Waits until the client's early data is taken; for ever where it is not.
    pub(super) async fn early(&self) {
        self.early.notified().await;
    }

    /// Whether early data was taken; `None`: none was offered.
    pub(super) fn early_data(&self) -> Option<bool> {
        let offered = self.chosen.get()?.offers_early;
        offered.then(|| self.took_early.load(Ordering::Relaxed))
    }

    /// quinn's own, to read Initial packets with.
    pub(super) fn stock(&self) -> Arc<QuicServerConfig> {
        self.terms.stock.clone()
    }

    /// The session to come is this one.
    pub(super) fn play(&self, prepared: Prepared) {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared);
    }

    /// Chooses by a whole ClientHello.
    ///
    /// # Errors
    /// It cannot be read, or no zone has the name: `unrecognized_name` (RFC 6066 section 3).
    pub(super) fn choose(&self, message: &[u8]) -> Result<&Chosen, TransportError> {
        if let Some(chosen) = self.chosen.get() {
            return Ok(chosen);
        }
        let server_name = hello::server_name(message)?;
        let Some(entry) = self.terms.certificates.find(server_name.as_deref()) else {
            return Err(hello::alert(AlertDescription::UnrecognisedName, "no such server here"));
        };
        let terms = &self.terms;
        let own = entry.config.get().map(|own| settings::tls(own));
        let tls = own.as_ref().unwrap_or(&terms.tls);
        let (config, ticketer) = match entry.early_data {
            true => terms
                .tickets
                .equip_once(tls, self.address, self.client, &entry.policy, &terms.sessions),
            false => terms.tickets.equip_for(tls, self.address, self.client, &entry.policy),
        };
        Ok(self.chosen.get_or_init(|| Chosen {
            server_name,
            entry,
            ticketer,
            offers_early: hello::offers_early_data(message),
            config,
        }))
    }

    /// What the connection is let in with; `session`: after its handshake, where that was waited
    /// for.
    pub(super) fn standing(&self, chosen: &Chosen, session: Option<&rustls::CommonState>) -> Arc<dyn Standing> {
        let name = chosen.server_name.clone();
        Shown::of(&self.terms.certificates, name, &chosen.entry, session)
    }

    /// Whose key has to be asked for; `None` where it is here.
    pub(super) fn whose(&self, chosen: &Chosen) -> Option<Whose> {
        Some(Whose {
            route: chosen.entry.route()?.clone(),
            exchange: chosen.entry.exchange,
            client: self.address,
        })
    }

    /// Has a new session read the ClientHello where it can wait for the zone's key.
    pub(super) async fn answer(
        &self,
        chosen: &Chosen,
        whose: &Whose,
        message: &[u8],
        parameters: Vec<u8>,
    ) -> Result<Box<ServerConnection>, TransportError> {
        let session = begin(chosen, parameters)?;
        let (session, read) = converse(&self.terms.keyless, whose, session, message.to_vec())
            .await
            .map_err(|refusal| self.note(refusal))?;
        match read {
            Ok(()) => Ok(session),
            Err(error) => Err(self.failure(&session, &error)),
        }
    }

    fn note(&self, refusal: Refusal) -> TransportError {
        let _ = self.refusal.set(refusal);
        // Which key server, and why, is nobody's business out there.
        hello::alert(AlertDescription::InternalError, "")
    }

    fn failure(&self, session: &ServerConnection, error: &rustls::Error) -> TransportError {
        if let Some(refusal) = Refusal::behind(error) {
            return self.note(refusal);
        }
        match session.alert() {
            Some(alert) => hello::alert(alert, &error.to_string()),
            None => hello::error(TransportErrorCode::PROTOCOL_VIOLATION, &error.to_string()),
        }
    }
}

fn begin(chosen: &Chosen, parameters: Vec<u8>) -> Result<Box<ServerConnection>, TransportError> {
    ServerConnection::new(chosen.config.clone(), Version::V1, parameters)
        .map(Box::new)
        .map_err(|_| hello::alert(AlertDescription::InternalError, ""))
}

type Read = (Box<ServerConnection>, Result<(), rustls::Error>);

/// Has `session` read `bytes` where it can wait.
async fn converse(
    keyless: &Keyless,
    whose: &Whose,
    mut session: Box<ServerConnection>,
    bytes: Vec<u8>,
) -> Result<Read, Refusal> {
    let mut seat = Seat::default();
    let step = move || {
        let read = session.read_hs(&bytes);
        (session, read)
    };
    keyless.run(whose, &mut seat, step).await
}

/// What quinn makes a session of: an attempt's own.
pub(super) struct Crypto(pub(super) Arc<Opening>);

impl ServerConfig for Crypto {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.terms.stock.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, original: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.terms.stock.retry_tag(version, original, packet)
    }

    fn start_session(self: Arc<Self>, _: u32, ours: &TransportParameters) -> Box<dyn Session> {
        let opening = self.0.clone();
        let mut encoded = Vec::new();
        ours.write(&mut encoded);
        if let Some(budget) = &opening.budget
            && let Some(id) = parameters::source(&encoded).and_then(|id| Cid::new(&id))
        {
            budget.name(id);
        }
        let prepared = opening.prepared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (state, replay) = match prepared {
            None => (State::Hello(Vec::new()), Vec::new()),
            Some(prepared) => match prepared.outcome {
                Err(error) => (State::Failed(error), Vec::new()),
                // The client has to find the id that it sees on packets in what was signed (RFC
                // 9000 section 7.3).
                Ok(_) if parameters::source(&encoded) != Some(prepared.source) => (
                    State::Failed(hello::error(TransportErrorCode::INTERNAL_ERROR, "")),
                    Vec::new(),
                ),
                Ok(session) => (State::Session(session), prepared.hello),
            },
        };
        Box::new(Tls {
            opening,
            parameters: encoded,
            state,
            replay,
            replayed: 0,
            part: Vec::new(),
            next: None,
            later: None,
            keyed: false,
            announced: false,
        })
    }
}

/// The session.
struct Tls {
    opening: Arc<Opening>,
    /// Ours, encoded.
    parameters: Vec<u8>,
    state: State,
    /// The ClientHello that `prepare` had answered, and how much of it quinn has handed over.
    replay: Vec<u8>,
    replayed: usize,
    /// The front of a second ClientHello.
    part: Vec<u8>,
    next: Option<Secrets>,
    /// Keys for packets with short headers that quinn is to have once the address is proven: until
    /// then each packet says by its header whose it is (`budget`).
    later: Option<Keys>,
    /// Keys for Handshake packets are out: from here on nothing is signed any more.
    keyed: bool,
    /// quinn knows what was negotiated.
    announced: bool,
}

enum State {
    /// The ClientHello is not complete.
    Hello(Vec<u8>),
    Session(Box<ServerConnection>),
    /// The session waits for a key server.
    Away(Away),
    Failed(TransportError),
}

/// A session that waits; dropped, it waits no more.
struct Away {
    back: oneshot::Receiver<Result<Box<ServerConnection>, TransportError>>,
    task: AbortHandle,
}

impl Drop for Away {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tls {
    fn session(&self) -> Option<&ServerConnection> {
        match &self.state {
            State::Session(session) if self.replayed == self.replay.len() => Some(session),
            _ => None,
        }
    }

    fn fail(&mut self, error: TransportError) -> TransportError {
        self.state = State::Failed(error.clone());
        error
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        let gone = State::Failed(hello::error(TransportErrorCode::INTERNAL_ERROR, ""));
        match std::mem::replace(&mut self.state, gone) {
            State::Hello(mut message) => {
                message.extend_from_slice(bytes);
                if hello::length(&message)?.is_none() {
                    self.state = State::Hello(message);
                    return Ok(());
                }
                let opening = self.opening.clone();
                let chosen = opening.choose(&message)?;
                let session = begin(chosen, std::mem::take(&mut self.parameters))?;
                self.feed(session, message)
            }
            State::Session(session) => self.feed(session, bytes.to_vec()),
            // It has not answered what it was asked first.
            State::Away(_) => Err(hello::error(
                TransportErrorCode::PROTOCOL_VIOLATION,
                "CRYPTO data out of turn",
            )),
            State::Failed(error) => Err(error),
        }
    }

    fn feed(&mut self, mut session: Box<ServerConnection>, bytes: Vec<u8>) -> Result<(), TransportError> {
        let whose = match self.opening.chosen() {
            Some(chosen) if !self.keyed => self.opening.whose(chosen),
            _ => None,
        };
        if let Some(whose) = whose {
            if !self.opening.is_proven() {
                // `prepare` had it sent a Retry; nobody signs for whoever is not there.
                return Err(hello::error(TransportErrorCode::CONNECTION_REFUSED, ""));
            }
            // Whole: while the session is away it takes no more.
            self.part.extend_from_slice(&bytes);
            self.state = match hello::length(&self.part)? {
                None => State::Session(session),
                Some(_) => {
                    let message = std::mem::take(&mut self.part);
                    State::Away(self.opening.clone().send_away(whose, session, message))
                }
            };
            return Ok(());
        }
        let read = session.read_hs(&bytes);
        let result = read.map_err(|error| self.opening.failure(&session, &error));
        let done = !session.is_handshaking();
        self.state = State::Session(session);
        result?;
        if done && self.opening.settled().is_none() {
            self.settle()?;
        }
        Ok(())
    }

    /// The handshake is over: whom with?
    fn settle(&self) -> Result<(), TransportError> {
        let (Some(session), Some(chosen)) = (self.session(), self.opening.chosen()) else {
            return Ok(());
        };
        let certificate = match chosen.entry.policy.clients() {
            Some(verifier) => clients::identity(session, verifier).map_err(|error| {
                let alert = match &error {
                    rustls::Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
                    _ => AlertDescription::BadCertificate,
                };
                hello::alert(alert, &error.to_string())
            })?,
            None => None,
        };
        let _ = self.opening.settled.set(Settled {
            resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            certificate,
            standing: self.opening.standing(chosen, Some(session)),
        });
        Ok(())
    }

    /// Takes a session back that waited.
    fn fetch(&mut self) {
        let State::Away(away) = &mut self.state else { return };
        match away.back.try_recv() {
            Ok(Ok(session)) => self.state = State::Session(session),
            // `Opening::refused` has been told.
            Ok(Err(error)) => self.state = State::Failed(error),
            Err(oneshot::error::TryRecvError::Empty) => {}
            Err(oneshot::error::TryRecvError::Closed) => {
                self.state = State::Failed(hello::error(TransportErrorCode::INTERNAL_ERROR, ""));
            }
        }
    }
}

impl Opening {
    fn send_away(self: Arc<Self>, whose: Whose, session: Box<ServerConnection>, bytes: Vec<u8>) -> Away {
        let (reply, back) = oneshot::channel();
        let task = tokio::spawn(async move {
            let outcome = match converse(&self.terms.keyless, &whose, session, bytes).await {
                Ok((session, Ok(()))) => Ok(session),
                Ok((session, Err(error))) => Err(self.failure(&session, &error)),
                Err(refusal) => Err(self.note(refusal)),
            };
            if outcome.is_err() {
                self.refused.notify_one();
            }
            // The connection may be gone.
            let _ = reply.send(outcome);
        });
        Away {
            back,
            task: task.abort_handle(),
        }
    }
}

impl Session for Tls {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        let side = match side {
            Side::Client => rustls::Side::Client,
            Side::Server => rustls::Side::Server,
        };
        boxed(self.opening.terms.initial.keys(id, side, Version::V1))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let chosen = self.opening.chosen()?;
        Some(Box::new(HandshakeData {
            protocol: self.session()?.alpn_protocol().map(<[u8]>::to_vec),
            server_name: chosen.server_name.as_deref().map(str::to_owned),
        }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let chain = self.session()?.peer_certificates()?;
        let chain: Vec<CertificateDer<'static>> = chain.iter().map(|one| one.clone().into_owned()).collect();
        Some(Box::new(chain))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        // quinn asks once, when the session has read the ClientHello: rustls has keys where it
        // takes the early data.
        let keys = self.session()?.zero_rtt_keys()?;
        self.opening.took_early.store(true, Ordering::Relaxed);
        self.opening.early.notify_one();
        Some((Box::new(keys.header), Box::new(keys.packet)))
    }

    /// A client's matter.
    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.session().is_none_or(|session| session.is_handshaking())
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        let expected = self.replay.get(self.replayed..).unwrap_or_default();
        let (again, new) = bytes.split_at(bytes.len().min(expected.len()));
        if !expected.starts_with(again) {
            // Two packets disagree on the same bytes (RFC 9000 section 19.6 lets us say so).
            return Err(self.fail(hello::error(
                TransportErrorCode::PROTOCOL_VIOLATION,
                "another ClientHello in the same place",
            )));
        }
        self.replayed = self.replayed.saturating_add(again.len());
        self.fetch();
        if !new.is_empty() {
            self.read(new).map_err(|error| self.fail(error))?;
        }
        let negotiated = self.session().is_some_and(|session| session.alpn_protocol().is_some());
        Ok(negotiated && !std::mem::replace(&mut self.announced, true))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        match self.session().and_then(|session| session.quic_transport_parameters()) {
            None => Ok(None),
            Some(bytes) => Ok(Some(TransportParameters::read(Side::Server, &mut Cursor::new(bytes))?)),
        }
    }

    fn write_handshake(&mut self, buffer: &mut Vec<u8>) -> Option<Keys> {
        self.fetch();
        if self.replayed < self.replay.len() {
            return None;
        }
        let State::Session(session) = &mut self.state else {
            return None;
        };
        if self.later.is_some() && self.opening.is_proven() {
            return self.later.take();
        }
        match session.write_hs(buffer)? {
            KeyChange::Handshake { keys } => {
                self.keyed = true;
                if let Some(chosen) = self.opening.chosen() {
                    // Before the first ticket: that is written when the client's Finished has been
                    // read.
                    chosen.ticketer.settle(session);
                }
                let mut keys = boxed(keys);
                if !self.opening.is_proven() {
                    keys.packet.remote = Box::new(Proving {
                        key: keys.packet.remote,
                        opening: self.opening.clone(),
                    });
                }
                Some(keys)
            }
            KeyChange::OneRtt { keys, next } => {
                self.next = Some(next);
                let keys = boxed(keys);
                if self.opening.is_proven() {
                    return Some(keys);
                }
                self.later = Some(keys);
                None
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair {
            local: Box::new(keys.local),
            remote: Box::new(keys.remote),
        })
    }

    /// A client's matter.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    /// Nobody here exports any.
    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

/// Opens Handshake packets: whoever seals one has read what was sent to its address (RFC 9000
/// section 8.1).
struct Proving {
    key: Box<dyn PacketKey>,
    opening: Arc<Opening>,
}

impl PacketKey for Proving {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.key.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)?;
        self.opening.prove();
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}

fn boxed(keys: rustls::quic::Keys) -> Keys {
    Keys {
        header: KeyPair {
            local: Box::new(keys.local.header),
            remote: Box::new(keys.remote.header),
        },
        packet: KeyPair {
            local: Box::new(keys.local.packet),
            remote: Box::new(keys.remote.packet),
        },
    }
}
