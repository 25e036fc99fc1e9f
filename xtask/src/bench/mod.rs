//! `cargo xtask bench`: this edge against a peer, alternating on the same machine.
//!
//! Every bench prints a table, writes its runs to `target/bench/NAME.json`, and takes `--quick`.

mod attack;
mod delta;
mod edge;
mod fleet;
mod http;
mod isolate;
mod keyless;
mod load;
mod nginx;
mod peers;
mod quic;
mod soak;
mod storm;
mod xdp;

use anyhow::Result;

/// Measure against a peer on this machine
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Memory under attacks of one address, and what good clients notice, against nginx
    Attack(attack::BenchAttack),
    /// What differences between versions save, by content and on a thin link, against nginx with
    /// gzip
    Delta(delta::BenchDelta),
    /// Deployments, purges with their proof and penalties on 1,000 nodes
    Fleet(fleet::BenchFleet),
    /// Requests per CPU-second of an HTTPS reverse proxy, against nginx, HAProxy, Envoy and Caddy
    Http(http::BenchHttp),
    /// CPU per request of zones' workers, against workerd
    Isolate(isolate::BenchIsolate),
    /// Memory of the edge over a million requests to good and bad workers
    Soak(soak::BenchSoak),
    /// Handshakes per CPU-second with keys at a key server, against local keys and nginx
    Keyless(keyless::BenchKeyless),
    /// Handshakes, requests and content over HTTP/3, beside HTTP/2 and Caddy; a flood of spoofed
    /// Initials
    Quic(quic::BenchQuic),
    /// Goodput beside clients that retry without waiting, and the cost of rejecting them, against
    /// nginx
    Storm(storm::BenchStorm),
    /// Nanoseconds per packet of the XDP program, against xdp-filter
    Xdp(xdp::BenchXdp),
}

/// Runs one bench.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Attack(bench) => attack::run(bench),
        Bench::Delta(bench) => delta::run(bench),
        Bench::Fleet(bench) => fleet::run(bench),
        Bench::Http(bench) => http::run(bench),
        Bench::Isolate(bench) => isolate::run(bench),
        Bench::Soak(bench) => soak::run(bench),
        Bench::Keyless(bench) => keyless::run(bench),
        Bench::Quic(bench) => quic::run(bench),
        Bench::Storm(bench) => storm::run(bench),
        Bench::Xdp(bench) => xdp::run(bench),
    }
}
