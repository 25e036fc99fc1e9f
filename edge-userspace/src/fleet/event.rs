//! Events: what happens to every node at once. Each is signed by the node that issues it, and
//! carries that node's own number, so that what is missing is seen whatever the engine does. A node
//! may purge, and penalise within bounds; what goes beyond needs an operator's order inside.

use std::time::Duration;

use data_encoding::BASE64;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::key::{Public, SIGNATURE, Signer};
use super::signed::{self, Kind};
use crate::base::clock::UnixTime;

/// The longest penalty that a node may give by itself.
pub const LONGEST: Duration = Duration::from_secs(3_600);
/// The most penalties that one node may give within [`LONGEST`]; the kernel's table has room for
/// those of many.
pub const MOST_PENALTIES: usize = 1_024;
/// Bytes of a URL, a prefix, a tag.
const MOST_TEXT: usize = 4 << 10;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Void what is stored for one URL.
    PurgeUrl(String),
    /// Void what is stored for all URLs that begin so.
    PurgePrefix(String),
    /// Void what is stored of a zone with a tag.
    PurgeTag {
        /// The zone's name.
        zone: String,
        /// One word.
        tag: String,
    },
    /// Void everything that is stored.
    PurgeAll,
    /// Penalise an address or `client:` and an id.
    Penalise {
        /// Whom.
        subject: String,
        /// Nothing of theirs passes; else a few connections a second.
        blocked: bool,
        /// The end, in milliseconds since 1970: whoever hears of it late gives what is left of it.
        until: u64,
    },
    /// Lift a penalty.
    Forgive(String),
    /// Drop attempts from a network.
    Deny(IpNet),
    /// Lift that.
    Lift(IpNet),
}

/// Who may say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    /// Any node.
    Node,
    /// An operator.
    Order,
}

impl Action {
    /// What it takes, if a node says it at `now`.
    fn needs(&self, now: UnixTime) -> Needed {
        match self {
            Self::PurgeUrl(_) | Self::PurgePrefix(_) | Self::PurgeTag { .. } | Self::PurgeAll => Needed::Node,
            Self::Penalise { until, .. } if UnixTime::from_millis(*until) <= now.after(LONGEST) => Needed::Node,
            Self::Penalise { .. } | Self::Forgive(_) | Self::Deny(_) | Self::Lift(_) => Needed::Order,
        }
    }

    /// Whether a node may say it by itself.
    pub fn is_for_nodes(&self, now: UnixTime) -> bool {
        self.needs(now) == Needed::Node
    }

    /// For metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::PurgeUrl(_) | Self::PurgePrefix(_) | Self::PurgeTag { .. } | Self::PurgeAll => "purge",
            Self::Penalise { .. } => "penalise",
            Self::Forgive(_) => "forgive",
            Self::Deny(_) => "deny",
            Self::Lift(_) => "lift",
        }
    }

    fn is_bounded(&self) -> bool {
        let texts: [&str; 2] = match self {
            Self::PurgeUrl(text) | Self::PurgePrefix(text) | Self::Forgive(text) => [text, ""],
            Self::PurgeTag { zone, tag } => [zone, tag],
            Self::Penalise { subject, .. } => [subject, ""],
            Self::PurgeAll | Self::Deny(_) | Self::Lift(_) => ["", ""],
        };
        texts.iter().all(|text| text.len() <= MOST_TEXT)
    }
}

/// An operator's word for an action. Of one key's orders only later ones are taken, so that none
/// can be said again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The operator's key.
    pub key: Public,
    /// When, in milliseconds since 1970 by the operator's clock.
    pub time: u64,
    signature: String,
}

fn ordered(action: &Action, time: u64) -> Vec<u8> {
    // Serialising what was parsed gives what was serialised: plain text, in the order of the
    // declaration.
    let text = serde_json::to_vec(action).unwrap_or_default();
    [time.to_string().as_bytes(), b" ", &text].concat()
}

impl Order {
    /// An operator's order.
    pub fn new(fleet: &str, action: &Action, now: UnixTime, signer: &Signer) -> Self {
        let time = now.millis();
        let signature = signer.sign(&Kind::Order.covered(fleet, &ordered(action, time)));
        Self {
            key: signer.public(),
            time,
            signature: BASE64.encode(&signature),
        }
    }

    /// Whether one of `operators` gave it for `action` in this fleet.
    pub fn is_good(&self, fleet: &str, action: &Action, operators: &[Public]) -> bool {
        let signature: Option<[u8; SIGNATURE]> = BASE64
            .decode(self.signature.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let covered = Kind::Order.covered(fleet, &ordered(action, self.time));
        operators.contains(&self.key) && signature.is_some_and(|signature| self.key.verifies(&covered, &signature))
    }
}

/// An event's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When the issuer began to count, in milliseconds since 1970; a later series replaces an
    /// earlier one.
    pub series: u64,
    /// The issuer's own number, from 1, without gaps.
    pub number: u64,
    /// When, in milliseconds since 1970, by the issuer's clock.
    pub time: u64,
    /// What.
    pub action: Action,
    /// An operator's word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// An event that its issuer, a node of the fleet, has signed, and that it or an operator may say.
/// Only [`open`] makes one.
#[derive(Clone, Debug)]
pub struct Genuine {
    /// The issuer.
    pub issuer: String,
    /// The event.
    pub event: Event,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not one.
    #[error("it is malformed")]
    Malformed,
    /// Its issuer is not a node of this fleet, or did not sign it.
    #[error("it is forged")]
    Forged,
    /// It takes an operator's order, and has none.
    #[error("it takes an operator's order")]
    Unordered,
    /// It was taken before.
    #[error("it was taken before")]
    Replayed,
    /// Its issuer gives more penalties than a node may.
    #[error("its issuer gives more penalties than a node may")]
    TooMany,
}

impl Refused {
    /// For metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::Unordered => "unordered",
            Self::Replayed => "replayed",
            Self::TooMany => "too_many",
        }
    }
}

/// An event as its issuer says it; `None` if it is too long to be said.
pub fn write(fleet: &str, issuer: &str, signer: &Signer, event: &Event) -> Option<Vec<u8>> {
    let text = serde_json::to_vec(event).ok()?;
    let bytes = signed::write(Kind::Event, fleet, issuer, signer, &text);
    (bytes.len() <= signed::MOST && event.action.is_bounded()).then_some(bytes)
}

/// Checks who says it and whether they may.
///
/// # Errors
/// Why it is not taken.
pub fn open(fleet: &str, index: &Index, bytes: &[u8]) -> Result<Genuine, Refused> {
    let message = signed::parse(Kind::Event, bytes).ok_or(Refused::Malformed)?;
    let issuer = index.member(message.by).ok_or(Refused::Forged)?;
    let text = message.check(Kind::Event, fleet, &issuer.key).ok_or(Refused::Forged)?;
    let event: Event = serde_json::from_slice(text).map_err(|_| Refused::Malformed)?;
    if event.number == 0 || !event.action.is_bounded() {
        return Err(Refused::Malformed);
    }
    let ordered = match &event.order {
        Some(order) if order.is_good(fleet, &event.action, &index.operators) => true,
        Some(_) => return Err(Refused::Forged),
        None => false,
    };
    // The issuer's clock bounds a penalty against its own time; `journal` bounds it against ours.
    if !ordered && event.action.needs(UnixTime::from_millis(event.time)) == Needed::Order {
        return Err(Refused::Unordered);
    }
    Ok(Genuine {
        issuer: issuer.name.clone(),
        event,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::index::{Member, Standing};
    use crate::fleet::key::Identity;

    /// A stolen node, or who reads the engine, would deny the world or lift an attacker's penalty.
    #[test]
    fn nodes_say_what_nodes_may_and_operators_the_rest() {
        let (node, stranger) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let (operator, other) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let index = Index {
            nodes: vec![Member {
                name: "a".to_owned(),
                key: node.signer.public(),
                seal: node.recipient(),
                state: Standing::InService,
            }],
            operators: vec![operator.public()],
            ..Index::default()
        };
        let now = UnixTime::from_secs(1_000_000);
        let said = |signer: &Signer, by: &str, action: &Action, order: Option<Order>| {
            let event = Event {
                series: 1,
                number: 1,
                time: now.millis(),
                action: action.clone(),
                order,
            };
            open("shop", &index, &write("shop", by, signer, &event).unwrap()).map(|genuine| genuine.event.action)
        };
        let ours = |action: &Action, order| said(&node.signer, "a", action, order);
        let purge = Action::PurgeUrl("https://a/".to_owned());
        let penalty = |until: UnixTime| Action::Penalise {
            subject: "192.0.2.1".to_owned(),
            blocked: true,
            until: until.millis(),
        };
        let deny = Action::Deny("0.0.0.0/0".parse().unwrap());
        assert_eq!(ours(&purge, None), Ok(purge.clone()));
        assert!(ours(&Action::PurgeAll, None).is_ok() && ours(&penalty(now.after(LONGEST)), None).is_ok());
        let long = penalty(now.after(LONGEST * 2));
        for beyond in [&long, &deny, &Action::Forgive("192.0.2.1".to_owned())] {
            assert_eq!(ours(beyond, None), Err(Refused::Unordered));
            let by = |signer: &Signer, what: &Action| Some(Order::new("shop", what, now, signer));
            assert_eq!(ours(beyond, by(&operator, beyond)).as_ref(), Ok(beyond));
            assert_eq!(ours(beyond, by(&other, beyond)), Err(Refused::Forged));
            assert_eq!(
                ours(beyond, by(&operator, &purge)),
                Err(Refused::Forged),
                "an order for something else"
            );
            let elsewhere = Some(Order::new("other", beyond, now, &operator));
            assert_eq!(ours(beyond, elsewhere), Err(Refused::Forged));
        }
        assert_eq!(said(&stranger.signer, "a", &purge, None), Err(Refused::Forged));
        assert_eq!(said(&node.signer, "b", &purge, None), Err(Refused::Forged));
        let long = Action::PurgeUrl("x".repeat(MOST_TEXT + 1));
        let event = Event {
            series: 1,
            number: 1,
            time: 1,
            action: long,
            order: None,
        };
        assert!(write("shop", "a", &node.signer, &event).is_none());
    }
}
