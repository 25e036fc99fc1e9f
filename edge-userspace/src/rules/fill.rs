//! Templates filled in for one request.

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
