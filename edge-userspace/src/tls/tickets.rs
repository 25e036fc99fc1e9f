//! Session tickets that say who comes: in front of the sealed session stands the header of a wait
//! token (`edge_common::token`), so that a client is known by the ticket in its ClientHello.
//! `front` makes a [`Ticketer`] for each connection, rustls asks it, `hello` shows the tickets of
//! penalised addresses to the gate.
//!
//! | bytes | |
//! |---|---|
//! | 0..32 | header: client id (masked), address prefix by its MAC, times, carrier |
//! | 32..48 | which key, nonce ([`Sealing`]) |
//! | 48.. | rustls's session, AES-256-GCM with the header and the zone's policy as associated data; 16 bytes of tag at the end |
//!
//! The header's keys are the tokens': any node with the secret knows a client by it. The sealing
//! keys are the node's alone, or its fleet's, and last a few hours: no file opens a ticket. A
//! ticket is bound to its zone and to what the zone asks of clients' certificates ([`Policy`]):
//! where that has changed, or does not let the session's certificate in any more, there is no
//! session, and the client shows its certificate in a full handshake. A ticket is bound to an
//! address prefix, too, unless `[tls] ticket_roaming` says otherwise. A client that changes its
//! network gets another id: nobody follows it from one network to the next by it (RFC 8446 appendix
//! C.4).

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use edge_common::token::{self, HEADER, Header};
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;
use rustls::{CommonState, HandshakeKind, ServerConfig};

use super::policy::Policy;
use super::sealing::{FRONT, Sealing};
use super::sessions::{Keeper, NoTickets, Sessions};
use crate::base::clock::UnixTime;
use crate::gate::token::{Carrier, ClientId, Maturity, Refusal, Tokens};

/// RFC 8446 section 4.6.1: no ticket is good for more than seven days.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What all connections' ticketers share.
#[derive(Clone, Debug)]
pub struct Tickets {
    tokens: Arc<Tokens>,
    sealing: Arc<Sealing>,
    life: Duration,
    roams: bool,
}

impl Tickets {
    /// Tickets that are good for `life`, or as long as the tokens' keys are kept where that is
    /// shorter; `roams`: from whatever address they come.
    pub(super) fn new(tokens: Arc<Tokens>, sealing: Arc<Sealing>, life: Duration, roams: bool) -> Self {
        let life = life.min(tokens.epochs().longest_life()).min(LONGEST);
        Self {
            tokens,
            sealing,
            life,
            roams,
        }
    }

    /// How long they are good for.
    pub(super) const fn life(&self) -> Duration {
        self.life
    }

    /// `config` for one connection of the client at `address` to a zone with this `policy`, and the
    /// ticketer in it.
    pub fn equip(&self, config: &ServerConfig, address: IpAddr, policy: &Policy) -> (Arc<ServerConfig>, Arc<Ticketer>) {
        self.equip_for(config, address, ClientId::fresh(), policy)
    }

    /// The same for a client that has another proof of its id, or is to have this one.
    pub fn equip_for(
        &self,
        config: &ServerConfig,
        address: IpAddr,
        client: ClientId,
        policy: &Policy,
    ) -> (Arc<ServerConfig>, Arc<Ticketer>) {
        let ticketer = self.ticketer(address, client, policy, self.roams);
        let mut config = config.clone();
        config.ticketer = ticketer.clone();
        (Arc::new(config), ticketer)
    }

    /// The same for a connection of QUIC in a zone that takes early data: its tickets name sessions
    /// that are kept in `sessions` and given out once, on this node, until it is restarted, and to
    /// the address they were made for.
    pub fn equip_once(
        &self,
        config: &ServerConfig,
        address: IpAddr,
        client: ClientId,
        policy: &Policy,
        sessions: &Arc<Sessions>,
    ) -> (Arc<ServerConfig>, Arc<Ticketer>) {
        let ticketer = self.ticketer(address, client, policy, false);
        let mut config = config.clone();
        config.ticketer = Arc::new(NoTickets);
        config.session_storage = Keeper::new(sessions.clone(), ticketer.clone());
        // RFC 9001 section 4.6.1: over QUIC there is no other value; flow control bounds what
        // comes.
        config.max_early_data_size = u32::MAX;
        (Arc::new(config), ticketer)
    }

    fn ticketer(&self, address: IpAddr, client: ClientId, policy: &Policy, roams: bool) -> Arc<Ticketer> {
        Arc::new(Ticketer {
            shared: self.clone(),
            address,
            policy: policy.clone(),
            roams,
            fresh: client,
            presented: OnceLock::new(),
            settled: AtomicBool::new(false),
            resumed: AtomicBool::new(false),
        })
    }
}

/// The ticketer of one connection: knows its client.
pub struct Ticketer {
    shared: Tickets,
    address: IpAddr,
    policy: Policy,
    /// A ticket that was given to another address resumes its session; its client is somebody new.
    roams: bool,
    /// The id of a client that brings none.
    fresh: ClientId,
    /// The id in the ticket that rustls has opened last before the handshake was settled.
    presented: OnceLock<ClientId>,
    settled: AtomicBool,
    resumed: AtomicBool,
}

impl Ticketer {
    /// To be called when rustls has processed the ClientHello: a client that brought a ticket and
    /// does not resume its session has not shown that the ticket is its own, and must not get
    /// another with the same id.
    pub fn settle(&self, connection: &CommonState) {
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        self.resumed
            .store(resumed && self.presented.get().is_some(), Ordering::Release);
        self.settled.store(true, Ordering::Release);
    }

    /// The client's id in the tickets of this connection, and whether it brought it (and the
    /// handshake, once it is done, has proven it).
    pub fn client(&self) -> (ClientId, bool) {
        // TLS 1.2 writes the ticket of a resumed session before `settle`, that of a new one after.
        let brought = !self.settled.load(Ordering::Acquire) || self.resumed.load(Ordering::Acquire);
        match self.presented.get().filter(|_| brought) {
            Some(client) => (*client, true),
            None => (self.fresh, false),
        }
    }

    fn bound(&self, header: &[u8; HEADER]) -> Vec<u8> {
        [&header[..], self.policy.name()].concat()
    }

    fn seal(&self, now: UnixTime, plain: &[u8]) -> Option<Vec<u8>> {
        let tokens = &self.shared.tokens;
        let (client, _) = self.client();
        let expires = now.after(self.shared.life).stamp();
        let header = tokens.header(now, self.address, Carrier::Ticket, client, now.stamp(), expires);
        let sealed = self.shared.sealing.seal(plain, &self.bound(&header))?;
        Some([&header[..], &sealed].concat())
    }

    /// The session in a ticket, and its client; `None`: somebody new.
    fn open(&self, now: UnixTime, ticket: &[u8]) -> Option<(Option<ClientId>, Vec<u8>)> {
        let (front, sealed) = ticket.split_first_chunk::<HEADER>()?;
        let tokens = &self.shared.tokens;
        let client = match tokens.check(now, self.address, Carrier::Ticket, front) {
            Ok(checked) if checked.maturity == Maturity::Mature => Some(ClientId(checked.header.client)),
            // Its MAC is of another address; the seal covers the header too.
            Err(Refusal::Forged) if self.roams && sealed.len() > FRONT => None,
            _ => return None,
        };
        let plain = self.shared.sealing.open(sealed, &self.bound(front))?;
        let ends = Header::read(token::to_words(front)).expires;
        let sound = now.secs() < u64::from(ends) && self.lets_in(&plain);
        sound.then_some((client, plain))
    }

    /// Whether the zone lets in now whom the session was made with: a certificate may have expired
    /// since.
    fn lets_in(&self, session: &[u8]) -> bool {
        if self.policy.clients().is_none() {
            return true;
        }
        let now = rustls::pki_types::UnixTime::now();
        chain(session).is_some_and(|chain| self.policy.admits(&chain, now))
    }
}

/// The client's certificates in a session as rustls writes it (its `ServerSessionValue`); none: it
/// has shown none. `None` if that has another form: then there is no session, and the client shakes
/// hands in full.
fn chain(session: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    fn counted<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<N>()?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest.split_at_checked(length)
    }
    // The server name, if there is one.
    let rest = match session.split_first()? {
        (0, rest) => rest,
        (1, rest) => counted::<1>(rest)?.1,
        _ => return None,
    };
    // Version and cipher suite, the secret, whether the master secret is extended.
    let (_, rest) = counted::<1>(rest.get(4..)?)?;
    match rest.get(1..)?.split_first()? {
        (0, _) => Some(Vec::new()),
        (1, rest) => {
            let (mut list, _) = counted::<3>(rest)?;
            let mut chain = Vec::new();
            while !list.is_empty() {
                let (one, more) = counted::<3>(list)?;
                chain.push(CertificateDer::from(one));
                list = more;
            }
            Some(chain)
        }
        _ => None,
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").finish_non_exhaustive()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.shared.life.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(UnixTime::now(), plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (client, plain) = self.open(UnixTime::now(), cipher)?;
        if let Some(client) = client
            && !self.settled.load(Ordering::Acquire)
        {
            // The first of several that open is the one rustls tries first; another one would not
            // be believed.
            let _ = self.presented.set(client);
        }
        Some(plain)
    }
}

#[cfg(test)]
mod tests;
