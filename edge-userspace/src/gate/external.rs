//! A challenge of the operator's own (a login, a puzzle, a question): the visitor is handed to its
//! URL with a question, and comes back with the answer that the service has signed. What the answer
//! proves is that the service let in whoever holds this wait; it ends in the token that every other
//! wait ends in.
//!
//! The question is `state`, which only the bearer of the wait's token can use: a MAC over zone,
//! client, the wait's beginning, its end and where the visitor wanted to go, of which the last two
//! are in it. `mac` tells the service that it is ours, with the address to go back to, so that the
//! service sends nobody elsewhere. The answer is a MAC over the state and the time until which it
//! is good, under the key of a file that the service has, too. Both are HMAC-SHA256 (RFC 2104),
//! compared in constant time.
//!
//! An answer is good for one admission, as the wait is. Overheard, it is worth nothing without the
//! token, which is in a cookie that no script reads. The visitor is led back to a path of the host
//! that it came to, whatever the state says.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;

use super::keys::Secret;
use super::pass::Pass;

/// Where a visitor comes back to, at any host of the zone.
pub(super) const RETURN: &str = "/.well-known/edge-challenge";
/// Bytes of a target that a state carries. A longer one is led back to without its query, or to
/// the root.
const TARGET: usize = 1_024;
/// Bytes of a query that is read.
const QUERY: usize = 4_096;
/// The longest time for which an answer may be good, seconds.
const LIFE: u64 = 600;
/// How far the service's clock may be off, seconds.
const SKEW: u64 = 10;
/// Bytes of a state's MAC.
const MAC: usize = 32;

/// The service that a rule hands visitors to.
pub struct Service {
    url: Box<str>,
    shared: hmac::Key,
    own: hmac::Key,
}

impl std::fmt::Debug for Service {
    /// Nothing of the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An answer, as a visitor brings it in the query; nothing of it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    state: &'a str,
    until: &'a str,
    mac: &'a str,
}

/// What is known of who is handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit<'a> {
    /// `https`, or what a trusted proxy says.
    pub(super) scheme: &'a str,
    /// Authority that the client asked for.
    pub(super) host: &'a str,
    /// Path and query that it asked for.
    pub(super) target: &'a str,
    /// The zone's name.
    pub(super) zone: &'a str,
}

impl Service {
    /// The service at `url` (https), which has this key.
    pub fn new(url: &str, key: &Secret) -> Self {
        Self {
            url: url.into(),
            shared: hmac::Key::new(hmac::HMAC_SHA256, key.bytes()),
            // Another one: what the service signs is never a state.
            own: hmac::Key::new(hmac::HMAC_SHA256, key.derive(b"states of challenges").as_ref()),
        }
    }

    /// The address that the bearer of `pass` is handed to.
    pub(super) fn question(&self, pass: &Pass, visit: Visit<'_>) -> String {
        let target = carried(visit.target);
        let tag = hmac::sign(&self.own, &stated(pass, pass.expires, target));
        let mut state = pass.expires.to_be_bytes().to_vec();
        state.extend(tag.as_ref());
        state.extend(target.as_bytes());
        let state = BASE64URL_NOPAD.encode(&state);
        let back = format!("{}://{}{RETURN}", visit.scheme, visit.host);
        let mac = hmac::sign(&self.shared, question(&state, &back).as_bytes());
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("zone", visit.zone)
            .append_pair("state", &state)
            .append_pair("return", &back)
            .append_pair("mac", &BASE64URL_NOPAD.encode(mac.as_ref()));
        let joint = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", self.url, query.finish())
    }

    /// Whether the service has let in the bearer of `pass`, as `answer` says; `now` in seconds
    /// since the epoch.
    pub(super) fn accepts(&self, answer: Answer<'_>, pass: &Pass, now: u64) -> bool {
        let accepts = || {
            let state = BASE64URL_NOPAD.decode(answer.state.as_bytes()).ok()?;
            let (until, rest) = state.split_first_chunk::<4>()?;
            let (tag, target) = rest.split_first_chunk::<MAC>()?;
            let until = u32::from_be_bytes(*until);
            let stated = stated(pass, until, std::str::from_utf8(target).ok()?);
            let genuine = hmac::verify(&self.own, &stated, tag).is_ok();
            let mac = BASE64URL_NOPAD.decode(answer.mac.as_bytes()).ok()?;
            let good_until: u64 = answer.until.parse().ok()?;
            let signed = hmac::verify(&self.shared, answered(answer).as_bytes(), &mac).is_ok();
            let in_force = now < u64::from(until) && now <= good_until.saturating_add(SKEW);
            let soon = good_until <= now.saturating_add(LIFE + SKEW);
            Some(genuine && signed && in_force && soon)
        };
        accepts().unwrap_or(false)
    }
}

impl<'a> Answer<'a> {
    /// The answer in a target, if it is that of [`RETURN`] with each of three parameters once.
    pub(super) fn of(target: &'a str) -> Option<Self> {
        let query = target.strip_prefix(RETURN)?.strip_prefix('?')?;
        let (mut state, mut until, mut mac) = (None, None, None);
        for pair in query.split('&').filter(|_| query.len() <= QUERY) {
            let (name, value) = pair.split_once('=')?;
            let slot = match name {
                "state" => &mut state,
                "until" => &mut until,
                "answer" => &mut mac,
                // Whatever the service, or a network on the way, adds.
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        Some(Self {
            state: state?,
            until: until?,
            mac: mac?,
        })
    }

    /// Where the visitor is led back to: always a path of this host.
    pub(super) fn target(self) -> String {
        let state = BASE64URL_NOPAD.decode(self.state.as_bytes()).unwrap_or_default();
        let target = state.get(4 + MAC..).and_then(|bytes| std::str::from_utf8(bytes).ok());
        local(target.unwrap_or_default()).to_owned()
    }
}

/// `target` if it leads to this host alone, else the root: a browser takes `//` and `/\` for
/// another host (WHATWG URL, "path or authority state").
fn local(target: &str) -> &str {
    let own = target.starts_with('/')
        && !target.get(1..).is_some_and(|rest| rest.starts_with(['/', '\\']))
        && target.bytes().all(|byte| byte.is_ascii_graphic());
    if own { target } else { "/" }
}

/// A target's path.
pub(super) fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

/// As much of a target as a state has room for.
fn carried(target: &str) -> &str {
    let path = path_of(target);
    let fits = |target: &&str| target.len() <= TARGET;
    [target, path].into_iter().find(fits).map_or("/", local)
}

/// What a state's MAC covers.
fn stated(pass: &Pass, until: u32, target: &str) -> Vec<u8> {
    let mut text = b"edge challenge state 1\n".to_vec();
    text.extend(pass.zone.to_be_bytes());
    text.extend(pass.client.to_be_bytes());
    text.extend(pass.place.to_be_bytes());
    text.extend(until.to_be_bytes());
    text.extend(target.as_bytes());
    text
}

fn question(state: &str, back: &str) -> String {
    format!("edge-challenge-question\n{state}\n{back}")
}

fn answered(Answer { state, until, .. }: Answer<'_>) -> String {
    format!("edge-challenge-answer\n{state}\n{until}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::pass::Kind;
    use super::*;

    pub(in crate::gate) const KEY: &[u8] = b"the key of a service, 32 bytes and more";
    const NOW: u64 = 1_700_000_000;

    fn service() -> Service {
        Service::new("https://ask.example/start?lang=de", &Secret::new(KEY).unwrap())
    }

    fn pass() -> Pass {
        Pass {
            client: 7,
            zone: 1,
            not_before: NOW as u32,
            expires: NOW as u32 + 3_600,
            kind: Kind::External,
            place: 1_234,
            strikes: 0,
            early: 0,
        }
    }

    const VISIT: Visit<'_> = Visit {
        scheme: "https",
        host: "shop.example:8443",
        target: "/cart?item=7",
        zone: "shop",
    };

    /// What a service does: takes the question, and signs. Written from docs/gate.md.
    pub(in crate::gate) fn answer(question: &str, until: u64) -> String {
        let url = url::Url::parse(question).unwrap();
        let of = |name: &str| url.query_pairs().find(|(n, _)| n == name).unwrap().1.into_owned();
        let (state, back) = (of("state"), of("return"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
        let mac = BASE64URL_NOPAD.decode(of("mac").as_bytes()).unwrap();
        let asked = format!("edge-challenge-question\n{state}\n{back}");
        hmac::verify(&key, asked.as_bytes(), &mac).unwrap();
        let tag = hmac::sign(&key, format!("edge-challenge-answer\n{state}\n{until}").as_bytes());
        let back = back.split_once("://").unwrap().1;
        let path = &back[back.find('/').unwrap()..];
        format!(
            "{path}?state={state}&until={until}&answer={}",
            BASE64URL_NOPAD.encode(tag.as_ref())
        )
    }

    /// Whoever was not let in by the service would be by the gate, or one answer would let in many.
    #[test]
    fn what_was_signed_for_whom() {
        let service = service();
        let question = service.question(&pass(), VISIT);
        assert!(
            question.starts_with("https://ask.example/start?lang=de&zone=shop&state="),
            "{question}"
        );
        assert!(question.contains("return=https%3A%2F%2Fshop.example%3A8443%2F.well-known%2Fedge-challenge"));
        let back = answer(&question, NOW + 60);
        let good = Answer::of(&back).unwrap();
        assert!(service.accepts(good, &pass(), NOW));
        assert_eq!(good.target(), "/cart?item=7");
        // Of another client, zone or wait; too late; for too long; by another key.
        for other in [
            Pass { client: 8, ..pass() },
            Pass { zone: 2, ..pass() },
            Pass { place: 1, ..pass() },
        ] {
            assert!(!service.accepts(good, &other, NOW), "{other:?}");
        }
        assert!(!service.accepts(good, &pass(), NOW + 71));
        assert!(!service.accepts(good, &pass(), NOW + 3_600));
        let long = answer(&question, NOW + 10_000);
        assert!(!service.accepts(Answer::of(&long).unwrap(), &pass(), NOW));
        let key = Secret::new(b"another key of another service, as long").unwrap();
        assert!(!Service::new("https://ask.example/", &key).accepts(good, &pass(), NOW));
        // Each bit counts, and the state alone is not an answer.
        for (from, to) in [
            ("until=1700000060", "until=1700000061"),
            ("answer=", "answer=AA"),
            ("state=", "state=AA"),
        ] {
            let altered = back.replace(from, to);
            assert!(!service.accepts(Answer::of(&altered).unwrap(), &pass(), NOW), "{to}");
        }
        let state = Answer {
            mac: good.state,
            ..good
        };
        assert!(!service.accepts(state, &pass(), NOW));
    }

    /// A link could send visitors to another site by way of this one.
    #[test]
    fn nobody_is_led_elsewhere() {
        let back = |target: &str| {
            let state = [&[0; 4 + MAC][..], target.as_bytes()].concat();
            let state = BASE64URL_NOPAD.encode(&state);
            let query = format!("{RETURN}?state={state}&until=1&answer=AA");
            Answer::of(&query).map(Answer::target)
        };
        for (target, led) in [
            ("/a?b=//evil.example", "/a?b=//evil.example"),
            ("//evil.example/", "/"),
            ("/\\evil.example/", "/"),
            ("https://evil.example/", "/"),
            ("evil.example", "/"),
            ("/a\r\nSet-Cookie: x", "/"),
            ("/\t/evil.example", "/"),
            ("", "/"),
            ("/ü", "/"),
        ] {
            assert_eq!(back(target).as_deref(), Some(led), "{target:?}");
        }
        for query in [
            "",
            "?state=AA&until=1",
            "?state=AA&until=1&answer=AA&state=BB",
            "?state",
            "x?state=AA&until=1&answer=AA",
        ] {
            assert_eq!(Answer::of(&format!("{RETURN}{query}")), None, "{query}");
        }
        assert!(Answer::of(&format!("{RETURN}?utm=1&state=%&until=x&answer=")).is_some_and(|a| a.target() == "/"));
        let long = format!("/search?{}", "q".repeat(2_000));
        assert_eq!(carried(&long), "/search");
        assert_eq!(carried(&"/x".repeat(2_000)), "/");
    }
}
