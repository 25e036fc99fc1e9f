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
    };
    let asked = Asked {
        method: &method,
        headers: &headers,
        zone: "shop",
        nonce: 0xabc,
    };
    deferral(&Template::default(), &told, asked)
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
    assert!(text.contains(&format!("<script nonce=\"{nonce}\">")) && text.contains("3 ahead of you; about 2 minutes"));
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
