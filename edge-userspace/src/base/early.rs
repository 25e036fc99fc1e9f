//! Whether a connection's handshake is over, for one whose requests are served before it is (0-RTT,
//! RFC 8446 section 2.3). Who shakes hands keeps the [`Proof`]; requests find the [`Early`] at
//! their [`Peer`](super::peer::Peer).

use tokio::sync::watch;

/// The handshake ended otherwise than well: what waited for it is nobody's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the handshake came to nothing")]
pub struct Unproven;

/// To be given when the client has shown that it is there now; dropped, it never has.
#[derive(Debug)]
pub struct Proof(watch::Sender<bool>);

/// What was sent may be a copy of what another one sent, until it is over.
#[derive(Clone, Debug)]
pub struct Early(watch::Receiver<bool>);

/// The two for one connection.
pub fn early() -> (Proof, Early) {
    let (sender, receiver) = watch::channel(false);
    (Proof(sender), Early(receiver))
}

impl Proof {
    /// The handshake is over.
    pub fn give(self) {
        // Nobody may be left who waits.
        let _ = self.0.send(true);
    }
}

impl Early {
    /// Whether the handshake is over by now.
    pub fn is_over(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the handshake's end.
    ///
    /// # Errors
    /// It ended otherwise than well.
    pub async fn over(&self) -> Result<(), Unproven> {
        let mut receiver = self.0.clone();
        let over = receiver.wait_for(|over| *over).await;
        over.map(drop).map_err(|_| Unproven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that must not be repeated would be served for who cannot show that it is its own,
    /// or wait for ever.
    #[tokio::test]
    async fn waits_for_the_proof_and_no_longer_than_there_can_be_one() {
        let (proof, waiting) = early();
        assert!(!waiting.is_over());
        let other = waiting.clone();
        let waits = tokio::spawn(async move { other.over().await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        proof.give();
        assert_eq!(waits.await.unwrap(), Ok(()));
        assert!(waiting.is_over());
        assert_eq!(waiting.over().await, Ok(()));

        let (proof, waiting) = early();
        drop(proof);
        assert_eq!(waiting.over().await, Err(Unproven));
        assert!(!waiting.is_over());
    }
}
