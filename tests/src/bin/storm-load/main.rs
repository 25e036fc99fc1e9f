//! The load of `cargo xtask bench storm`: well-behaved clients, clients that retry at once, or raw
//! SYNs from their addresses.
//!
//! `storm-load ROLE key=value…`, started by xtask inside the client's namespace; ends by itself
//! after `seconds` and prints one line of JSON. See [`arguments::Load`] for the keys.
#![deny(unsafe_code)]

mod arguments;
mod clients;
mod flood;

use anyhow::{Result, bail};

use arguments::Load;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    let load = Load::parse(arguments)?;
    let report = match role.as_str() {
        "good" => clients::good(&load)?,
        "retry" => clients::retry(&load)?,
        "flood" => flood::run(&load)?,
        _ => bail!("the role is good, retry or flood, not {role:?}"),
    };
    println!("{report}");
    Ok(())
}
