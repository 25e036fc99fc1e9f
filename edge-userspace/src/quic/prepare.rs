//! Handshakes of zones whose keys are elsewhere: the ClientHello is answered before quinn accepts
//! the attempt, because quinn answers within `accept`, where nobody can wait. The attempt's packets
//! (`keep`) show the ClientHello (`shadow`), rustls answers it on a stack that can be put aside
//! (`tls::keyless`), and `session` plays the answer back; [`Ids`] makes quinn use the connection id
//! that was signed. `accept` calls it for attempts that are to be accepted. One whose address is
//! not proven gets a Retry first: key servers never sign for whoever may not be there.

use std::sync::Arc;
use std::time::Instant;

use quinn::Incoming;
use quinn_proto::{ConnectionId, EndpointConfig};

use super::ids::Ids;
use super::keep::Claim;
use super::session::{Opening, Prepared};
use super::shadow::{Hello, Shadow};

/// What an endpoint has for it.
#[derive(Clone)]
pub(super) struct Preparation {
    /// The endpoint's own configuration, with the same [`Ids`].
    pub(super) endpoint: Arc<EndpointConfig>,
    pub(super) ids: Ids,
}

/// What is to be done with an attempt.
pub(super) enum Advice {
    /// To accept it. Its connection has to have that id; `None`: any.
    Accept(Option<ConnectionId>),
    /// To have it prove its address first.
    Retry,
}

impl Preparation {
    /// Answers the ClientHello of `incoming`, whose packets are `claim`, if the zone's key is
    /// elsewhere.
    pub(super) async fn run(
        &self,
        incoming: &Incoming,
        config: &quinn::ServerConfig,
        opening: &Opening,
        claim: Claim,
    ) -> Advice {
        self.look(incoming, config, opening, claim)
            .await
            .unwrap_or(Advice::Accept(None))
    }

    /// `None` where it can be accepted as it is: the key is here, or the ClientHello is none.
    async fn look(
        &self,
        incoming: &Incoming,
        config: &quinn::ServerConfig,
        opening: &Opening,
        claim: Claim,
    ) -> Option<Advice> {
        let shadow = Shadow::new(
            self.endpoint.clone(),
            config,
            opening.stock(),
            incoming.remote_address(),
            incoming.local_ip(),
            (incoming.orig_dst_cid(), !incoming.may_retry()),
        );
        let Hello {
            message,
            parameters,
            source,
        } = hello(shadow, claim).await?;
        // What is wrong with it, the session finds too.
        let chosen = opening.choose(&message).ok()?;
        let whose = opening.whose(chosen)?;
        if !opening.is_proven() {
            return Some(Advice::Retry);
        }
        let outcome = opening.answer(chosen, &whose, &message, parameters).await;
        opening.play(Prepared {
            hello: message,
            source,
            outcome,
        });
        Some(Advice::Accept(Some(source)))
    }
}

async fn hello(mut shadow: Shadow, mut claim: Claim) -> Option<Hello> {
    for datagram in std::mem::take(&mut claim.first) {
        if let Some(hello) = shadow.feed(Instant::now(), &datagram).ok()? {
            return Some(hello);
        }
    }
    loop {
        let datagram = claim.more.recv().await?;
        if let Some(hello) = shadow.feed(Instant::now(), &datagram).ok()? {
            return Some(hello);
        }
    }
}
