//! A rule's `origin`, `split` and `mirror`: which pools its requests go to. Read by `file`.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use crate::config::origin::known_pools;
use crate::config::pool::{HashKey, Mirror, Split};
use crate::config::value::Size;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSplit {
    #[serde(default)]
    pub(super) by: Option<Spanned<String>>,
    pub(super) to: Vec<RawPart>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPart {
    pub(super) origin: Spanned<String>,
    pub(super) percent: Spanned<f64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMirror {
    pub(super) to: Spanned<String>,
    #[serde(default)]
    pub(super) percent: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) body_bytes: Option<Spanned<Size>>,
}

impl Checker<'_> {
    pub(super) fn pool(&mut self, name: &Spanned<String>) -> Option<Arc<str>> {
        let known = self.pools.get_key_value(name.get_ref().as_str());
        if known.is_none() {
            let what = format!("no pool is called \"{}\"", name.get_ref());
            self.mistake(name.span(), what, known_pools(self.pools));
        }
        known.map(|(name, _)| name.clone())
    }

    /// Hundredths of a percent.
    pub(super) fn share(&mut self, percent: &Spanned<f64>) -> u32 {
        let share = percent.get_ref() * 100.0;
        if !(1.0..=10_000.0).contains(&share) {
            let what = format!("{} is not a share of the requests in percent", percent.get_ref());
            self.mistake(percent.span(), what, "write 0.01 to 100");
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between 1 and 10,000"
        )]
        let share = share.round() as u32;
        share
    }

    pub(super) fn split(&mut self, spanned: &Spanned<RawSplit>) -> Split {
        let raw = spanned.get_ref();
        let by = match raw.by.as_ref().map(|by| (by, by.get_ref().parse())) {
            None => HashKey::Client,
            Some((_, Ok(key))) => key,
            Some((by, Err(what))) => {
                self.mistake(by.span(), what, format!("{}, or \"random\"", crate::config::pool::KEYS));
                HashKey::Client
            }
        };
        let mut to = Vec::new();
        for part in &raw.to {
            let share = self.share(&part.percent);
            to.extend(self.pool(&part.origin).map(|name| (name, share)));
        }
        if raw.to.is_empty() || to.iter().map(|(_, share)| u64::from(*share)).sum::<u64>() > 10_000 {
            self.mistake(
                spanned.span(),
                "no parts, or more than 100 percent",
                "write to = [{ origin = \"next\", percent = 10 }], at most 100 together",
            );
        }
        Split { by, to }
    }

    pub(super) fn mirror(&mut self, raw: &RawMirror) -> Option<Mirror> {
        let share = raw.percent.as_ref().map_or(10_000, |percent| self.share(percent));
        let body_bytes = raw.body_bytes.as_ref().map_or(64 << 10, |size| size.get_ref().0);
        if let Some(size) = raw.body_bytes.as_ref().filter(|size| size.get_ref().0 > 1 << 20) {
            self.mistake(size.span(), "content this long is not copied", "write at most 1MiB");
        }
        Some(Mirror {
            to: self.pool(&raw.to)?,
            share,
            body_bytes,
        })
    }
}
