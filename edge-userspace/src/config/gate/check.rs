//! From the gate's raw form to the checked one. Every bound here is one that the policies rely on.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use toml::Spanned;

use super::key::{self, KeyPart};
use super::{Cookie, Crawler, Field, Gate, Matches, Node, Policy, Queue, Rate, Rule, SameSite, Secret, Work, raw};
use crate::config::checker::Checker;
use crate::config::mistake::{Mistake, Source};
use crate::config::value::{HostPattern, Time};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// `[gate]`, and what is wrong with it.
pub(in crate::config) fn node(raw: &raw::Node, source: &Source<'_>) -> (Node, Vec<Mistake>) {
    let mut checker = Checker::new(source);
    let secret = match &raw.secret {
        Some(file) => Secret::File(source.path(file), source.place(file.span())),
        None => {
            let directory = &raw.state_directory;
            Secret::Own(source.path(directory), source.place(directory.span()))
        }
    };
    let node = Node {
        clients: checker.number(&raw.clients, 1_024, 64 << 20),
        keys: checker.number(&raw.keys, 1_024, 64 << 20),
        penalties: checker.number(&raw.penalties, 1_024, 16 << 20),
        trials: checker.number(&raw.trials, 0, 65_536),
        used_tokens: checker.number(&raw.used_tokens, 1_024, 256 << 20),
        secret,
        key_epoch: checker.time(&raw.key_epoch, 60 * SECOND, DAY),
    };
    (node, checker.mistakes)
}

/// `[zone.gate]` of a zone with these hosts, and what is wrong with it.
pub(in crate::config) fn gate(raw: &raw::Gate, hosts: &[HostPattern], source: &Source<'_>) -> (Gate, Vec<Mistake>) {
    let mut checker = Checker::new(source);
    let gate = checker.gate(raw, hosts);
    (gate, checker.mistakes)
}

/// Whether a cookie of `domain` is sent to each host of the pattern (RFC 6265bis section 5.1.3).
fn is_within(host: &HostPattern, domain: &str) -> bool {
    let name = match host {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
    };
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Checker<'_> {
    /// A duration of a table on one line.
    fn lasting(&mut self, span: Range<usize>, key: &str, time: Time, least: Duration, most: Duration) -> Duration {
        self.between(span, &time, (&Time(least), &Time(most)), key, Time::to_string);
        time.0
    }

    fn gate(&mut self, raw: &raw::Gate, hosts: &[HostPattern]) -> Gate {
        let strike_base = self.time(&raw.strike_base, SECOND, DAY);
        let strike_cap = self.time(&raw.strike_cap, SECOND, 7 * DAY);
        if strike_cap < strike_base {
            let mend = format!("write {strike_base:?} or more");
            self.mistake(raw.strike_cap.span(), "less than strike_base", mend);
        }
        let mut rules: Vec<Rule> = Vec::new();
        for spanned in &raw.rule {
            if let Some(rule) = self.gate_rule(spanned) {
                let again = |r: &Rule| matches!((&r.policy, &rule.policy), (Policy::Queue(_), Policy::Queue(_)));
                let mend = "keep one queue, and match more with it";
                if rules.iter().any(again) {
                    self.mistake(spanned.span(), "a second queue", mend);
                }
                self.known_crawlers(spanned.get_ref(), &raw.crawler);
                if rules.iter().any(|r| r.name == rule.name) {
                    let what = format!("a rule \"{}\" is there already", rule.name);
                    self.mistake(spanned.span(), what, "give each rule a `name` of its own");
                }
                rules.push(rule);
            }
        }
        Gate {
            dry_run: raw.dry_run,
            allow: crate::config::check::networks(&raw.allow),
            defer: self.time(&raw.defer, SECOND, HOUR),
            token_life: self.time(&raw.token_life, 60 * SECOND, 6 * HOUR),
            grace: self.number(&raw.grace, 1, 10_000),
            strike_base,
            strike_cap,
            forgive: self.time(&raw.forgive, SECOND, 7 * DAY),
            clients_per_address: self.number(&raw.clients_per_address, 1, 65_536),
            page: raw
                .page
                .as_ref()
                .map(|page| (self.source.path(page), self.source.place(page.span()))),
            texts: raw
                .texts
                .as_ref()
                .map(|texts| (self.source.path(texts), self.source.place(texts.span()))),
            pass: self.paths(&raw.pass),
            cookie: self.cookie(&raw.cookie, hosts),
            crawlers: self.crawlers(&raw.crawler),
            rules,
        }
    }

    fn gate_rule(&mut self, spanned: &Spanned<raw::Rule>) -> Option<Rule> {
        let raw = spanned.get_ref();
        let policies = [
            raw.rate.as_ref().map(|p| ("rate", p.span())),
            raw.concurrency.as_ref().map(|p| ("concurrency", p.span())),
            raw.queue.as_ref().map(|p| ("queue", p.span())),
            raw.manual.as_ref().map(|p| ("manual", p.span())),
            raw.challenge.as_ref().map(|p| ("challenge", p.span())),
        ];
        let mut policies = policies.into_iter().flatten();
        let Some((kind, _)) = policies.next() else {
            let mend = "write one of rate = { … }, concurrency = 100, queue = { … }, manual = { … }, challenge = { … }";
            self.mistake(spanned.span(), "a rule without a policy", mend);
            return None;
        };
        if let Some((other, span)) = policies.next() {
            let what = format!("both `{kind}` and `{other}`");
            self.mistake(span, what, "write a [[zone.gate.rule]] for each");
            return None;
        }
        let name = raw.name.as_ref().map_or(kind, |name| name.get_ref().as_str());
        let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if let Some(spanned) = &raw.name
            && (name.is_empty() || name.len() > 64 || !name.bytes().all(sound))
        {
            let mend = "write letters, digits, `-`, `_`, `.`, at most 64";
            self.mistake(spanned.span(), format!("\"{name}\" is no rule name"), mend);
        }
        Some(Rule {
            name: name.to_owned(),
            matches: self.matches(raw),
            policy: self.policy(raw)?,
            dry_run: raw.dry_run,
        })
    }

    fn matches(&mut self, raw: &raw::Rule) -> Matches {
        if let Some(path) = &raw.path {
            self.paths(std::slice::from_ref(path));
        }
        Matches {
            path: raw.path.as_ref().map(|path| path.get_ref().clone()),
            methods: self.methods(&raw.methods),
            header: self.field(raw.header.as_ref()),
            not_path: self.paths(&raw.not_path),
            not_methods: self.methods(&raw.not_methods),
            not_header: self.field(raw.not_header.as_ref()),
            crawlers: raw.crawlers.iter().map(|name| name.get_ref().clone()).collect(),
            not_crawlers: raw.not_crawlers.iter().map(|name| name.get_ref().clone()).collect(),
        }
    }

    fn paths(&mut self, paths: &[Spanned<String>]) -> Vec<String> {
        for path in paths.iter().filter(|path| !path.get_ref().starts_with(['/', '*'])) {
            let what = format!("\"{}\" is no path", path.get_ref());
            self.mistake(
                path.span(),
                what,
                "write a prefix like \"/api/\" or a glob like \"*.php\"",
            );
        }
        paths.iter().map(|path| path.get_ref().clone()).collect()
    }

    fn methods(&mut self, methods: &[Spanned<String>]) -> Vec<Method> {
        let mut known = Vec::new();
        for method in methods {
            match Method::from_bytes(method.get_ref().as_bytes()) {
                Ok(sound) if !method.get_ref().bytes().any(|b| b.is_ascii_lowercase()) => known.push(sound),
                _ => {
                    let what = format!("\"{}\" is no method", method.get_ref());
                    self.mistake(method.span(), what, "write GET, POST, …; they are upper case");
                }
            }
        }
        known
    }

    fn field(&mut self, header: Option<&Spanned<String>>) -> Option<Field> {
        let header = header?;
        let text = header.get_ref();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim(), Some(HeaderValue::from_str(value.trim()))),
            None => (text.trim(), None),
        };
        match (name.parse::<HeaderName>(), value.transpose()) {
            (Ok(name), Ok(value)) => Some((name, value)),
            _ => {
                let what = format!("\"{text}\" is no field");
                self.mistake(header.span(), what, "write \"X-Api-Key\" or \"X-Plan=free\"");
                None
            }
        }
    }

    fn cookie(&mut self, spanned: &Spanned<raw::Cookie>, hosts: &[HostPattern]) -> Cookie {
        let raw = spanned.get_ref();
        let domain = raw
            .domain
            .as_ref()
            .map(|domain| domain.trim_start_matches('.').to_ascii_lowercase());
        if let Some(domain) = &domain {
            let outside = hosts.iter().find(|host| !is_within(host, domain));
            let sound = matches!(domain.parse::<HostPattern>(), Ok(HostPattern::Exact(_))) && domain.contains('.');
            if !sound {
                let mend = "write a domain that all hosts of the zone are in, like \"example.com\"";
                self.mistake(spanned.span(), format!("\"{domain}\" is no domain of hosts"), mend);
            } else if let Some(host) = outside {
                let what = format!("no browser sends a cookie of {domain} to {host}");
                self.mistake(spanned.span(), what, "write a domain that all hosts of the zone are in");
            }
        }
        Cookie {
            same_site: match raw.same_site {
                raw::SameSite::Strict => SameSite::Strict,
                raw::SameSite::Lax => SameSite::Lax,
                raw::SameSite::None => SameSite::None,
            },
            domain,
            partitioned: raw.partitioned,
        }
    }

    fn crawlers(&mut self, raw: &[raw::Crawler]) -> Vec<Crawler> {
        for (n, crawler) in raw.iter().enumerate() {
            let name = crawler.name.get_ref();
            if raw.iter().take(n).any(|other| other.name.get_ref() == name) {
                let what = format!("a crawler \"{name}\" is there already");
                self.mistake(crawler.name.span(), what, "give each crawler a name of its own");
            }
        }
        let crawler = |crawler: &raw::Crawler| Crawler {
            name: crawler.name.get_ref().clone(),
            keys: (self.source.path(&crawler.keys), self.source.place(crawler.keys.span())),
        };
        raw.iter().map(crawler).collect()
    }

    fn known_crawlers(&mut self, rule: &raw::Rule, crawlers: &[raw::Crawler]) {
        for named in rule.crawlers.iter().chain(&rule.not_crawlers) {
            if !crawlers.iter().any(|crawler| crawler.name.get_ref() == named.get_ref()) {
                let what = format!("no crawler \"{}\"", named.get_ref());
                self.mistake(
                    named.span(),
                    what,
                    "write a [[zone.gate.crawler]] with that name and its keys",
                );
            }
        }
    }

    fn rate_key(&mut self, span: Range<usize>, parts: &[String]) -> Vec<KeyPart> {
        let mut known = Vec::new();
        for part in parts {
            match part.parse() {
                Ok(part) if known.contains(&part) => {
                    let what = format!("{part:?} is twice in one key");
                    self.mistake(span.clone(), what, "write each part once");
                }
                Ok(part) => known.push(part),
                Err(mend) => self.mistake(span.clone(), format!("\"{part}\" is not a part of a key"), mend),
            }
        }
        if !(1..=key::MOST).contains(&parts.len()) {
            let what = format!("a key of {} parts", parts.len());
            self.mistake(span, what, format!("write 1 to {} parts", key::MOST));
        }
        known
    }

    fn cost_field(&mut self, span: Range<usize>, name: &str) -> Option<HeaderName> {
        let parsed = name.parse().ok();
        if parsed.is_none() {
            let what = format!("cost_field \"{name}\" is not a field's name");
            self.mistake(
                span,
                what,
                "write the field in which the origin says what a request cost, like \"X-Query-Cost\"",
            );
        }
        parsed
    }

    fn policy(&mut self, raw: &raw::Rule) -> Option<Policy> {
        if let Some(rate) = &raw.rate {
            let raw::Rate {
                requests,
                per,
                burst,
                count,
                key,
                cost_field,
            } = rate.get_ref().clone();
            for (key, n) in [("requests", requests), ("burst", burst)] {
                if !(1..=1_000_000).contains(&n) {
                    self.mistake(rate.span(), format!("{key} {n} is out of bounds"), "write 1 to 1000000");
                }
            }
            return Some(Policy::Rate(Rate {
                requests,
                per: self.lasting(rate.span(), "per", per, SECOND, DAY),
                burst,
                connections: count == raw::Count::Connections,
                key: self.rate_key(rate.span(), key.as_slice()),
                cost_field: cost_field.and_then(|name| self.cost_field(rate.span(), &name)),
            }));
        }
        if let Some(most) = &raw.concurrency {
            return Some(Policy::Concurrency(self.number(most, 1, 1 << 20)));
        }
        if let Some(queue) = &raw.queue {
            let raw::Queue {
                active,
                session,
                paused,
                poll,
                per_network,
            } = queue.get_ref().clone();
            if per_network == Some(0) {
                let mend = "write 1 or more; left out: a quarter of `active`, and at least 8";
                self.mistake(queue.span(), "per_network 0 lets nobody in", mend);
            }
            if !(1..=10_000_000).contains(&active) {
                let mend = "write 1 to 10000000; to hold everybody, paused = true";
                self.mistake(queue.span(), format!("active {active} is out of bounds"), mend);
            }
            return Some(Policy::Queue(Queue {
                active,
                per_network: per_network.unwrap_or((active / 4).max(8)).min(active.max(1)),
                session: self.lasting(queue.span(), "session", session, 10 * SECOND, 6 * HOUR),
                paused,
                poll: self.lasting(queue.span(), "poll", poll, SECOND, 300 * SECOND),
            }));
        }
        if let Some(challenge) = &raw.challenge {
            let raw::Challenge {
                kind: raw::ChallengeKind::Work,
                bits,
                wait,
            } = *challenge.get_ref();
            if !(8..=24).contains(&bits) {
                let mend = "write 8 to 24; each bit doubles the work, and 16 take a phone a second or two";
                self.mistake(challenge.span(), format!("{bits} bits are out of bounds"), mend);
            }
            let wait = self.lasting(challenge.span(), "wait", wait, SECOND, HOUR);
            return Some(Policy::Challenge(Work { bits, wait }));
        }
        let manual = raw.manual.as_ref()?;
        let wait = self.lasting(manual.span(), "wait", manual.get_ref().wait, SECOND, HOUR);
        Some(Policy::Manual(wait))
    }
}
