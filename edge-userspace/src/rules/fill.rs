//! Templates filled in for one request.

use http::HeaderMap;
use http::header::USER_AGENT;
use regex::Captures;

use super::facts::Facts;
use crate::base::markup;
use crate::config::rule::{Pattern, Piece, Rule, Template, Variable};

/// How values are written where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// As they are.
    Not,
    /// For the text of HTML: `&`, `<`, `>`, `"`, `'`.
    Html,
}

/// The groups of the first of `rule`'s expressions that fits the path.
pub(super) fn groups<'a>(rule: &Rule, facts: &Facts<'a>) -> Option<Captures<'a>> {
    rule.when.paths.iter().find_map(|pattern| match pattern {
        Pattern::Regex(regex) => facts.path.readings().find_map(|path| regex.captures(path)),
        _ => None,
    })
}

/// `template` with what `facts` and `groups` say.
pub(super) fn fill(template: &Template, facts: &Facts<'_>, groups: Option<&Captures<'_>>, escape: Escape) -> String {
    let mut text = String::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Variable(variable) => put(&mut text, &value(variable, facts, groups), escape),
        }
    }
    text
}

fn put(text: &mut String, value: &str, escape: Escape) {
    match escape {
        Escape::Not => text.push_str(value),
        Escape::Html => markup::escape(text, value),
    }
}

fn value<'a>(variable: &Variable, facts: &Facts<'a>, groups: Option<&Captures<'a>>) -> std::borrow::Cow<'a, str> {
    let group = |found: Option<regex::Match<'a>>| found.map_or("", |found| found.as_str());
    match variable {
        Variable::Client => return facts.client.to_string().into(),
        Variable::RequestId => return String::from_utf8_lossy(&facts.request_id).into_owned().into(),
        Variable::Zone => facts.zone,
        Variable::Host => facts.authority,
        Variable::Path => facts.path.usual(),
        Variable::Query => facts.query,
        Variable::Target => facts.target,
        Variable::Method => facts.method.as_str(),
        Variable::Scheme if facts.secure => "https",
        Variable::Scheme => "http",
        Variable::Protocol => match facts.version {
            http::Version::HTTP_10 => "HTTP/1.0",
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        },
        Variable::Tls => facts.tls.unwrap_or_default(),
        Variable::CertificateFingerprint => facts.certificate.map_or("", |client| &client.fingerprint),
        Variable::CertificateSubject => facts.certificate.map_or("", |client| &client.subject),
        Variable::CertificateIssuer => facts.certificate.map_or("", |client| &client.issuer),
        Variable::CertificateSpki => facts.certificate.map_or("", |client| &client.spki),
        Variable::User => facts.user,
        Variable::Device => device(facts.headers),
        Variable::Claim(name) => {
            let claim = facts.claims.and_then(|claims| claims.text(name));
            return claim.unwrap_or_default();
        }
        Variable::Header(name) => {
            let field = facts.headers.get(&**name);
            return field.map_or("".into(), |value| String::from_utf8_lossy(value.as_bytes()));
        }
        Variable::Cookie(name) => facts.cookies(name).next().unwrap_or_default(),
        Variable::Parameter(name) => facts.parameters(name).next().unwrap_or_default(),
        Variable::Group(number) => group(groups.and_then(|groups| groups.get(*number))),
        Variable::Named(name) => group(groups.and_then(|groups| groups.name(name))),
    }
    .into()
}

/// What the client is, by its own word: the hint `Sec-CH-UA-Mobile` (User-Agent Client Hints), else
/// the words that makers of browsers put into `User-Agent`. Android's tablets have no `Mobile`.
fn device(headers: &HeaderMap) -> &'static str {
    if headers.get("sec-ch-ua-mobile").is_some_and(|hint| hint == "?1") {
        return "phone";
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    let phone = agent.contains("Mobi");
    match agent.contains("iPad") || agent.contains("Tablet") || agent.contains("Android") && !phone {
        true => "tablet",
        false if phone => "phone",
        false => "desktop",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Phones would get the desk's page from the store, or the other way round.
    #[test]
    fn devices_by_their_own_word() {
        for (agent, hint, device) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Mobile/15E148 Safari/604.1",
                "",
                "phone",
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) Version/12.1.2 Mobile/15E148 Safari/604.1",
                "",
                "tablet",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/125.0 Mobile Safari/537.36",
                "",
                "phone",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-X910) Chrome/125.0 Safari/537.36",
                "",
                "tablet",
            ),
            (
                "Mozilla/5.0 (Android 13; Tablet; rv:109.0) Gecko/115.0 Firefox/115.0",
                "",
                "tablet",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                "",
                "desktop",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) Chrome/125.0 Safari/537.36",
                "?1",
                "phone",
            ),
            ("", "", "desktop"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().unwrap());
            headers.insert("sec-ch-ua-mobile", hint.parse().unwrap());
            assert_eq!(super::device(&headers), device, "{agent}");
        }
    }
}
