//! Who may shake hands from a penalised address: by the tickets in its ClientHello, before any
//! cryptography is spent on it. `tls` asks; `penalty` and `neighbours` know. The kernel has let the
//! SYN through, within the address's budget.

use std::net::IpAddr;
use std::sync::Arc;

use edge_common::token::HEADER;

use super::clock::{Clock, Now};
use super::neighbours::Neighbours;
use super::penalty::{Book, NODE};
use super::token::{Carrier, Maturity, Tokens};
use crate::base::clock::UnixTime;
use crate::base::peer::client_prefix;
use crate::base::penalty::{Level, Subject};

/// The penalties of a node, as they are asked for at the ClientHello.
#[derive(Debug)]
pub struct Door {
    clock: Clock,
    book: Arc<Book>,
    neighbours: Arc<Neighbours>,
    tokens: Arc<Tokens>,
}

/// Why a client goes on to a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// It has a ticket of a client that is not penalised.
    Ticket,
    /// It is one of the newcomers that every penalised address keeps.
    Share,
}

/// Why it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No ticket, and the share of newcomers is used up.
    NoTicket,
    /// The same, with tickets that are not ours, too old, or of another address.
    BadTicket,
    /// Its ticket is that of a penalised client.
    Client,
    /// An operator has blocked the address.
    Operator,
}

impl Entry {
    /// A word for labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Share => "share",
        }
    }
}

impl Refusal {
    /// A word for labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoTicket => "no_ticket",
            Self::BadTicket => "bad_ticket",
            Self::Client => "client_penalty",
            Self::Operator => "operator",
        }
    }
}

/// Penalties in force against an address or a network around it, of any zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalised {
    prefix: IpAddr,
    by_operator: bool,
}

impl Door {
    pub(super) fn new(clock: Clock, book: Arc<Book>, neighbours: Arc<Neighbours>, tokens: Arc<Tokens>) -> Self {
        Self {
            clock,
            book,
            neighbours,
            tokens,
        }
    }

    /// Whether `address` is under a penalty now. Costs a look into a table: every connection is
    /// asked about.
    pub fn penalised(&self, address: IpAddr) -> Option<Penalised> {
        self.penalised_at(self.clock.now(), address)
    }

    /// Whether an operator has blocked `address`: nothing that comes from there is answered,
    /// whatever it proves.
    pub fn is_barred(&self, address: IpAddr) -> bool {
        self.book.any_added() && self.is_barred_at(self.clock.now(), address)
    }

    pub(super) fn is_barred_at(&self, now: Now, address: IpAddr) -> bool {
        let added = self.book.added(now.mono, Subject::Address(client_prefix(address)));
        matches!(added, Some((Level::Blocked, _)))
    }

    /// Whether one that came from there with these session tickets, whole as the ClientHello has
    /// them, may go on.
    ///
    /// # Errors
    /// Why not: it is to be reset.
    pub fn judge<'a>(
        &self,
        penalised: Penalised,
        tickets: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Entry, Refusal> {
        self.judge_at(self.clock.now(), penalised, tickets)
    }

    pub(super) fn penalised_at(&self, now: Now, address: IpAddr) -> Option<Penalised> {
        let prefix = client_prefix(address);
        let subject = Subject::Address(prefix);
        let added = self.book.added(now.mono, subject);
        let own = self.book.penalty(now.mono, NODE, subject);
        own.or_else(|| self.book.around(now.mono, NODE, prefix))?;
        Some(Penalised {
            prefix,
            by_operator: matches!(added, Some((Level::Blocked, _))),
        })
    }

    pub(super) fn judge_at<'a>(
        &self,
        now: Now,
        Penalised { prefix, by_operator }: Penalised,
        tickets: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Entry, Refusal> {
        if by_operator {
            return Err(Refusal::Operator);
        }
        let mut without = Refusal::NoTicket;
        for ticket in tickets {
            without = Refusal::BadTicket;
            let Some((front, _)) = ticket.split_first_chunk::<HEADER>() else {
                continue;
            };
            let checked = self
                .tokens
                .check(UnixTime::from(now.unix), prefix, Carrier::Ticket, front);
            let Ok(checked) = checked else { continue };
            if checked.maturity != Maturity::Mature {
                continue;
            }
            // A client is penalised with all its tickets: showing another one's beside its own is
            // no way around.
            let client = Subject::Client(checked.header.client);
            return match self.book.penalty(now.mono, NODE, client) {
                Some(_) => Err(Refusal::Client),
                None => Ok(Entry::Ticket),
            };
        }
        self.newcomer(now, prefix).then_some(Entry::Share).ok_or(without)
    }

    /// Whether a client without a ticket is within the share of its address, and of the networks
    /// around it.
    fn newcomer(&self, now: Now, prefix: IpAddr) -> bool {
        let subject = Subject::Address(prefix);
        let own = self.book.penalty(now.mono, NODE, subject).is_none() || {
            let company = self.neighbours.company(now.mono, prefix, None);
            self.book.share(now.mono, NODE, subject, company)
        };
        own && self.neighbours.within(now.mono, NODE, prefix, &self.book)
    }
}

#[cfg(test)]
pub(super) mod tests;
