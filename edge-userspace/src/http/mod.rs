//! Room 5: HTTP. Takes connections from `tls`, makes each request sound, asks the handler to its right, and logs the end.

mod access;
mod answer;
pub mod body;
pub mod codings;
pub mod connection;
pub mod data_frames;
mod delivery;
pub mod disguise;
pub mod forwarded;
pub mod framing;
mod guard;
pub mod h3;
pub mod handler;
mod holding;
mod intake;
mod leftover;
mod life;
pub mod message;
pub mod metrics;
pub mod redirect;
pub mod request;
pub mod server;
mod service;

pub use redirect::Redirect;
pub use server::{Server, Shared};
