//! What tests, benches and the demo share: namespaces, certificates, child processes, packets.
//!
//! xtask and the integration tests hand it work; it hands back values that clean up after
//! themselves: dropping a [`netns::Netns`] or a [`process::Process`] removes what it stands for,
//! and a sweep removes what a crash left.
#![deny(unsafe_code)]

mod bytecode;
pub mod changing;
pub mod fleet;
#[cfg(feature = "frames")]
pub mod frames;
pub mod interrupt;
pub mod keys;
pub mod live;
pub mod netns;
pub mod packet;
pub mod pins;
pub mod pki;
pub mod privilege;
pub mod process;
pub mod rewriting;
pub mod test_run;
pub mod words;
