//! Room 2: the gate. Decides for each request whether it is admitted, told to wait, or refused
//! because it came against what it was told; answers those that are not admitted; and tells the
//! kernel, through `feed`, whom to drop.
//!
//! In the order in which a request meets them: `cookie` finds its token, `handler` its zone,
//! `decide` what it is and what becomes of it (`verdict`), `pass` what the token says, `crawlers`
//! who has signed it, `reverse` whose crawler's address it comes from, `penalty` and
//! `neighbours` what is held against its client and its address, `rule` and `policy` what matches
//! and what that demands (`queue` with `census`, `concurrency`, `bucket` by `key`, `work`,
//! `external`), `answer` and `page` (in the language of `texts`) what it is told; `account` what it
//! owes when the response comes. `door` judges before any of this, at the ClientHello. Everything
//! per client is in a `table` of fixed memory. The cores take the time as an argument (`clock`).

pub mod account;
pub mod answer;
mod attempts;
pub mod bucket;
pub mod cause;
mod census;
pub mod clock;
pub mod command;
pub mod concurrency;
pub mod cookie;
pub mod crawlers;
pub mod decide;
pub mod door;
pub mod external;
pub mod feed;
pub mod handler;
mod inside;
mod key;
pub mod keys;
pub mod metrics;
pub mod neighbours;
pub mod page;
pub mod pass;
pub mod penalty;
pub mod policy;
mod prefixes;
pub mod queue;
pub mod replay;
mod reverse;
mod rule;
pub mod sealed;
#[cfg(test)]
mod simulation;
mod table;
pub mod texts;
pub mod token;
pub mod verdict;
mod work;
pub mod zone;
