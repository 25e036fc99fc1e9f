//! Ephemeral keys of a connection: made for `kx-sign-tls12` and `kx-start`, used once by
//! `kx-finish`, forgotten after a time, the oldest first when there are too many. Pure: `now` comes
//! in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::agreement::{self, Algorithm, PrivateKey, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::key::Failed;
use super::wire::{Group, Secret, Share};

/// A private value that is used once. The library wipes it.
#[derive(Debug)]
pub(super) struct Ephemeral {
    group: Group,
    private: PrivateKey,
}

fn algorithm(group: Group) -> &'static Algorithm {
    match group {
        Group::X25519 => &agreement::X25519,
        Group::Secp256r1 => &agreement::ECDH_P256,
        Group::Secp384r1 => &agreement::ECDH_P384,
    }
}

impl Ephemeral {
    /// A new one and its public value.
    pub(super) fn new(group: Group) -> Result<(Self, Share), Failed> {
        let private = PrivateKey::generate(algorithm(group)).map_err(|_| Failed)?;
        let public = private.compute_public_key().map_err(|_| Failed)?;
        let share = Share::new(group, public.as_ref()).ok_or(Failed)?;
        Ok((Self { group, private }, share))
    }

    /// The secret shared with `peer`; `None` if that is of another group, off the curve, or of
    /// small order.
    pub(super) fn agree(self, peer: &Share) -> Option<Secret> {
        if peer.group() != self.group {
            return None;
        }
        let peer = UnparsedPublicKey::new(algorithm(self.group), peer.bytes());
        agreement::agree(&self.private, peer, Failed, |secret| {
            // A copy of the library's buffer, wiped here; the library wipes its own.
            let copy = Zeroizing::new(secret.to_vec());
            Ok(Secret::new(&copy))
        })
        .ok()
    }
}

/// The ephemeral keys of one connection.
#[derive(Debug)]
pub(super) struct Kept {
    /// In the order of their handles, which is that of their age.
    keys: VecDeque<(u64, Instant, Option<Ephemeral>)>,
    next: u64,
    most: usize,
    life: Duration,
}

impl Kept {
    pub(super) fn new(most: usize, life: Duration) -> Self {
        Self {
            keys: VecDeque::new(),
            next: 1,
            most: most.max(1),
            life,
        }
    }

    /// Keeps a key and gives its handle. The oldest goes if there are too many.
    pub(super) fn keep(&mut self, now: Instant, key: Ephemeral) -> u64 {
        self.forget(now);
        while self.keys.len() >= self.most {
            self.keys.pop_front();
        }
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        self.keys.push_back((handle, now, Some(key)));
        handle
    }

    /// Gives a key away, once.
    pub(super) fn take(&mut self, now: Instant, handle: u64) -> Option<Ephemeral> {
        self.forget(now);
        let at = self.keys.binary_search_by_key(&handle, |(handle, ..)| *handle).ok()?;
        self.keys.get_mut(at)?.2.take()
    }

    /// Drops what is too old or used up, from the front.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some((_, made, key)) = self.keys.front() {
            if key.is_some() && now.saturating_duration_since(*made) < self.life {
                break;
            }
            self.keys.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(30);

    fn keep(kept: &mut Kept, now: Instant) -> (u64, Share) {
        let (key, share) = Ephemeral::new(Group::X25519).unwrap();
        (kept.keep(now, key), share)
    }

    /// Both ends must arrive at one secret, or no handshake completes.
    #[test]
    fn both_ends_agree() {
        for group in Group::ALL.iter().copied() {
            let (ours, our_share) = Ephemeral::new(group).unwrap();
            let (theirs, their_share) = Ephemeral::new(group).unwrap();
            let ours = ours.agree(&their_share).unwrap();
            assert_eq!(ours.expose().len(), group.secret_bytes());
            assert_eq!(Some(ours), theirs.agree(&our_share));
        }
    }

    /// A point off the curve or of small order would tell an attacker bits of the private value.
    #[test]
    fn bad_shares_give_no_secret() {
        for group in [Group::Secp256r1, Group::Secp384r1] {
            let (key, share) = Ephemeral::new(group).unwrap();
            let mut bytes = share.bytes().to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            assert_eq!(key.agree(&Share::new(group, &bytes).unwrap()), None);
        }
        let zero = Share::new(Group::X25519, &[0; 32]).unwrap();
        assert_eq!(Ephemeral::new(Group::X25519).unwrap().0.agree(&zero), None);
        let (_, other) = Ephemeral::new(Group::Secp256r1).unwrap();
        assert_eq!(Ephemeral::new(Group::X25519).unwrap().0.agree(&other), None);
    }

    /// A handle that is good twice, or for ever, is a key that is kept for an attacker.
    #[test]
    fn handles_are_good_once_and_for_a_time() {
        let now = Instant::now();
        let mut kept = Kept::new(3, LIFE);
        let (first, _) = keep(&mut kept, now);
        assert!(kept.take(now, first).is_some());
        assert!(kept.take(now, first).is_none());
        assert!(kept.take(now, first + 1).is_none());

        let (old, _) = keep(&mut kept, now);
        let later = now + LIFE;
        assert!(kept.take(later, old).is_none());
        assert_eq!(kept.keys.len(), 0);

        let handles: Vec<u64> = (0..4).map(|_| keep(&mut kept, later).0).collect();
        assert_eq!(kept.keys.len(), 3);
        assert!(kept.take(later, handles[0]).is_none(), "the oldest is displaced");
        assert!(kept.take(later, handles[2]).is_some(), "out of order");
        assert!(kept.take(later, handles[1]).is_some());
        assert!(kept.take(later, handles[3]).is_some());
    }
}
