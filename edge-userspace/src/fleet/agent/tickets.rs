//! The agent's part in the keys of session tickets: it drives the core ([`Tickets`]), signs and
//! checks what is said, and gives the keys to its host.
//!
//! [`Tickets`]: crate::fleet::tickets::Tickets

use super::{Agent, lock};
use crate::base::clock::UnixTime;
use crate::fleet::carrier::{Carrier, Channel, Error};
use crate::fleet::signed::{self, Kind};
use crate::fleet::tickets::{Said, Target};

impl Agent {
    /// Once a second.
    pub(super) async fn tend_tickets(&self, carrier: &dyn Carrier) -> Result<(), Error> {
        let (Some(index), Some(life)) = (self.index(), self.host.ticket_life()) else {
            return Ok(());
        };
        let said = lock(&self.tickets).tick(UnixTime::now(), &index, life);
        self.share();
        match said {
            Ok(said) => self.say_tickets(carrier, said).await,
            Err(error) => {
                tracing::warn!(target: "edge::fleet", %error, "no key for session tickets");
                Ok(())
            }
        }
    }

    /// Another node has said something of its keys.
    pub(super) async fn heard_tickets(&self, carrier: &dyn Carrier, bytes: &[u8]) -> Result<(), Error> {
        let Some(index) = self.index() else { return Ok(()) };
        let Some((message, said)) = self.genuine::<Said>(&index, (Kind::Tickets, "tickets"), bytes) else {
            return Ok(());
        };
        if message.by == self.settings.node {
            return Ok(());
        }
        let answers = lock(&self.tickets).heard(UnixTime::now(), message.by, said);
        self.share();
        match answers {
            Ok(answers) => self.say_tickets(carrier, answers).await,
            Err(refused) => {
                if let Some(label) = refused.label() {
                    self.metrics.rejected("tickets", label);
                }
                Ok(())
            }
        }
    }

    /// While the engine is away: keys that have ended go all the same.
    pub(super) fn expire_tickets(&self) {
        lock(&self.tickets).expire(UnixTime::now());
        self.share();
    }

    /// Gives the host the keys, if they have changed.
    fn share(&self) {
        let (changed, count) = {
            let mut tickets = lock(&self.tickets);
            (tickets.changed(), tickets.count())
        };
        if let Some(keys) = changed {
            self.metrics.ticket_keys(count);
            self.host.share(&keys);
        }
    }

    async fn say_tickets(&self, carrier: &dyn Carrier, said: Vec<(Target, Said)>) -> Result<(), Error> {
        for (target, said) in said {
            let text = serde_json::to_vec(&said).unwrap_or_default();
            let (node, signer) = (&self.settings.node, &self.settings.identity.signer);
            let bytes = signed::write(Kind::Tickets, self.fleet(), node, signer, &text);
            let channel = Channel::Tickets(match target {
                Target::All => None,
                Target::Node(name) => Some(name),
            });
            carrier.say(&channel, bytes.into()).await?;
        }
        Ok(())
    }
}
