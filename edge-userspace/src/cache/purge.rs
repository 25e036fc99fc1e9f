//! What an operator can purge: a URL, all URLs that begin so, or what carries a tag. `node` reads
//! the command, the store carries it out. Pure.

use std::sync::Arc;

use http::Uri;

pub use super::bans::Effect;
use super::bans::{self, Ban};
use super::resource;
use crate::http::door::Authority;
use crate::zones::{Zone, query};

/// A purge as an operator writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge<'a> {
    /// `https://host/path?query`.
    Url(&'a str),
    /// `https://host/beginning-of-a-path`.
    Prefix(&'a str),
    /// A zone and a tag of `Cache-Tag` or `Surrogate-Key`.
    Tag(&'a str, &'a str),
    /// A whole zone, what its workers keep included.
    Zone(&'a str),
    /// Everything.
    All,
}

/// Why a purge cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// Not a URL.
    #[error("\"{0}\" is no URL; write it whole: https://www.example.com/path?query")]
    Url(String),
    /// No zone serves the host.
    #[error("no zone serves {0}")]
    Host(String),
    /// There is no such zone.
    #[error("there is no zone \"{0}\"")]
    Zone(String),
    /// Not a tag.
    #[error("\"{0}\" is no tag; it is one word, without commas")]
    Tag(String),
}

impl Purge<'_> {
    /// What it means; `by_host` finds a zone by host, `exists` says whether there is one of that
    /// name. A URL is one more for each way in which the zone's rules change its query.
    ///
    /// # Errors
    /// When it means nothing.
    pub(super) fn bans(
        &self,
        by_host: impl Fn(&str) -> Option<Arc<Zone>>,
        exists: impl Fn(&str) -> bool,
    ) -> Result<Vec<Ban>, Unsound> {
        match *self {
            Self::Url(text) => {
                let url = Url::read(text, by_host)?;
                let mut bans = vec![Ban::url(&url.key())];
                for rule in &url.zone.cache_keys.queries {
                    let other = query::target(rule, &url.uri).map(|uri| Url { uri, ..url.clone() });
                    bans.extend(other.map(|url| Ban::url(&url.key())));
                }
                Ok(bans)
            }
            Self::Prefix(text) => Ok(vec![Ban::prefix(&Url::read(text, by_host)?.key())]),
            Self::All => Ok(vec![Ban::All]),
            Self::Tag(zone, _) | Self::Zone(zone) if !exists(zone) => Err(Unsound::Zone(zone.to_owned())),
            // As all its keys begin.
            Self::Zone(zone) => Ok(vec![Ban::prefix(&format!("{zone} "))]),
            Self::Tag(zone, tag) => {
                if !bans::sound(tag) || tag.contains([' ', ',']) {
                    return Err(Unsound::Tag(tag.to_owned()));
                }
                Ok(vec![Ban::Tag(format!("{zone} {tag}"))])
            }
        }
    }
}

/// A URL that a zone serves.
#[derive(Clone)]
struct Url {
    zone: Arc<Zone>,
    scheme: &'static str,
    authority: Authority,
    /// Path and query, or nothing.
    uri: Uri,
}

impl Url {
    fn read(text: &str, by_host: impl Fn(&str) -> Option<Arc<Zone>>) -> Result<Self, Unsound> {
        let unsound = || Unsound::Url(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| unsound())?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            _ => return Err(unsound()),
        };
        let written = uri.authority().ok_or_else(unsound)?;
        let authority = Authority::read(written.as_str().as_bytes(), scheme == "https").ok_or_else(unsound)?;
        if !bans::sound(text) {
            return Err(unsound());
        }
        let zone = by_host(&authority.name).ok_or_else(|| Unsound::Host(authority.name.clone()))?;
        Ok(Self {
            zone,
            scheme,
            authority,
            uri,
        })
    }

    fn key(&self) -> String {
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        resource::url_key(&self.zone.name, self.scheme, &self.authority.text, target)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::zones::Zones;

    /// A zone `z` of `h.example` with these rules.
    fn zones(rules: &str) -> Zones {
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"h.example\"]\n[zone.cache]\n\
             [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n{rules}"
        );
        Zones::new(&Config::parse(Path::new("edge.toml"), &text).unwrap().zones)
    }

    fn bans(zones: &Zones, purge: Purge<'_>) -> Result<Vec<Ban>, Unsound> {
        purge.bans(|host| zones.find(host).cloned(), |zone| zone == "z")
    }

    /// A purge that means something else leaves the old page where it is.
    #[test]
    fn meanings() {
        let zones = zones("");
        let url = |key: &str| vec![Ban::Url(key.to_owned())];
        let prefix = |key: &str| vec![Ban::Prefix(key.to_owned())];
        for (purge, meant) in [
            (Purge::Url("https://H.example:443/a?b"), url("z https://h.example/a?b")),
            (Purge::Prefix("https://h.example"), prefix("z https://h.example/")),
            (
                Purge::Url("https://h.example./x/../%61?%62"),
                url("z https://h.example/a?%62"),
            ),
            (
                Purge::Prefix("https://h.example/%61/."),
                prefix("z https://h.example/a/."),
            ),
            (Purge::All, vec![Ban::All]),
            (Purge::Tag("z", "t"), vec![Ban::Tag("z t".to_owned())]),
            (Purge::Zone("z"), prefix("z ")),
        ] {
            assert_eq!(bans(&zones, purge).unwrap(), meant, "{purge:?}");
        }
        for wrong in [
            Purge::Url("h.example/a"),
            Purge::Url("/a"),
            Purge::Url("https://other.example/"),
            Purge::Url("ftp://h.example/"),
            Purge::Url("https://user@h.example/"),
            Purge::Tag("y", "t"),
            Purge::Zone("y"),
            Purge::Zone(""),
            Purge::Tag("z", "two words"),
            Purge::Tag("z", ""),
        ] {
            assert!(bans(&zones, wrong).is_err(), "{wrong:?}");
        }
    }

    /// An operator purges the URL that the browser shows, and what is stored has less of a query.
    #[test]
    fn a_url_means_what_rules_leave_of_it() {
        let zones = zones(
            "[[zone.rule]]\nname = \"a\"\ncache = { key = { query = { keep = [\"page\"] } } }\n\
             [[zone.rule]]\nname = \"b\"\ncache = { key = { query = { drop = [\"utm_*\"], sort = true } } }\n\
             [[zone.rule]]\nname = \"c\"\ncache = { key = { query = { keep = [\"page\"] } } }\n",
        );
        let keys = |url| -> Vec<String> {
            let bans = bans(&zones, Purge::Url(url)).unwrap();
            let text = |ban| match ban {
                Ban::Url(key) => key,
                other => panic!("{other:?}"),
            };
            bans.into_iter().map(text).collect()
        };
        assert_eq!(
            keys("https://h.example/x?page=2&utm_a=1&b=1"),
            [
                "z https://h.example/x?page=2&utm_a=1&b=1",
                "z https://h.example/x?page=2",
                "z https://h.example/x?b=1&page=2",
            ]
        );
        assert_eq!(keys("https://h.example/x"), ["z https://h.example/x"]);
    }
}
