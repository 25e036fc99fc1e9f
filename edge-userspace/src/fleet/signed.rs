//! What nodes say to each other: one line with who says it and the signature, then the text. What
//! is said in one place means nothing in another: the signature covers the kind and the fleet.

use data_encoding::BASE64;

use super::is_name;
use super::key::{Public, SIGNATURE, Signer};

/// Bytes of a message at most, its line included.
pub const MOST: usize = 16 << 10;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that happens to every node.
    Event,
    /// What a node has done.
    Receipt,
    /// An operator's word that an event may go beyond what nodes may say.
    Order,
    /// The number of an issuer's last event.
    Tail,
    /// Keys of session tickets.
    Tickets,
}

impl Kind {
    const fn label(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Receipt => "receipt",
            Self::Order => "order",
            Self::Tail => "tail",
            Self::Tickets => "tickets",
        }
    }

    /// What is signed: no message of one kind or fleet is one of another.
    pub(super) fn covered(self, fleet: &str, text: &[u8]) -> Vec<u8> {
        [
            b"edge fleet ",
            self.label().as_bytes(),
            &[0],
            fleet.as_bytes(),
            &[0],
            text,
        ]
        .concat()
    }
}

/// A message whose signature is not checked yet.
#[derive(Debug)]
pub struct Unchecked<'a> {
    /// Who says it of itself.
    pub by: &'a str,
    signature: [u8; SIGNATURE],
    text: &'a [u8],
}

/// `text` as `by` says it.
pub fn write(kind: Kind, fleet: &str, by: &str, signer: &Signer, text: &[u8]) -> Vec<u8> {
    let signature = signer.sign(&kind.covered(fleet, text));
    let line = format!("edge-{} 1 {by} {}\n", kind.label(), BASE64.encode(&signature));
    [line.as_bytes(), text].concat()
}

/// Takes a message apart.
pub fn parse(kind: Kind, bytes: &[u8]) -> Option<Unchecked<'_>> {
    if bytes.len() > MOST {
        return None;
    }
    let end = bytes.iter().take(256).position(|b| *b == b'\n')?;
    let (line, text) = bytes.split_at_checked(end)?;
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("edge-")?.strip_prefix(kind.label())?;
    let (by, signature) = rest.strip_prefix(" 1 ")?.split_once(' ')?;
    let signature = BASE64.decode(signature.as_bytes()).ok()?.try_into().ok()?;
    is_name(by).then_some(Unchecked {
        by,
        signature,
        text: text.get(1..)?,
    })
}

impl<'a> Unchecked<'a> {
    /// The text, if `key` signed it as a message of this kind in this fleet.
    pub fn check(&self, kind: Kind, fleet: &str, key: &Public) -> Option<&'a [u8]> {
        key.verifies(&kind.covered(fleet, self.text), &self.signature)
            .then_some(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message would be taken for another kind's, another fleet's or another node's.
    #[test]
    fn a_message_means_one_thing() {
        let (ours, other) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let message = write(Kind::Event, "shop", "a", &ours, b"text\nand more");
        let parsed = parse(Kind::Event, &message).unwrap();
        assert_eq!(parsed.by, "a");
        let key = ours.public();
        assert_eq!(parsed.check(Kind::Event, "shop", &key), Some(&b"text\nand more"[..]));
        assert!(
            parsed.check(Kind::Receipt, "shop", &key).is_none() && parsed.check(Kind::Event, "sho", &key).is_none()
        );
        assert!(parsed.check(Kind::Event, "shop", &other.public()).is_none());
        assert!(parse(Kind::Receipt, &message).is_none());
        assert!(parse(Kind::Event, &vec![b' '; MOST + 1]).is_none());
        for end in 0..message.len() {
            let cut = parse(Kind::Event, &message[..end]);
            assert!(
                cut.is_none_or(|cut| cut.check(Kind::Event, "shop", &key).is_none()),
                "{end}"
            );
        }
    }
}
