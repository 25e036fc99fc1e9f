//! Room 5: HTTP. Takes connections from `tls`, lets each request in by the door, asks what is to
//! its right, and logs the end.

mod access;
mod answer;
pub mod body;
pub mod client;
pub mod codings;
pub mod data_frames;
mod delivery;
pub mod disguise;
pub mod door;
pub mod error_page;
pub mod failure;
pub mod fields;
pub mod forwarded;
pub mod framing;
mod guard;
pub mod h3;
pub mod handler;
pub mod heads;
mod holding;
mod hpack;
mod huffman;
mod intake;
pub mod interim;
pub mod kept;
mod leftover;
mod life;
pub mod message;
pub mod metrics;
pub mod redirect;
pub mod server;
mod service;
mod shared;
pub mod stored;
pub mod switch;
pub mod trailers;
pub mod warm;
pub mod websocket;

pub use redirect::Redirect;
pub use server::Server;
pub use shared::Shared;
