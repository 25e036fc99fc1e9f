//! The daemon with its XDP program in a small world of its own: what an operator relies on when
//! things go wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../checkout/mod.rs"]
mod checkout;
mod early;
mod frames;
mod garbage;
mod gate;
mod http3;
mod neighbours;
mod quic;
mod reload;
mod survival;
mod top;
mod visitor;
mod world;
