//! Room 8: the cache (RFC 9111). Takes requests from the rooms to its left, answers them from the
//! store where that is allowed, and hands the others on to its right; `handler` leads one request
//! through the rest, and puts large objects together from slices.
//!
//! Pure cores, with `now` passed in: `directives` reads fields, `worth` judges what to store,
//! `reuse` what may answer, `resource` tells variants apart, `conditions` chooses ranges, `bans`
//! holds purges. `store` keeps, `fill` brings in, `flight` joins requests. All workers share one
//! [`Store`]; each has a [`Cache`] of its own around its own origin.

mod bans;
mod conditions;
pub mod directives;
mod fill;
mod flight;
mod handler;
mod metrics;
pub mod purge;
mod record;
mod resource;
mod reuse;
mod serve;
mod store;
mod worth;

pub use conditions::{Span, Verdict, ranges};
pub use handler::{Cache, NotPurged, Shared};
pub use store::{Error, Store};

/// 128 random bits; not secret, but not to be foreseen.
fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(|| (RandomState::new(), RandomState::new()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Keyed SipHash of a counter: the keys are random for each process.
    (u128::from(KEYS.0.hash_one(count)) << 64) | u128::from(KEYS.1.hash_one(count))
}
