//! The request of `edge check --explain`, as arguments.

use std::net::IpAddr;
use std::str::FromStr;

use clap::ValueEnum;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use crate::base::invented::Invented;

/// `METHOD URL`; without a method it is GET.
#[derive(Clone, Debug)]
pub(super) struct Line {
    method: Method,
    secure: bool,
    authority: String,
    target: PathAndQuery,
}

impl FromStr for Line {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a valid request; write 'GET https://HOST/PATH'");
        let (method, url) = text.split_once(' ').unwrap_or(("GET", text));
        let method = method.parse().map_err(|_| wrong())?;
        let uri: Uri = url.trim().parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?.as_str().to_ascii_lowercase();
        let usual = if secure { ":443" } else { ":80" };
        Ok(Self {
            method,
            secure,
            authority: authority.strip_suffix(usual).unwrap_or(&authority).to_owned(),
            target: uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
        })
    }
}

/// `Name: value`.
#[derive(Clone, Debug)]
pub(super) struct Field(HeaderName, HeaderValue);

impl Field {
    /// Its name and its value.
    pub(super) fn text(&self) -> (String, String) {
        let value = String::from_utf8_lossy(self.1.as_bytes());
        (self.0.to_string(), value.into_owned())
    }
}

impl FromStr for Field {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a valid field; write 'Name: value'");
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let name = name.parse().map_err(|_| wrong())?;
        let value = value.trim().parse().map_err(|_| wrong())?;
        Ok(Self(name, value))
    }
}

/// `--protocol`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

impl Line {
    /// The request, with the other arguments.
    pub(super) fn request(&self, fields: &[Field], client: IpAddr, protocol: Protocol) -> Invented {
        let mut headers = HeaderMap::new();
        for Field(name, value) in fields {
            headers.append(name.clone(), value.clone());
        }
        Invented {
            method: self.method.clone(),
            secure: self.secure,
            authority: self.authority.clone(),
            target: self.target.clone(),
            headers,
            client: client.to_canonical(),
            version: match protocol {
                Protocol::H1 => Version::HTTP_11,
                Protocol::H2 => Version::HTTP_2,
                Protocol::H3 => Version::HTTP_3,
            },
        }
    }
}
