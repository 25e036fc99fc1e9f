//! `if (…)`: its condition as that of a zone rule. Pure.

use super::pattern::{self, Of};
use super::text::{Known, Text};
use crate::config::value::{HostPattern, Network};
use crate::import::write::When;

/// The condition in the arguments of an `if`.
///
/// # Errors
/// Why a rule cannot say it.
pub(super) fn condition(arguments: &[String], known: &Known) -> Result<When, String> {
    let joined = arguments.join("\u{0}");
    let inner = joined.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let inner = inner.ok_or("a condition without parentheses")?;
    let words: Vec<&str> = inner.split('\u{0}').filter(|word| !word.is_empty()).collect();
    let compared = inner.split('\u{0}').nth(2).is_some_and(str::is_empty);
    match words.as_slice() {
        [variable] => truth(&named(variable, known)?),
        [variable, operator] if compared => compare(&named(variable, known)?, operator, ""),
        [variable, operator, value] => compare(&named(variable, known)?, operator, value),
        _ => Err("it asks for files, or is not one comparison".to_owned()),
    }
}

/// The variable, which is not one that `set` has given a value.
fn named(word: &str, known: &Known) -> Result<String, String> {
    match Text::of(word, known)?.0.as_slice() {
        [super::text::Piece::Variable(name)] => Ok(name.clone()),
        _ => Err("it does not compare a variable of the request".to_owned()),
    }
}

fn one(kind: &str, name: &str, pattern: &str) -> When {
    let mut when = When::default();
    let pairs = match kind {
        "headers" => &mut when.headers,
        "cookies" => &mut when.cookies,
        _ => &mut when.query,
    };
    pairs.insert(name.to_owned(), pattern.to_owned());
    when
}

/// The kind and name of a variable whose values rules have patterns for.
fn valued(variable: &str) -> Option<(&'static str, String)> {
    let (kind, name) = variable.split_once('_')?;
    match kind {
        "http" if name != "host" => Some(("headers", name.replace('_', "-"))),
        "cookie" => Some(("cookies", name.to_owned())),
        "arg" => Some(("query", name.to_owned())),
        _ => None,
    }
}

/// `if ($variable)`: it is there, and neither empty nor `0`.
///
/// # Errors
/// Why a rule cannot say it.
pub(super) fn truth(variable: &str) -> Result<When, String> {
    match (variable, valued(variable)) {
        ("https", _) => Ok(When {
            secure: Some(true),
            ..When::default()
        }),
        (_, Some((kind, name))) => Ok(one(kind, &name, "~^(?:[^0]|0.)")),
        _ => Err(format!("${variable} is nothing that a rule has a condition for")),
    }
}

/// What the variable is compared with, and how.
fn compare(variable: &str, operator: &str, value: &str) -> Result<When, String> {
    let (negated, operator) = match operator.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, operator),
    };
    let when = match operator {
        "=" => equal(variable, value)?,
        "~" => fits(variable, value, false)?,
        "~*" => fits(variable, value, true)?,
        _ => return Err(format!("{operator} is not a comparison that rules have")),
    };
    Ok(match (negated, when.not) {
        (false, not) => When { not, ..when },
        (true, Some(not)) => *not,
        (true, None) => When { not: None, ..when }.negated(),
    })
}

/// `=`
///
/// # Errors
/// Why a rule cannot say it.
pub(super) fn equal(variable: &str, value: &str) -> Result<When, String> {
    if let Some((kind, name)) = valued(variable) {
        return Ok(match value {
            // One that is not there is empty, too.
            "" => one(kind, &name, "~.").negated(),
            value => one(kind, &name, &format!("~^{}$", regex::escape(value))),
        });
    }
    let text = vec![value.to_owned()];
    match variable {
        "host" | "http_host" => {
            let host = value.parse::<HostPattern>()?.to_string();
            Ok(When {
                hosts: vec![host],
                ..When::default()
            })
        }
        "request_method" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_uppercase()) => Ok(When {
            methods: text,
            ..When::default()
        }),
        "scheme" if value == "http" || value == "https" => Ok(When {
            secure: Some(value == "https"),
            ..When::default()
        }),
        "https" => Ok(When {
            secure: Some(value == "on"),
            ..When::default()
        }),
        "remote_addr" => {
            let network = value.parse::<Network>()?.0.to_string();
            Ok(When {
                networks: vec![network],
                ..When::default()
            })
        }
        "uri" | "document_uri" if value.starts_with('/') => Ok(When {
            paths: vec![format!("={}", pattern::normal(value))],
            ..When::default()
        }),
        "ssl_client_verify" if value == "SUCCESS" || value == "NONE" => Ok(When {
            certificate: Some(value == "SUCCESS"),
            ..When::default()
        }),
        _ => Err(format!("${variable} is nothing that a rule has a condition for")),
    }
}

/// `~`, or `~*` if `caseless`.
///
/// # Errors
/// Why a rule cannot say it.
pub(super) fn fits(variable: &str, expression: &str, caseless: bool) -> Result<When, String> {
    if let Some((kind, name)) = valued(variable) {
        let pattern = pattern::regex(expression, caseless, Of::Value)?;
        if regex::Regex::new(&pattern).is_ok_and(|regex| regex.is_match("")) {
            return Err("it fits a field that is not there, too".to_owned());
        }
        return Ok(one(kind, &name, &format!("~{pattern}")));
    }
    match variable {
        "uri" | "document_uri" => {
            let pattern = pattern::regex(expression, caseless, Of::Path)?;
            Ok(When {
                paths: vec![format!("~{pattern}")],
                ..When::default()
            })
        }
        "request_method" => {
            let words = expression.trim_start_matches('^').trim_end_matches('$');
            let words = words.trim_start_matches('(').trim_end_matches(')');
            let methods: Vec<String> = words.split('|').map(str::to_owned).collect();
            let whole = expression.starts_with('^') && expression.ends_with('$');
            let plain = methods
                .iter()
                .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()));
            // Without anchors, a method that has the word within it fits as well; there is none of
            // the usual ones.
            if !plain || !whole && methods.len() > 1 && !expression.starts_with('(') {
                return Err("methods are named one by one".to_owned());
            }
            Ok(When {
                methods,
                ..When::default()
            })
        }
        _ => Err(format!("${variable} is nothing that a rule has an expression for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<When, String> {
        let mut lexer = super::super::lexer::Lexer::new(text);
        let mut words = Vec::new();
        while let Some((token, _)) = lexer.next().unwrap() {
            if let super::super::lexer::Token::Word(word) = token {
                words.push(word);
            }
        }
        condition(&words, &Known::default())
    }

    /// Requests would be refused or redirected that nginx serves, or the other way round.
    #[test]
    fn conditions_of_rules() {
        let not = |when: When| when.negated();
        for (text, when) in [
            (
                "($request_method = POST)",
                When {
                    methods: vec!["POST".into()],
                    ..When::default()
                },
            ),
            (
                "($request_method !~ ^(GET|HEAD)$ )",
                not(When {
                    methods: vec!["GET".into(), "HEAD".into()],
                    ..When::default()
                }),
            ),
            (
                "($scheme = http)",
                When {
                    secure: Some(false),
                    ..When::default()
                },
            ),
            (
                "($host != 'www.example.com')",
                not(When {
                    hosts: vec!["www.example.com".into()],
                    ..When::default()
                }),
            ),
            (
                "($http_user_agent ~* \"bot|crawler\")",
                one("headers", "user-agent", "~(?i)bot|crawler"),
            ),
            ("($cookie_session)", one("cookies", "session", "~^(?:[^0]|0.)")),
            ("($http_x_token = \"\")", not(one("headers", "x-token", "~."))),
            ("($http_x_token != \"\")", one("headers", "x-token", "~.")),
            ("($arg_a = \"b.c\")", one("query", "a", "~^b\\.c$")),
            (
                "($remote_addr = 192.0.2.1)",
                When {
                    networks: vec!["192.0.2.1/32".into()],
                    ..When::default()
                },
            ),
            (
                "($ssl_client_verify != SUCCESS)",
                not(When {
                    certificate: Some(true),
                    ..When::default()
                }),
            ),
            (
                "($uri ~ ^/a)",
                When {
                    paths: vec!["~^/a".into()],
                    ..When::default()
                },
            ),
        ] {
            assert_eq!(read(text), Ok(when), "{text}");
        }
        for text in [
            "(-f $request_filename)",
            "($nobody)",
            "($request_uri ~ a)",
            "($http_x ~ ^$)",
            "($http_x ~ (?=a))",
            "$a",
            "($args = a)",
            "($request_method ~ ^P.*$)",
            "()",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
