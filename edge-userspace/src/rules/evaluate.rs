//! From the facts of a request to what the rules make of it. Pure.
//!
//! Every rule that fits is applied, in the file's order; conditions are those of the request as it
//! came, so that a rule does not depend on what another one has rewritten. The first rule that
//! answers ends it, as does `last = true`.

use std::cell::LazyCell;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, ORIGIN, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::change::{Change, Given};
use super::facts::Facts;
use super::fill::{Escape, fill, groups};
use super::forward::{self, Said};
use super::keyring::Held;
use super::{jwt, split};
use crate::config::cache::CacheRule;
use crate::config::pool::Mirror;
use crate::config::rule::jwt::{Jwt, KeyServer, Source};
use crate::config::rule::{Basic, Content, Cors, Fields, Forward, Repath, Respond, Rewrite, Rule, Rules, Template};
use crate::gate::cookie;

/// What the rules make of a request.
#[derive(Debug, Default)]
pub(super) struct Made<'r> {
    /// The rules that fit.
    pub(super) rules: Vec<&'r Rule>,
    /// Ends the request here.
    pub(super) answer: Option<Given>,
    /// The target in place of the request's.
    pub(super) target: Option<PathAndQuery>,
    /// Of the request.
    pub(super) request: Vec<Change>,
    /// Of the response.
    pub(super) response: Vec<Change>,
    /// The cache is passed by: it would not see whose the answer is.
    pub(super) uncached: bool,
    /// A rule says that the cache is passed by.
    bypassed: bool,
    /// The last rule that says how what is stored of the request is, by its name.
    pub(super) cache: Option<(&'r Arc<str>, &'r Arc<CacheRule>)>,
    /// The pool that answers.
    pub(super) pool: Option<&'r Arc<str>>,
    /// The pool that gets a copy.
    pub(super) mirror: Option<&'r Mirror>,
    /// A rule asks for what nobody knows yet: all else is void until that is found out.
    pub(super) asks: Option<Asks<'r>>,
    /// Servers whose keys tokens were checked with.
    pub(super) servers: Vec<&'r KeyServer>,
    /// The services that let it pass.
    pub(super) passed: Vec<&'r Arc<Forward>>,
    /// Who has shown a password.
    user: &'r str,
    /// What the token says that was checked.
    pub(super) claims: Option<Arc<jwt::Claims>>,
    /// What each token that was asked for came to.
    pub(super) tokens: Vec<Option<jwt::Refused>>,
}

/// What has to be found out before the rules can be applied.
#[derive(Clone, Debug)]
pub(super) enum Asks<'r> {
    /// Whether the password is right.
    Password(&'r Arc<Basic>),
    /// Whether a service lets the request pass, asked with these changes of what it is sent.
    Service(&'r Arc<Forward>, Vec<Change>),
    /// The keys that a token is checked with.
    Keys(&'r KeyServer),
}

/// What is known of a request beside the request.
pub(super) trait Known<'r> {
    /// What its credentials are worth.
    fn password(&self, basic: &'r Arc<Basic>) -> Shown<'r>;
    /// The keys of a server.
    fn keys(&self, server: &'r KeyServer) -> Held;
    /// What a service said of it, asked `with` these changes; `None`: it was not asked.
    fn said(&self, forward: &'r Arc<Forward>, with: &[Change]) -> Option<Arc<Said>>;
}

/// What is known of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown<'r> {
    /// None, or wrong ones.
    Wrong,
    /// This user's.
    Right(&'r str),
    /// They are there, and were not checked yet.
    Unchecked,
}

/// Whether `rule` fits; `Err` names the condition that does not hold.
pub(super) fn judge(rule: &Rule, facts: &Facts<'_>) -> Result<(), &'static str> {
    if let Some(missing) = facts.missing(&rule.when) {
        return Err(missing);
    }
    match &rule.not {
        Some(not) if facts.missing(not).is_none() => return Err("not"),
        _ => {}
    }
    match &rule.act.list {
        Some(listed) if listed.find(facts.path.readings()).is_none() => Err("redirects: the path is not on the list"),
        _ => Ok(()),
    }
}

/// What `rules` make of a request with `facts`, and what is `known` beside it.
pub(super) fn evaluate<'r>(rules: &'r Rules, facts: &Facts<'r>, known: &dyn Known<'r>) -> Made<'r> {
    let mut candidates = Vec::new();
    for path in facts.path.readings() {
        rules.index.candidates(path, &mut candidates);
    }
    let mut made = Made::begin(rules, facts);
    for rule in candidates.iter().filter_map(|number| rules.all.get(*number as usize)) {
        if judge(rule, facts).is_ok() && made.take(rule, facts, known) {
            break;
        }
    }
    made
}

impl<'r> Made<'r> {
    /// What `rules` make of every request: it goes on without fields that only a service may say.
    pub(super) fn begin(rules: &Rules, facts: &Facts<'r>) -> Self {
        let names = facts.headers.keys().filter(|name| rules.vouched.has(name));
        Self {
            request: names.cloned().map(Change::Remove).collect(),
            ..Self::default()
        }
    }

    /// Adds what `rule`, which fits, does; whether it was the last one.
    pub(super) fn take(&mut self, rule: &'r Rule, facts: &Facts<'r>, known: &dyn Known<'r>) -> bool {
        // Before a password is asked for: a preflight never has credentials (Fetch standard,
        // "CORS-preflight fetch").
        if let Some(cors) = &rule.act.cors
            && let Some(preflight) = readable(cors, facts, &mut self.response)
        {
            self.rules.push(rule);
            self.answer = Some(preflight);
            return true;
        }
        if self.guarded(rule, facts, known) {
            return true;
        }
        let claims = self.claims.clone();
        let facts = &Facts {
            user: self.user,
            claims: claims.as_deref(),
            ..*facts
        };
        // Most rules have no template, and then nobody asks for the groups of their pattern.
        let groups = LazyCell::new(|| groups(rule, facts));
        let filled = |template: &Template, escape| fill(template, facts, groups.as_ref(), escape);
        self.asks_service(rule, facts, filled, known) || self.act(rule, facts, filled)
    }

    /// Asks for the password and the token that `rule` asks for; whether the request does not pass
    /// it, or not yet.
    fn guarded(&mut self, rule: &'r Rule, facts: &Facts<'r>, known: &dyn Known<'r>) -> bool {
        if let Some(basic) = &rule.act.auth {
            match known.password(basic) {
                Shown::Right(user) => {
                    self.user = user;
                    if !basic.forward {
                        // The cache would not see that the answer is for this user.
                        self.uncached = true;
                        self.request.push(Change::Remove(AUTHORIZATION));
                    }
                }
                Shown::Wrong => {
                    self.rules.push(rule);
                    self.answer = Some(without_password(basic));
                    return true;
                }
                Shown::Unchecked => {
                    self.asks = Some(Asks::Password(basic));
                    return true;
                }
            }
        }
        if let Some(jwt) = &rule.act.jwt {
            match self.checked(jwt, facts, known) {
                None => return true,
                Some(Ok(claims)) => {
                    self.tokens.push(None);
                    self.claims = Some(Arc::new(claims));
                    if !jwt.forward {
                        self.request.extend(withheld(jwt, facts.headers));
                    }
                    // The cache knows one field alone that says that an answer is one user's.
                    self.uncached |= !jwt.forward || !facts.headers.contains_key(AUTHORIZATION);
                }
                Some(Err(refused)) => {
                    self.tokens.push(Some(refused));
                    self.rules.push(rule);
                    self.answer = Some(without_token(jwt, refused));
                    return true;
                }
            }
        }
        false
    }

    /// Asks the service that `rule` names, after what costs less; whether the request does not pass
    /// it, or not yet.
    fn asks_service(
        &mut self,
        rule: &'r Rule,
        facts: &Facts<'_>,
        filled: impl Fn(&Template, Escape) -> String + Copy,
        known: &dyn Known<'r>,
    ) -> bool {
        let Some(forward) = &rule.act.forward else {
            return false;
        };
        let mut with = Vec::new();
        set(&forward.set, filled, &mut with);
        match known.said(forward, &with).as_deref() {
            None => self.asks = Some(Asks::Service(forward, with)),
            Some(Said::Refused(answer)) => {
                self.rules.push(rule);
                let login = forward
                    .login
                    .as_ref()
                    .filter(|_| answer.status == StatusCode::UNAUTHORIZED);
                self.answer = Some(match login {
                    Some(login) => to_login(&filled(login, Escape::Not), facts),
                    None => answer.clone(),
                });
            }
            Some(Said::Passes(to_origin, to_client)) => {
                // The cache would not see who it was said of.
                self.uncached = true;
                self.passed.push(forward);
                self.request
                    .extend(forward::for_origin(forward, to_origin, facts.headers));
                self.response.extend(forward::for_client(to_client));
                return false;
            }
        }
        true
    }

    /// What the token that `jwt` asks for says; `None`: keys have to be asked for first.
    fn checked(
        &mut self,
        jwt: &'r Jwt,
        facts: &Facts<'r>,
        known: &dyn Known<'r>,
    ) -> Option<Result<jwt::Claims, jwt::Refused>> {
        let server = match &jwt.source {
            Source::File(file) => return Some(jwt::check(jwt, &file.keys(), facts.headers, facts.now)),
            Source::Server(server) => server,
        };
        self.servers.push(server);
        let held = known.keys(server);
        let keys = held.keys.as_ref().map_or(&[][..], |keys| keys);
        match jwt::check(jwt, keys, facts.headers, facts.now) {
            // It may be signed by a key that has come since; or there are none at all.
            Err(jwt::Refused::Key) if held.due || held.keys.is_none() => {
                self.asks = Some(Asks::Keys(server));
                None
            }
            checked => Some(checked),
        }
    }

    /// Adds what `rule` does with a request that passes it; whether it was the last one.
    fn act(&mut self, rule: &'r Rule, facts: &Facts<'_>, filled: impl Fn(&Template, Escape) -> String + Copy) -> bool {
        self.rules.push(rule);
        let act = &rule.act;
        self.bypassed |= act.uncached;
        if let Some(cache) = &act.cache {
            self.cache = Some((&rule.name, cache));
        }
        if let Some(pool) = &act.origin {
            self.pool = Some(pool);
        }
        if let Some(split) = &act.split
            && let Some(pool) = split::part(split, &rule.name, facts)
        {
            self.pool = Some(pool);
        }
        if let Some(mirror) = &act.mirror
            && split::lot(&rule.name, &facts.request_id) < mirror.share
        {
            self.mirror = Some(mirror);
        }
        if let Some(rewrite) = &act.rewrite {
            self.rewrite(rewrite, facts, filled);
        }
        changes(&act.request, filled, &mut self.request);
        changes(&act.response, filled, &mut self.response);
        if act.security {
            self.response.extend(security(facts.secure));
        }
        if let Some(redirect) = &act.redirect {
            let to = filled(&redirect.to, Escape::Not);
            self.answer = Some(redirected(&to, redirect.status, redirect.keep_query, facts));
        } else if let Some(listed) = &act.list {
            if let Some((to, status)) = listed.find(facts.path.readings()) {
                let status = status.unwrap_or(listed.status);
                self.answer = Some(redirected(to, status, listed.keep_query, facts));
            }
        } else if let Some(respond) = &act.respond {
            self.answer = Some(responded(respond, filled));
        }
        self.answer.is_some() || rule.last
    }

    /// Whether the request passes the cache by: a rule says so, or shown credentials were taken out
    /// of it and no rule says that the answer is for everybody all the same.
    pub(super) fn passes_by(&self) -> bool {
        let public = self.cache.is_some_and(|(_, cache)| cache.public);
        self.bypassed || self.uncached && !public
    }

    fn rewrite(&mut self, rewrite: &Rewrite, facts: &Facts<'_>, filled: impl Fn(&Template, Escape) -> String) {
        let (path, query) = match &self.target {
            Some(target) => (target.path(), target.query().unwrap_or_default()),
            None => (facts.path.usual(), facts.query),
        };
        let path = match &rewrite.path {
            Repath::To(template) => filled(template, Escape::Not),
            Repath::Front { strip, add } => {
                let rest = path
                    .strip_prefix(&**strip)
                    .filter(|rest| rest.is_empty() || rest.starts_with('/'))
                    .unwrap_or(path);
                match (add.is_empty(), rest.is_empty()) {
                    (true, true) => "/".to_owned(),
                    _ => format!("{add}{rest}"),
                }
            }
        };
        let query = match &rewrite.query {
            Some(template) => filled(template, Escape::Not),
            None => query.to_owned(),
        };
        let mut target = one_slash(&path).replace('?', "%3F").replace('#', "%23");
        if !query.is_empty() {
            target.push('?');
            target.push_str(&query.replace('#', "%23"));
        }
        // What cannot stand in a target (a cookie's value with a space in it, say) leaves the
        // request as it was.
        if let Ok(target) = PathAndQuery::try_from(target) {
            self.target = Some(target);
        }
    }
}

/// `path` with one `/` in front: `//host` would be another host to whoever resolves it (RFC 3986
/// section 4.2), and browsers read a backslash there as a slash.
fn one_slash(path: &str) -> String {
    format!("/{}", path.trim_start_matches(['/', '\\']))
}

fn changes(fields: &Fields, filled: impl Fn(&Template, Escape) -> String, into: &mut Vec<Change>) {
    into.extend(fields.remove.iter().cloned().map(Change::Remove));
    set(&fields.set, &filled, into);
    for (name, template) in &fields.add {
        into.extend(value(template, &filled).map(|value| Change::Add(name.clone(), value)));
    }
}

/// One field each in place of what there is, or none.
fn set(fields: &[(HeaderName, Template)], filled: impl Fn(&Template, Escape) -> String, into: &mut Vec<Change>) {
    for (name, template) in fields {
        into.push(match value(template, &filled) {
            Some(value) => Change::Set(name.clone(), value),
            None => Change::Remove(name.clone()),
        });
    }
}

/// A field's value. One that cannot stand in a field (a cookie's with control characters in it,
/// say) is as good as an empty one.
fn value(template: &Template, filled: impl Fn(&Template, Escape) -> String) -> Option<HeaderValue> {
    let value = HeaderValue::try_from(filled(template, Escape::Not)).ok();
    value.filter(|value| !value.is_empty())
}

/// The answer to who is not logged in: for nobody else, and now.
fn to_login(place: &str, facts: &Facts<'_>) -> Given {
    let mut given = redirected(place, StatusCode::FOUND, false, facts);
    given
        .headers
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    given
}

/// What browsers are told to be careful about. HSTS only over TLS (RFC 6797 section 7.2).
fn security(tls: bool) -> impl Iterator<Item = Change> {
    [
        (STRICT_TRANSPORT_SECURITY, "max-age=31536000", tls),
        (X_CONTENT_TYPE_OPTIONS, "nosniff", true),
        (X_FRAME_OPTIONS, "SAMEORIGIN", true),
        (REFERRER_POLICY, "strict-origin-when-cross-origin", true),
    ]
    .into_iter()
    .filter(|(_, _, applies)| *applies)
    .map(|(name, value, _)| Change::Default(name, HeaderValue::from_static(value)))
}

/// The fields that let the page's origin read the response, and the answer if the request is a
/// preflight. An origin that may not read gets no field, and its preflight the answer of whoever
/// comes after.
fn readable(cors: &Cors, facts: &Facts<'_>, response: &mut Vec<Change>) -> Option<Given> {
    if !cors.any {
        response.push(Change::Add(VARY, HeaderValue::from_static("origin")));
    }
    let origin = facts.headers.get(ORIGIN)?;
    let allowed = cors.any || {
        let origin = origin.to_str().ok()?;
        cors.origins.iter().any(|pattern| pattern.matches(origin))
    };
    if !allowed {
        return None;
    }
    let told = match cors.any {
        true => HeaderValue::from_static("*"),
        false => origin.clone(),
    };
    response.push(Change::Set(ACCESS_CONTROL_ALLOW_ORIGIN, told));
    if cors.credentials {
        let yes = HeaderValue::from_static("true");
        response.push(Change::Set(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes));
    }
    if facts.method != Method::OPTIONS || !facts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let expose = cors.expose.clone();
        response.extend(expose.map(|names| Change::Set(ACCESS_CONTROL_EXPOSE_HEADERS, names)));
        return None;
    }
    let mut headers = HeaderMap::new();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
    let asked = || facts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    if let Some(names) = cors.headers.clone().or_else(asked) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    Some(Given {
        status: StatusCode::NO_CONTENT,
        headers,
        body: Bytes::new(),
        phrase: false,
    })
}

/// The answer to who proves nothing, with what would prove it (RFC 9110 section 11.6.1).
fn unauthorized(challenge: &HeaderValue, body: &'static str) -> Given {
    let mut headers = HeaderMap::new();
    headers.insert(WWW_AUTHENTICATE, challenge.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Given {
        status: StatusCode::UNAUTHORIZED,
        headers,
        body: Bytes::from_static(body.as_bytes()),
        phrase: true,
    }
}

/// The answer to who has no password that passes.
fn without_password(basic: &Basic) -> Given {
    unauthorized(&basic.challenge, "A name and a password are needed.\n")
}

/// The answer to who has no token that passes (RFC 6750 section 3).
fn without_token(jwt: &Jwt, refused: jwt::Refused) -> Given {
    let [missing, wrong] = &jwt.challenges;
    let challenge = if refused == jwt::Refused::Missing {
        missing
    } else {
        wrong
    };
    unauthorized(challenge, "A valid token is needed.\n")
}

/// Takes tokens out of the request: the field, unless it is of another scheme, and the cookie.
fn withheld(jwt: &Jwt, headers: &HeaderMap) -> Vec<Change> {
    let mut changes = Vec::new();
    let other = |value: &HeaderValue| value.to_str().is_ok_and(|value| jwt::bearer(value).is_none());
    if jwt.header != AUTHORIZATION || !headers.get(AUTHORIZATION).is_some_and(other) {
        changes.push(Change::Remove(jwt.header.clone()));
    }
    let Some(name) = &jwt.cookie else { return changes };
    if cookie::pairs(headers).any(|pair| cookie::value(pair, name).is_some()) {
        let rest = cookie::pairs(headers).filter(|pair| cookie::value(pair, name).is_none());
        let rest: Vec<_> = rest.map(<[u8]>::trim_ascii).collect();
        changes.push(match HeaderValue::try_from(rest.join(&b"; "[..])) {
            Ok(rest) if !rest.is_empty() => Change::Set(COOKIE, rest),
            Ok(_) | Err(_) => Change::Remove(COOKIE),
        });
    }
    changes
}

fn redirected(to: &str, status: StatusCode, keep_query: bool, facts: &Facts<'_>) -> Given {
    let mut to = match to.starts_with("https://") || to.starts_with("http://") {
        true => to.to_owned(),
        false => one_slash(to),
    };
    if keep_query && !facts.query.is_empty() {
        let (place, fragment) = match to.split_once('#') {
            Some((place, fragment)) => (place, Some(fragment)),
            None => (to.as_str(), None),
        };
        let joint = if place.contains('?') { '&' } else { '?' };
        to = match fragment {
            Some(fragment) => format!("{place}{joint}{}#{fragment}", facts.query),
            None => format!("{place}{joint}{}", facts.query),
        };
    }
    let mut headers = HeaderMap::new();
    // Variables may hold what cannot stand in a field: then there is nowhere to send the client.
    let Ok(location) = HeaderValue::try_from(to) else {
        return Given {
            status: StatusCode::NOT_FOUND,
            headers,
            body: Bytes::new(),
            phrase: true,
        };
    };
    headers.insert(LOCATION, location);
    Given {
        status,
        headers,
        body: Bytes::new(),
        phrase: true,
    }
}

fn responded(respond: &Respond, filled: impl Fn(&Template, Escape) -> String) -> Given {
    let html = respond.media_type.as_bytes().starts_with(b"text/html");
    let escape = if html { Escape::Html } else { Escape::Not };
    let body = match &respond.content {
        Content::Text(template) => Bytes::from(filled(template, escape)),
        Content::File(content) => content.clone(),
    };
    let mut headers = HeaderMap::new();
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, respond.media_type.clone());
    }
    Given {
        status: respond.status,
        headers,
        phrase: body.is_empty(),
        body,
    }
}

#[cfg(test)]
mod tests;
