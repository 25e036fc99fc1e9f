//! What a node says it has done and holds, signed by it: the proof of a purge, the outcome of a
//! deployment, the roll.

use serde::{Deserialize, Serialize};

use super::index::Index;
use super::journal::Mark;
use super::key::Signer;
use super::signed::{self, Kind};

/// Bytes of words in a receipt at most.
const MOST_WORDS: usize = 2 << 10;

/// Of one node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// To whom: an issuer, or what asked for the roll. A receipt to one is none to another.
    pub to: String,
    /// Everything that `to` issued up to here holds.
    #[serde(default)]
    pub applied: Mark,
    /// The last event could not be carried out, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The counter of the manifest in force; 0: none.
    pub counter: u64,
    /// The greatest counter whose files are all here, in force or not.
    pub fetched: u64,
    /// A newer manifest that could not be put into force: its counter, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<(u64, String)>,
    /// How long the manifest in force took to prepare, milliseconds.
    #[serde(default)]
    pub prepared_millis: u64,
    /// Requests since the start, and those that failed by the edge's or an origin's fault.
    #[serde(default)]
    pub requests: u64,
    /// As above.
    #[serde(default)]
    pub failures: u64,
    /// When, in milliseconds since 1970, by the node's clock.
    pub time: u64,
}

impl Receipt {
    /// As `node` says it.
    pub(super) fn write(mut self, fleet: &str, node: &str, signer: &Signer) -> Vec<u8> {
        let words = self
            .failed
            .iter_mut()
            .chain(self.refused.iter_mut().map(|(_, words)| words));
        words.for_each(shorten);
        // Numbers and words: there is nothing in it that cannot be written.
        let text = serde_json::to_vec(&self).unwrap_or_default();
        signed::write(Kind::Receipt, fleet, node, signer, &text)
    }

    /// Who says it and what, if it is a node of `index` and meant for `to`.
    pub fn open(fleet: &str, index: &Index, to: &str, bytes: &[u8]) -> Option<(String, Self)> {
        let message = signed::parse(Kind::Receipt, bytes)?;
        let node = index.member(message.by)?;
        let text = message.check(Kind::Receipt, fleet, &node.key)?;
        let receipt: Self = serde_json::from_slice(text).ok()?;
        (receipt.to == to).then(|| (node.name.clone(), receipt))
    }
}

fn shorten(words: &mut String) {
    if words.len() > MOST_WORDS {
        let end = (0..=MOST_WORDS).rev().find(|at| words.is_char_boundary(*at));
        words.truncate(end.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::index::{Member, Standing};
    use crate::fleet::key::Identity;

    /// A purge would be called proven by somebody who is not a node, or by a word that was said to
    /// another.
    #[test]
    fn a_receipt_is_a_nodes_and_for_one() {
        let (node, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let index = Index {
            nodes: vec![Member {
                name: "a".to_owned(),
                key: node.signer.public(),
                seal: node.recipient(),
                state: Standing::InService,
            }],
            ..Index::default()
        };
        let receipt = Receipt {
            to: "b".to_owned(),
            failed: Some("ä".repeat(MOST_WORDS)),
            ..Receipt::default()
        };
        let bytes = receipt.clone().write("shop", "a", &node.signer);
        assert!(bytes.len() <= signed::MOST);
        let (by, read) = Receipt::open("shop", &index, "b", &bytes).unwrap();
        assert_eq!((by.as_str(), read.to.as_str()), ("a", "b"));
        assert!(Receipt::open("shop", &index, "c", &bytes).is_none());
        assert!(Receipt::open("other", &index, "b", &bytes).is_none());
        let forged = receipt.write("shop", "a", &other.signer);
        assert!(Receipt::open("shop", &index, "b", &forged).is_none());
    }
}
