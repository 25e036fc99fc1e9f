//! The load of `cargo xtask bench attack`: clients who take nothing, send nothing or send without
//! end; good clients beside them; and the origin of both.
//!
//! `attack-load ROLE key=value…`, started by xtask. `good` ends by itself and prints one line of
//! JSON; an attack (its name is the role) goes on for `seconds=` and prints how many connections it
//! had; `origin` serves until it is ended.
#![deny(unsafe_code)]

mod good;
mod origin;
mod quic;
mod tcp;
mod wire;

use anyhow::Result;
use edge_testbed::words::Words;
use serde_json::json;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    let words = Words::parse(arguments);
    // What attacks is one thread of its own: a client that falls silent is one that is not driven
    // any more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = match role.as_str() {
        "good" => runtime.block_on(good::run(&words))?,
        "origin" => runtime.block_on(origin::serve(&words))?,
        name if name.ends_with("-h3") => json!({ "connections": quic::run(&runtime, name, &words)? }),
        name => json!({ "connections": runtime.block_on(tcp::run(name, &words))? }),
    };
    println!("{report}");
    Ok(())
}
