//! Requests on their way to an origin before their client's handshake is over (RFC 8470): told
//! apart by `Early-Data`, and asked again once it is over where the origin does not want them so
//! early. `exchange` calls it; nothing else comes that early which may not be repeated.

use http::header::{HeaderName, HeaderValue};
use http::{StatusCode, request};

use crate::base::peer::Peer;
use crate::http::handler::{Failure, Reason};

/// RFC 8470 section 5.1.
const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");

/// How early a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Early {
    /// Not at all, or somebody in front of us has said that it is: who got it as early data has to
    /// ask again.
    No,
    /// It says so, by us.
    Marked,
}

impl Early {
    /// Marks what may be a copy; waits with what cannot be asked for again.
    ///
    /// # Errors
    /// The client's handshake came to nothing.
    pub(super) async fn begin(peer: &Peer, head: &mut request::Parts, repeatable: bool) -> Result<Self, Failure> {
        if !peer.is_early() {
            return Ok(Self::No);
        }
        if !repeatable {
            proven(peer).await?;
            return Ok(Self::No);
        }
        if head.headers.contains_key(EARLY_DATA) {
            return Ok(Self::No);
        }
        head.headers.insert(EARLY_DATA, HeaderValue::from_static("1"));
        Ok(Self::Marked)
    }

    /// Whether `status` says that the request is to be asked again later (RFC 8470 section 5.2).
    pub(super) fn is_refused(self, status: StatusCode) -> bool {
        self == Self::Marked && status == StatusCode::TOO_EARLY
    }

    /// Waits until the request is no longer early, and takes the mark from it.
    ///
    /// # Errors
    /// The client's handshake came to nothing.
    pub(super) async fn wait(&mut self, peer: &Peer, head: &mut request::Parts) -> Result<(), Failure> {
        proven(peer).await?;
        head.headers.remove(EARLY_DATA);
        *self = Self::No;
        Ok(())
    }
}

async fn proven(peer: &Peer) -> Result<(), Failure> {
    let proven = peer.proven().await;
    proven.map_err(|gone| Failure::new(Reason::ClientGone, gone.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::base::early::{Proof, early};

    fn peer() -> (Proof, Peer) {
        let (proof, early) = early();
        let address = "192.0.2.1:1".parse().unwrap();
        let peer = Peer {
            client: address,
            local: address,
            accepted: Instant::now(),
            handshake: None,
            early: Some(early),
            via: None,
        };
        (proof, peer)
    }

    fn head(mark: Option<&str>) -> request::Parts {
        let mut request = http::Request::get("/");
        if let Some(mark) = mark {
            request = request.header(EARLY_DATA, mark);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// An origin could not tell a copy from a request, or would be asked twice as if it were one.
    #[tokio::test]
    async fn an_early_request_says_so_and_the_second_time_no_more() {
        let (proof, peer) = peer();
        let mut asked = head(None);
        let mut early = Early::begin(&peer, &mut asked, true).await.unwrap();
        assert_eq!(asked.headers[EARLY_DATA], "1");
        assert!(early.is_refused(StatusCode::TOO_EARLY) && !early.is_refused(StatusCode::OK));
        proof.give();
        early.wait(&peer, &mut asked).await.unwrap();
        assert!(!asked.headers.contains_key(EARLY_DATA));
        assert!(!early.is_refused(StatusCode::TOO_EARLY), "asked for ever");
        let mut late = head(None);
        let early = Early::begin(&peer, &mut late, true).await.unwrap();
        assert!(!late.headers.contains_key(EARLY_DATA) && !early.is_refused(StatusCode::TOO_EARLY));
    }

    /// The mark of somebody in front of us stays, and so does the origin's answer to it (RFC 8470
    /// section 5.2).
    #[tokio::test]
    async fn what_another_one_has_marked_is_its_own() {
        let (_proof, peer) = peer();
        let mut asked = head(Some("1"));
        let early = Early::begin(&peer, &mut asked, true).await.unwrap();
        assert_eq!(asked.headers[EARLY_DATA], "1");
        assert!(!early.is_refused(StatusCode::TOO_EARLY));
    }

    /// A request that cannot be taken back would be made for a copy.
    #[tokio::test]
    async fn what_cannot_be_repeated_waits() {
        let (proof, early) = peer();
        let waiting = tokio::spawn(async move {
            let mut asked = head(None);
            let begun = Early::begin(&early, &mut asked, false).await;
            (begun.is_ok(), asked.headers.contains_key(EARLY_DATA))
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        proof.give();
        assert_eq!(waiting.await.unwrap(), (true, false));
        let (proof, early) = peer();
        drop(proof);
        assert!(Early::begin(&early, &mut head(None), false).await.is_err());
    }
}
