//! The edge daemon as a library: the binaries only read their arguments. ARCHITECTURE.md tells the life of a packet and of
//! a request; the modules below are its rooms, in the order in which both meet them.

#![deny(unsafe_code)]

pub mod admin;
pub mod base;
pub mod cache;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod delta;
pub mod gate;
pub mod http;
pub mod isolate;
mod node;
pub mod origin;
pub mod quic;
pub mod route;
pub mod tls;
pub mod zones;
