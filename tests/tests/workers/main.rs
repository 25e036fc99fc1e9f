//! Zones' workers on a running node: deploying them, what they can do, and what a hostile one
//! cannot.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod attacks;
#[path = "../checkout/mod.rs"]
mod checkout;
mod componentized;
mod life;
mod scripts;
mod trial;
mod world;
