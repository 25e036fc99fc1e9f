//! What xtask says to the load: `key=value` words.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use edge::keyserver::wire::KeyId;

/// One load.
pub(crate) struct Arguments {
    /// The key server, and its name in its certificate.
    pub(crate) server: SocketAddr,
    pub(crate) name: String,
    /// PEM of the root that signed the server's certificate; the client's chain and key.
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
    /// SHA-256 of the wanted key's public key; the first ECDSA P-256 key if it is left out.
    pub(crate) key: Option<KeyId>,
    /// Connections, and queries under way on each.
    pub(crate) connections: usize,
    pub(crate) pending: usize,
    pub(crate) seconds: f64,
    /// The server's process, if its processor time is wanted.
    pub(crate) pid: Option<u32>,
}

impl Arguments {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let words: HashMap<String, String> = words
            .filter_map(|word| {
                word.split_once('=')
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect();
        let word = |key: &str| words.get(key).with_context(|| format!("{key}= is missing"));
        let key = words
            .get("key")
            .map(|text| id(text).context("key= is no SHA-256 in hexadecimal digits"));
        Ok(Self {
            server: word("server")?.parse()?,
            name: word("name")?.clone(),
            ca: word("ca")?.into(),
            certificate: word("certificate")?.into(),
            private_key: word("private_key")?.into(),
            key: key.transpose()?,
            connections: word("connections")?.parse::<usize>()?.clamp(1, 1_000),
            pending: word("pending")?.parse::<usize>()?.clamp(1, 100_000),
            seconds: word("seconds")?.parse::<f64>()?.clamp(0.1, 600.0),
            pid: words.get("pid").map(|pid| pid.parse()).transpose()?,
        })
    }
}

fn id(text: &str) -> Option<KeyId> {
    let mut id = [0; 32];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    (text.len() == 64).then_some(KeyId(id))
}
