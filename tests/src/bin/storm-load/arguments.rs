//! What xtask says to a load: `key=value` words, all of them needed.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use edge_testbed::frames::station;

/// One role's work.
pub(crate) struct Load {
    /// Whom to load.
    pub(crate) target: SocketAddrV4,
    /// Name in SNI and Host.
    pub(crate) host: String,
    /// PEM of the root that signed the target's certificate.
    pub(crate) ca: PathBuf,
    /// First of the source addresses, and how many follow each other.
    pub(crate) source: Ipv4Addr,
    pub(crate) sources: u32,
    /// Per second, over all sources: requests of the good, frames of the flood. The retriers take
    /// none.
    pub(crate) rate: f64,
    pub(crate) time: Duration,
    /// Where frames go out, and the station they go to; only the flood's.
    pub(crate) interface: String,
    pub(crate) from: [u8; 6],
    pub(crate) to: [u8; 6],
}

impl Load {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let words: HashMap<String, String> = words
            .filter_map(|word| {
                word.split_once('=')
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect();
        let word = |key: &str| words.get(key).with_context(|| format!("{key}= is missing"));
        Ok(Self {
            target: word("target")?.parse()?,
            host: word("host")?.clone(),
            ca: word("ca")?.into(),
            source: word("source")?.parse()?,
            sources: word("sources")?.parse::<u32>()?.clamp(1, 4096),
            rate: word("rate")?.parse()?,
            time: Duration::from_secs_f64(word("seconds")?.parse::<f64>()?.clamp(0.1, 120.0)),
            interface: word("interface")?.clone(),
            from: station(word("from")?)?,
            to: station(word("to")?)?,
        })
    }

    /// The source address of the n-th client; they take turns.
    pub(crate) fn address(&self, n: u64) -> Ipv4Addr {
        let index = (n % u64::from(self.sources)) as u32;
        Ipv4Addr::from_bits(self.source.to_bits() + index)
    }
}
