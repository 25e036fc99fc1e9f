//! What clients of each kind are told.

use super::*;

fn ask(method: Method, fields: &[(&'static str, &str)], kind: Kind) -> Answer {
    let headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect();
    let told = Deferral {
        wait: Duration::from_millis(29_100),
        kind,
        rule: "default".into(),
        token: Some(Written {
            text: "tok".into(),
            life: Duration::from_secs(3_600),
            cookie: true,
        }),
        limit: Some(Limit {
            name: "default".into(),
            quota: 100,
            window: Some(60),
            left: 0,
            reset: Some(Duration::from_secs(30)),
        }),
        ahead: (kind == Kind::Queue).then_some(3),
        estimate: (kind == Kind::Queue).then_some(Duration::from_secs(90)),
        work: None,
        handed: None,
    };
    told_by(&method, &headers, &told)
}

fn told_by(method: &Method, headers: &HeaderMap, told: &Deferral) -> Answer {
    let asked = Asked {
        method,
        headers,
        zone: "shop",
        cookie: &Cookie::default(),
        nonce: 0xabc,
    };
    deferral(&Template::default(), told, asked)
}

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |v| v.to_str().unwrap())
}

/// Clients that follow the standards would not learn when to come back, or with what.
#[test]
fn fields() {
    let answer = ask(Method::GET, &[], Kind::Rate);
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    for (name, value) in [
        ("retry-after", "30"),
        ("ratelimit-policy", "\"default\";q=100;w=60"),
        ("ratelimit", "\"default\";r=0;t=30"),
        ("edge-wait", "tok"),
        (
            "set-cookie",
            "__Host-edge-wait=tok; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=3600",
        ),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(field(&answer, name), value, "{name}");
    }
    assert_eq!(
        ask(Method::GET, &[], Kind::Concurrency).status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

type Parameter = (String, Result<u64, String>);

/// A list of items of structured fields (RFC 9651 section 4.2.1), as far as the RateLimit draft
/// uses them: strings with parameters that are integers or strings. Strict: `None` for what the
/// grammar has no word for.
fn parsed(field: &str) -> Option<Vec<(String, Vec<Parameter>)>> {
    fn string(text: &str) -> Option<(String, &str)> {
        let (inside, rest) = text.strip_prefix('"')?.split_once('"')?;
        let plain = inside.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\\');
        plain.then(|| (inside.to_owned(), rest))
    }
    let item = |text: &str| {
        let (name, mut rest) = string(text)?;
        let mut parameters = Vec::new();
        while let Some(after) = rest.strip_prefix(';') {
            let (key, value) = after.split_once('=')?;
            let first = key.bytes().next()?;
            let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b);
            if !(first.is_ascii_lowercase() || first == b'*') || !key.bytes().all(sound) {
                return None;
            }
            let value = if value.starts_with('"') {
                let (text, after) = string(value)?;
                rest = after;
                Err(text)
            } else {
                let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
                let (digits, after) = value.split_at(end);
                rest = after;
                // Section 3.3.1: at most 15 digits.
                Ok((1..=15).contains(&digits.len()).then(|| digits.parse().ok())??)
            };
            parameters.push((key.to_owned(), value));
        }
        rest.is_empty().then_some((name, parameters))
    };
    field.split(", ").map(item).collect()
}

/// Whatever a rule says, clients must be able to read it: integers of at most 15 digits, a window
/// of at least a second, and the units of what is not requests.
#[test]
fn rate_limit_fields_are_structured_fields() {
    let mut random = 7_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (random >> 33) % n
    };
    for _ in 0..2_000 {
        let limit = Limit {
            name: "a-Rule_1.b".into(),
            quota: below(u64::from(u32::MAX)),
            window: (below(3) > 0).then(|| 1 + below(1 << 31)),
            left: below(u64::from(u32::MAX)),
            reset: (below(3) > 0).then(|| Duration::from_millis(below(1 << 31))),
        };
        let mut headers = HeaderMap::new();
        rate_limit(&mut headers, &limit);
        let read = |field: &str| parsed(headers[field].to_str().unwrap()).unwrap();
        let name = limit.name.to_string();
        let window = match limit.window {
            Some(seconds) => ("w".to_owned(), Ok(seconds)),
            None => ("qu".to_owned(), Err("concurrent-requests".to_owned())),
        };
        assert_eq!(
            read("ratelimit-policy"),
            [(name.clone(), vec![("q".to_owned(), Ok(limit.quota)), window])]
        );
        let mut told = vec![("r".to_owned(), Ok(limit.left))];
        told.extend(limit.reset.map(|reset| ("t".to_owned(), Ok(whole_seconds(reset)))));
        assert_eq!(read("ratelimit"), [(name, told)]);
    }
    // The parser must refuse something, or it proves nothing.
    for wrong in [
        "default;q=1",
        "\"a\";q=1.5",
        "\"a\";Q=1",
        "\"a\"; q",
        "\"a\";q=1234567890123456",
        "\"a\"x",
    ] {
        assert_eq!(parsed(wrong), None, "{wrong}");
    }
}

/// Retry-After must not be earlier than the time when more is left (draft section 5), or who keeps
/// to it comes in vain.
#[test]
fn nobody_is_sent_back_before_there_is_more() {
    let answer = ask(Method::GET, &[], Kind::Rate);
    let after: u64 = field(&answer, "retry-after").parse().unwrap();
    let limits = parsed(field(&answer, "ratelimit")).unwrap();
    assert!(matches!(limits[0].1[1], (ref key, Ok(reset)) if key == "t" && after >= reset));
}

/// An API client would get a page it cannot read, and a browser JSON.
#[test]
fn forms() {
    let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    for (accept, kind) in [
        (chromium, "text/html"),
        ("application/json", "application/problem+json"),
        ("text/html;q=0.5, application/vnd.api+json", "application/problem+json"),
        ("text/html;q=0, */*", "text/plain"),
        ("image/webp,*/*", "text/plain"),
    ] {
        let answer = ask(Method::GET, &[("accept", accept)], Kind::Queue);
        assert!(field(&answer, "content-type").starts_with(kind), "{accept}");
    }
    let page = ask(Method::GET, &[("accept", chromium)], Kind::Queue);
    let nonce = "00000000000000000000000000000abc";
    assert!(field(&page, "content-security-policy").contains(&format!("script-src 'nonce-{nonce}'")));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(text.contains(&format!("<script nonce=\"{nonce}\">")) && text.contains("3 ahead of you; about 2 min"));
    let head = ask(Method::HEAD, &[("accept", chromium)], Kind::Queue);
    assert!(head.body.is_empty() && field(&head, "content-length") == text.len().to_string());
    let json = ask(Method::POST, &[("accept", "application/json")], Kind::Queue);
    let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(
        (&json["status"], &json["retry-after"], &json["ahead"]),
        (&503.into(), &30.into(), &3.into())
    );
}

/// A gRPC client takes an HTTP 503 with a page for a broken server.
#[test]
fn grpc_status() {
    for (kind, status) in [(Kind::Rate, "8"), (Kind::Queue, "14")] {
        let answer = ask(Method::POST, &[("content-type", "application/grpc+proto")], kind);
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
        assert_eq!(
            (field(&answer, "grpc-status"), field(&answer, "grpc-retry-pushback-ms")),
            (status, "30000")
        );
        assert_eq!(field(&answer, "content-type"), "application/grpc+proto");
    }
}

/// A visitor would not get to the challenge, or come back from it without the cookie that it takes;
/// or a picture, a form or a program would be sent to a page that it cannot answer.
#[test]
fn who_is_handed_over() {
    let ask = |method: Method, accept: &str, cookie: bool| {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        let told = Deferral {
            wait: Duration::from_secs(10),
            kind: Kind::Challenge,
            rule: "challenge".into(),
            token: Some(Written {
                text: "tok".into(),
                life: Duration::from_secs(3_600),
                cookie,
            }),
            limit: None,
            ahead: None,
            estimate: None,
            work: None,
            handed: Some("https://ask.example/?state=s".into()),
        };
        told_by(&method, &headers, &told)
    };
    let page = ask(Method::GET, "text/html", true);
    assert_eq!(
        (page.status, field(&page, "location")),
        (StatusCode::FOUND, "https://ask.example/?state=s")
    );
    assert!(field(&page, "set-cookie").starts_with("__Host-edge-wait=tok;"));
    assert_eq!(
        (field(&page, "cache-control"), field(&page, "retry-after")),
        ("no-store", "")
    );
    for (method, accept, cookie) in [
        (Method::POST, "text/html", true),
        (Method::GET, "image/*", true),
        (Method::GET, "text/html", false),
    ] {
        let told = ask(method, accept, cookie);
        assert_eq!(
            (told.status, field(&told, "location")),
            (StatusCode::SERVICE_UNAVAILABLE, "")
        );
    }
    let json = ask(Method::GET, "application/json", true);
    let problem: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(problem["challenge"]["url"], "https://ask.example/?state=s");
    // And back.
    let terms = Cookie::default();
    let written = Written {
        text: "known".into(),
        life: Duration::from_secs(60),
        cookie: true,
    };
    let led = lead("/cart?item=7", &Change::Set(written), false, &terms);
    assert_eq!(
        (led.status, field(&led, "location")),
        (StatusCode::SEE_OTHER, "/cart?item=7")
    );
    assert!(field(&led, "set-cookie").starts_with("__Host-edge-wait=known;"));
    assert_eq!(led.headers.get_all("cache-control").iter().count(), 1);
}
