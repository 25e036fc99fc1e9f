//! From an attempt to a connection that can be served, under one deadline. `front` calls it for
//! each `Incoming`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{Connecting, ConnectionError, Incoming, ServerConfig, TransportErrorCode, VarInt, ZeroRttAccepted};

use super::Connection;
use super::keep::Claim;
use super::prepare::{Advice, Preparation};
use super::session::{Crypto, Opening};
use crate::base::early::{self, Proof};
use crate::base::peer::{Handshake, Peer};
use crate::tls::limits::{Limiter, Permit};
use crate::tls::remote::Refusal;

/// What an attempt is accepted with.
pub(super) struct Attempt {
    pub(super) incoming: Incoming,
    /// Its connection's configuration, the sessions of which are `opening`'s.
    pub(super) config: ServerConfig,
    pub(super) opening: Arc<Opening>,
    /// Its packets, where they may be needed before it is accepted.
    pub(super) claim: Option<Claim>,
    pub(super) preparation: Preparation,
    /// A zone's key may be elsewhere: without its packets, an unproven attempt has to come again.
    pub(super) keyless: bool,
    /// Where it came to.
    pub(super) listener: SocketAddr,
    /// Its place among the connections; `None`: it gets one from `limiter` when its address is
    /// proven.
    pub(super) permit: Option<Permit>,
    pub(super) limiter: Arc<Limiter>,
    /// The client has shown by a token who it is.
    pub(super) known: bool,
}

/// Why an attempt ended before it could be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// The client's: too slow, or gone.
    #[error("no handshake within the limit")]
    Timeout,
    /// The client's, mostly: no certificate for the name, no common protocol, a bad message.
    #[error("{0}")]
    Handshake(#[source] ConnectionError),
    /// The client's: it closed or reset the connection.
    #[error("the client left: {0}")]
    Left(#[source] ConnectionError),
    /// The key server's, the network's to it, or a limit of ours.
    #[error("{0}")]
    KeyServer(#[source] Refusal),
    /// The client's: packets against the protocol.
    #[error("{0}")]
    Transport(#[source] ConnectionError),
    /// A limit of ours.
    #[error("too many connections")]
    Full,
    /// A limit of ours.
    #[error("too many connections from one address")]
    Crowded,
    /// Nobody's: the client was asked to prove its address, and comes again.
    #[error("a Retry was sent")]
    Retried,
}

impl Closed {
    /// The label in metrics and logs.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Handshake(_) => "alert",
            Self::Left(_) => "left",
            Self::KeyServer(Refusal::Shed | Refusal::NoStack) => "shed",
            Self::KeyServer(_) => "key_server",
            Self::Transport(_) => "transport",
            Self::Full => "full",
            Self::Crowded => "address_limit",
            Self::Retried => "retried",
        }
    }
}

/// A place among the connections for one of `client`, whose address is proven.
///
/// # Errors
/// Which limit is reached.
pub(super) fn place(limiter: &Arc<Limiter>, client: SocketAddr) -> Result<Permit, Closed> {
    let mut permit = limiter.enter().ok_or(Closed::Full)?;
    match permit.claim(client.ip().to_canonical()) {
        true => Ok(permit),
        false => Err(Closed::Crowded),
    }
}

/// The crypto errors, one per TLS alert (RFC 9001 section 4.8).
const CRYPTO: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match &error {
            ConnectionError::TimedOut => Self::Timeout,
            ConnectionError::TransportError(e) if CRYPTO.contains(&code(e.code)) => Self::Handshake(error),
            ConnectionError::ConnectionClosed(e) if CRYPTO.contains(&code(e.error_code)) => Self::Handshake(error),
            ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::LocallyClosed => Self::Left(error),
            _ => Self::Transport(error),
        }
    }
}

fn code(code: TransportErrorCode) -> u64 {
    code.into()
}

/// A client that was met.
pub(super) struct Met {
    pub(super) connection: Connection,
    /// What is left of the handshake, where the connection is to be served before.
    pub(super) rest: Option<Rest>,
}

/// The end of a handshake that is still to come.
pub(super) struct Rest {
    quic: quinn::Connection,
    accepted: ZeroRttAccepted,
    proof: Proof,
    until: Instant,
}

impl Rest {
    /// Waits for it; a client that is too slow is left.
    pub(super) async fn run(self) -> Result<(), Closed> {
        let over = tokio::time::timeout_at(self.until.into(), self.accepted).await;
        if over.is_err() {
            self.quic.close(VarInt::from_u32(0), b"");
            return Err(Closed::Timeout);
        }
        match self.quic.close_reason() {
            Some(error) => Err(error.into()),
            None => {
                self.proof.give();
                Ok(())
            }
        }
    }
}

/// How long an address may take to prove itself: two round trips of a client far away, and a lost
/// packet. Until then a handshake holds one of the few places for such addresses.
const PROOF: Duration = Duration::from_secs(3);

/// Shakes hands within `limit` with a client whose attempt was let in, or as far as it takes to
/// serve its early data.
pub(super) async fn accept(attempt: Attempt, limit: Duration) -> Result<Met, Closed> {
    let accepted = Instant::now();
    let opening = attempt.opening.clone();
    let shaken = async {
        let silent = async {
            tokio::time::sleep(PROOF).await;
            if opening.is_proven() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            shaken = shake(attempt, accepted, accepted + limit) => shaken,
            () = silent => Err(Closed::Timeout),
        }
    };
    let result = tokio::time::timeout(limit, shaken).await;
    match (result, opening.refusal()) {
        (Ok(Ok(met)), _) => Ok(met),
        (_, Some(refusal)) => Err(Closed::KeyServer(refusal)),
        (Ok(Err(closed)), None) => Err(closed),
        (Err(_), None) => Err(Closed::Timeout),
    }
}

async fn shake(attempt: Attempt, accepted: Instant, until: Instant) -> Result<Met, Closed> {
    let Attempt {
        incoming,
        mut config,
        opening,
        claim,
        preparation,
        keyless,
        listener,
        mut permit,
        limiter,
        known,
    } = attempt;
    let client = canonical(incoming.remote_address());
    let local = canonical(SocketAddr::new(
        incoming.local_ip().unwrap_or(listener.ip()),
        listener.port(),
    ));
    let advice = match claim {
        Some(claim) => Box::pin(preparation.run(&incoming, &config, &opening, claim)).await,
        None if keyless && !opening.is_proven() => Advice::Retry,
        None => Advice::Accept(None),
    };
    let id = match advice {
        Advice::Accept(id) => id,
        Advice::Retry => {
            // May fail only for one that brings a Retry's token, and is proven.
            let _ = incoming.retry();
            return Err(Closed::Retried);
        }
    };
    config.crypto = Arc::new(Crypto(opening.clone()));
    let mut connecting = preparation.ids.with(id, || incoming.accept_with(Arc::new(config)))?;
    let connected = loop {
        tokio::select! {
            biased;
            connected = &mut connecting => break Some(connected?),
            // Not later: whoever is there may hold no more handshakes than connections.
            () = opening.proven(), if permit.is_none() => permit = Some(place(&limiter, client)?),
            () = opening.early() => break None,
            // Dropped, the connection closes.
            () = opening.refused() => return Err(Closed::KeyServer(opening.refusal().unwrap_or(Refusal::Cancelled))),
        }
    };
    let permit = match permit {
        Some(permit) => permit,
        // Early data comes in a session that was given to this address prefix, and to nobody twice.
        None => place(&limiter, client)?,
    };
    let (quic, rest, early) = match connected {
        Some(quic) => (quic, None, None),
        None => {
            let (rest, early) = begin(connecting, until)?;
            (rest.quic.clone(), Some(rest), Some(early))
        }
    };
    let Some(chosen) = opening.chosen() else {
        // A connection without a handshake: there is none.
        return Err(Closed::Timeout);
    };
    let (resumed, certificate, standing) = match (opening.settled(), &rest) {
        (Some(settled), _) => (settled.resumed, settled.certificate.clone(), settled.standing.clone()),
        // rustls takes early data in a session that is resumed, and in no zone that asks for
        // certificates.
        (None, Some(_)) => (true, None, opening.standing(chosen, None)),
        (None, None) => return Err(Closed::Timeout),
    };
    let (id, believed) = chosen.ticketer.client();
    let handshake = Handshake {
        duration: accepted.elapsed(),
        server_name: chosen.server_name.clone(),
        version: "TLSv1.3",
        resumed,
        client: id.0,
        known: known || believed,
        certificate,
        standing: Some(standing),
    };
    let peer = Arc::new(Peer {
        client,
        local,
        accepted,
        handshake: Some(Arc::new(handshake)),
        early,
        via: None,
    });
    Ok(Met {
        connection: Connection { quic, peer, permit },
        rest,
    })
}

/// Serves before the handshake's end.
fn begin(connecting: Connecting, until: Instant) -> Result<(Rest, early::Early), Closed> {
    // A server always may.
    let (quic, accepted) = connecting.into_0rtt().map_err(|_| Closed::Timeout)?;
    let (proof, early) = early::early();
    let rest = Rest {
        quic,
        accepted,
        proof,
        until,
    };
    Ok((rest, early))
}

/// IPv4-mapped addresses as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
