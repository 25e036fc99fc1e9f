//! The key server from outside: the real process, over TCP and TLS, with certificates of a test
//! authority.
#![cfg(feature = "keyserver")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod bed;
mod faults;
mod life;
mod ops;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod refusals;
