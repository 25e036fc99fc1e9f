//! The load of `cargo xtask bench quic`: handshakes, requests over HTTP/3, well-behaved newcomers
//! at a fixed rate, and Initial packets from addresses that are nobody's.
//!
//! `quic-load ROLE key=value…`, started by xtask. Each role ends by itself and prints one line of
//! JSON.
#![deny(unsafe_code)]

mod client;
mod flood;
mod good;
mod requests;
mod shake;

use anyhow::{Result, bail};
use edge_testbed::words::Words;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    let words = Words::parse(arguments);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = match role.as_str() {
        "shake" => runtime.block_on(shake::run(&words))?,
        "requests" => runtime.block_on(requests::run(&words))?,
        "good" => runtime.block_on(good::run(&words))?,
        "flood" => flood::run(&words)?,
        _ => bail!("the role is shake, requests, good or flood, not {role:?}"),
    };
    println!("{report}");
    Ok(())
}

/// The value below which `share` of the sorted `values` are; 0 of none.
pub(crate) fn at(values: &[f64], share: f64) -> f64 {
    let index = (values.len() as f64 * share).ceil() as usize;
    values.get(index.saturating_sub(1)).copied().unwrap_or_default()
}
