//! Room 7: third-party code per zone, in WebAssembly, many tenants in one process. `node` gives it
//! requests by [`handler::Isolated`]; what a worker asks of servers it hands to the room `origin`,
//! what it asks of other zones to their own handlers. docs/workers.md is for operators and for
//! those who write workers.
//!
//! A program ([`program`]) of any kind runs under the same limits ([`budget`], [`store`], `slots`),
//! with the same view of the world ([`grant`]), and ends for the same reasons ([`error`]).

mod artifact;
mod assets;
pub mod budget;
pub mod clocks;
mod coding;
pub(crate) mod compile;
mod component;
pub mod deploy;
mod deployment;
pub mod engine;
pub mod error;
pub mod grant;
pub mod handler;
mod host;
pub mod isolates;
pub mod js;
mod kept;
mod keyvalue;
pub mod kind;
pub mod log;
pub mod made;
mod memory;
pub mod metrics;
mod preview;
pub mod program;
pub mod project;
mod ready;
mod rollout;
mod schedule;
mod secret_orders;
mod secrets;
mod shares;
mod slots;
mod speech;
pub mod store;
pub mod target;
pub mod tenant;
pub mod tie;
pub mod trial;
mod upgrade;
pub mod versions;
mod wasi;
