//! What visitors ask of each zone, and what the answer must be: the oracle.

use std::io::Read;

use anyhow::{Result, bail};
use bytes::Bytes;
use edge_testbed::changing::Noise;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, RANGE};
use http::{Request, Response};

use crate::content::{self, FILES};
use crate::origin::VERSION;

/// Hosts are ZONE.soak.test.
pub(crate) const ZONES: [Zone; 8] = [
    Zone::Plain,
    Zone::Keys,
    Zone::Cached,
    Zone::Delta,
    Zone::Script,
    Zone::Rust,
    Zone::Files,
    Zone::Gated,
];

/// A zone, by what it shows of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Zone {
    /// Proxied; upgrades, uploads.
    Plain,
    /// Its key is at key servers.
    Keys,
    /// Cache and coding.
    Cached,
    /// Behind a far end.
    Delta,
    /// A worker in JavaScript.
    Script,
    /// A worker in Rust, which asks the script.
    Rust,
    /// Files.
    Files,
    /// A gate with a rate that visitors exceed.
    Gated,
}

/// A request and what answers it.
pub(crate) struct Ask {
    /// What is sent.
    pub(crate) request: Request<Bytes>,
    wanted: Wanted,
}

enum Wanted {
    /// That status and those bytes.
    Exactly(u16, Vec<u8>),
    /// Content of the version that the answer names.
    Version(u64, usize),
    /// Those bytes, or a failure with one of these statuses, which the request provokes.
    Or(Vec<u8>, &'static [u16]),
    /// One of these statuses; whatever stands in the content.
    Status(&'static [u16]),
}

/// Why an answer is not what it must be.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The content is not what the oracle says: never explained by anything.
    Wrong(String),
    /// The edge says that it cannot answer.
    Refused(u16),
}

impl Zone {
    /// As reports and hosts write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Keys => "keys",
            Self::Cached => "cached",
            Self::Delta => "delta",
            Self::Script => "script",
            Self::Rust => "rust",
            Self::Files => "files",
            Self::Gated => "gated",
        }
    }

    /// Its host.
    pub(crate) fn host(self) -> String {
        format!("{}.soak.test", self.name())
    }

    /// Any of its requests.
    pub(crate) fn ask(self, noise: &mut Noise) -> Result<Ask> {
        let (path, wanted, content) = match self {
            Self::Plain | Self::Keys => proxied(noise),
            Self::Cached => {
                // Few seeds: most of these are hits, validations and joint requests.
                let (seed, length) = (noise.below(24), length(noise));
                let path = format!("/kept/{seed}/{length}");
                (path, Wanted::Exactly(200, content::content(seed, length)), Bytes::new())
            }
            Self::Delta => {
                let (seed, length) = (noise.below(6), 20_000 + 30_000 * small(noise, 4));
                (
                    format!("/changing/{seed}/{length}"),
                    Wanted::Version(seed, length),
                    Bytes::new(),
                )
            }
            Self::Script => scripted(noise),
            Self::Rust => {
                let name = format!("n{}", noise.below(1_000_000));
                let wanted = Wanted::Exactly(200, format!("hello, {name}\n").into_bytes());
                (format!("/greet/{name}"), wanted, Bytes::new())
            }
            Self::Files => return self.file(noise),
            Self::Gated => {
                let n = noise.below(FILES);
                let wanted = Wanted::Or(content::content(n, content::file_length(n)), &[429, 503]);
                (format!("/{n}.txt"), wanted, Bytes::new())
            }
        };
        let method = if content.is_empty() { "GET" } else { "POST" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.host()));
        if self == Self::Cached {
            let codings = ["gzip", "zstd", "identity"];
            let coding = codings.get(small(noise, 3)).copied().unwrap_or("identity");
            request = request.header(ACCEPT_ENCODING, coding);
        }
        Ok(Ask {
            request: request.body(content)?,
            wanted,
        })
    }

    /// A file, or a range of one.
    fn file(self, noise: &mut Noise) -> Result<Ask> {
        let n = noise.below(FILES);
        let whole = content::content(n, content::file_length(n));
        let mut request = Request::get(format!("https://{}/{n}.txt", self.host()));
        let mut wanted = Wanted::Exactly(200, whole.clone());
        if noise.below(2) == 0 {
            let first = small(noise, whole.len());
            let last = (first + small(noise, 50_000)).min(whole.len() - 1);
            request = request.header(RANGE, format!("bytes={first}-{last}"));
            wanted = Wanted::Exactly(206, whole.get(first..=last).unwrap_or_default().to_vec());
        }
        Ok(Ask {
            request: request.body(Bytes::new())?,
            wanted,
        })
    }
}

impl Ask {
    /// Compares.
    pub(crate) fn judge(&self, answer: &Response<Vec<u8>>) -> Result<(), Fault> {
        let status = answer.status().as_u16();
        let (may, content) = match &self.wanted {
            Wanted::Exactly(wanted, content) => {
                if status != *wanted {
                    return Err(Fault::Refused(status));
                }
                (true, content.clone())
            }
            Wanted::Version(seed, length) => {
                if status != 200 {
                    return Err(Fault::Refused(status));
                }
                let named = answer.headers().get(VERSION);
                let named = named.and_then(|value| value.to_str().ok()?.parse().ok());
                let named = named.ok_or_else(|| Fault::Wrong("the answer names no version".to_owned()))?;
                (true, content::version(*seed, *length, named))
            }
            Wanted::Or(content, statuses) => (!statuses.contains(&status), content.clone()),
            Wanted::Status(statuses) if statuses.contains(&status) => (false, Vec::new()),
            Wanted::Status(_) => return Err(Fault::Refused(status)),
        };
        if !may {
            return Ok(());
        }
        if matches!(self.wanted, Wanted::Or(..)) && status != 200 {
            return Err(Fault::Refused(status));
        }
        let got = decoded(answer).map_err(|error| Fault::Wrong(format!("{error:#}")))?;
        match content::difference(&got, &content) {
            None => Ok(()),
            Some(words) => Err(Fault::Wrong(words)),
        }
    }
}

fn proxied(noise: &mut Noise) -> (String, Wanted, Bytes) {
    if noise.below(4) == 0 {
        let content = content::content(noise.draw(), length(noise).max(1));
        return (
            "/echo".to_owned(),
            Wanted::Exactly(200, content.clone()),
            Bytes::from(content),
        );
    }
    let (seed, length) = (noise.draw(), length(noise));
    (
        format!("/data/{seed}/{length}"),
        Wanted::Exactly(200, content::content(seed, length)),
        Bytes::new(),
    )
}

fn scripted(noise: &mut Noise) -> (String, Wanted, Bytes) {
    match noise.below(8) {
        0 => ("/throw".to_owned(), Wanted::Status(&[500, 502]), Bytes::new()),
        1 => ("/spin".to_owned(), Wanted::Status(&[500, 502, 503, 504]), Bytes::new()),
        2 | 3 => {
            let (seed, length) = (noise.draw(), length(noise));
            let wanted = Wanted::Exactly(200, content::content(seed, length));
            (format!("/data/{seed}/{length}"), wanted, Bytes::new())
        }
        4 => {
            let (key, value) = (noise.draw(), noise.draw());
            let wanted = Wanted::Exactly(200, value.to_string().into_bytes());
            (format!("/store/{}/{value}", key % 50), wanted, Bytes::new())
        }
        _ => {
            let name = format!("x{}", noise.below(1_000_000));
            let wanted = Wanted::Exactly(200, format!("hello, {name}\n").into_bytes());
            (format!("/greet/{name}"), wanted, Bytes::new())
        }
    }
}

/// Mostly short, sometimes long.
fn length(noise: &mut Noise) -> usize {
    match noise.below(20) {
        0 => 0,
        1 => 1 << 20,
        2..6 => 200_000,
        6..12 => 20_000,
        _ => 700,
    }
}

fn small(noise: &mut Noise, below: usize) -> usize {
    usize::try_from(noise.below(below as u64)).unwrap_or(0)
}

fn decoded(answer: &Response<Vec<u8>>) -> Result<Vec<u8>> {
    let coding = answer.headers().get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    let mut content = Vec::new();
    match coding {
        None => return Ok(answer.body().clone()),
        Some(b"gzip") => {
            flate2::read::MultiGzDecoder::new(answer.body().as_slice()).read_to_end(&mut content)?;
        }
        Some(b"zstd") => {
            zstd::stream::read::Decoder::new(answer.body().as_slice())?.read_to_end(&mut content)?;
        }
        Some(other) => bail!("a coding that nobody asked for: {}", String::from_utf8_lossy(other)),
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8]) -> Response<Vec<u8>> {
        Response::builder().status(status).body(body.to_vec()).unwrap()
    }

    /// A soak whose oracle lets a wrong byte, a short answer or an unasked status pass proves
    /// nothing.
    #[test]
    fn the_oracle_sees_what_is_wrong() {
        let ask = Ask {
            request: Request::get("/").body(Bytes::new()).unwrap(),
            wanted: Wanted::Exactly(200, content::content(3, 100)),
        };
        let mut content = content::content(3, 100);
        assert!(ask.judge(&answer(200, &content)).is_ok());
        assert!(matches!(ask.judge(&answer(503, b"")), Err(Fault::Refused(503))));
        assert!(matches!(ask.judge(&answer(200, &content[..99])), Err(Fault::Wrong(_))));
        content[50] ^= 1;
        assert!(matches!(ask.judge(&answer(200, &content)), Err(Fault::Wrong(_))));
        let ask = Ask {
            wanted: Wanted::Or(content::content(3, 100), &[429]),
            ..ask
        };
        assert!(ask.judge(&answer(429, b"wait")).is_ok());
        assert!(matches!(ask.judge(&answer(500, b"")), Err(Fault::Refused(500))));
        assert!(matches!(ask.judge(&answer(200, &content)), Err(Fault::Wrong(_))));
        let ask = Ask {
            wanted: Wanted::Version(3, 100),
            ..ask
        };
        assert!(matches!(ask.judge(&answer(200, &content)), Err(Fault::Wrong(_))));
    }

    /// Every request that a zone's visitors make can be made.
    #[test]
    fn every_zone_is_asked() {
        let mut noise = Noise::new(1);
        for _ in 0..200 {
            for zone in ZONES {
                let ask = zone.ask(&mut noise).unwrap();
                assert_eq!(ask.request.uri().host(), Some(zone.host().as_str()));
            }
        }
    }
}
