//! What an operator can purge: a URL, all URLs that begin so, or what carries a tag. `node` reads
//! the command, the store carries it out. Pure.

use http::Uri;

use super::bans::{self, Ban};
use super::resource;
use crate::http::door::Authority;

/// A purge as an operator writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge<'a> {
    /// `https://host/path?query`.
    Url(&'a str),
    /// `https://host/beginning-of-a-path`.
    Prefix(&'a str),
    /// A zone and a tag of `Cache-Tag` or `Surrogate-Key`.
    Tag(&'a str, &'a str),
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
    /// What it means; `zone` finds a zone's name by host, and says whether there is one of that
    /// name.
    ///
    /// # Errors
    /// When it means nothing.
    pub(super) fn ban(
        &self,
        by_host: impl Fn(&str) -> Option<String>,
        exists: impl Fn(&str) -> bool,
    ) -> Result<Ban, Unsound> {
        match *self {
            Self::Url(text) => Ok(Ban::url(&key(text, by_host)?)),
            Self::Prefix(text) => Ok(Ban::prefix(&key(text, by_host)?)),
            Self::All => Ok(Ban::All),
            Self::Tag(zone, tag) => {
                if !exists(zone) {
                    return Err(Unsound::Zone(zone.to_owned()));
                }
                if !bans::sound(tag) || tag.contains([' ', ',']) {
                    return Err(Unsound::Tag(tag.to_owned()));
                }
                Ok(Ban::Tag(format!("{zone} {tag}")))
            }
        }
    }
}

fn key(text: &str, by_host: impl Fn(&str) -> Option<String>) -> Result<String, Unsound> {
    let unsound = || Unsound::Url(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| unsound())?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
    let (Some(scheme), Some(written)) = (scheme, uri.authority()) else {
        return Err(unsound());
    };
    let authority = Authority::read(written.as_str().as_bytes(), scheme == "https").ok_or_else(unsound)?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if !bans::sound(text) {
        return Err(unsound());
    }
    let zone = by_host(&authority.name).ok_or_else(|| Unsound::Host(authority.name.to_string()))?;
    Ok(resource::url_key(&zone, scheme, &authority.text, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A purge that means something else leaves the old page where it is.
    #[test]
    fn meanings() {
        let by_host = |host: &str| (host == "h.example").then(|| "z".to_owned());
        let ban = |purge: Purge<'_>| purge.ban(by_host, |zone| zone == "z");
        assert_eq!(
            ban(Purge::Url("https://H.example:443/a?b")).unwrap(),
            Ban::Url("z https://h.example/a?b".to_owned())
        );
        assert_eq!(
            ban(Purge::Prefix("https://h.example")).unwrap(),
            Ban::Prefix("z https://h.example/".to_owned())
        );
        assert_eq!(
            ban(Purge::Url("https://h.example./x/../%61?%62")).unwrap(),
            Ban::Url("z https://h.example/a?%62".to_owned())
        );
        assert_eq!(
            ban(Purge::Prefix("https://h.example/%61/.")).unwrap(),
            Ban::Prefix("z https://h.example/a/.".to_owned())
        );
        assert_eq!(ban(Purge::All).unwrap(), Ban::All);
        assert_eq!(ban(Purge::Tag("z", "t")).unwrap(), Ban::Tag("z t".to_owned()));
        for wrong in [
            Purge::Url("h.example/a"),
            Purge::Url("/a"),
            Purge::Url("https://other.example/"),
            Purge::Url("ftp://h.example/"),
            Purge::Url("https://user@h.example/"),
            Purge::Tag("y", "t"),
            Purge::Tag("z", "two words"),
            Purge::Tag("z", ""),
        ] {
            assert!(ban(wrong).is_err(), "{wrong:?}");
        }
    }
}
