//! Crawlers that sign their requests: HTTP Message Signatures (RFC 9421) as Web Bot Auth uses them
//! (draft-meunier-web-bot-auth-architecture), with the keys that the zone's configuration names.
//!
//! A signature counts if it is Ed25519's, of a key that is known here, made for this host, tagged
//! `web-bot-auth`, and in force. Whoever sees one can send it again until it expires, to this host
//! alone. A wrong one costs a verification, so an address has few of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, Method};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;

use super::bucket::{Buckets, Rate, Take, Taken};
use super::clock::Now;
use super::reverse::Named;
use crate::base::field;

const INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// The tag of signatures by crawlers.
const TAG: &str = "web-bot-auth";
/// Bytes of `Signature-Input` that are read, and members of it.
const LONGEST: usize = 4_096;
const MEMBERS: usize = 4;
/// Components that a signature may cover.
const COMPONENTS: usize = 16;
/// The longest time for which a signature may be good, and how far the clocks may differ.
const LIFE: u64 = 86_400;
const SKEW: u64 = 10;
/// Keys of one file.
const KEYS: usize = 64;
/// Crawlers that one request may say that it is of.
const CLAIMED: usize = 4;
/// Wrong signatures of an address: at once, and per second.
const WRONG: u32 = 32;

/// A zone's crawlers: by their keys, and by the names of their addresses.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    keys: HashMap<String, (Arc<str>, [u8; 32])>,
    named: Vec<Named>,
}

/// A file of keys that cannot be used: the operator's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Not a set of keys (RFC 7517).
    #[error("{0}")]
    Form(String),
    /// None of its keys is Ed25519's (RFC 8037), or there are too many.
    #[error("{0} Ed25519 keys")]
    Number(usize),
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
}

impl Directory {
    /// Adds the keys of crawler `name`: JSON as in its directory
    /// (`/.well-known/http-message-signatures-directory`). Keys of other kinds are passed over.
    ///
    /// # Errors
    /// What an operator has to mend.
    pub fn add(&mut self, name: &str, json: &str) -> Result<(), DirectoryError> {
        let set: KeySet = serde_json::from_str(json).map_err(|error| DirectoryError::Form(error.to_string()))?;
        let keys = set
            .keys
            .iter()
            .filter(|key| key.kty == "OKP" && key.crv.as_deref() == Some("Ed25519"));
        let mut known = Vec::new();
        for text in keys.filter_map(|key| key.x.as_deref()) {
            let bytes = BASE64URL_NOPAD
                .decode(text.as_bytes())
                .ok()
                .and_then(|bytes| bytes.try_into().ok());
            let Some(key) = bytes else {
                return Err(DirectoryError::Form(format!(
                    "\"{text}\" is not a key of 32 bytes in base64url"
                )));
            };
            known.push((thumbprint(text), key));
        }
        if !(1..=KEYS).contains(&known.len()) {
            return Err(DirectoryError::Number(known.len()));
        }
        let name: Arc<str> = name.into();
        self.keys
            .extend(known.into_iter().map(|(id, key)| (id, (name.clone(), key))));
        Ok(())
    }

    /// Adds crawler `name`, whose `User-Agent` has `agent` in it, and whose hosts are in these
    /// domains.
    pub fn add_named(&mut self, name: &str, agent: &str, domains: &[String]) {
        self.named.push(Named {
            name: name.into(),
            agent: agent.to_ascii_lowercase(),
            domains: domains.into(),
        });
    }

    /// The crawlers of names that a request with these fields says that it is of.
    pub(super) fn claimed(&self, headers: &HeaderMap) -> impl Iterator<Item = &Named> {
        let agent = match self.named.is_empty() {
            true => None,
            false => alone(headers, &USER_AGENT).map(str::to_ascii_lowercase),
        };
        let says = move |named: &&Named| agent.as_ref().is_some_and(|agent| agent.contains(&named.agent));
        self.named.iter().filter(says).take(CLAIMED)
    }

    /// The crawler that has signed a request to `authority`, from an address of `prefix`.
    pub(super) fn signer(
        &self,
        (buckets, now): (&Buckets, Now),
        prefix: IpAddr,
        (authority, method, headers): (&str, &Method, &HeaderMap),
    ) -> Option<Arc<str>> {
        if self.keys.is_empty() {
            return None;
        }
        let input = alone(headers, &INPUT).filter(|text| text.len() <= LONGEST)?;
        let signatures = alone(headers, &SIGNATURE).filter(|text| text.len() <= LONGEST)?;
        let unix = now.unix.as_secs();
        let signed = members(input).take(MEMBERS).find_map(|(label, value)| {
            let parameters = Parameters::parse(value)?;
            let (name, key) = self.keys.get(parameters.key).filter(|_| parameters.is_in_force(unix))?;
            let base = base(&parameters, value, authority, method, headers)?;
            let signature = members(signatures).take(MEMBERS).find(|(other, _)| *other == label)?.1;
            let signature = signature.strip_prefix(':')?.strip_suffix(':')?;
            let signature = BASE64.decode(signature.as_bytes()).ok()?;
            Some((name, key, base, signature))
        });
        let (name, key, base, signature) = signed?;
        let rate = Rate::new(1, Duration::from_secs(1), WRONG);
        let take = Take::client(buckets.key((prefix, "signatures")), rate);
        if let Taken::No { .. } = buckets.ask(now.mono, take) {
            return None;
        }
        UnparsedPublicKey::new(&ED25519, key)
            .verify(base.as_bytes(), &signature)
            .ok()?;
        buckets.refund(take);
        Some(name.clone())
    }
}

/// The id of an Ed25519 key (RFC 7638 and RFC 8037 appendix A.3).
fn thumbprint(x: &str) -> String {
    let members = format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
    BASE64URL_NOPAD.encode(digest(&SHA256, members.as_bytes()).as_ref())
}

/// A field that is there once, as text.
fn alone<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    field::alone(headers, name)?.to_str().ok()
}

/// The members of a dictionary (RFC 9651 section 3.2), each as it is written; commas within strings
/// part nothing.
fn members(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let pieces = text.split(field::outside_quotes(','));
    pieces.filter_map(|piece| piece.trim_matches([' ', '\t']).split_once('='))
}

/// What a signature says of itself, of those parameters that are looked at.
struct Parameters<'a> {
    components: Vec<&'a str>,
    key: &'a str,
    created: u64,
    expires: u64,
}

impl<'a> Parameters<'a> {
    /// Reads `("…" "…");created=…;keyid="…"` (RFC 9421 section 2.3); `None` if something is
    /// missing, twice, or of another use.
    fn parse(text: &'a str) -> Option<Self> {
        let (list, parameters) = text.strip_prefix('(')?.split_once(')')?;
        let quoted = |text: &'a str| {
            let inner = text.strip_prefix('"')?.strip_suffix('"')?;
            (!inner.contains(['"', '\\'])).then_some(inner)
        };
        let components = list
            .split(' ')
            .filter(|c| !c.is_empty())
            .map(quoted)
            .collect::<Option<Vec<_>>>()?;
        let (mut key, mut created, mut expires, mut tag) = (None, None, None, None);
        for parameter in parameters.strip_prefix(';')?.split(';') {
            let (name, value) = parameter.split_once('=')?;
            match name {
                "keyid" if key.is_none() => key = Some(quoted(value)?),
                "created" if created.is_none() => created = Some(value.parse().ok()?),
                "expires" if expires.is_none() => expires = Some(value.parse().ok()?),
                "tag" if tag.is_none() => tag = Some(quoted(value)?),
                "alg" if value == "\"ed25519\"" => {}
                "nonce" => {}
                _ => return None,
            }
        }
        let unlike = |n: usize, c: &&str| !components.iter().take(n).any(|other| other == c);
        let sound = (1..=COMPONENTS).contains(&components.len())
            && components.contains(&"@authority")
            && components.iter().enumerate().all(|(n, c)| unlike(n, c))
            && tag == Some(TAG);
        sound.then_some(())?;
        Some(Self {
            key: key?,
            created: created?,
            expires: expires?,
            components,
        })
    }

    fn is_in_force(&self, now: u64) -> bool {
        self.created <= now.saturating_add(SKEW)
            && now < self.expires
            && self.expires.saturating_sub(self.created) <= LIFE
    }
}

/// What was signed (RFC 9421 section 2.5); `None` if a component is not known here, or is not in
/// the request.
fn base(
    parameters: &Parameters<'_>,
    written: &str,
    authority: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Option<String> {
    let mut base = String::new();
    for component in &parameters.components {
        let value = match *component {
            "@authority" => authority.to_ascii_lowercase(),
            "@method" => method.as_str().to_owned(),
            name if name.starts_with('@') || name.bytes().any(|b| b.is_ascii_uppercase()) => return None,
            name => field(headers, name)?,
        };
        base.push_str(&format!("\"{component}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {written}"));
    Some(base)
}

/// The values of a field, as section 2.1 joins them.
fn field(headers: &HeaderMap, name: &str) -> Option<String> {
    let name: HeaderName = name.parse().ok()?;
    let values = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().ok().map(str::trim));
    let values = values.collect::<Option<Vec<_>>>()?;
    (!values.is_empty()).then(|| values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    /// The key of RFC 9421 appendix B.1.4.
    const X: &str = "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs";

    fn now(unix: u64) -> Now {
        Now {
            mono: Duration::from_secs(5),
            unix: Duration::from_secs(unix),
            ahead: [0; 2],
        }
    }

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn directory() -> Directory {
        let x = BASE64URL_NOPAD.encode(pair().public_key().as_ref());
        let mut directory = Directory::default();
        let other = format!(
            "{{\"keys\":[{{\"kty\":\"EC\",\"crv\":\"P-256\"}},{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{x}\"}}]}}"
        );
        directory.add("bot", &other).unwrap();
        directory
    }

    fn key() -> String {
        thumbprint(&BASE64URL_NOPAD.encode(pair().public_key().as_ref()))
    }

    /// Fields of a request to `a.example` with `parameters`, signed for `authority`.
    fn signed(parameters: &str, authority: &str) -> HeaderMap {
        let written = parameters.replace("KEY", &key());
        let base = format!(
            "\"@authority\": {authority}\n\"signature-agent\": \"https://bot.example\"\n\"@signature-params\": {written}"
        );
        let signature = BASE64.encode(pair().sign(base.as_bytes()).as_ref());
        [
            ("signature-agent", "\"https://bot.example\"".to_owned()),
            (
                "signature-input",
                format!("other=(\"@path\");tag=\"x,y\", sig1={written}"),
            ),
            ("signature", format!("sig1=:{signature}:")),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
    }

    const GOOD: &str = "(\"@authority\" \"signature-agent\");created=1000;expires=2000;keyid=\"KEY\";alg=\"ed25519\";nonce=\"n\";tag=\"web-bot-auth\"";

    fn signer(headers: &HeaderMap, host: &str, unix: u64) -> Option<String> {
        let buckets = Buckets::new(64, 0);
        let prefix = IpAddr::from([192, 0, 2, 1]);
        let asked = (host, &Method::GET, headers);
        directory()
            .signer((&buckets, now(unix)), prefix, asked)
            .map(|name| name.to_string())
    }

    /// A crawler would be told to wait, or whoever says it is one be let in.
    #[test]
    fn who_has_signed() {
        assert_eq!(thumbprint(X), "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U");
        let good = signed(GOOD, "a.example");
        assert_eq!(signer(&good, "A.example", 1_500).as_deref(), Some("bot"));
        assert_eq!(signer(&good, "a.example", 2_000), None, "expired");
        assert_eq!(signer(&good, "a.example", 900), None, "of the future");
        assert_eq!(signer(&good, "b.example", 1_500), None, "made for another host");
        let mut altered = good.clone();
        altered.insert("signature-agent", "\"https://evil.example\"".parse().unwrap());
        assert_eq!(signer(&altered, "a.example", 1_500), None);
        let mut twice = good.clone();
        twice.append("signature-input", "a=()".parse().unwrap());
        assert_eq!(signer(&twice, "a.example", 1_500), None);
        for (from, to) in [
            ("web-bot-auth", "other"),
            (";expires=2000", ""),
            (";created=1000", ""),
            ("expires=2000", "expires=9999999"),
            ("\"@authority\" ", ""),
            ("ed25519", "hmac-sha256"),
            ("KEY", "unknown"),
            (";nonce", ";created=1;nonce"),
            ("\"signature-agent\"", "\"signature-agent\" \"@authority\""),
            ("\"signature-agent\"", "\"@path\""),
        ] {
            let headers = signed(&GOOD.replace(from, to), "a.example");
            assert_eq!(signer(&headers, "a.example", 1_500), None, "{from} -> {to}");
        }
    }

    /// A flood of wrong signatures would cost a verification each.
    #[test]
    fn few_wrong_ones_of_an_address() {
        let (buckets, directory) = (Buckets::new(64, 0), directory());
        let prefix = IpAddr::from([192, 0, 2, 1]);
        let (good, wrong) = (signed(GOOD, "a.example"), signed(GOOD, "b.example"));
        let ask = |headers, prefix| {
            let asked = ("a.example", &Method::GET, headers);
            directory.signer((&buckets, now(1_500)), prefix, asked).is_some()
        };
        assert!((0..100).all(|_| ask(&good, prefix)), "who signs well has no limit");
        assert!(!(0..WRONG).any(|_| ask(&wrong, prefix)));
        assert!(!ask(&good, prefix), "beyond them nothing is verified for a while");
        assert!(ask(&good, IpAddr::from([192, 0, 2, 2])));
    }

    /// Every request would be asked about, or none of the crawler's.
    #[test]
    fn who_says_that_it_is_one() {
        let mut directory = Directory::default();
        directory.add_named("g", "GoodBot", &["bot.example".to_owned()]);
        directory.add_named("h", "goodbot-images", &["bot.example".to_owned()]);
        let claimed = |agents: &[&str]| {
            let headers = agents
                .iter()
                .map(|agent| (USER_AGENT, agent.parse().unwrap()))
                .collect();
            directory
                .claimed(&headers)
                .map(|named| named.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            claimed(&["Mozilla/5.0 (compatible; goodbot/2.1; +https://bot.example)"]),
            ["g"]
        );
        assert_eq!(claimed(&["GoodBot-Images/1.0"]), ["g", "h"]);
        for agents in [&["Mozilla/5.0"][..], &[], &["GoodBot", "GoodBot"]] {
            assert_eq!(claimed(agents), [""; 0], "{agents:?}");
        }
    }

    /// A mistake in a file would be found by crawlers.
    #[test]
    fn mistakes() {
        let error = |json| Directory::default().add("bot", json).unwrap_err();
        assert!(matches!(error("{}"), DirectoryError::Form(_)));
        assert_eq!(error("{\"keys\":[]}"), DirectoryError::Number(0));
        let short = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}";
        assert!(matches!(error(short), DirectoryError::Form(e) if e.contains("32 bytes")));
    }
}
