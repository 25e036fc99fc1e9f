//! The load of `cargo xtask bench keyless`: TLS handshakes and nothing else, requests for
//! signatures and nothing else, and a relay that stands for a long way to a key server, since many
//! kernels come without netem.
//!
//! `tls-load ROLE key=value…`, started by xtask. `shake`, `sign` and `ping` end by themselves and
//! print one line of JSON; `relay` runs until it is ended.
#![deny(unsafe_code)]

mod clients;
mod relay;
mod sign;

use anyhow::{Result, bail};
use edge_testbed::words::Words;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    let words = Words::parse(arguments);
    if role == "relay" {
        return relay::run(&words);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match role.as_str() {
        "shake" => println!("{}", runtime.block_on(clients::shake(&words))?),
        "sign" => println!("{}", runtime.block_on(sign::sign(&words))?),
        "ping" => println!("{}", runtime.block_on(sign::ping(&words))?),
        _ => bail!("the role is shake, sign, ping or relay, not {role:?}"),
    }
    Ok(())
}
