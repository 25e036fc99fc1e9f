//! A manifest's head: the fleet, a counter, a time, and the digest and length of the index, under
//! signatures of deploy keys. It is all that has to be trusted: everything else is found by digest.

use std::fmt::Write as _;

use data_encoding::BASE64;

use super::key::{Public, SIGNATURE, Signer};
use super::{Digest, is_name};
use crate::base::clock::UnixTime;

/// Bytes of a head at most: 16 signatures of 150 bytes, and its lines.
pub const MOST: usize = 4 << 10;
/// Signatures of a head at most.
pub const MOST_SIGNATURES: usize = 16;
const FIRST: &str = "edge-fleet-head 1";
const DOMAIN: &[u8] = b"edge fleet head\0";

/// What a node trusts: the fleet's name, the deploy keys, and how many of them must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The fleet's name.
    pub fleet: String,
    /// Deploy keys, each once.
    pub keys: Vec<Public>,
    /// At least 1, at most as many as there are keys.
    pub threshold: usize,
}

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The fleet's name.
    pub fleet: String,
    /// Greater than that of any manifest before.
    pub counter: u64,
    /// When it was signed, by the signer's clock. For people; nothing is decided by it.
    pub time: UnixTime,
    /// The index.
    pub index: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// A head with its signatures, which are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    said: Said,
    signatures: Vec<(Public, [u8; SIGNATURE])>,
}

/// A head that as many deploy keys have signed as the node demands. Only [`Head::check`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted(Head);

/// Why a head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not a head.
    #[error("not a manifest's head")]
    Malformed,
    /// It is of another fleet.
    #[error("of another fleet")]
    OtherFleet,
    /// Too few deploy keys have signed it.
    #[error("not signed by as many deploy keys as this node demands")]
    Unsigned,
    /// It is not newer than what is held.
    #[error("not newer than what is held")]
    Old,
}

impl Refused {
    /// For metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OtherFleet => "other_fleet",
            Self::Unsigned => "unsigned",
            Self::Old => "old",
        }
    }
}

impl Said {
    fn text(&self) -> String {
        format!(
            "{FIRST}\nfleet {}\ncounter {}\ntime {}\nindex {} {}\n",
            self.fleet,
            self.counter,
            self.time.millis(),
            self.index,
            self.length
        )
    }

    fn covered(&self) -> Vec<u8> {
        [DOMAIN, self.text().as_bytes()].concat()
    }
}

impl Head {
    /// What `said` is, signed by nobody yet.
    pub const fn new(said: Said) -> Self {
        Self {
            said,
            signatures: Vec::new(),
        }
    }

    /// What it says. Nothing of it is proven.
    pub const fn said(&self) -> &Said {
        &self.said
    }

    /// Adds a signature; one for each key.
    pub fn sign(&mut self, signer: &Signer) {
        let key = signer.public();
        self.signatures.retain(|(other, _)| *other != key);
        if self.signatures.len() < MOST_SIGNATURES {
            self.signatures.push((key, signer.sign(&self.said.covered())));
        }
    }

    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut text = self.said.text();
        for (key, signature) in &self.signatures {
            // Writing to a string does not fail.
            let _ = writeln!(text, "sign {key} {}", BASE64.encode(signature));
        }
        text.into_bytes()
    }

    /// What [`Head::write`] wrote, and nothing else: there is one way to write each head.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let parsed = (bytes.len() <= MOST).then(|| std::str::from_utf8(bytes).ok()).flatten();
        let head = parsed.and_then(Self::lines).ok_or(Refused::Malformed)?;
        // Numbers with a sign or zeros in front, spaces, lines in between: all that is not written
        // so.
        (head.write() == bytes).then_some(head).ok_or(Refused::Malformed)
    }

    fn lines(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        value("edge-fleet-head").filter(|version| *version == "1")?;
        let fleet = value("fleet").filter(|name| is_name(name))?.to_owned();
        let counter = value("counter")?.parse().ok()?;
        let time = UnixTime::from_millis(value("time")?.parse().ok()?);
        let (index, length) = value("index")?.split_once(' ')?;
        let (index, length) = (index.parse().ok()?, length.parse().ok()?);
        let mut signatures: Vec<(Public, [u8; SIGNATURE])> = Vec::new();
        for line in lines {
            let (key, signature) = line.strip_prefix("sign ")?.split_once(' ')?;
            let key = key.parse().ok()?;
            let twice = signatures.iter().any(|(other, _)| *other == key);
            if twice || signatures.len() == MOST_SIGNATURES {
                return None;
            }
            signatures.push((key, BASE64.decode(signature.as_bytes()).ok()?.try_into().ok()?));
        }
        let said = Said {
            fleet,
            counter,
            time,
            index,
            length,
        };
        Some(Self { said, signatures })
    }

    /// Whether it is this fleet's, and signed by as many different deploy keys as `trust` demands.
    ///
    /// # Errors
    /// Why not.
    pub fn check(self, trust: &Trust) -> Result<Trusted, Refused> {
        if self.said.fleet != trust.fleet {
            return Err(Refused::OtherFleet);
        }
        let covered = self.said.covered();
        // Keys are different from each other, in the head as in `trust`: each counts once.
        let good = self
            .signatures
            .iter()
            .filter(|(key, signature)| trust.keys.contains(key) && key.verifies(&covered, signature));
        if good.count() >= trust.threshold.max(1) {
            Ok(Trusted(self))
        } else {
            Err(Refused::Unsigned)
        }
    }
}

impl Trusted {
    /// What it says.
    pub const fn said(&self) -> &Said {
        &self.0.said
    }

    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        self.0.write()
    }

    /// Whether it may follow `held`.
    ///
    /// # Errors
    /// It is not newer.
    pub fn follows(&self, held: Option<u64>) -> Result<(), Refused> {
        if held.is_none_or(|held| held < self.0.said.counter) {
            Ok(())
        } else {
            Err(Refused::Old)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(counter: u64) -> Said {
        Said {
            fleet: "shop".to_owned(),
            counter,
            time: UnixTime::from_millis(1_700_000_000_000),
            index: Digest::of(b"index"),
            length: 5,
        }
    }

    fn trust(signers: &[&Signer], threshold: usize) -> Trust {
        Trust {
            fleet: "shop".to_owned(),
            keys: signers.iter().map(|signer| signer.public()).collect(),
            threshold,
        }
    }

    /// A manifest that too few have signed, or one key twice, would change every node.
    #[test]
    fn as_many_keys_as_demanded_and_no_fewer() {
        let signers: Vec<Signer> = (0..4).map(|_| Signer::generate().unwrap()).collect();
        let (a, b, c, stranger) = (&signers[0], &signers[1], &signers[2], &signers[3]);
        let two = trust(&[a, b, c], 2);
        let signed = |by: &[&Signer]| {
            let mut head = Head::new(said(7));
            by.iter().for_each(|signer| head.sign(signer));
            Head::parse(&head.write()).unwrap().check(&two)
        };
        assert!(signed(&[a, c]).is_ok() && signed(&[a, b, c]).is_ok() && signed(&[stranger, a, b]).is_ok());
        for too_few in [&[][..], &[a], &[a, a], &[a, stranger], &[stranger]] {
            assert_eq!(signed(too_few), Err(Refused::Unsigned));
        }
        // The same key twice cannot even be read.
        let mut head = Head::new(said(7));
        head.sign(a);
        let text = String::from_utf8(head.write()).unwrap();
        let line = text.lines().last().unwrap();
        assert_eq!(
            Head::parse(format!("{text}{line}\n").as_bytes()),
            Err(Refused::Malformed)
        );
        // Another fleet's keys may be the same; its manifests are not ours.
        let other = Trust {
            fleet: "other".to_owned(),
            ..two.clone()
        };
        head.sign(b);
        assert_eq!(head.clone().check(&other), Err(Refused::OtherFleet));
        let trusted = head.check(&two).unwrap();
        assert!(trusted.follows(None).is_ok() && trusted.follows(Some(6)).is_ok());
        assert_eq!(trusted.follows(Some(7)), Err(Refused::Old));
    }

    /// The engine would change what was signed.
    #[test]
    fn every_changed_byte_is_seen() {
        let signer = Signer::generate().unwrap();
        let trust = trust(&[&signer], 1);
        let mut head = Head::new(said(7));
        head.sign(&signer);
        let bytes = head.write();
        assert!(Head::parse(&bytes).unwrap().check(&trust).is_ok());
        for at in 0..bytes.len() {
            for change in [1_u8, 0x20, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let taken = Head::parse(&changed).and_then(|head| head.check(&trust));
                assert!(taken.is_err(), "{at}: {}", String::from_utf8_lossy(&changed));
            }
            assert!(
                Head::parse(&bytes[..at]).and_then(|head| head.check(&trust)).is_err(),
                "{at}"
            );
        }
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [
            ("counter 7", "counter 07"),
            ("counter 7", "counter +7"),
            ("\nindex", "\n\nindex"),
            ("\n", "\r\n"),
        ] {
            assert_eq!(
                Head::parse(text.replacen(from, to, 1).as_bytes()),
                Err(Refused::Malformed)
            );
        }
        assert_eq!(Head::parse(&vec![b'x'; MOST + 1]), Err(Refused::Malformed));
    }
}
