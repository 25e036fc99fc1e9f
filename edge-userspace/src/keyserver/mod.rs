//! The key server: the only process that holds private keys. An edge asks it, over mutual TLS, for
//! what a handshake needs of a key; it checks whether this edge may, builds the signed structure
//! itself, and answers.
//!
//! A query meets `rules` (who is let in), `connection` (frames), `access` (may it?), `task` (what
//! is asked), `store` and `key` (with which key), `lane` (RSA waits its turn). `run` assembles
//! them. Without the feature `keyserver` only [`wire`] is here, which the edge's side of the
//! protocol stands on.

#[cfg(feature = "keyserver")]
mod access;
#[cfg(feature = "keyserver")]
mod audit;
#[cfg(feature = "keyserver")]
mod command;
#[cfg(feature = "keyserver")]
mod connection;
#[cfg(feature = "keyserver")]
mod endpoint;
#[cfg(feature = "keyserver")]
mod ephemeral;
#[cfg(feature = "keyserver")]
mod key;
#[cfg(feature = "keyserver")]
mod lane;
#[cfg(feature = "keyserver")]
mod lobby;
#[cfg(feature = "keyserver")]
mod metrics;
#[cfg(feature = "keyserver")]
mod pem;
#[cfg(feature = "pkcs11")]
mod pkcs11;
#[cfg(feature = "keyserver")]
mod premaster;
#[cfg(feature = "keyserver")]
mod process;
#[cfg(feature = "keyserver")]
mod rsa;
#[cfg(feature = "keyserver")]
mod rules;
#[cfg(feature = "keyserver")]
mod run;
#[cfg(feature = "keyserver")]
mod serve;
#[cfg(feature = "keyserver")]
mod shared;
#[cfg(feature = "keyserver")]
mod store;
#[cfg(feature = "keyserver")]
mod task;
pub mod wire;

#[cfg(feature = "keyserver")]
pub use command::{command, main};
