//! The edge daemon and the key server as a library: the binaries only read their arguments.
//! ARCHITECTURE.md tells the life of a packet and of a request; the modules below are its rooms, in
//! the order in which both meet them.
//!
//! Features: `node` has the rooms of the edge, `keyserver` the key server. What both stand on is
//! always there.

#![deny(unsafe_code)]

#[cfg(feature = "node")]
pub mod acme;
pub mod admin;
pub mod base;
#[cfg(feature = "node")]
pub mod cache;
#[cfg(feature = "node")]
pub mod cli;
pub mod config;
#[cfg(feature = "node")]
pub mod dataplane;
#[cfg(feature = "node")]
pub mod delta;
#[cfg(feature = "node")]
pub mod fleet;
#[cfg(feature = "node")]
pub mod gate;
#[cfg(feature = "node")]
pub mod http;
#[cfg(feature = "node")]
pub mod import;
#[cfg(feature = "node")]
pub mod isolate;
pub mod keyserver;
#[cfg(feature = "node")]
mod node;
#[cfg(feature = "node")]
pub mod origin;
#[cfg(feature = "node")]
pub mod quic;
#[cfg(feature = "node")]
pub mod route;
#[cfg(feature = "node")]
pub mod rules;
#[cfg(feature = "node")]
pub mod tls;
#[cfg(feature = "node")]
pub mod zones;
