//! Session tickets that say who comes: in front of the sealed session stands the header of a wait token
//! (`edge_common::token`), so that a client is known by the ticket in its ClientHello. `front` makes a [`Ticketer`] for each
//! connection, rustls asks it, `hello` shows the tickets of penalised addresses to the gate.
//!
//! | bytes | |
//! |---|---|
//! | 0..32 | header: client id, address prefix by its MAC, times, carrier |
//! | 32..40 | salt, random |
//! | 40.. | rustls's session, AES-256-GCM with the header as associated data; 16 bytes of tag at the end |
//!
//! The keys are the tokens': any worker, any node with the secret, and a node that was restarted take each other's tickets.
//! A ticket is bound to an address prefix. A client that changes its network shakes hands in full and gets another id: nobody
//! follows it from one network to the next by it (RFC 8446 appendix C.4), and a ticket that was stolen elsewhere is nothing.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use edge_common::token::HEADER;
use rustls::server::ProducesTickets;
use rustls::{CommonState, HandshakeKind, ServerConfig};

use super::sessions::{Keeper, NoTickets, Sessions};
use crate::base::clock::UnixTime;
use crate::gate::token::{self, Carrier, ClientId, Maturity, SALT, Tokens};

/// RFC 8446 section 4.6.1: no ticket is good for more than seven days.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What all connections' ticketers share.
#[derive(Clone, Debug)]
pub struct Tickets {
    tokens: Arc<Tokens>,
    life: Duration,
}

impl Tickets {
    /// Tickets that are good for `life`, or as long as the tokens' keys are kept where that is shorter.
    pub(super) fn new(tokens: Arc<Tokens>, life: Duration) -> Self {
        let life = life.min(tokens.epochs().longest_life()).min(LONGEST);
        Self { tokens, life }
    }

    /// `config` for one connection of the client at `address`, and the ticketer in it.
    pub fn equip(&self, config: &ServerConfig, address: IpAddr) -> (Arc<ServerConfig>, Arc<Ticketer>) {
        self.equip_for(config, address, ClientId::fresh())
    }

    /// The same for a client that has another proof of its id, or is to have this one.
    pub fn equip_for(
        &self,
        config: &ServerConfig,
        address: IpAddr,
        client: ClientId,
    ) -> (Arc<ServerConfig>, Arc<Ticketer>) {
        let ticketer = self.ticketer(address, client);
        let mut config = config.clone();
        config.ticketer = ticketer.clone();
        (Arc::new(config), ticketer)
    }

    /// The same for a connection of QUIC in a zone that takes early data: its tickets name sessions that are kept in `sessions` and
    /// given out once, on this node, until it is restarted.
    pub fn equip_once(
        &self,
        config: &ServerConfig,
        address: IpAddr,
        client: ClientId,
        sessions: &Arc<Sessions>,
    ) -> (Arc<ServerConfig>, Arc<Ticketer>) {
        let ticketer = self.ticketer(address, client);
        let mut config = config.clone();
        config.ticketer = Arc::new(NoTickets);
        config.session_storage = Keeper::new(sessions.clone(), ticketer.clone());
        // RFC 9001 section 4.6.1: over QUIC there is no other value; flow control bounds what comes.
        config.max_early_data_size = u32::MAX;
        (Arc::new(config), ticketer)
    }

    fn ticketer(&self, address: IpAddr, client: ClientId) -> Arc<Ticketer> {
        Arc::new(Ticketer {
            shared: self.clone(),
            address,
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
    /// The id of a client that brings none.
    fresh: ClientId,
    /// The id in the ticket that rustls has opened last before the handshake was settled.
    presented: OnceLock<ClientId>,
    settled: AtomicBool,
    resumed: AtomicBool,
}

impl Ticketer {
    /// To be called when rustls has processed the ClientHello: a client that brought a ticket and does not resume its session
    /// has not shown that the ticket is its own, and must not get another with the same id.
    pub fn settle(&self, connection: &CommonState) {
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        self.resumed
            .store(resumed && self.presented.get().is_some(), Ordering::Release);
        self.settled.store(true, Ordering::Release);
    }

    /// The client's id in the tickets of this connection, and whether it brought it (and the handshake, once it is done,
    /// has proven it).
    pub fn client(&self) -> (ClientId, bool) {
        // TLS 1.2 writes the ticket of a resumed session before `settle`, that of a new one after.
        let brought = !self.settled.load(Ordering::Acquire) || self.resumed.load(Ordering::Acquire);
        match self.presented.get().filter(|_| brought) {
            Some(client) => (*client, true),
            None => (self.fresh, false),
        }
    }

    fn seal(&self, now: UnixTime, plain: &[u8]) -> Option<Vec<u8>> {
        let tokens = &self.shared.tokens;
        let (client, _) = self.client();
        let expires = now.after(self.shared.life).stamp();
        let header = tokens.header(now, self.address, Carrier::Ticket, client, now.stamp(), expires);
        let salt = token::salt();
        let mut sealed = Vec::with_capacity(plain.len() + 16);
        sealed.extend_from_slice(plain);
        tokens.seal(now, &header, salt, &mut sealed);
        // Empty: the key was gone; rustls then sends no ticket.
        (!sealed.is_empty()).then(|| [&header[..], &salt, &sealed].concat())
    }

    fn open(&self, now: UnixTime, ticket: &[u8]) -> Option<(ClientId, Vec<u8>)> {
        let tokens = &self.shared.tokens;
        let (front, rest) = ticket.split_first_chunk::<HEADER>()?;
        let (salt, sealed) = rest.split_first_chunk::<SALT>()?;
        let checked = tokens.check(now, self.address, Carrier::Ticket, front).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = tokens.unseal(now, front, *salt, &mut sealed)?.len();
        sealed.truncate(plain);
        (checked.maturity == Maturity::Mature).then_some((ClientId(checked.header.client), sealed))
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
        if !self.settled.load(Ordering::Acquire) {
            // The first of several that open is the one rustls tries first; another one would not be believed.
            let _ = self.presented.set(client);
        }
        Some(plain)
    }
}

#[cfg(test)]
mod tests;
