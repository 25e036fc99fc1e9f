//! The front of the edge on loopback: sockets, TLS, HTTP/1.1, HTTP/2 and HTTP/3, with an echo
//! handler in place of the rooms behind.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod access;
mod alike;
mod clients;
mod door;
mod early;
mod h3_frames;
mod harness;
mod http1;
mod http2;
mod http3;
mod limits;
mod proxies;
mod smuggling;
mod tls;
