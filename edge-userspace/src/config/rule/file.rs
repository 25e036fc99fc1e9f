//! `[[zone.rule]]` as the file has it, and its check: every mistake with its place and mend, files
//! read here, so that one that is missing is a mistake of the file and not a failure of a request.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use toml::Spanned;

use super::cached::RawCache;
use super::checker::{ANSWER_BYTES, Checker, LIST_BYTES, is_ours};
use super::forward::Vouched;
use super::guard::RawAuth;
use super::ways::{RawMirror, RawSplit};
use super::{
    Act, Content, Cors, Fields, Index, List, Listed, Pattern, Protocol, Redirect, Repath, Respond, Rewrite, Rule,
    Rules, Template, When,
};
use crate::config::mistake::{Mistake, Source};
use crate::config::origin::Pools;
use crate::config::value::{HostPattern, Network, Time};

/// Rules of one zone; conditions of one list.
pub(crate) const RULES: usize = 20_000;
pub(crate) const LIST: usize = 4_096;

/// `[[zone.rule]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRule {
    name: Spanned<String>,
    #[serde(default, rename = "match")]
    when: RawWhen,
    #[serde(default)]
    auth: Option<RawAuth>,
    #[serde(default)]
    redirect: Option<RawRedirect>,
    #[serde(default)]
    redirects: Option<RawListed>,
    #[serde(default)]
    respond: Option<RawRespond>,
    #[serde(default)]
    rewrite: Option<Spanned<RawRewrite>>,
    #[serde(default)]
    request: RawFields,
    #[serde(default)]
    response: RawFields,
    #[serde(default)]
    security: bool,
    #[serde(default)]
    cors: Option<RawCors>,
    #[serde(default)]
    cache: Option<Spanned<RawCache>>,
    #[serde(default)]
    origin: Option<Spanned<String>>,
    #[serde(default)]
    split: Option<Spanned<RawSplit>>,
    #[serde(default)]
    mirror: Option<RawMirror>,
    #[serde(default)]
    last: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct RawWhen {
    paths: Vec<Spanned<String>>,
    hosts: Vec<HostPattern>,
    methods: Vec<Spanned<String>>,
    headers: BTreeMap<Spanned<String>, Spanned<String>>,
    cookies: BTreeMap<String, Spanned<String>>,
    query: BTreeMap<String, Spanned<String>>,
    networks: Vec<Network>,
    protocols: Vec<Protocol>,
    secure: Option<bool>,
    certificate: Option<bool>,
    subjects: Vec<Spanned<String>>,
    issuers: Vec<Spanned<String>>,
    alternative_names: Vec<Spanned<String>>,
    spki: Vec<Spanned<String>>,
    not: Option<Spanned<Box<RawWhen>>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct RawRedirect {
    to: Spanned<String>,
    #[serde(default)]
    status: Option<Spanned<u16>>,
    #[serde(default)]
    keep_query: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct RawListed {
    file: Spanned<PathBuf>,
    #[serde(default)]
    status: Option<Spanned<u16>>,
    #[serde(default)]
    keep_query: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct RawRespond {
    status: Spanned<u16>,
    #[serde(default)]
    text: Option<Spanned<String>>,
    #[serde(default)]
    file: Option<Spanned<PathBuf>>,
    #[serde(default, rename = "type")]
    media_type: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct RawRewrite {
    strip: Option<Spanned<String>>,
    add: Option<Spanned<String>>,
    to: Option<Spanned<String>>,
    query: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct RawFields {
    remove: Vec<Spanned<String>>,
    set: BTreeMap<Spanned<String>, Spanned<String>>,
    add: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct RawCors {
    origins: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    methods: Vec<Spanned<String>>,
    #[serde(default)]
    headers: Vec<Spanned<String>>,
    #[serde(default)]
    expose: Vec<Spanned<String>>,
    #[serde(default)]
    credentials: bool,
    #[serde(default)]
    max_age: Option<Time>,
}

/// What is wrong with the rules of one zone.
#[derive(Debug, Default)]
pub(in crate::config) struct Wrong {
    /// With what the configuration's file says.
    pub(in crate::config) mistakes: Vec<Mistake>,
    /// With files that rules name, which stop the zone alone.
    pub(in crate::config) faults: Vec<Mistake>,
}

/// `[[zone.rule]]`s of one zone, and what is wrong with them; `None` without any.
pub(in crate::config) fn rules(
    raw: &[Spanned<RawRule>],
    pools: &Pools,
    source: &Source<'_>,
) -> (Option<Arc<Rules>>, Wrong) {
    let mut checker = Checker {
        source,
        pools,
        mistakes: Vec::new(),
        faults: Vec::new(),
    };
    let mut all: Vec<Rule> = Vec::with_capacity(raw.len());
    let mut names = std::collections::HashSet::new();
    if let Some(over) = raw.get(RULES) {
        checker.mistake(
            over.span(),
            "too many rules",
            format!("write at most {RULES}; lists of redirects go into a file"),
        );
    }
    for spanned in raw.iter().take(RULES) {
        let rule = spanned.get_ref();
        if !names.insert(rule.name.get_ref().as_str()) {
            let what = format!("rule \"{}\" is there already", rule.name.get_ref());
            checker.mistake(rule.name.span(), what, "give each rule of a zone a name of its own");
        }
        all.push(checker.rule(rule));
    }
    if all.is_empty() {
        return (None, checker.wrong());
    }
    let index = Index::new(&all).unwrap_or_else(|_| {
        let at = raw.first().map_or(0..0, Spanned::span);
        checker.mistake(
            at,
            "the expressions of this zone's rules are too large together",
            "write fewer or simpler ones",
        );
        Index::default()
    });
    let vouched = Vouched::of(&all);
    (Some(Arc::new(Rules { all, index, vouched })), checker.wrong())
}

impl Checker<'_> {
    fn wrong(self) -> Wrong {
        Wrong {
            mistakes: self.mistakes,
            faults: self.faults,
        }
    }

    fn rule(&mut self, raw: &RawRule) -> Rule {
        let name = raw.name.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(sound) {
            let what = format!("\"{name}\" is not a valid rule name");
            self.mistake(
                raw.name.span(),
                what,
                "write letters, digits, `-`, `_`, `.`, at most 64",
            );
        }
        let when = self.when(&raw.when);
        let not = raw.when.not.as_ref().map(|not| {
            if not.get_ref().not.is_some() {
                self.mistake(not.span(), "`not` within `not`", "write the condition without both");
            }
            self.when(not.get_ref())
        });
        if raw.auth.as_ref().is_some_and(RawAuth::is_empty) {
            let mend = "write auth = { basic = { … } }, auth = { jwt = { … } } or auth = { forward = { … } }";
            self.mistake(raw.name.span(), "an `auth` that asks for nothing", mend);
        }
        let groups = groups(&when);
        let auth = raw.auth.as_ref();
        let (uncached, cache) = self.cache(raw.cache.as_ref());
        let act = Act {
            auth: auth
                .and_then(|auth| auth.basic.as_ref())
                .map(|basic| Arc::new(self.basic(basic))),
            jwt: auth
                .and_then(|auth| self.jwt(auth.jwt.as_ref()?, &raw.name))
                .map(Arc::new),
            forward: auth
                .and_then(|auth| self.forward(auth.forward.as_ref()?, &groups))
                .map(Arc::new),
            redirect: raw.redirect.as_ref().map(|redirect| self.redirect(redirect, &groups)),
            list: raw.redirects.as_ref().map(|listed| self.listed(listed)),
            respond: raw.respond.as_ref().map(|respond| self.respond(respond, &groups)),
            rewrite: raw.rewrite.as_ref().and_then(|rewrite| self.rewrite(rewrite, &groups)),
            request: self.fields(&raw.request, &groups),
            response: self.fields(&raw.response, &groups),
            security: raw.security,
            uncached,
            cache: cache.map(Arc::new),
            cors: raw.cors.as_ref().map(|cors| self.cors(cors)),
            origin: raw.origin.as_ref().and_then(|name| self.pool(name)),
            split: raw.split.as_ref().map(|split| self.split(split)),
            mirror: raw.mirror.as_ref().and_then(|mirror| self.mirror(mirror)),
        };
        let answers = [act.redirect.is_some(), act.list.is_some(), act.respond.is_some()];
        if answers.iter().filter(|answers| **answers).count() > 1 {
            let mend = "keep one of `redirect`, `redirects` and `respond`";
            self.mistake(raw.name.span(), "a rule that answers in two ways", mend);
        }
        let idle = !answers.contains(&true)
            && auth.is_none_or(RawAuth::is_empty)
            && act.rewrite.is_none()
            && act.request.is_empty()
            && act.response.is_empty()
            && !act.security
            && raw.cache.is_none()
            && act.cors.is_none()
            && raw.origin.is_none()
            && act.split.is_none()
            && raw.mirror.is_none();
        if idle && !raw.last {
            let mend = "write `auth`, `redirect`, `redirects`, `respond`, `rewrite`, `request`, `response`, `security`, \
                        `cors`, `origin`, `split`, `mirror` or `cache`; or `last = true` to keep later rules away";
            self.mistake(raw.name.span(), "a rule that does nothing", mend);
        }
        Rule {
            name: name.as_str().into(),
            when,
            not,
            act,
            last: raw.last,
        }
    }

    fn when(&mut self, raw: &RawWhen) -> When {
        let mut most = |list: &[Spanned<String>]| {
            if let Some(over) = list.get(LIST) {
                self.mistakes.push(
                    self.source
                        .place(over.span())
                        .mistake("too many", format!("write at most {LIST}")),
                );
            }
        };
        most(&raw.paths);
        most(&raw.methods);
        When {
            paths: self.patterns(&raw.paths, Pattern::path),
            hosts: raw.hosts.clone(),
            methods: self.methods(&raw.methods),
            headers: raw
                .headers
                .iter()
                .filter_map(|(name, value)| Some((self.field_name(name)?, self.pattern(value, Pattern::value)?)))
                .collect(),
            cookies: self.named(&raw.cookies),
            query: self.named(&raw.query),
            networks: raw.networks.iter().map(|network| network.0).collect(),
            protocols: raw.protocols.clone(),
            secure: raw.secure,
            certificate: raw.certificate,
            subjects: self.patterns(&raw.subjects, Pattern::value),
            issuers: self.patterns(&raw.issuers, Pattern::value),
            alternative_names: self.patterns(&raw.alternative_names, alternative_name),
            spki: raw.spki.iter().filter_map(|hash| self.spki(hash)).collect(),
        }
    }

    fn spki(&mut self, written: &Spanned<String>) -> Option<Box<str>> {
        let text = written.get_ref().to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(text.into());
        }
        self.mistake(
            written.span(),
            format!("\"{}\" is not a SHA-256", written.get_ref()),
            "write 64 digits: openssl x509 -pubkey -noout -in CERT | openssl pkey -pubin -outform DER | sha256sum",
        );
        None
    }

    fn pattern(
        &mut self,
        written: &Spanned<String>,
        parse: fn(&str) -> Result<Pattern, (String, String)>,
    ) -> Option<Pattern> {
        parse(written.get_ref())
            .map_err(|(what, mend)| self.mistake(written.span(), what, mend))
            .ok()
    }

    fn patterns(
        &mut self,
        written: &[Spanned<String>],
        parse: fn(&str) -> Result<Pattern, (String, String)>,
    ) -> Vec<Pattern> {
        written.iter().filter_map(|one| self.pattern(one, parse)).collect()
    }

    fn named(&mut self, written: &BTreeMap<String, Spanned<String>>) -> Vec<(Box<str>, Pattern)> {
        written
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().into(), self.pattern(value, Pattern::value)?)))
            .collect()
    }

    fn methods(&mut self, written: &[Spanned<String>]) -> Vec<Method> {
        let mut methods = Vec::new();
        for method in written {
            match method.get_ref().parse::<Method>() {
                Ok(known) if method.get_ref().bytes().all(|b| !b.is_ascii_lowercase()) => methods.push(known),
                _ => {
                    let what = format!("\"{}\" is not a valid method", method.get_ref());
                    self.mistake(method.span(), what, "write GET, POST, …, in capitals");
                }
            }
        }
        methods
    }

    fn template(&mut self, written: &Spanned<String>, groups: &[String]) -> Template {
        Template::parse(written.get_ref(), groups).unwrap_or_else(|(what, mend)| {
            self.mistake(written.span(), what, mend);
            Template::default()
        })
    }

    /// Where a redirect leads.
    pub(super) fn place(&mut self, written: &Spanned<String>, groups: &[String]) -> Template {
        let to = self.template(written, groups);
        let head = to.head();
        let whole = ["https://", "http://"].iter().any(|scheme| head.starts_with(scheme));
        if !(whole || head.starts_with('/') || head.is_empty() && !to.0.is_empty()) || !written.get_ref().is_ascii() {
            let what = format!("\"{}\" does not lead anywhere", written.get_ref());
            self.mistake(
                written.span(),
                what,
                "write https://HOST/PATH or /PATH, variables by ${name}",
            );
        }
        to
    }

    fn redirect(&mut self, raw: &RawRedirect, groups: &[String]) -> Redirect {
        Redirect {
            to: self.place(&raw.to, groups),
            status: self.redirect_status(raw.status.as_ref()),
            keep_query: raw.keep_query,
        }
    }

    fn redirect_status(&mut self, written: Option<&Spanned<u16>>) -> StatusCode {
        let Some(written) = written else {
            return StatusCode::PERMANENT_REDIRECT;
        };
        match written.get_ref() {
            301 => StatusCode::MOVED_PERMANENTLY,
            302 => StatusCode::FOUND,
            303 => StatusCode::SEE_OTHER,
            307 => StatusCode::TEMPORARY_REDIRECT,
            308 => StatusCode::PERMANENT_REDIRECT,
            other => {
                self.mistake(
                    written.span(),
                    format!("{other} is not the status of a redirect"),
                    "write 301, 302, 303, 307 or 308",
                );
                StatusCode::PERMANENT_REDIRECT
            }
        }
    }

    fn listed(&mut self, raw: &RawListed) -> Listed {
        let content = self.read(&raw.file, LIST_BYTES).unwrap_or_default();
        let list = match std::str::from_utf8(&content).map(List::parse) {
            Ok(Ok(list)) => list,
            Ok(Err(lines)) => {
                for wrong in lines {
                    let what = format!("{}:{}: {}", raw.file.get_ref().display(), wrong.line, wrong.what);
                    self.fault(
                        raw.file.span(),
                        what,
                        "write a line `/from /to`, or with a status behind it",
                    );
                }
                List::default()
            }
            Err(_) => {
                let what = format!("{} is not UTF-8", raw.file.get_ref().display());
                self.fault(raw.file.span(), what, "write lines of text: /from /to");
                List::default()
            }
        };
        Listed {
            list: Arc::new(list),
            status: self.redirect_status(raw.status.as_ref()),
            keep_query: raw.keep_query,
        }
    }

    /// The content of an answer's file.
    fn content(&mut self, file: &Spanned<PathBuf>) -> Bytes {
        let read = self.read(file, ANSWER_BYTES);
        Bytes::from(
            read.map(|mut content| std::mem::take(&mut *content))
                .unwrap_or_default(),
        )
    }

    fn respond(&mut self, raw: &RawRespond, groups: &[String]) -> Respond {
        let status = StatusCode::from_u16(*raw.status.get_ref()).ok();
        let status = status.filter(|status| !status.is_informational()).unwrap_or_else(|| {
            let what = format!("{} is not the status of an answer", raw.status.get_ref());
            self.mistake(raw.status.span(), what, "write 200 to 599");
            StatusCode::NOT_FOUND
        });
        let content = match (&raw.text, &raw.file) {
            (Some(text), None) => Content::Text(self.template(text, groups)),
            (None, Some(file)) => Content::File(self.content(file)),
            (None, None) => Content::File(Bytes::new()),
            (Some(_), Some(file)) => {
                self.mistake(file.span(), "both `text` and `file`", "keep one");
                Content::File(Bytes::new())
            }
        };
        let usual = match &raw.file {
            Some(file) if file.get_ref().extension().is_some_and(|e| e == "html") => "text/html; charset=utf-8",
            Some(file) if file.get_ref().extension().is_some_and(|e| e == "json") => "application/json",
            _ => "text/plain; charset=utf-8",
        };
        let media_type = match &raw.media_type {
            None => HeaderValue::from_static(usual),
            Some(written) => HeaderValue::from_str(written.get_ref()).unwrap_or_else(|_| {
                let what = format!("\"{}\" is not a media type", written.get_ref());
                self.mistake(written.span(), what, "write one such as text/html; charset=utf-8");
                HeaderValue::from_static(usual)
            }),
        };
        Respond {
            status,
            content,
            media_type,
        }
    }

    fn rewrite(&mut self, spanned: &Spanned<RawRewrite>, groups: &[String]) -> Option<Rewrite> {
        let raw = spanned.get_ref();
        let query = raw.query.as_ref().map(|query| self.template(query, groups));
        let path = match (&raw.to, &raw.strip, &raw.add) {
            (Some(to), None, None) => {
                let template = self.template(to, groups);
                if !template.head().starts_with('/') || !to.get_ref().is_ascii() || to.get_ref().contains(['?', '#']) {
                    let what = format!("\"{}\" is not a valid path", to.get_ref());
                    self.mistake(to.span(), what, "begin with /, and write the query as `query = \"…\"`");
                }
                Repath::To(template)
            }
            (None, None, None) if query.is_none() => {
                self.mistake(
                    spanned.span(),
                    "a `rewrite` that changes nothing",
                    "write `strip`, `add`, `to` or `query`",
                );
                return None;
            }
            (None, strip, add) => Repath::Front {
                strip: self.front(strip.as_ref()),
                add: self.front(add.as_ref()),
            },
            (Some(to), ..) => {
                self.mistake(to.span(), "`to` beside `strip` or `add`", "keep one way");
                return None;
            }
        };
        Some(Rewrite { path, query })
    }

    /// A front part of paths, without its `/` at the end.
    fn front(&mut self, written: Option<&Spanned<String>>) -> Box<str> {
        let Some(written) = written else {
            return "".into();
        };
        let text = written.get_ref();
        let sound = text.starts_with('/') && text.is_ascii() && text.parse::<http::uri::PathAndQuery>().is_ok();
        if !sound || text.contains(['?', '#']) {
            let what = format!("\"{text}\" is not a valid path");
            self.mistake(written.span(), what, "write one that begins with /");
        }
        text.trim_end_matches('/').into()
    }

    fn fields(&mut self, raw: &RawFields, groups: &[String]) -> Fields {
        Fields {
            remove: raw.remove.iter().filter_map(|name| self.own_field(name)).collect(),
            set: self.valued(&raw.set, groups),
            add: self.valued(&raw.add, groups),
        }
    }

    pub(super) fn valued(
        &mut self,
        raw: &BTreeMap<Spanned<String>, Spanned<String>>,
        groups: &[String],
    ) -> Vec<(HeaderName, Template)> {
        let mut fields = Vec::new();
        for (name, value) in raw {
            if HeaderValue::from_str(value.get_ref()).is_err() {
                let what = format!("\"{}\" cannot stand in a field", value.get_ref().escape_debug());
                self.mistake(value.span(), what, "write visible characters");
            }
            let template = self.template(value, groups);
            fields.extend(self.own_field(name).map(|name| (name, template)));
        }
        fields
    }

    /// A field that rules may change.
    pub(super) fn own_field(&mut self, written: &Spanned<String>) -> Option<HeaderName> {
        let name = self.field_name(written)?;
        if is_ours(name.as_str()) {
            let mend = "rules change fields of the message; connections, framing and who forwarded it are the edge's";
            self.mistake(written.span(), format!("no rule may change {name}"), mend);
            return None;
        }
        Some(name)
    }

    fn cors(&mut self, raw: &RawCors) -> Cors {
        let written = raw.origins.get_ref();
        if written.is_empty() {
            self.mistake(
                raw.origins.span(),
                "no origins",
                "write origins = [\"https://app.example\"]",
            );
        }
        let any = written.iter().any(|origin| origin.get_ref() == "*");
        if any && raw.credentials {
            let mend = "name the origins; every site could act as its visitors otherwise";
            self.mistake(raw.origins.span(), "`credentials` for every origin", mend);
        }
        for origin in written {
            let text = origin.get_ref();
            let scheme = text.starts_with("https://") || text.starts_with("http://") || text == "*" || text == "null";
            if !scheme || text.ends_with('/') {
                let what = format!("\"{text}\" is not a valid origin");
                self.mistake(
                    origin.span(),
                    what,
                    "write https://HOST, with a port if it is not 443, without a path",
                );
            }
        }
        let methods = self.methods(&raw.methods);
        let methods = match methods.as_slice() {
            [] => "GET, HEAD, POST, PUT, PATCH, DELETE".to_owned(),
            some => some.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
        };
        let mut names = |list: &[Spanned<String>]| {
            let names: Vec<_> = list.iter().filter_map(|name| self.field_name(name)).collect();
            let text = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
            (!text.is_empty()).then(|| HeaderValue::from_str(&text).ok()).flatten()
        };
        Cors {
            headers: names(&raw.headers),
            expose: names(&raw.expose),
            origins: self.patterns(written, Pattern::value),
            any,
            methods: HeaderValue::from_str(&methods).unwrap_or_else(|_| HeaderValue::from_static("GET")),
            credentials: raw.credentials,
            max_age: raw.max_age.map_or(Duration::from_secs(600), |time| time.0),
        }
    }
}

/// The kinds of alternative names that clients' certificates are known by.
const KINDS: [&str; 4] = ["DNS:", "URI:", "email:", "IP:"];

/// A pattern of an alternative name: its kind is written out, so that none is taken for another.
fn alternative_name(text: &str) -> Result<Pattern, (String, String)> {
    if !text.starts_with('~') && !KINDS.iter().any(|kind| text.starts_with(kind)) {
        return Err((
            format!("\"{text}\" does not say of which kind the name is"),
            "write DNS:shop.example, URI:spiffe://…, email:… or IP:…".to_owned(),
        ));
    }
    Pattern::value(text)
}

/// The groups of the expressions of `when`'s paths: numbers, and names.
fn groups(when: &When) -> Vec<String> {
    let mut groups = Vec::new();
    for pattern in &when.paths {
        if let Pattern::Regex(regex) = pattern {
            for (number, name) in regex.capture_names().enumerate() {
                groups.push(number.to_string());
                groups.extend(name.map(str::to_owned));
            }
        }
    }
    groups
}
