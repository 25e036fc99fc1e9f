//! Which part of a split a request is in: by the hash of what it is split by, so that it needs no
//! memory and every node says the same. Pure; `evaluate` asks.

use std::net::IpAddr;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::facts::Facts;
use crate::base::peer::client_prefix;
use crate::config::pool::{HashKey, Split};

/// The lots of a split: hundredths of a percent.
const LOTS: u64 = 10_000;

/// The pool whose part the request is in; `None`: it goes where it would go without the rule.
pub(super) fn part<'r>(split: &'r Split, rule: &str, facts: &Facts<'_>) -> Option<&'r Arc<str>> {
    let lot = match &split.by {
        HashKey::Client => match client_prefix(facts.client) {
            IpAddr::V4(ip) => lot(rule, &ip.octets()),
            IpAddr::V6(ip) => lot(rule, &ip.octets()),
        },
        HashKey::Path => lot(rule, facts.path.usual().as_bytes()),
        HashKey::Header(name) => lot(rule, facts.headers.get(name)?.as_bytes()),
        HashKey::Cookie(name) => lot(rule, facts.cookies(name).next()?.as_bytes()),
        HashKey::Random => lot(rule, &facts.request_id),
    };
    let mut below = 0;
    let mut parts = split.to.iter();
    let found = parts.find(|(_, share)| {
        below += share;
        lot < below
    });
    found.map(|(pool, _)| pool)
}

/// A number below 10,000. Rules draw independently: who is in one's part is not therefore in
/// another's.
pub(super) fn lot(rule: &str, key: &[u8]) -> u32 {
    let mut hash = Xxh3::new();
    hash.update(rule.as_bytes());
    // No rule's name has such a byte.
    hash.update(&[0]);
    hash.update(key);
    u32::try_from(hash.digest() % LOTS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A canary of ten percent would get half of the visitors; or a visitor would get both versions
    /// by turns.
    #[test]
    fn parts_are_as_large_as_written() {
        let lots = |rule: &str| -> Vec<u32> { (0..100_000u32).map(|n| lot(rule, &n.to_le_bytes())).collect() };
        let (a, b) = (lots("a"), lots("b"));
        let tenth = a.iter().filter(|lot| **lot < 1_000).count();
        assert!(tenth.abs_diff(10_000) < 400, "{tenth}");
        assert_eq!(a, lots("a"), "the same client, the same part");
        let both = a.iter().zip(&b).filter(|(a, b)| **a < 1_000 && **b < 1_000).count();
        assert!(both.abs_diff(1_000) < 150, "{both}: two rules draw independently");
    }
}
