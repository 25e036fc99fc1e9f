//! `edge kv`: what a zone's workers stored, on a running node: read, written, listed, removed.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Subcommand;
use http::Method;

use super::worker::{ask, path};
use super::{OnNode, print};
use crate::isolate::tenant::{Entry, Listed};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a value to standard output.
    Get {
        /// The zone's name.
        zone: String,
        /// The key.
        key: String,
    },
    /// Store a value.
    Put {
        /// The zone's name.
        zone: String,
        /// The key.
        key: String,
        /// The value; left out: what --file names.
        value: Option<String>,
        /// Read the value from this file; -: from standard input.
        #[arg(long, conflicts_with = "value")]
        file: Option<PathBuf>,
        /// Seconds until it ends; left out: never.
        #[arg(long)]
        ttl: Option<u64>,
    },
    /// List keys, each with its end, if it has one, and what its writer says about it.
    List {
        /// The zone's name.
        zone: String,
        /// Only those that begin with this.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Remove a value.
    Delete {
        /// The zone's name.
        zone: String,
        /// The key.
        key: String,
    },
}

fn hex(text: &str) -> String {
    data_encoding::HEXLOWER.encode(text.as_bytes())
}

/// Does what `edge kv` says.
pub(super) fn run(kv: &OnNode<Command>) -> anyhow::Result<()> {
    let asked = &kv.asked;
    match &kv.command {
        Command::Get { zone, key } => {
            let path = path("/worker/kv", zone, &format!("&key={}", hex(key)))?;
            let text = ask(asked, Method::GET, &path, Bytes::new())?;
            let found: Option<Entry> = serde_json::from_str(&text).context("the daemon's answer cannot be read")?;
            let Some(found) = found else {
                bail!("{zone} has no value for {key}");
            };
            let value = data_encoding::BASE64
                .decode(found.value.as_bytes())
                .context("the daemon's answer cannot be read")?;
            std::io::stdout().lock().write_all(&value)?;
        }
        Command::Put {
            zone,
            key,
            value,
            file,
            ttl,
        } => {
            let value = match (value, file) {
                (Some(value), _) => value.clone().into_bytes(),
                (None, Some(file)) if file.as_os_str() == "-" => {
                    let mut bytes = Vec::new();
                    std::io::stdin().lock().read_to_end(&mut bytes)?;
                    bytes
                }
                (None, Some(file)) => {
                    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?
                }
                (None, None) => bail!("no value: write it behind the key, or --file"),
            };
            let until = match ttl {
                Some(seconds) => {
                    let end = SystemTime::now().duration_since(UNIX_EPOCH)?;
                    let end = end
                        .checked_add(Duration::from_secs(*seconds))
                        .context("that is too far ahead")?;
                    end.as_millis()
                }
                None => 0,
            };
            let path = path("/worker/kv", zone, &format!("&key={}&until={until}", hex(key)))?;
            ask(asked, Method::POST, &path, value.into())?;
        }
        Command::List { zone, prefix } => {
            let mut after = String::new();
            loop {
                let more = if after.is_empty() {
                    String::new()
                } else {
                    format!("&after={}", hex(&after))
                };
                let path = path("/worker/kv", zone, &format!("&prefix={}{more}", hex(prefix)))?;
                let text = ask(asked, Method::GET, &path, Bytes::new())?;
                let found: (Vec<Listed>, Option<String>) =
                    serde_json::from_str(&text).context("the daemon's answer cannot be read")?;
                print(&found.0.iter().map(line).collect::<String>());
                match found.1 {
                    Some(last) => after = last,
                    None => break,
                }
            }
        }
        Command::Delete { zone, key } => {
            let path = path("/worker/kv/delete", zone, &format!("&key={}", hex(key)))?;
            ask(asked, Method::POST, &path, Bytes::new())?;
        }
    }
    Ok(())
}

/// A key without what would move the terminal's cursor.
fn line((key, until, about): &Listed) -> String {
    let clean: String = key
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    let until = match until {
        0 => String::new(),
        millis => {
            let at = UNIX_EPOCH.checked_add(Duration::from_millis(*millis));
            at.map(|at| format!("\tuntil {}", httpdate::fmt_http_date(at)))
                .unwrap_or_default()
        }
    };
    let about = if about.is_empty() {
        String::new()
    } else {
        format!("\t{about}")
    };
    format!("{clean}{until}{about}\n")
}
