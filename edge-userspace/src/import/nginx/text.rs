//! Values with nginx's variables, and what they are as a template of zone rules (docs/rules.md,
//! Variables). Pure.

use std::collections::BTreeMap;

use crate::import::write::When;

/// Pieces and bytes of one value: `set $a "$a$a"` doubles it each time.
const PIECES: usize = 256;
const BYTES: usize = 16 << 10;

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// A variable's name in small letters, without `$`.
    Variable(String),
}

/// A value of nginx's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) Vec<Piece>);

/// What is known where a value stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Variables that `set` has given a value.
    pub(super) set: BTreeMap<String, Text>,
    /// Those that a `set` within an `if` has made true: one of these conditions has to hold.
    pub(super) flags: BTreeMap<String, Vec<When>>,
    /// Those of `auth_request_set`, by the field of the service's answer that they have.
    pub(super) answered: BTreeMap<String, String>,
    /// The first name of the server.
    pub(super) server_name: String,
    /// The groups of the expression that the rule's path is compared with: their number, with the
    /// whole match, and their names.
    pub(super) groups: (usize, Vec<String>),
}

impl Known {
    /// Gives the variable `name`, which a `map` makes, this value, also within what `set` has made
    /// of it.
    pub(super) fn give(&mut self, name: &str, value: &Text) {
        for text in self.set.values_mut() {
            text.put(name, value);
        }
        self.set.insert(name.to_owned(), value.clone());
    }
}

impl Text {
    /// Puts `value` in place of the variable `name`.
    fn put(&mut self, name: &str, value: &Self) {
        let same = |piece: &Piece| matches!(piece, Piece::Variable(known) if known == name);
        if self.0.iter().any(same) {
            let pieces = std::mem::take(&mut self.0);
            for piece in pieces {
                match piece {
                    Piece::Text(text) => self.push_text(&text),
                    piece if same(&piece) => self.append(value),
                    piece => self.0.push(piece),
                }
            }
        }
    }

    /// Puts `more` at the end.
    fn append(&mut self, more: &Self) {
        for piece in &more.0 {
            match piece {
                Piece::Text(text) => self.push_text(text),
                variable => self.0.push(variable.clone()),
            }
        }
    }

    /// Reads a value. `set` variables in it are replaced by their values.
    ///
    /// # Errors
    /// It has become too long by that.
    pub(super) fn of(value: &str, known: &Known) -> Result<Self, String> {
        let mut text = Self::default();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_text(before);
            let (name, after) = match after.strip_prefix('{').and_then(|named| named.split_once('}')) {
                Some((name, after)) => (name, after),
                None => {
                    let group = after.starts_with(|c: char| c.is_ascii_digit());
                    let end = match group {
                        true => 1,
                        false => after
                            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                            .unwrap_or(after.len()),
                    };
                    after.split_at(end)
                }
            };
            rest = after;
            let name = name.to_ascii_lowercase();
            match known.set.get(&name) {
                Some(set) => text.append(set),
                None if name.is_empty() => text.push_text("$"),
                None => text.0.push(Piece::Variable(name)),
            }
        }
        text.push_text(rest);
        let bytes = text.0.iter().map(|piece| match piece {
            Piece::Text(text) | Piece::Variable(text) => text.len(),
        });
        if text.0.len() > PIECES || bytes.sum::<usize>() > BYTES {
            return Err("a value that is too long".to_owned());
        }
        Ok(text)
    }

    fn push_text(&mut self, more: &str) {
        if more.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(Piece::Text(text)) => text.push_str(more),
            _ => self.0.push(Piece::Text(more.to_owned())),
        }
    }

    /// Its text, if it has no variables.
    pub(super) fn literal(&self) -> Option<String> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Variable(_) => None,
            })
            .collect()
    }

    /// The text in front of the first variable.
    pub(super) fn head(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Without `end`, if it ends so.
    pub(super) fn without(&self, end: &[Piece]) -> Option<Self> {
        let keep = self.0.len().checked_sub(end.len())?;
        let (front, last) = self.0.split_at(keep);
        if last == end {
            return Some(Self(front.to_vec()));
        }
        // The text in front of a variable may be a piece's end only.
        let ([Piece::Text(wanted), wanted_rest @ ..], [Piece::Text(text), rest @ ..]) = (end, last) else {
            return None;
        };
        let text = text.strip_suffix(wanted.as_str()).filter(|_| rest == wanted_rest)?;
        let mut front = front.to_vec();
        front.push(Piece::Text(text.to_owned()));
        Some(Self(front))
    }

    /// The text in front of the first `?`, and what follows it.
    pub(super) fn split_query(&self) -> (Self, Option<Self>) {
        for (at, piece) in self.0.iter().enumerate() {
            let Piece::Text(text) = piece else { continue };
            if let Some((path, query)) = text.split_once('?') {
                let (front, back) = self.0.split_at(at);
                let (mut before, mut after) = (Self(front.to_vec()), Self::default());
                before.push_text(path);
                after.push_text(query);
                after.0.extend(back.iter().skip(1).cloned());
                return (before, Some(after));
            }
        }
        (self.clone(), None)
    }

    /// As a template of a zone rule.
    ///
    /// # Errors
    /// The variable that has no equal.
    pub(super) fn template(&self, known: &Known) -> Result<String, String> {
        let mut template = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => template.push_str(&text.replace('$', "$$")),
                Piece::Variable(name) => {
                    let variable =
                        variable(name, known).ok_or_else(|| format!("${name} has no equal in zone rules"))?;
                    template.push_str(&variable);
                }
            }
        }
        Ok(template)
    }
}

/// The variable of zone rules for nginx's `name`.
fn variable(name: &str, known: &Known) -> Option<String> {
    let same = match name {
        "remote_addr" => "client",
        "host" | "http_host" => "host",
        "uri" | "document_uri" => "path",
        "args" | "query_string" => "query",
        "request_method" => "method",
        "scheme" => "scheme",
        "server_protocol" => "protocol",
        "ssl_protocol" => "tls",
        "request_id" => "request_id",
        "request_uri" => "target",
        "remote_user" => "user",
        _ => "",
    };
    if !same.is_empty() {
        return Some(format!("${{{same}}}"));
    }
    if name == "server_name" && !known.server_name.is_empty() {
        return Some(known.server_name.clone());
    }
    if let Ok(number) = name.parse::<usize>() {
        return (number < known.groups.0).then(|| format!("${{{number}}}"));
    }
    if known.groups.1.iter().any(|group| group == name) {
        return Some(format!("${{{name}}}"));
    }
    let (kind, rest) = name.split_once('_')?;
    let kind = match kind {
        "http" => return Some(format!("${{header.{}}}", rest.replace('_', "-"))),
        "cookie" => "cookie",
        "arg" => "query",
        _ => return None,
    };
    (!rest.is_empty()).then(|| format!("${{{kind}.{rest}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let mut known = Known {
            server_name: "www.example.com".to_owned(),
            groups: (2, vec!["year".to_owned()]),
            ..Known::default()
        };
        let value = Text::of("http://10.0.0.1:$arg_port", &known).unwrap();
        known.set.insert("backend".to_owned(), value);
        known
    }

    /// A few lines would fill the memory.
    #[test]
    fn values_of_values_have_an_end() {
        let mut known = Known::default();
        let doubled = (0..30).try_for_each(|_| {
            let value = Text::of("$a$a$b", &known)?;
            known.set.insert("a".to_owned(), value);
            Ok::<_, String>(())
        });
        assert!(doubled.is_err());
    }

    /// A redirect or a field would say something else.
    #[test]
    fn variables_become_those_of_rules() {
        for (value, template) in [
            ("https://$host$uri", "https://${host}${path}"),
            ("/$1/${Year}x", "/${1}/${year}x"),
            ("/$10", "/${1}0"),
            ("$server_name:$http_x_api_key", "www.example.com:${header.x-api-key}"),
            ("$cookie_a.$arg_b", "${cookie.a}.${query.b}"),
            ("$backend/x", "http://10.0.0.1:${query.port}/x"),
            ("plain", "plain"),
            (
                "?rd=$scheme://$http_host$request_uri",
                "?rd=${scheme}://${host}${target}",
            ),
        ] {
            let known = known();
            assert_eq!(
                Text::of(value, &known).unwrap().template(&known).unwrap(),
                template,
                "{value}"
            );
        }
        for value in ["$2", "$upstream_addr", "$nobody", "$upstream_http_x"] {
            let known = known();
            assert!(Text::of(value, &known).unwrap().template(&known).is_err(), "{value}");
        }
    }

    /// The query would be lost, or come twice.
    #[test]
    fn ends_and_queries() {
        let text = |value: &str| Text::of(value, &Known::default()).unwrap();
        let query = [
            Piece::Variable("is_args".to_owned()),
            Piece::Variable("args".to_owned()),
        ];
        assert_eq!(text("/a$is_args$args").without(&query), Some(text("/a")));
        assert_eq!(text("/a$args").without(&query), None);
        let asked = [Piece::Text("?".to_owned()), Piece::Variable("args".to_owned())];
        assert_eq!(text("/a?$args").without(&asked).unwrap().literal().unwrap(), "/a");
        assert_eq!(text("/a?b=$1&c").split_query(), (text("/a"), Some(text("b=$1&c"))));
        assert_eq!(text("/a").split_query(), (text("/a"), None));
    }
}
