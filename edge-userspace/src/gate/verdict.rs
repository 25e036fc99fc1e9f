//! What goes into a decision and what comes out of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::account::Debt;
use super::concurrency::Permit;
use super::metrics::Kind;
use super::policy::Limit;
use crate::config;
use crate::zones::path::Path;

/// A request as the gate sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The client's address, whole.
    pub address: IpAddr,
    /// The address is known to be the sender's: a TCP handshake is done, a QUIC path validated.
    /// Where false (0-RTT), no penalty is written.
    pub validated: bool,
    /// A trusted proxy has named the address, which is not the connection's: what is held against
    /// it is this daemon's to remember, and nothing for the kernel.
    pub relayed: bool,
    /// The request is its connection's first.
    pub opens: bool,
    /// The host that it is for, as the client wrote it.
    pub host: &'a str,
    /// `http` or `https`, as the client came.
    pub scheme: &'a str,
    /// Path and query, as the client wrote them.
    pub target: &'a str,
    /// Method.
    pub method: &'a Method,
    /// Path without the query, in every reading: rules match any.
    pub path: &'a Path<'a>,
    /// Fields.
    pub headers: &'a HeaderMap,
    /// The crawler that its address is known to be of, if it says that it is one.
    pub crawler: Option<&'a str>,
    /// The tokens it brought, as text: one in a field or in a cookie, or several that a browser has
    /// kept.
    pub tokens: &'a [&'a str],
    /// The answer to a challenge that it brought: a token, `.`, and a number.
    pub work: Option<&'a str>,
    /// Who its connection is, where the connection's tickets say so.
    pub named: Option<Named>,
    /// It came over QUIC, whose tokens name the client to the kernel before there is a connection:
    /// what is held against it need not be held against its address.
    pub quic: bool,
}

/// A client by its connection's session ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The id in the ticket that it will come back with.
    pub client: u64,
    /// It came with a ticket of that id, and the handshake showed that it is its own. It has been
    /// here before; that it has waited is not said.
    pub proven: bool,
}

/// What becomes of it.
#[derive(Debug)]
pub enum Decision {
    /// It is served.
    Admit(Admission),
    /// It is told to wait.
    Defer(Deferral),
    /// It came against what it was told.
    Block {
        /// Until it may come again.
        wait: Duration,
        /// For a client that was struck just now: what to come back with.
        token: Option<Written>,
    },
    /// It came back from a challenge, or from wherever, and is led to where it wanted to go: a path
    /// of this host.
    Lead {
        /// There.
        to: String,
        /// What the response does to the client's token.
        token: Change,
    },
}

/// Proof that a request passed the gate: only this room makes one. A request without it is no
/// handler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted(());

impl Admitted {
    /// The gate has decided so.
    pub(super) const fn decided() -> Self {
        Self(())
    }
}

/// A process without gates: no zone of its configuration has one, and a reload that brings one does
/// not put it into force.
#[derive(Clone, Copy, Debug)]
pub struct Ungated(());

impl Ungated {
    /// `None` if a zone has a gate.
    pub fn of(zones: &[config::Zone]) -> Option<Self> {
        let gated = |zone: &config::Zone| zone.gate.as_ref().is_some_and(|gate| !gate.rules.is_empty());
        (!zones.iter().any(gated)).then_some(Self(()))
    }

    /// Lets a request in.
    pub fn admit(self) -> Admitted {
        Admitted::decided()
    }
}

/// A request that is served.
#[derive(Debug)]
pub struct Admission {
    /// That it is.
    pub proof: Admitted,
    /// To be held until the response's content has ended.
    pub permits: Vec<Permit>,
    /// What the response does to the client's token.
    pub token: Change,
    /// The tightest rate limit it met.
    pub limit: Option<Limit>,
    /// What it still owes ([`Gate::account`](super::handler::Gate::account)).
    pub(super) debts: Vec<Debt>,
}

impl Admission {
    /// Without conditions.
    pub(super) fn plain() -> Self {
        Self {
            proof: Admitted::decided(),
            permits: Vec::new(),
            token: Change::Keep,
            limit: None,
            debts: Vec::new(),
        }
    }
}

/// What a response does to the client's token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    #[default]
    Keep,
    /// Takes it away: it is good for nothing.
    Clear,
    /// Replaces it.
    Set(Written),
}

/// A token to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// base64url.
    pub text: String,
    /// How long to keep it.
    pub life: Duration,
    /// It may be set as a cookie: it takes no better one's place.
    pub cookie: bool,
}

/// A request that is told to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Until it may come again.
    pub wait: Duration,
    /// Which policy says so.
    pub kind: Kind,
    /// Its rule.
    pub rule: Arc<str>,
    /// What to come back with; `None` where the client holds or will get a better one.
    pub token: Option<Written>,
    /// The limit met.
    pub limit: Option<Limit>,
    /// How many wait ahead, in a queue.
    pub ahead: Option<u64>,
    /// When it will probably be let in, in a queue.
    pub estimate: Option<Duration>,
    /// Bits of work, proven with the token, that do instead of the wait.
    pub work: Option<u8>,
    /// The address that it is handed to: an operator's challenge, whose answer does instead of the
    /// wait.
    pub handed: Option<Box<str>>,
}
