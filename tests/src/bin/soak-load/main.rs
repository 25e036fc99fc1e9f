//! The load of `cargo xtask soak`: an origin whose every byte can be foretold, visitors who
//! foretell it, and floods.
//!
//! `soak-load ROLE key=value…`, started by xtask. The origin serves until it is ended; the others
//! end by themselves and print lines of JSON.
#![deny(unsafe_code)]

mod client;
mod content;
mod flood;
mod origin;
mod request;
mod visit;

use anyhow::{Result, bail};
use edge_testbed::words::Words;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    let words = Words::parse(arguments);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match role.as_str() {
        "origin" => runtime.block_on(origin::run(&words)),
        "visit" => runtime.block_on(visit::run(&words)),
        "flood" => flood::run(&words),
        "files" => content::write_files(&words),
        _ => bail!("the role is origin, visit, flood or files, not {role:?}"),
    }
}
