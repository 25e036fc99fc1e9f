//! `[[zone.gate.rule]]`: which requests a policy is for, and the policy.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use toml::Spanned;

use super::key::{self, KeyPart};
use super::{Crawler, Place};
use crate::config::checker::Checker;
use crate::config::kind::{Count, Flag, Inline, Kind, List, Maybe, Name, Path, Text, unbounded, words};
use crate::config::section::section;
use crate::config::value::{Time, seconds};

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Names the policy towards clients; unique in the zone.
    pub name: String,
    /// Which requests.
    pub matches: Matches,
    /// What they must meet.
    pub policy: Policy,
    /// Count what the rule would do, and do nothing.
    pub dry_run: bool,
}

section! {
    /// Which requests a rule is for: those that meet all that is set.
    RuleText => Matches {
        /// A prefix, or a glob: "/*/export", "*.php".
        live path: Maybe<Path> = None; like "/api/";
        /// Any of these methods. Left out: all.
        live methods: List<AMethod> = Vec::new(); like ["POST"];
        /// A field that is there, or one with this value: "X-Plan=free".
        live header: Maybe<AField> = None; like "X-Plan=free";
        /// Of one of these crawlers, each a [[zone.gate.crawler]]. Left out: by anybody or
        /// nobody.
        live crawlers: List<Text> = Vec::new(); like ["search"];
        /// None of these paths.
        live not_path: List<Path> = Vec::new(); like ["/api/health"];
        /// None of these methods.
        live not_methods: List<AMethod> = Vec::new(); like ["OPTIONS"];
        /// Not this field, or not with this value.
        live not_header: Maybe<AField> = None; like "X-Plan=paid";
        /// Of none of these crawlers.
        live not_crawlers: List<Text> = Vec::new(); like ["search"];
    }
    read {
        /// Names the policy towards clients, and in metrics. Left out: the policy's kind.
        live name: Maybe<Name<64>> = None; like "api";
        /// Count what the rule would do, and do nothing.
        live dry_run: Flag = false;
        /// A token bucket per client; of a connection only the first request counts with count =
        /// "connections". key: what has a bucket, "client", "address", "network",
        /// "header:X-Api-Key", "cookie:sid", "claim:sub", "segment:1", or several in a list.
        /// cost_field = "X-Query-Cost": the response says for how many requests a request counts.
        live rate: Inline<Option<RateText>> = None;
            like { requests = 100, per = "1m", burst = 20, count = "requests", key = "client" };
        /// At most this many requests at the origin at once.
        live concurrency: Maybe<Count<usize>> = None, 1 => 1 << 20; like 100;
        /// A waiting room; `per_network`: visitors at once of one IPv6 /48 or IPv4 /24.
        live queue: Inline<Option<QueueText>> = None;
            like { active = 500, session = "5m", paused = false, poll = "10s", per_network = 125 };
        /// Everybody waits once.
        live manual: Inline<Option<ManualText>> = None; like { wait = "5s" };
        /// work: a proof of work by the page's script; a client that cannot, waits. external: the
        /// visitor is handed to an operator's own challenge at `url` (https), which has the key in
        /// the file `key`, and comes back with its answer: kind = "external", url =
        /// "https://ask.example.com/", key = "challenge.key".
        live challenge: Inline<Option<ChallengeText>> = None; like { kind = "work", bits = 16, wait = "30s" };
    }
}

/// A field's name, and its value where equality is asked for.
pub type Field = (HeaderName, Option<HeaderValue>);

/// What a request must meet.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// A token bucket per client.
    Rate(Rate),
    /// At most this many requests at the origin at once.
    Concurrency(usize),
    /// A waiting room.
    Queue(Queue),
    /// Everybody waits once.
    Manual(Duration),
    /// Everybody proves work once, or waits.
    Challenge(Work),
    /// Everybody answers an operator's own challenge once.
    External(External),
}

/// An operator's own challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The service that visitors are handed to, https.
    pub url: String,
    /// The file of the key that it signs answers with.
    pub key: (PathBuf, Place),
}

/// A token bucket per client, or per key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests in `per`.
    pub requests: u32,
    /// The time of `requests`.
    pub per: Duration,
    /// Requests at once.
    pub burst: u32,
    /// Only a connection's first request counts.
    pub connections: bool,
    /// What has a bucket of its own: all of these together. Never empty.
    pub key: Vec<KeyPart>,
    /// The response's field that says how many requests a request counts for; `None`: each for one.
    pub cost_field: Option<HeaderName>,
}

/// A proof of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Zero bits that the hash begins with, when all is quiet.
    pub bits: u8,
    /// A client that cannot work it out waits this long instead.
    pub wait: Duration,
}

/// A waiting room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Visitors at once.
    pub active: usize,
    /// Visitors at once of one IPv6 /48 or IPv4 /24.
    pub per_network: usize,
    /// A visitor counts for so long after its last request.
    pub session: Duration,
    /// Nobody new enters.
    pub paused: bool,
    /// The longest time between two visits of who waits.
    pub poll: Duration,
}

/// A token bucket, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RateText {
    requests: u32,
    per: Time,
    burst: u32,
    count: Counted,
    key: Parts,
    cost_field: Option<String>,
}

/// What a bucket is of: one part of a key, or several.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Parts {
    /// `key = "client"`.
    One(String),
    /// `key = ["header:X-Api-Key", "segment:1"]`.
    Several(Vec<String>),
}

impl Parts {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Several(parts) => parts,
        }
    }
}

impl Default for RateText {
    fn default() -> Self {
        Self {
            requests: 100,
            per: seconds(60),
            burst: 20,
            count: Counted::Requests,
            key: Parts::One("client".to_owned()),
            cost_field: None,
        }
    }
}

words! {
    /// What a bucket counts.
    Counted {
        /// Every request.
        Requests = "requests",
        /// A connection's first.
        Connections = "connections",
    }
}

/// A waiting room, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct QueueText {
    active: usize,
    session: Time,
    paused: bool,
    poll: Time,
    per_network: Option<usize>,
}

impl Default for QueueText {
    fn default() -> Self {
        Self {
            active: 500,
            session: seconds(300),
            paused: false,
            poll: seconds(10),
            per_network: None,
        }
    }
}

/// Everybody waits once, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ManualText {
    wait: Time,
}

impl Default for ManualText {
    fn default() -> Self {
        Self { wait: seconds(5) }
    }
}

/// A proof, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ChallengeText {
    kind: ChallengeKind,
    bits: u8,
    wait: Time,
    url: Option<String>,
    key: Option<PathBuf>,
}

words! {
    /// What is proven.
    ChallengeKind {
        /// Work.
        Work = "work",
        /// An operator's own.
        External = "external",
    }
}

impl Default for ChallengeText {
    fn default() -> Self {
        Self {
            kind: ChallengeKind::Work,
            bits: 16,
            wait: seconds(30),
            url: None,
            key: None,
        }
    }
}

unbounded! {
    /// A method, in upper case.
    AMethod: String => Method, |text| format!("{text:?}"), |written, checker| {
        let text = written.get_ref();
        let method = Method::from_bytes(text.as_bytes());
        method.ok().filter(|_| !text.bytes().any(|b| b.is_ascii_lowercase())).unwrap_or_else(|| {
            let what = format!("\"{text}\" is not a method");
            checker.mistake(written.span(), what, "write GET, POST, …; they are upper case");
            Method::GET
        })
    }
}
unbounded! {
    /// A field, and its value if equality is asked for.
    AField: String => Field, |text| format!("{text:?}"), |written, checker| {
        let text = written.get_ref();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim(), Some(HeaderValue::from_str(value.trim()))),
            None => (text.trim(), None),
        };
        match (name.parse::<HeaderName>(), value.transpose()) {
            (Ok(name), Ok(value)) => (name, value),
            _ => {
                let what = format!("\"{text}\" is not a field");
                checker.mistake(written.span(), what, "write \"X-Api-Key\" or \"X-Plan=free\"");
                (http::header::HOST, None)
            }
        }
    }
}

/// All `[[zone.gate.rule]]` of a zone.
pub(super) fn rules(raw: &[Spanned<RuleText>], crawlers: &[Crawler], checker: &mut Checker<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for spanned in raw {
        let Some(rule) = rule(spanned, checker) else {
            continue;
        };
        let queues = |r: &Rule| matches!((&r.policy, &rule.policy), (Policy::Queue(_), Policy::Queue(_)));
        if rules.iter().any(queues) {
            checker.mistake(
                spanned.span(),
                "a second queue",
                "keep one queue, and match more with it",
            );
        }
        known_crawlers(spanned.get_ref(), crawlers, checker);
        if rules.iter().any(|other| other.name == rule.name) {
            let what = format!("a rule \"{}\" is there already", rule.name);
            checker.mistake(spanned.span(), what, "give each rule a `name` of its own");
        }
        rules.push(rule);
    }
    rules
}

fn rule(spanned: &Spanned<RuleText>, checker: &mut Checker<'_>) -> Option<Rule> {
    let raw = spanned.get_ref();
    let policies = [
        raw.rate.get_ref().is_some().then(|| ("rate", raw.rate.span())),
        raw.concurrency
            .get_ref()
            .map(|_| ("concurrency", raw.concurrency.span())),
        raw.queue.get_ref().is_some().then(|| ("queue", raw.queue.span())),
        raw.manual.get_ref().is_some().then(|| ("manual", raw.manual.span())),
        raw.challenge
            .get_ref()
            .is_some()
            .then(|| ("challenge", raw.challenge.span())),
    ];
    let mut policies = policies.into_iter().flatten();
    let Some((kind, _)) = policies.next() else {
        let mend = "write one of rate = { … }, concurrency = 100, queue = { … }, manual = { … }, challenge = { … }";
        checker.mistake(spanned.span(), "a rule without a policy", mend);
        return None;
    };
    if let Some((other, span)) = policies.next() {
        let what = format!("both `{kind}` and `{other}`");
        checker.mistake(span, what, "write a [[zone.gate.rule]] for each");
        return None;
    }
    let name = Maybe::<Name<64>>::check(&raw.name, None, checker);
    Some(Rule {
        name: name.as_deref().unwrap_or(kind).to_owned(),
        matches: raw.check(checker),
        policy: policy(raw, checker)?,
        dry_run: *raw.dry_run.get_ref(),
    })
}

/// A duration of a table on one line.
fn lasting(
    checker: &mut Checker<'_>,
    span: Range<usize>,
    key: &str,
    time: Time,
    (least, most): (u64, u64),
) -> Duration {
    checker.between(span, &time, (&seconds(least), &seconds(most)), key, Time::to_string);
    time.0
}

/// Whether the crawlers that the rule names are there.
fn known_crawlers(rule: &RuleText, crawlers: &[Crawler], checker: &mut Checker<'_>) {
    for named in rule.crawlers.get_ref().iter().chain(rule.not_crawlers.get_ref()) {
        if !crawlers.iter().any(|crawler| crawler.name == *named.get_ref()) {
            let what = format!("no crawler \"{}\"", named.get_ref());
            let mend = "write a [[zone.gate.crawler]] with that name, and its keys or hosts";
            checker.mistake(named.span(), what, mend);
        }
    }
}

fn rate_key(span: Range<usize>, parts: &[String], checker: &mut Checker<'_>) -> Vec<KeyPart> {
    let mut known = Vec::new();
    for part in parts {
        match part.parse() {
            Ok(part) if known.contains(&part) => {
                let what = format!("{part:?} is twice in one key");
                checker.mistake(span.clone(), what, "write each part once");
            }
            Ok(part) => known.push(part),
            Err(mend) => checker.mistake(span.clone(), format!("\"{part}\" is not a part of a key"), mend),
        }
    }
    if !(1..=key::MOST).contains(&parts.len()) {
        let what = format!("a key of {} parts", parts.len());
        checker.mistake(span, what, format!("write 1 to {} parts", key::MOST));
    }
    known
}

fn cost_field(span: Range<usize>, name: &str, checker: &mut Checker<'_>) -> Option<HeaderName> {
    let parsed = name.parse().ok();
    if parsed.is_none() {
        let what = format!("cost_field \"{name}\" is not a field's name");
        let mend = "write the field in which the origin says what a request cost, like \"X-Query-Cost\"";
        checker.mistake(span, what, mend);
    }
    parsed
}

/// An operator's own challenge: where it is, and the key that answers are signed with.
fn external(span: Range<usize>, raw: &ChallengeText, checker: &mut Checker<'_>) -> Option<External> {
    let example =
        "write challenge = { kind = \"external\", url = \"https://ask.example.com/\", key = \"challenge.key\" }";
    let (Some(url), Some(key)) = (&raw.url, &raw.key) else {
        checker.mistake(span, "a challenge of kind \"external\" without `url` or `key`", example);
        return None;
    };
    let authority = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split(['/', '?']).next())
        .filter(|authority| !authority.contains('@'))
        .and_then(|authority| authority.parse::<Authority>().ok());
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.contains('#');
    if authority.is_none() || !plain {
        let what = format!("\"{url}\" is not the https address of a challenge");
        checker.mistake(span.clone(), what, example);
    }
    Some(External {
        url: url.clone(),
        key: checker.file(&Spanned::new(span, key.clone())),
    })
}

fn policy(raw: &RuleText, checker: &mut Checker<'_>) -> Option<Policy> {
    if let Some(rate) = raw.rate.get_ref() {
        let span = || raw.rate.span();
        for (key, n) in [("requests", rate.requests), ("burst", rate.burst)] {
            checker.between(span(), &n, (&1, &1_000_000), key, u32::to_string);
        }
        return Some(Policy::Rate(Rate {
            requests: rate.requests,
            per: lasting(checker, span(), "per", rate.per, (1, super::DAY)),
            burst: rate.burst,
            connections: rate.count == Counted::Connections,
            key: rate_key(span(), rate.key.as_slice(), checker),
            cost_field: rate
                .cost_field
                .as_ref()
                .and_then(|name| cost_field(span(), name, checker)),
        }));
    }
    if raw.concurrency.get_ref().is_some() {
        let most = Maybe::<Count<usize>>::check(&raw.concurrency, Some((1, 1 << 20)), checker);
        return most.map(Policy::Concurrency);
    }
    if let Some(queue) = raw.queue.get_ref() {
        let (span, active) = (|| raw.queue.span(), queue.active);
        if queue.per_network == Some(0) {
            let mend = "write 1 or more; left out: a quarter of `active`, and at least 8";
            checker.mistake(span(), "per_network 0 lets nobody in", mend);
        }
        if !(1..=10_000_000).contains(&active) {
            let mend = "write 1 to 10000000; to hold everybody, paused = true";
            checker.mistake(span(), format!("active {active} is out of bounds"), mend);
        }
        return Some(Policy::Queue(Queue {
            active,
            per_network: queue.per_network.unwrap_or((active / 4).max(8)).min(active.max(1)),
            session: lasting(checker, span(), "session", queue.session, (10, 6 * super::HOUR)),
            paused: queue.paused,
            poll: lasting(checker, span(), "poll", queue.poll, (1, 300)),
        }));
    }
    if let Some(challenge) = raw.challenge.get_ref() {
        if challenge.kind == ChallengeKind::External {
            return external(raw.challenge.span(), challenge, checker).map(Policy::External);
        }
        if challenge.url.is_some() || challenge.key.is_some() {
            let mend = "write kind = \"external\" beside them, or leave them out";
            checker.mistake(
                raw.challenge.span(),
                "a challenge of kind \"work\" with `url` or `key`",
                mend,
            );
        }
        let bits = challenge.bits;
        if !(8..=24).contains(&bits) {
            let mend = "write 8 to 24; each bit doubles the work, and 16 take a phone a second or two";
            checker.mistake(raw.challenge.span(), format!("{bits} bits are out of bounds"), mend);
        }
        let wait = lasting(checker, raw.challenge.span(), "wait", challenge.wait, (1, super::HOUR));
        return Some(Policy::Challenge(Work { bits, wait }));
    }
    let manual = raw.manual.get_ref().as_ref()?;
    let wait = lasting(checker, raw.manual.span(), "wait", manual.wait, (1, super::HOUR));
    Some(Policy::Manual(wait))
}
