//! A zone's gate as the file describes it: which requests are judged, by which policy, and what
//! clients get that are told to wait. `rule` has the rules.

mod key;
pub mod rule;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

pub use self::key::KeyPart;
pub use self::rule::{External, Field, Matches, Policy, Queue, Rate, Rule, Work};
use super::Place;
use super::checker::Checker;
use super::kind::{Address, Count, File, Flag, Inline, Kind, List, Maybe, Must, Net, Path, Span, Text, words};
use super::section::section;
use super::value::{HostPattern, seconds, within};

const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

section! {
    /// What all gates of a node share.
    NodeText => Node {
        /// Clients whose rate is known: 24 bytes each and rule, taken at the start. When the memory
        /// is full, the client that matters least is forgotten: docs/gate.md.
        fixed clients: Count<usize> = 262_144, 1_024 => 64 << 20;
        /// What rate rules count by besides clients (`key`): 32 bytes each and rule, taken at the
        /// start, too.
        fixed keys: Count<usize> = 65_536, 1_024 => 64 << 20;
        /// Records of clients that came early: about 190 bytes each, taken at the start.
        fixed penalties: Count<usize> = 65_536, 1_024 => 16 << 20;
        /// Penalised addresses at once that are taken for shared ones until it is seen whether
        /// anybody there waits as told. Each may cost 33 handshakes a second meanwhile; see
        /// docs/gate.md. 0: none.
        fixed trials: Count<usize> = 8, 0 => 65_536;
        /// Admissions after a wait that are remembered: 18 bytes each, as they come. A quarter of
        /// the room is kept for zones that have used little of it; a client that finds none keeps
        /// its place and is told to come again.
        fixed used_tokens: Count<usize> = 1 << 20, 1_024 => 256 << 20;
        /// Keys are derived anew this often, on all nodes at once. No wait can be told for longer.
        fixed key_epoch: Span = seconds(6 * HOUR), seconds(60) => seconds(DAY);
        /// DNS servers that are asked for the names of crawlers' addresses, at most three. Left
        /// out: those of /etc/resolv.conf.
        fixed resolvers: List<Address> = Vec::new(); like ["127.0.0.53:53"];
    }
    read {
        /// The secret that all tokens are made with: a file that the nodes of a cluster share (mode
        /// 0600). Left out: each node makes its own at the first start, in the state directory.
        fixed secret: Maybe<File> = None; like "cluster.secret";
        /// What the gate keeps for the next start.
        fixed state_directory: File = PathBuf::from("/var/lib/edge");
    }
    checked {
        /// The cluster's secret: a file, or a directory for one that the node makes for itself.
        secret: Secret,
    }
}

/// Where the cluster's secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In this file, which the nodes of a cluster share.
    File(PathBuf, Place),
    /// In this directory, made at the first start.
    Own(PathBuf, Place),
}

impl Default for Secret {
    fn default() -> Self {
        Self::Own(PathBuf::new(), Place::nowhere())
    }
}

/// `[gate]`.
pub(super) fn node(raw: &NodeText, checker: &mut Checker<'_>) -> Node {
    let mut node = raw.check(checker);
    node.secret = match Maybe::<File>::check(&raw.secret, None, checker) {
        Some((file, place)) => Secret::File(file, place),
        None => {
            let (directory, place) = File::check(&raw.state_directory, None, checker);
            Secret::Own(directory, place)
        }
    };
    node
}

section! {
    /// A zone's gate.
    GateText => Gate {
        /// Count what would be done (edge_gate_dry_run_total), and do nothing. A rule may have its
        /// own.
        live dry_run: Flag = false;
        /// Networks that are never judged.
        live allow: List<Net> = Vec::new();
        /// The wait that is told if the policy knows none.
        live defer: Span = seconds(10), seconds(1) => seconds(HOUR);
        /// How long a token is good for once its wait is over.
        live token_life: Span = seconds(HOUR), seconds(60) => seconds(6 * HOUR);
        /// Early attempts in one wait that bring no strike: a browser's favicon, parallel
        /// connections and reloads.
        live grace: Count<u32> = 16, 1 => 10_000;
        /// The first strike's penalty, which doubles with each further strike.
        live strike_base: Span = seconds(10), seconds(1) => seconds(DAY);
        /// The longest penalty.
        live strike_cap: Span = seconds(HOUR), seconds(1) => seconds(7 * DAY);
        /// One strike is forgiven after each such time without another.
        live forgive: Span = seconds(600), seconds(1) => seconds(7 * DAY);
        /// How many clients that have waited one address may stand for under a rate rule; 1: the
        /// address is the client.
        live clients_per_address: Count<u32> = 64, 1 => 65_536;
        /// A waiting page of the zone's own instead of the built-in one.
        live page: Maybe<File> = None; like "waiting.html";
        /// What the page says, in the languages of a catalogue; without it in English.
        live texts: Maybe<File> = None; like "waiting.toml";
        /// Paths, as in rules, that `challenge`, `manual` and `queue` let pass when they are read:
        /// "/robots.txt", a health check. CORS preflights and ACME challenges pass always.
        live pass: List<Path> = Vec::new();
    }
    read {
        /// The cookie that carries tokens: with which requests of other sites it is sent (strict,
        /// lax, none), whether the hosts of a domain share it (domain = "example.com"), and whether
        /// it is kept apart within pages of other sites (partitioned).
        live cookie: Inline<CookieText> = CookieText::default(); like { same_site = "lax", partitioned = false };
    }
    tables {
        crawler: Vec<Spanned<CrawlerText>>,
        rule: Vec<Spanned<rule::RuleText>>,
    }
    checked {
        /// The cookie that carries tokens.
        cookie: Cookie,
        /// Crawlers that are known.
        crawlers: Vec<Crawler>,
        /// Each request is judged by every rule that matches it.
        rules: Vec<Rule>,
    }
}

/// `[zone.gate]` of a zone with these hosts.
pub(super) fn gate(raw: &GateText, hosts: &[HostPattern], checker: &mut Checker<'_>) -> Gate {
    let mut gate = raw.check(checker);
    if gate.strike_cap < gate.strike_base {
        let mend = format!("write {} or more", raw.strike_base.get_ref());
        checker.mistake(raw.strike_cap.span(), "less than strike_base", mend);
    }
    gate.cookie = cookie(&raw.cookie, hosts, checker);
    gate.crawlers = crawlers(&raw.crawler, checker);
    gate.rules = rule::rules(&raw.rule, &gate.crawlers, checker);
    let hands = |rule: &Rule| matches!(rule.policy, Policy::External(_));
    if gate.cookie.same_site == SameSite::Strict && gate.rules.iter().any(hands) {
        let mend = "write same_site = \"lax\": who comes back from a challenge comes by a link of its service";
        checker.mistake(
            raw.cookie.span(),
            "no browser brings a strict cookie back from a challenge",
            mend,
        );
    }
    gate
}

section! {
    /// A crawler that is known: by its signatures, by the names of its addresses, or either.
    CrawlerText => Crawler {
        /// As rules name it.
        live name: Must<Text> = None; like "search";
        /// The file of its keys: the crawler's directory of keys.
        live keys: Maybe<File> = None; like "search.json";
        /// Domains that the names of its addresses are in; such a name must lead back to the
        /// address.
        live hosts: List<Text> = Vec::new(); like ["crawl.example.com"];
        /// With `hosts`: a part of its User-Agent, in any case. Left out: `name`. Only requests
        /// that have it are asked about.
        live agent: Maybe<Text> = None; like "SearchBot";
    }
}

/// All `[[zone.gate.crawler]]` of a zone.
fn crawlers(raw: &[Spanned<CrawlerText>], checker: &mut Checker<'_>) -> Vec<Crawler> {
    let mut crawlers: Vec<Crawler> = Vec::with_capacity(raw.len());
    for spanned in raw {
        let mut crawler = checker.table(spanned, CrawlerText::check);
        named(spanned, &mut crawler, checker);
        if crawlers.iter().any(|other| other.name == crawler.name) {
            let what = format!("a crawler \"{}\" is there already", crawler.name);
            let span = spanned.get_ref().name.span();
            checker.mistake(span, what, "give each crawler a name of its own");
        }
        crawlers.push(crawler);
    }
    crawlers
}

/// What the names of a crawler's addresses are compared with.
fn named(spanned: &Spanned<CrawlerText>, crawler: &mut Crawler, checker: &mut Checker<'_>) {
    let raw = spanned.get_ref();
    for host in &mut crawler.hosts {
        *host = host.trim_matches('.').to_ascii_lowercase();
        let domain = matches!(host.parse::<HostPattern>(), Ok(HostPattern::Exact(_))) && host.contains('.');
        if !domain {
            let mend = "write a domain that the crawler's hosts are in, like \"crawl.example.com\"";
            checker.mistake(raw.hosts.span(), format!("\"{host}\" is not a domain of hosts"), mend);
        }
    }
    if crawler.keys.is_none() && crawler.hosts.is_empty() {
        let mend = "write keys = \"search.json\" or hosts = [\"crawl.example.com\"]";
        checker.mistake(spanned.span(), "nothing says which requests are the crawler's", mend);
    }
    let word = crawler.agent.as_ref().unwrap_or(&crawler.name);
    if !crawler.hosts.is_empty() && word.trim().len() < 3 {
        let mend = "write agent = …, a part of the crawler's User-Agent of 3 characters or more";
        checker.mistake(spanned.span(), format!("\"{word}\" is in too many a User-Agent"), mend);
    }
}

/// The cookie that carries a zone's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// With which requests of other sites it is sent.
    pub same_site: SameSite,
    /// The hosts of this domain share it; `None`: it is of one host.
    pub domain: Option<String>,
    /// Within a page of another site it is that site's own (CHIPS).
    pub partitioned: bool,
}

/// The cookie, as written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct CookieText {
    same_site: SameSite,
    domain: Option<String>,
    partitioned: bool,
}

words! {
    /// With which requests of other sites the cookie is sent (RFC 6265bis section 5.6.7).
    #[derive(Default)]
    SameSite {
        /// With none.
        Strict = "strict",
        /// With links that are followed.
        #[default]
        Lax = "lax",
        /// With all.
        None = "none",
    }
}

fn cookie(spanned: &Spanned<CookieText>, hosts: &[HostPattern], checker: &mut Checker<'_>) -> Cookie {
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
            checker.mistake(spanned.span(), format!("\"{domain}\" is not a domain of hosts"), mend);
        } else if let Some(host) = outside {
            let what = format!("no browser sends a cookie of {domain} to {host}");
            checker.mistake(spanned.span(), what, "write a domain that all hosts of the zone are in");
        }
    }
    Cookie {
        same_site: raw.same_site,
        domain,
        partitioned: raw.partitioned,
    }
}

/// Whether a cookie of `domain` is sent to each host of the pattern (RFC 6265bis section 5.1.3).
fn is_within(host: &HostPattern, domain: &str) -> bool {
    let name = match host {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
    };
    within(name, domain)
}
