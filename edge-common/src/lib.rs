//! The contract between the XDP program (`edge-ebpf`) and the daemon (`edge-userspace`): the values
//! in the maps that both sides open, and the reasons that both sides count by.
//!
//! Everything here is `repr(C)`, made of integers and arrays, without hidden padding, and held to
//! its size by const asserts, because the other side may have been built by another compiler at
//! another time. Integers are in the machine's own byte order unless a field's doc says otherwise;
//! addresses are in network order, as on the wire.
#![no_std]

pub mod cid;
mod config;
mod event;
pub mod integrity;
mod list;
pub mod lockdown;
pub mod penalty;
mod reason;
pub mod replay;
pub mod retry;
pub mod siphash;
pub mod steering;
pub mod table;
pub mod token;

pub use config::{
    ACKS_CHECKED, BARE_DEVICES, BARES, Config, GATE_ON, HOMES, Homes, LOCALS, LOCKDOWN_ON, Near, Ports, mapped,
};
pub use event::Event;
pub use list::{
    ALLOW, ALLOW_CONFIGURED, DENY, DENY_CONFIGURED, DENY_RUNTIME, Entry, V4_BUCKETS, v4_bucket, v4_key, v4_length,
    v4_prefix,
};
pub use reason::{
    ANSWER_COOKIE, ANSWER_RETRY, COUNT_SYN, COUNTERS_CAPACITY, DROP_ACK, DROP_CLIENT_PENALTY, DROP_COOKIE, DROP_DENIED,
    DROP_FRAGMENT, DROP_HEADERS, DROP_ID_FOREIGN, DROP_ID_REPLAYED, DROP_INITIAL_SHORT, DROP_MALFORMED, DROP_MARTIAN,
    DROP_PENALTY_BLOCKED, DROP_PENALTY_DEFERRED, DROP_TOKEN_BAD, DROP_TOKEN_EARLY, DROP_TOKEN_REPLAYED, DROP_VERSION,
    FIRST_ANSWER, FIRST_DROP, PASS_ALLOWED, PASS_ATTEMPT, PASS_BUDGETED, PASS_ESTABLISHED, PASS_FRAGMENT,
    PASS_NOT_OURS, PASS_TOKEN, REASONS, Verdict, verdict,
};

/// Version of every layout in this crate. It names the directory of the pinned maps: raise it
/// whenever a map's key or value changes its meaning, and an upgraded daemon builds fresh maps
/// instead of misreading old ones. A map whose type or size changes is replaced by itself, and the
/// others keep what they hold.
pub const LAYOUT: u32 = 2;

/// Names of the maps, as the object declares them and as they are pinned.
pub mod maps {
    /// Array with one [`Config`](crate::Config).
    pub const CONFIG: &str = "CONFIG";
    /// Per-CPU array of `u64` packet counters, indexed by reason.
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`Event`](crate::Event)s.
    pub const EVENTS: &str = "EVENTS";
    /// Array with one [`Lockdown`](crate::lockdown::Lockdown). Holds a secret.
    pub const LOCKDOWN: &str = "LOCKDOWN";
    /// LPM trie of the addresses that are the node's (`[u32; 4]`, network order, IPv4 as
    /// [`mapped`](crate::mapped)) to `u32`, of no meaning. What is for another address passes.
    pub const LOCAL: &str = "LOCAL";
    /// Hash of the indices (`u32`) of interfaces whose packets begin with the IP header to `u32`,
    /// of no meaning.
    pub const BARE: &str = "BARE";
    /// Array with one `u64`: a bit for each generation of daemons (see [`cid`](crate::cid)) that
    /// may still have connections; 0, as a fresh map has it, is all of them.
    pub const ALIVE: &str = "ALIVE";
    /// Array with one `u32`: not 0 if an operator's penalty of an address may be in force, so that
    /// it is asked before tokens.
    pub const BARRED: &str = "BARRED";
    /// Array with one [`Cookies`](crate::lockdown::Cookies).
    pub const COOKIES: &str = "COOKIES";
    /// Array with one [`Steering`](crate::steering::Steering).
    pub const STEERING: &str = "STEERING";
    /// Hash of [`Listener`](crate::steering::Listener)s to their numbers (`u32`).
    pub const LISTENERS: &str = "LISTENERS";
    /// Array of sockets, by [`slot`](crate::steering::slot).
    pub const SOCKETS: &str = "SOCKETS";
    /// Array with one `u64`: nanoseconds to add to `CLOCK_MONOTONIC` to get the time since 1970.
    /// The daemon refreshes it every second, because the wall clock is stepped and slewed; without
    /// it tokens are early or expired by as much.
    pub const CLOCK: &str = "CLOCK";
    /// Array of four [`TokenKey`](crate::token::TokenKey)s, by epoch modulo four. Secret.
    pub const KEYS: &str = "KEYS";
    /// Array of [`Bucket`](crate::table::Bucket)s: penalties of addresses and of clients.
    pub const PENALTIES: &str = "PENALTIES";
    /// Array with one [`Front`](crate::table::Front). Holds a secret.
    pub const PENALTY_FRONT: &str = "PENALTY_FRONT";
    /// Array of [`Set`](crate::replay::Set)s: counts of the genuine tokens that came. The program
    /// writes it.
    pub const REPLAY: &str = "REPLAY";
    /// Hash of IPv4 prefixes (`u64`, see [`v4_key`](crate::v4_key)) to [`Entry`](crate::Entry).
    pub const V4: &str = "V4";
    /// Array of `u64`: the prefix lengths in each bucket (see [`v4_length`](crate::v4_length)).
    /// Bits must be set before the entries they stand for.
    pub const V4_LENGTHS: &str = "V4_LENGTHS";
    /// Hash of single IPv6 addresses (`[u8; 16]`, network order) to [`Entry`](crate::Entry).
    pub const V6_EXACT: &str = "V6_EXACT";
    /// LPM trie of IPv6 prefixes shorter than /128 (`[u8; 16]`, network order) to
    /// [`Entry`](crate::Entry).
    pub const V6_PREFIX: &str = "V6_PREFIX";
}
