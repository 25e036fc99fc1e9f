//! Key exchange at the key server, for zones that want it: the edge never has an ephemeral private
//! key. Groups for rustls that suspend the handshake as the signer does. In TLS 1.3 the key server
//! gives share and secret at once; in TLS 1.2 it keeps the ephemeral key until the client's value
//! has come.

use std::sync::Arc;

use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

use super::{Link, Question, Refusal, Reply, Route};
use crate::keyserver::wire::{Answer, ErrorCode, Group, Request, Share};
use crate::tls::suspend;

/// In the order of preference; the client's order decides.
pub static GROUPS: [&dyn SupportedKxGroup; 3] = [
    &RemoteGroup(Group::X25519),
    &RemoteGroup(Group::Secp256r1),
    &RemoteGroup(Group::Secp384r1),
];

#[derive(Debug)]
struct RemoteGroup(Group);

fn named(group: Group) -> NamedGroup {
    NamedGroup::from(group.code())
}

/// The client's value, if it can be one.
fn peers(group: Group, bytes: &[u8]) -> Result<Share, Error> {
    Share::new(group, bytes).ok_or(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))
}

/// As `Refusal`, but a point off its curve is the client's fault.
fn blame(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Refused(ErrorCode::Malformed) => Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare),
        refusal => refusal.into(),
    }
}

fn route() -> Result<Arc<Route>, Refusal> {
    suspend::notes(|notes| notes.exchange.clone())
        .flatten()
        .ok_or(Refusal::Outside)
}

impl SupportedKxGroup for RemoteGroup {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let route = route()?;
        let question = Question {
            route: route.clone(),
            request: Request::KxStart { group: self.0 },
            on: None,
        };
        match suspend::ask(question)? {
            Some(Reply {
                answer: Answer::KxStarted { handle, share },
                by,
            }) if share.group() == self.0 => Ok(Box::new(Started {
                route,
                share,
                handle,
                by,
            })),
            _ => Err(Refusal::Unfitting.into()),
        }
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let question = Question {
            route: route()?,
            request: Request::KxTls13 {
                peer: peers(self.0, peer)?,
            },
            on: None,
        };
        match suspend::ask(question).map_err(blame)? {
            Some(Reply {
                answer: Answer::KxDone { share, secret },
                ..
            }) if share.group() == self.0 && secret.expose().len() == self.0.secret_bytes() => {
                Ok(CompletedKeyExchange {
                    group: self.name(),
                    pub_key: share.bytes().to_vec(),
                    secret: SharedSecret::from(secret.expose()),
                })
            }
            _ => Err(Refusal::Unfitting.into()),
        }
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        named(self.0)
    }
}

/// An ephemeral key that a key server keeps.
#[derive(Debug)]
struct Started {
    route: Arc<Route>,
    share: Share,
    handle: u64,
    by: Arc<Link>,
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let group = self.share.group();
        let question = Question {
            route: self.route.clone(),
            request: Request::KxFinish {
                handle: self.handle,
                peer: peers(group, peer)?,
            },
            on: Some(self.by.clone()),
        };
        match suspend::ask(question).map_err(blame)? {
            Some(Reply {
                answer: Answer::Secret(secret),
                ..
            }) if secret.expose().len() == group.secret_bytes() => Ok(SharedSecret::from(secret.expose())),
            _ => Err(Refusal::Unfitting.into()),
        }
    }

    fn pub_key(&self) -> &[u8] {
        self.share.bytes()
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        named(self.share.group())
    }
}
