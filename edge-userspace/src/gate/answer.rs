//! What a client is told: status, fields and content in a form it accepts. Fields follow RFC 9110
//! section 10.2.3 (Retry-After), RFC 9457 (problem details) and
//! draft-ietf-httpapi-ratelimit-headers-10 (RateLimit, RateLimit-Policy).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::metrics::Kind;
use super::page::{Filling, Template};
use super::policy::Limit;
use super::verdict::{Change, Deferral, Written};
use super::{cause, cookie};
use crate::config::gate::Cookie;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A response of the gate's own. The connection is to be ended behind it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Fields, `Content-Length` among them.
    pub headers: HeaderMap,
    /// Content; none for HEAD.
    pub body: Bytes,
}

/// What the answer is for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Fields.
    pub headers: &'a HeaderMap,
    /// The zone's name.
    pub zone: &'a str,
    /// The zone's cookie.
    pub cookie: &'a Cookie,
    /// 128 random bits, for the page's Content-Security-Policy.
    pub nonce: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Page,
    Json,
    Text,
    Grpc,
}

/// What is said, whatever the form.
struct Said<'a> {
    status: StatusCode,
    wait: Duration,
    /// Problem type of the RateLimit draft, section 6.
    problem: &'static str,
    title: &'static str,
    rule: &'a str,
    token: Option<&'a Written>,
    limit: Option<&'a Limit>,
    ahead: Option<u64>,
    estimate: Option<Duration>,
    /// A challenge: the token, and the bits that its answer takes.
    work: Option<(&'a str, u8)>,
    /// An operator's challenge.
    handed: Option<&'a str>,
}

/// The answer to a request that is told to wait: 429 where the client itself did too much, 503
/// where the zone is full.
pub fn deferral(template: &Template, deferral: &Deferral, asked: Asked<'_>) -> Answer {
    let (status, problem, title) = match deferral.kind {
        Kind::Rate | Kind::Penalty => (StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", "Too many requests"),
        Kind::None | Kind::Allow | Kind::Challenge | Kind::Manual | Kind::Queue | Kind::Concurrency => (
            StatusCode::SERVICE_UNAVAILABLE,
            "temporary-reduced-capacity",
            "Please wait for your turn",
        ),
    };
    let said = Said {
        status,
        wait: deferral.wait,
        problem,
        title,
        rule: &deferral.rule,
        token: deferral.token.as_ref(),
        limit: deferral.limit.as_ref(),
        ahead: deferral.ahead,
        estimate: deferral.estimate,
        work: deferral.token.as_ref().map(|token| &*token.text).zip(deferral.work),
        handed: deferral.handed.as_deref(),
    };
    if let Some(answer) = handed(&said, asked) {
        return answer;
    }
    answer(template, &said, asked)
}

/// The answer to a request that came against what it was told.
pub fn block(template: &Template, wait: Duration, token: Option<&Written>, asked: Asked<'_>) -> Answer {
    let said = Said {
        status: StatusCode::TOO_MANY_REQUESTS,
        wait,
        problem: "abnormal-usage-detected",
        title: "Came back too early, too often",
        rule: "penalty",
        token,
        limit: None,
        ahead: None,
        estimate: None,
        work: None,
        handed: None,
    };
    answer(template, &said, asked)
}

/// Adds what an admitted request's response carries: the limit it is under, and the client's new
/// token.
pub fn admitted(headers: &mut HeaderMap, token: &Change, limit: Option<&Limit>, by_field: bool, terms: &Cookie) {
    if let Some(limit) = limit {
        rate_limit(headers, limit);
    }
    let written = match token {
        Change::Keep => return,
        Change::Clear => ("", Duration::ZERO),
        Change::Set(written) if !written.cookie && !by_field => return,
        Change::Set(written) => (written.text.as_str(), written.life),
    };
    if by_field {
        // A field that is taken away needs no word: the client decides what it sends.
        if let (false, Ok(value)) = (written.0.is_empty(), HeaderValue::from_str(written.0)) {
            headers.insert(cookie::FIELD, value);
        }
    } else if let Some(value) = cookie::set(written.0, written.1, terms) {
        headers.append(header::SET_COOKIE, value);
    }
    // A shared cache must not hand one client's token to another.
    headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
}

/// The answer that hands a browser's visitor to an operator's challenge, with the cookie that it
/// has to come back with. `None` for whoever is not a page's visitor, or could not bring it.
fn handed(said: &Said<'_>, asked: Asked<'_>) -> Option<Answer> {
    let (to, token) = said.handed.zip(said.token.filter(|token| token.cookie))?;
    let browses = asked.method.is_safe() && form(asked.headers) == Form::Page;
    let location = HeaderValue::from_str(to).ok().filter(|_| browses)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::SET_COOKIE, cookie::set(&token.text, token.life, asked.cookie)?);
    Some(led(StatusCode::FOUND, location, headers))
}

/// The answer that leads a visitor to where it wanted to go, a path of this host, by a GET.
pub fn lead(to: &str, token: &Change, by_field: bool, terms: &Cookie) -> Answer {
    let mut headers = HeaderMap::new();
    admitted(&mut headers, token, None, by_field, terms);
    let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    led(StatusCode::SEE_OTHER, location, headers)
}

/// An answer that leads elsewhere, with further `headers`. The address of the page is the other
/// side's business no more than the query that is in it.
fn led(status: StatusCode, location: HeaderValue, mut headers: HeaderMap) -> Answer {
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Answer {
        status,
        headers,
        body: Bytes::new(),
    }
}

fn answer(template: &Template, said: &Said<'_>, asked: Asked<'_>) -> Answer {
    let form = form(asked.headers);
    let seconds = whole_seconds(said.wait);
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(limit) = said.limit {
        rate_limit(&mut headers, limit);
    }
    if let Some(token) = said.token {
        if let Ok(value) = HeaderValue::from_str(&token.text) {
            headers.insert(cookie::FIELD, value);
        }
        let cookie = token.cookie.then(|| cookie::set(&token.text, token.life, asked.cookie));
        if let Some(value) = cookie.flatten() {
            headers.insert(header::SET_COOKIE, value);
        }
    }
    for_pages_of_others(&mut headers, asked);
    let mut status = said.status;
    let (content_type, body) = match form {
        Form::Grpc => {
            grpc(&mut headers, said);
            status = StatusCode::OK;
            let kind = asked.headers.get(header::CONTENT_TYPE).cloned();
            headers.insert(
                header::CONTENT_TYPE,
                kind.unwrap_or(HeaderValue::from_static("application/grpc")),
            );
            return Answer {
                status,
                headers,
                body: Bytes::new(),
            };
        }
        Form::Page => {
            let nonce = format!("{:032x}", asked.nonce);
            let policy = format!(
                "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; \
                 base-uri 'none'; form-action 'none'; frame-ancestors 'self'{}",
                if said.work.is_some() { "; worker-src blob:" } else { "" }
            );
            if let Ok(policy) = HeaderValue::try_from(policy) {
                headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            let page = template.fill(Filling {
                nonce: &nonce,
                seconds,
                again: asked.method.is_safe(),
                ahead: said.ahead,
                estimate: said.estimate.map(whole_seconds),
                zone: asked.zone,
                languages: asked
                    .headers
                    .get(header::ACCEPT_LANGUAGE)
                    .and_then(|value| value.to_str().ok()),
                work: said.work,
            });
            ("text/html; charset=utf-8", page)
        }
        Form::Json => ("application/problem+json", json(said, seconds)),
        Form::Text => ("text/plain; charset=utf-8", text(said, seconds)),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let body = if asked.method == Method::HEAD {
        Bytes::new()
    } else {
        body.into()
    };
    Answer { status, headers, body }
}

/// What lets a page of another origin read why its request was refused (Fetch standard, "HTTP
/// responses" of the CORS protocol), and no token with it. A preflight gets the fields that it asks
/// about, too.
fn for_pages_of_others(headers: &mut HeaderMap, asked: Asked<'_>) {
    let Some(origin) = asked.headers.get(header::ORIGIN) else {
        return;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Retry-After, RateLimit, RateLimit-Policy"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if !cause::is_preflight(asked.method, asked.headers) {
        return;
    }
    for (asks, allows) in [
        (
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_ALLOW_METHODS,
        ),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
        ),
    ] {
        if let Some(value) = asked.headers.get(asks) {
            headers.insert(allows, value.clone());
        }
    }
}

/// Whole seconds, rounded up, at least 1: who comes then does not come early.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// A trailers-only response (gRPC over HTTP/2, "Responses"): the status is in the fields of the
/// only HEADERS frame.
fn grpc(headers: &mut HeaderMap, said: &Said<'_>) {
    // UNAVAILABLE is what retry policies retry; RESOURCE_EXHAUSTED says that the caller itself is
    // the cause.
    let status = if said.status == StatusCode::TOO_MANY_REQUESTS {
        8
    } else {
        14
    };
    headers.insert(GRPC_STATUS, HeaderValue::from(status));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(said.title));
    headers.insert(GRPC_PUSHBACK, HeaderValue::from(whole_seconds(said.wait) * 1_000));
}

fn json(said: &Said<'_>, seconds: u64) -> String {
    let mut problem = serde_json::json!({
        "type": format!("https://iana.org/assignments/http-problem-types#{}", said.problem),
        "title": said.title,
        "status": said.status.as_u16(),
        "detail": format!("Come back in {seconds} s with the token of Edge-Wait."),
        "retry-after": seconds,
        "violated-policies": [said.rule],
    });
    if let (Some(ahead), Some(object)) = (said.ahead, problem.as_object_mut()) {
        object.insert("ahead".into(), ahead.into());
        let estimate = said.estimate.map(whole_seconds);
        object.insert("estimated-wait".into(), estimate.into());
    }
    if let (Some((token, bits)), Some(object)) = (said.work, problem.as_object_mut()) {
        let challenge = serde_json::json!({
            "kind": "work",
            "algorithm": "SHA-256",
            "bits": bits,
            "token": token,
            "answer": "Edge-Work: TOKEN.NUMBER, such that the SHA-256 of TOKEN.NUMBER begins with that many zero bits; NUMBER has 1 to 16 digits",
        });
        object.insert("challenge".into(), challenge);
    }
    if let (Some(url), Some(object)) = (said.handed, problem.as_object_mut()) {
        let challenge = serde_json::json!({ "kind": "external", "url": url });
        object.insert("challenge".into(), challenge);
    }
    problem.to_string()
}

fn text(said: &Said<'_>, seconds: u64) -> String {
    let mut text = format!("{}. Come back in {seconds} s", said.title);
    // Writing to a String cannot fail.
    let _ = match said.token {
        Some(_) => write!(text, " with the token of Edge-Wait, as this field or as the cookie."),
        None => write!(text, "."),
    };
    if let Some(url) = said.handed {
        let _ = write!(text, " Or answer the challenge at {url}");
    }
    text.push('\n');
    text
}

/// Structured fields (RFC 9651): a list of one string with parameters. Rule names need no escapes.
fn rate_limit(headers: &mut HeaderMap, limit: &Limit) {
    let Limit {
        name,
        quota,
        window,
        left,
        reset,
    } = limit;
    let scope = match window {
        Some(seconds) => format!("w={seconds}"),
        None => "qu=\"concurrent-requests\"".to_owned(),
    };
    let reset = reset.map(|t| format!(";t={}", whole_seconds(t))).unwrap_or_default();
    let fields = [
        (RATE_LIMIT_POLICY, format!("\"{name}\";q={quota};{scope}")),
        (RATE_LIMIT, format!("\"{name}\";r={left}{reset}")),
    ];
    for (field, text) in fields {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(field, value);
        }
    }
}

/// The form the client prefers (RFC 9110 section 12.5.1). `*/*` alone is a tool or a sub-resource:
/// text.
fn form(headers: &HeaderMap) -> Form {
    let starts = |name: HeaderName, with: &str| {
        headers
            .get(name)
            .is_some_and(|v| v.as_bytes().to_ascii_lowercase().starts_with(with.as_bytes()))
    };
    if starts(header::CONTENT_TYPE, "application/grpc") {
        return Form::Grpc;
    }
    let mut best = (Form::Text, 0.0);
    let accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for range in accepts.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        let form = match kind.as_str() {
            "text/html" | "application/xhtml+xml" => Form::Page,
            "application/json" => Form::Json,
            kind if kind.starts_with("application/") && kind.ends_with("+json") => Form::Json,
            "text/plain" => Form::Text,
            _ => continue,
        };
        if quality > best.1 {
            best = (form, quality);
        }
    }
    best.0
}

#[cfg(test)]
mod tests;
