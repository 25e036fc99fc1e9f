//! `cargo xtask conform`: programs that look for mistakes in servers of a protocol, run against the edge.
//!
//! Each starts an edge of its own in a namespace, prints what was found and fails if any of it is a fault of ours. They are not
//! tests: they take minutes, and install programs that nothing else needs.

mod h3i;
mod testssl;

use anyhow::Result;

/// Run a program that looks for mistakes in servers against the edge
#[derive(clap::Subcommand)]
pub(crate) enum Conform {
    /// HTTP/3, by h3i: requests as they should be, and malformed ones, each with the code that the RFC asks for
    H3i(h3i::H3i),
    /// TLS, by testssl.sh: zones with local keys, with keys at the key server, and the key server itself
    Testssl(testssl::Testssl),
}

/// Runs one.
pub(crate) fn run(conform: &Conform) -> Result<()> {
    match conform {
        Conform::H3i(h3i) => h3i::run(h3i),
        Conform::Testssl(testssl) => testssl::run(testssl),
    }
}
