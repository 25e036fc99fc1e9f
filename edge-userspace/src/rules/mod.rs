//! Zone rules: what an operator does every day without writing code. Stands after the gate and
//! before the routes; what it takes and gives is `http`'s. `config::rule` has read and compiled the
//! rules; here they meet requests.
//!
//! `facts` is what a rule can ask of a request, `evaluate` finds the rules that fit and collects
//! what they do, `fill` fills in templates, `handler` does it; `auth` checks passwords, `forward`
//! asks others, `keyring` has the keys of `jwt` that are on servers. `explain`
//! tells an operator which rules fit an invented request.

mod auth;
mod change;
mod evaluate;
pub mod explain;
mod facts;
mod fill;
mod forward;
mod handler;
pub mod jwt;
mod keyring;
mod metrics;
mod mirror;
mod split;

pub use handler::{Ruled, Shared};
