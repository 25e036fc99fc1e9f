//! Paths that become others: what `return`, `rewrite` and `proxy_pass` with a path come to as
//! actions of a rule. Pure, but for what is told.

use super::context::Context;
use super::pattern;
use super::syntax::Directive;
use super::text::{Known, Piece, Text};
use crate::import::Weight;
use crate::import::write::{Entry, When, quoted};

/// What an answer by `rewrite` has made of the path.
#[derive(Clone, Debug)]
pub(super) struct Rewritten {
    /// The path, as a template.
    pub(super) to: String,
    /// The query, as a template; `None`: the request's.
    pub(super) query: Option<String>,
}

impl Rewritten {
    /// `rewrite = { … }`
    pub(super) fn entry(&self) -> Entry {
        let mut value = format!("{{ to = {}", quoted(&self.to));
        if let Some(query) = &self.query {
            value += &format!(", query = {}", quoted(query));
        }
        ("rewrite".to_owned(), value + " }")
    }
}

/// The groups of the one expression of `when`.
pub(super) fn groups(when: &When) -> (usize, Vec<String>) {
    match when.paths.as_slice() {
        [path] => path.strip_prefix('~').map(pattern::groups).unwrap_or_default(),
        _ => (0, Vec::new()),
    }
}

/// `respond = { … }`
///
/// # Errors
/// A variable that rules do not have.
pub(super) fn respond(status: u16, text: Option<&Text>, media: Option<&str>, known: &Known) -> Result<Entry, String> {
    let mut value = format!("{{ status = {status}");
    if let Some(text) = text {
        value += &format!(", text = {}", quoted(&text.template(known)?));
        if let Some(media) = media {
            value += &format!(", type = {}", quoted(media));
        }
    }
    Ok(("respond".to_owned(), value + " }"))
}

/// `redirect = { … }`; `arguments`: the query is added, as `rewrite` does.
///
/// # Errors
/// It leads nowhere, or has a variable that rules do not have.
pub(super) fn redirect(text: &Text, status: u16, arguments: bool, known: &Known) -> Result<Entry, String> {
    let variable = |name: &str| Piece::Variable(name.to_owned());
    let mut text = text.clone();
    let mut keep = arguments;
    if let Some(front) = text.without(&[variable("request_uri")]) {
        (text, keep) = (front, true);
        text.0.push(variable("uri"));
    }
    for query in ["args", "query_string"] {
        for mark in [variable("is_args"), Piece::Text("?".to_owned())] {
            if let Some(front) = text.without(&[mark, variable(query)]) {
                (text, keep) = (front, true);
            }
        }
    }
    let mut to = text.template(known)?;
    if let Some(rest) = to.strip_prefix("//") {
        to = format!("${{scheme}}://{rest}");
    }
    let leads = ["http://", "https://", "/", "${"]
        .iter()
        .any(|head| to.starts_with(head));
    if !leads || !to.is_ascii() {
        return Err(format!("\"{to}\" leads to no path and no URL"));
    }
    let mut value = format!("{{ to = {}, status = {status}", quoted(&to));
    if keep {
        value += ", keep_query = true";
    }
    Ok(("redirect".to_owned(), value + " }"))
}

/// The condition `when` and an expression for the path, and the expression as it is then.
pub(super) fn both(when: &When, expression: &str) -> Option<(When, String)> {
    let path = |text: &str| {
        let when = When {
            paths: vec![format!("~{text}")],
            ..when.clone()
        };
        (when, text.to_owned())
    };
    let prefix = match when.paths.as_slice() {
        [] => return Some(path(expression)),
        [one] => one,
        _ => return None,
    };
    if let Some(known) = prefix.strip_prefix('~') {
        return (known == expression).then(|| path(expression));
    }
    if let Some(exact) = prefix.strip_prefix('=') {
        // Its groups are those of the expression for this path alone.
        let regex = regex::Regex::new(expression).ok()?;
        return match regex.captures(exact)?.len() {
            1 => Some((when.clone(), String::new())),
            _ => (pattern::head(expression) == exact).then(|| path(expression)),
        };
    }
    if pattern::head(expression).starts_with(prefix.as_str()) {
        return Some(path(expression));
    }
    // `^(.*)$` and `^/(.*)$` with the prefix put into them.
    for (front, kept) in [("^(.*)", ""), ("^/(.*)", "/")] {
        if let Some(rest) = expression.strip_prefix(front)
            && let Some(inner) = prefix.strip_prefix(kept)
        {
            let text = format!("^{kept}({}.*){rest}", regex::escape(inner));
            return Some(path(&text));
        }
    }
    if when.not.is_some() {
        return None;
    }
    let not = When {
        paths: vec![pattern::not_prefix(prefix)?],
        ..When::default()
    };
    let (mut when, text) = path(expression);
    when.not = Some(Box::new(not));
    Some((when, text))
}

/// `prefix` of the path replaced by `uri`.
pub(super) fn replaced(
    cx: &mut Context<'_>,
    pass: &Directive,
    (prefix, uri): (&str, &str),
    when: &mut When,
    act: &mut Vec<Entry>,
) {
    if prefix == uri {
        return;
    }
    let same_end = prefix.ends_with('/') && uri.ends_with('/');
    let plain = when.paths.as_slice() == [prefix.to_owned()] || when.paths.is_empty() && prefix == "/";
    if !same_end && plain {
        // Letter by letter, as nginx does: `/api` also is the front of `/apix`.
        when.paths = vec![format!("~^{}(.*)$", regex::escape(prefix))];
        let to = format!("{}${{1}}", uri.replace('$', "$$"));
        act.push(Rewritten { to, query: None }.entry());
        return;
    }
    if !same_end {
        cx.tell(pass, Weight::Different, "the path is replaced at a `/` only");
    }
    let (strip, add) = (prefix.trim_end_matches('/'), uri.trim_end_matches('/'));
    let mut parts = Vec::new();
    if !strip.is_empty() {
        parts.push(format!("strip = {}", quoted(strip)));
    }
    if !add.is_empty() {
        parts.push(format!("add = {}", quoted(add)));
    }
    if !parts.is_empty() {
        act.push(("rewrite".to_owned(), format!("{{ {} }}", parts.join(", "))));
    }
}
