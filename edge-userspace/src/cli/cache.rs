//! `edge cache`: voids what a running node's cache has stored, makes it stale, or has it filled.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;

use super::explain::Field;
use super::{Asked, OnNode, ask, client, fleet, print};
use crate::admin::{PurgeOrder, Purged, WarmOrder, WarmState, Warmed};
use crate::base::file;
use crate::fleet::event::Action;

/// How long an order may take; the daemon gives up before.
const PATIENCE: Duration = Duration::from_secs(280);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Void stored responses, and those under way, at once and across restarts.
    Purge(Purge),
    /// Have the responses to a list of URLs stored, and say of which they are not, and why.
    Warm(Warm),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["url", "prefix", "zone", "all"])))]
pub(super) struct Purge {
    /// One URL, whole: `https://www.example.com/path?query`.
    #[arg(conflicts_with_all = ["prefix", "tag", "zone", "all"])]
    url: Option<String>,
    /// All URLs that begin so: `https://www.example.com/images/`.
    #[arg(long, conflicts_with_all = ["tag", "zone", "all"])]
    prefix: Option<String>,
    /// All responses of a zone with this word in Cache-Tag or Surrogate-Key.
    #[arg(long, requires = "zone", conflicts_with = "all")]
    tag: Option<String>,
    /// The zone's name: all of it, or with --tag a part.
    #[arg(long, conflicts_with = "all")]
    zone: Option<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Make it stale instead: it answers for a minute, or as long as stale responses may, while it
    /// is brought up to date.
    #[arg(long, conflicts_with = "fleet")]
    soft: bool,
    #[command(flatten)]
    everywhere: fleet::Everywhere,
}

#[derive(Debug, Args)]
pub(super) struct Warm {
    /// A file with a whole URL on each line; empty lines and those that begin with `#` are passed
    /// over. `-` reads standard input.
    file: PathBuf,
    /// Requests begun in a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Requests under way at once, at most 64.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    at_once: u8,
    /// A field of each request, 'Name: value', such as 'Accept-Encoding: gzip' for one of several
    /// variants; may be repeated.
    #[arg(long = "header", short = 'H')]
    headers: Vec<Field>,
}

/// Does what the arguments say.
pub(super) fn run(arguments: &OnNode<Command>) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Purge(purge) => self::purge(&arguments.asked, purge),
        Command::Warm(warm) => self::warm(&arguments.asked, warm),
    }
}

fn purge(asked: &Asked, purge: &Purge) -> anyhow::Result<()> {
    let Purge {
        url,
        prefix,
        tag,
        zone,
        all,
        soft,
        everywhere,
    } = purge;
    let what = match (url, prefix, tag, zone) {
        (Some(url), ..) => Purged::Url { url: url.clone() },
        (_, Some(prefix), ..) => Purged::Prefix { prefix: prefix.clone() },
        (_, _, Some(tag), Some(zone)) => Purged::Tag {
            zone: zone.clone(),
            tag: tag.clone(),
        },
        (_, _, _, Some(zone)) => Purged::Zone { zone: zone.clone() },
        _ if *all => Purged::All { all: true },
        _ => anyhow::bail!("write a URL, --prefix, --zone, --zone with --tag, or --all"),
    };
    if everywhere.fleet {
        let action = match &what {
            Purged::Url { url } => Action::PurgeUrl(url.clone()),
            Purged::Prefix { prefix } => Action::PurgePrefix(prefix.clone()),
            Purged::Tag { zone, tag } => Action::PurgeTag {
                zone: zone.clone(),
                tag: tag.clone(),
            },
            Purged::Zone { .. } => {
                anyhow::bail!(
                    "a zone is purged on one node at a time; write --prefix https://HOST/ for each of its hosts"
                );
            }
            Purged::All { .. } => Action::PurgeAll,
        };
        return fleet::issue(asked, everywhere, &action);
    }
    let order = PurgeOrder { what, soft: *soft };
    ask(asked, Method::POST, "/cache/purge", serde_json::to_string(&order)?)?;
    let done = if order.soft { "made stale:" } else { "purged" };
    print(&format!("{done} {}\n", order.what));
    Ok(())
}

/// URLs of a list that are not blank.
fn urls(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(file::MOST)
            .read_to_string(&mut text)
            .context("standard input cannot be read")?;
        return Ok(text);
    }
    let bytes = file::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    String::from_utf8(bytes.to_vec()).with_context(|| format!("{} is not UTF-8", path.display()))
}

/// URLs of one order: those of about five seconds, so that what is done is told soon.
fn batch(rate: u32) -> usize {
    usize::try_from(rate.saturating_mul(5))
        .unwrap_or(WarmOrder::MOST)
        .min(WarmOrder::MOST)
}

fn warm(asked: &Asked, warm: &Warm) -> anyhow::Result<()> {
    let urls = urls(&read(&warm.file)?);
    if urls.is_empty() {
        anyhow::bail!("{} has no URLs; write one on each line", warm.file.display());
    }
    let fields: Vec<(String, String)> = warm.headers.iter().map(Field::text).collect();
    let (mut stored, mut known, mut not) = (0_usize, 0_usize, 0_usize);
    for urls in urls.chunks(batch(warm.rate)) {
        let order = WarmOrder {
            urls: urls.to_vec(),
            at_once: warm.at_once.into(),
            per_second: warm.rate,
            fields: fields.clone(),
        };
        let body = serde_json::to_vec(&order)?;
        let answer = client::send(&asked.admin, Method::POST, "/cache/warm", body.into(), PATIENCE)?;
        let warmed: Vec<Warmed> = serde_json::from_str(&answer).context("the daemon's answer cannot be read")?;
        for one in &warmed {
            match one.state {
                WarmState::Stored => stored += 1,
                WarmState::Known => known += 1,
                WarmState::Not => {
                    not += 1;
                    let status = one.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                    let why = one.why.as_deref().unwrap_or_default();
                    print(&format!("not stored\t{status}\t{}\t{why}\n", one.url));
                }
            }
        }
    }
    print(&format!("{stored} stored, {known} stored before, {not} not\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A comment or a blank line would be asked for, or an order be longer than the daemon takes.
    #[test]
    fn lists_and_orders() {
        assert_eq!(
            urls("# pages\n\n https://a.example/ \r\nhttps://a.example/x#y\n"),
            ["https://a.example/", "https://a.example/x#y"]
        );
        assert_eq!((batch(1), batch(20), batch(1_000)), (5, 100, WarmOrder::MOST));
    }
}
