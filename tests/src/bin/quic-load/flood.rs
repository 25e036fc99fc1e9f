//! Initial packets of clients that are not there: each with a ClientHello, connection ids and an
//! address of its own, sent as prebuilt frames.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edge_testbed::frames::{self, station};
use edge_testbed::words::Words;
use quinn_proto::{ClientConfig, Endpoint, EndpointConfig};
use serde_json::{Value, json};

use crate::client;

/// Where the addresses begin: of the network for benchmarks (RFC 2544 appendix C.2.2), which has
/// twice as many as are used.
const SOURCES: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// `rate=` a second for `seconds=`, out of `interface=` from the station `from=` to the station
/// `to=`; `distinct=` attempts, over and over.
pub(crate) fn run(words: &Words) -> Result<Value> {
    let config = client::config(words)?;
    let target: SocketAddrV4 = words.get("target")?;
    let host: String = words.get("host")?;
    let (from, to) = (
        station(&words.get::<String>("from")?)?,
        station(&words.get::<String>("to")?)?,
    );
    let frames: Vec<Vec<u8>> = (0..words.get::<u32>("distinct")?.min(1 << 16))
        .map(|n| {
            let source = SocketAddrV4::new(Ipv4Addr::from_bits(SOURCES.to_bits() + n), 1024 + (n % 60_000) as u16);
            let initial = initial(&config, target, &host)?;
            let datagram = frames::udp(source, target, &initial);
            Ok(frames::ipv4(from, to, *source.ip(), *target.ip(), 17, &datagram))
        })
        .collect::<Result<_>>()?;
    let poured = frames::pour(
        &words.get::<String>("interface")?,
        &frames,
        words.get("rate")?,
        Duration::from_secs_f64(words.get("seconds")?),
    )?;
    Ok(json!({ "attempts": poured.sent, "unsent": poured.unsent, "seconds": poured.time.as_secs_f64() }))
}

/// The first datagram of a client of quinn's.
fn initial(config: &ClientConfig, target: SocketAddrV4, host: &str) -> Result<Vec<u8>> {
    let mut endpoint = Endpoint::new(EndpointConfig::default().into(), None, true, None);
    let now = Instant::now();
    let (_, mut connection) = endpoint.connect(now, config.clone(), target.into(), host)?;
    let mut datagram = Vec::new();
    let transmit = connection
        .poll_transmit(now, 1, &mut datagram)
        .context("a client that has nothing to say")?;
    datagram.truncate(transmit.size);
    Ok(datagram)
}
