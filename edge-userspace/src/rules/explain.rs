//! `edge check --explain`: which rules of a configuration fit an invented request, and what comes
//! out.

use std::fmt::Write as _;
use std::sync::Arc;

use super::auth::{self, Credentials};
use super::change::Change;
use super::evaluate::{Asks, Known, Made, Shown, judge};
use super::facts::Facts;
use super::forward::Said;
use super::keyring::Held;
use crate::base::clock::UnixTime;
use crate::base::invented::Invented;
use crate::config::client_address::ClientAddress;
use crate::config::rule::jwt::KeyServer;
use crate::config::rule::{Basic, Forward};
use crate::http::client;
use crate::zones::path::Path;
use crate::zones::{Way, Zones};

/// No zone serves the host.
#[derive(Debug, thiserror::Error)]
#[error("no zone has the host \"{0}\", and none is the default")]
pub struct NoZone(String);

/// The account, for eyes: a line for each rule, then what comes out.
///
/// # Errors
/// [`NoZone`]
pub fn explain(zones: &Zones, proxies: Option<&ClientAddress>, request: &Invented) -> Result<String, NoZone> {
    let named = proxies.and_then(|rule| client::named(rule, request.client, &request.headers));
    let path = Path::of(request.target.path());
    let mut facts = Facts {
        method: &request.method,
        path: &path,
        query: request.target.query().unwrap_or_default(),
        target: request.target.as_str(),
        authority: &request.authority,
        headers: &request.headers,
        client: named.as_ref().map_or(request.client, |(client, _)| *client),
        secure: named.as_ref().and_then(|(_, via)| via.secure).unwrap_or(request.secure),
        version: request.version,
        tls: request.secure.then_some("TLSv1.3"),
        certificate: None,
        zone: "",
        request_id: *b"0000000000000000",
        user: "",
        claims: None,
        now: UnixTime::now(),
    };
    let zone = zones
        .find(facts.host())
        .ok_or_else(|| NoZone(request.authority.clone()))?;
    facts.zone = &zone.name;
    let credentials = Invited(Credentials::of(&request.headers));
    let mut text = format!("zone {}: {} {}\n", zone.name, request.method, path.usual());
    if named.is_some() {
        let _ = writeln!(
            text,
            "  client {}, as the trusted proxy {} says",
            facts.client, request.client
        );
    }
    let mut made = zone
        .rules
        .as_deref()
        .map_or_else(Made::default, |rules| Made::begin(rules, &facts));
    let mut ended: Option<&str> = None;
    for rule in zone.rules.iter().flat_map(|rules| &rules.all) {
        let verdict = match (ended, judge(rule, &facts)) {
            (Some(last), _) => format!("not asked: \"{last}\" ended it"),
            (None, Err(missing)) => format!("does not fit: {missing}"),
            (None, Ok(())) => {
                let services = made.passed.len();
                if made.take(rule, &facts, &credentials) {
                    ended = Some(&rule.name);
                }
                match (made.asks.take(), made.passed.get(services)) {
                    (Some(Asks::Keys(server)), _) => {
                        format!(
                            "cannot be tried here: a node asks the pool {} for the keys",
                            server.from
                        )
                    }
                    (_, Some(asked)) => format!("fits, if the pool {} says so: GET {}", asked.to, asked.target),
                    _ => "fits".to_owned(),
                }
            }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  rule {}: {verdict}", rule.name);
    }
    tell(&mut text, &made, &request.target);
    if made.answer.is_none() {
        let target = made.target.as_ref().unwrap_or(&request.target);
        let way = match (made.pool, zone.way(&Path::of(target.path()))) {
            (Some(pool), _) => format!("the pool {pool}"),
            (None, Way::Worker) => "the worker".to_owned(),
            (None, Way::Origin) => "the origin".to_owned(),
            (None, Way::Files(_)) => "files".to_owned(),
        };
        if let Some(mirror) = made.mirror {
            let _ = writeln!(text, "  a copy goes to the pool {}", mirror.to);
        }
        let _ = writeln!(text, "  goes to {way}");
    }
    Ok(text)
}

/// Credentials that are checked here and now, and services that nobody asks.
struct Invited(Option<Credentials>);

impl<'r> Known<'r> for Invited {
    fn password(&self, basic: &'r Arc<Basic>) -> Shown<'r> {
        match &self.0 {
            Some(credentials) if auth::right(basic, credentials) => Shown::Right(auth::user(basic, credentials)),
            _ => Shown::Wrong,
        }
    }

    fn keys(&self, _: &'r KeyServer) -> Held {
        Held::default()
    }

    fn said(&self, _: &'r Arc<Forward>, _: &[Change]) -> Option<Arc<Said>> {
        Some(Arc::new(Said::yes()))
    }
}

fn tell(text: &mut String, made: &Made<'_>, target: &http::uri::PathAndQuery) {
    let fields = |text: &mut String, whose: &str, changes: &[Change]| {
        for change in changes {
            let _ = match change {
                Change::Remove(name) => writeln!(text, "  {whose}: without {name}"),
                Change::Set(name, value) => writeln!(text, "  {whose}: {name}: {}", shown(value)),
                Change::Add(name, value) => writeln!(text, "  {whose}: one more {name}: {}", shown(value)),
                Change::Default(name, value) => {
                    writeln!(text, "  {whose}: {name}: {} (unless it has one)", shown(value))
                }
            };
        }
    };
    match &made.answer {
        Some(given) => {
            let _ = writeln!(text, "  answered: {}", given.status);
            for (name, value) in &given.headers {
                let _ = writeln!(text, "  response: {name}: {}", shown(value));
            }
        }
        None => {
            if let Some(new) = made.target.as_ref().filter(|new| *new != target) {
                let _ = writeln!(text, "  target: {new}");
            }
            if made.passes_by() {
                text.push_str("  passes the cache by\n");
            } else if let Some((name, _)) = made.cache {
                let _ = writeln!(text, "  stored as rule {name} says");
            }
            fields(text, "request", &made.request);
        }
    }
    fields(text, "response", &made.response);
}

fn shown(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
