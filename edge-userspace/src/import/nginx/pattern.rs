//! Patterns of paths: from nginx's regular expressions (PCRE) to those of the crate `regex`, and
//! prefixes with others taken out, as zone rules can write them. Pure.

use std::collections::BTreeMap;

use regex::RegexBuilder;

/// Bytes of an expression, and of its compiled form: what zone rules take (`config::rule`).
const WRITTEN: usize = 2_048;
const COMPILED: usize = 1 << 20;
const POSSESSIVE: &str = "possessive quantifiers are not known to the crate regex";

/// What an expression is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A path in its normal form, in which what cannot stand in a URL is percent-encoded.
    Path,
    /// A field's value, or the like.
    Value,
}

/// The same expression for the crate `regex`.
///
/// # Errors
/// What of it there is no equal for.
pub(super) fn regex(pcre: &str, caseless: bool, of: Of) -> Result<String, String> {
    let mut text = String::from(if caseless { "(?i)" } else { "" });
    let mut rest = pcre;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '\\' => rest = escape(rest, None, of, &mut text)?,
            '[' => rest = class(rest, of, &mut text)?,
            '(' => rest = group(rest, &mut text)?,
            '*' | '+' | '?' => {
                text.push(c);
                if rest.starts_with('+') {
                    return Err(POSSESSIVE.to_owned());
                }
            }
            '{' => match counted(rest) {
                Some((_, after)) if after.starts_with('+') => return Err(POSSESSIVE.to_owned()),
                Some((count, after)) => {
                    text.push('{');
                    text.push_str(count);
                    text.push('}');
                    rest = after;
                }
                // To PCRE a brace that counts nothing is itself.
                None => text.push_str("\\{"),
            },
            '}' => text.push_str("\\}"),
            ' ' if of == Of::Path => text.push_str("%20"),
            '%' if of == Of::Path => text.push_str("%25"),
            c if !c.is_ascii() && of == Of::Path => encoded(c, &mut text),
            c => text.push(c),
        }
    }
    if text.len() >= WRITTEN {
        return Err(format!("an expression of more than {WRITTEN} bytes"));
    }
    let built = RegexBuilder::new(&text).size_limit(COMPILED).build();
    built.map(|_| text).map_err(|error| {
        let why = error.to_string();
        let last = why.lines().last().unwrap_or_default().trim();
        last.trim_start_matches("error: ").to_owned()
    })
}

/// `{2}`, `{2,}`, `{2,3}` without their braces, and what follows.
fn counted(rest: &str) -> Option<(&str, &str)> {
    let (count, after) = rest.split_once('}')?;
    let (least, most) = count.split_once(',').unwrap_or((count, ""));
    let digits = |text: &str| text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some((count, after))
}

/// What stands after a backslash, in a class or not.
fn escape<'a>(rest: &'a str, class: Option<()>, of: Of, text: &mut String) -> Result<&'a str, String> {
    let Some(c) = rest.chars().next() else {
        return Err("a backslash at the end".to_owned());
    };
    let known = match (c, class) {
        ('d', None) => Some("[0-9]"),
        ('d', Some(())) => Some("0-9"),
        ('w', None) => Some("[0-9A-Za-z_]"),
        ('w', Some(())) => Some("0-9A-Za-z_"),
        ('D', None) => Some("[^0-9]"),
        ('W', None) => Some("[^0-9A-Za-z_]"),
        // A space of a path stands there as %20.
        ('s', None) if of == Of::Path => Some("(?:%20|%09|%0A|%0D)"),
        ('s', None) => Some("[ \\t-\\r]"),
        ('s', Some(())) if of == Of::Value => Some(" \\t-\\r"),
        ('S', None) if of == Of::Value => Some("[^ \\t-\\r]"),
        ('Z' | 'z', None) => Some("\\z"),
        ('A', None) => Some("\\A"),
        ('b', None) => Some("(?-u:\\b)"),
        ('n', _) => Some("\\n"),
        ('r', _) => Some("\\r"),
        ('t', _) => Some("\\t"),
        _ => None,
    };
    match known {
        Some(known) => text.push_str(known),
        None if c.is_ascii_digit() => return Err("back-references are not known to the crate regex".to_owned()),
        None if c.is_ascii_alphabetic() => return Err(format!("`\\{c}` has no equal in the crate regex")),
        None if c == ' ' && of == Of::Path => text.push_str("%20"),
        None if !c.is_ascii() && of == Of::Path => encoded(c, text),
        None => literal(c, text),
    }
    Ok(rest.get(c.len_utf8()..).unwrap_or_default())
}

/// `c` itself in an expression.
fn literal(c: char, text: &mut String) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() || " /_<>\"',:=@!%;".contains(c) {
        text.push(c);
    } else {
        text.push('\\');
        text.push(c);
    }
}

/// `c` as a path's normal form has it.
fn encoded(c: char, text: &mut String) {
    let mut bytes = [0; 4];
    for byte in c.encode_utf8(&mut bytes).bytes() {
        text.push_str(&format!("%{byte:02X}"));
    }
}

/// What follows `[`. To the crate, `[`, `&&`, `--` and `~~` within a class mean more than to PCRE.
fn class<'a>(rest: &'a str, of: Of, text: &mut String) -> Result<&'a str, String> {
    let mut rest = rest;
    text.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        text.push('^');
        rest = after;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            ']' if !first => {
                text.push(']');
                return Ok(rest);
            }
            '\\' => rest = escape(rest, Some(()), of, text)?,
            '[' if rest.starts_with(':') => {
                let Some((name, after)) = rest.split_once(":]") else {
                    return Err("a class that is not closed".to_owned());
                };
                text.push('[');
                text.push_str(name);
                text.push_str(":]");
                rest = after;
            }
            '-' if rest.starts_with('-') => return Err("`--` in a class".to_owned()),
            '[' | ']' | '&' | '~' => {
                text.push('\\');
                text.push(c);
            }
            c if of == Of::Path && (!c.is_ascii() || matches!(c, ' ' | '%')) => {
                return Err(format!("{c:?} in a class: in a path it is percent-encoded"));
            }
            c => text.push(c),
        }
        first = false;
    }
    Err("a class that is not closed".to_owned())
}

/// What follows `(`: names of groups in small letters, as variables of zone rules are.
fn group<'a>(rest: &'a str, text: &mut String) -> Result<&'a str, String> {
    text.push('(');
    let Some(after) = rest.strip_prefix('?') else {
        return Ok(rest);
    };
    let named = after.strip_prefix("P<").or_else(|| after.strip_prefix('<'));
    if let Some((name, after)) = named.and_then(|named| named.split_once('>')) {
        let sound = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
        if sound {
            text.push_str("?P<");
            text.push_str(&name.to_ascii_lowercase());
            text.push('>');
            return Ok(after);
        }
    }
    let plain = after
        .split_once([':', ')'])
        .is_some_and(|(flags, _)| flags.is_empty() || flags.bytes().all(|b| matches!(b, b'i' | b'm' | b's' | b'-')));
    if !plain {
        return Err("look-around and the like are not known to the crate regex".to_owned());
    }
    text.push('?');
    Ok(after)
}

/// The number of an expression's groups, and their names.
pub(super) fn groups(expression: &str) -> (usize, Vec<String>) {
    match regex::Regex::new(expression) {
        Ok(regex) => (
            regex.captures_len(),
            regex.capture_names().flatten().map(str::to_owned).collect(),
        ),
        Err(_) => (0, Vec::new()),
    }
}

/// The literal text that each match of an expression begins with; empty if that is not certain.
pub(super) fn head(expression: &str) -> String {
    let Some(rest) = expression.strip_prefix('^') else {
        return String::new();
    };
    if alternatives(rest) {
        return String::new();
    }
    let (mut text, mut chars) = (String::new(), rest.chars().peekable());
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some(c) if c.is_ascii_punctuation() => c,
                _ => break,
            },
            '.' | '[' | '(' | ')' | '$' | '^' | '*' | '+' | '?' | '{' | '|' => break,
            c => c,
        };
        if matches!(chars.peek(), Some('*' | '+' | '?' | '{')) {
            // Of `+` there is one at least.
            if chars.peek() == Some(&'+') {
                text.push(c);
            }
            break;
        }
        text.push(c);
    }
    text
}

/// Whether a `|` stands outside of all groups.
fn alternatives(expression: &str) -> bool {
    let (mut depth, mut in_class, mut escaped) = (0_i32, false, false);
    for c in expression.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' if !in_class => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth -= 1,
            '|' if !in_class && depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// A path as nginx writes it in a location, in its normal form: what cannot stand in a URL is
/// percent-encoded.
pub(super) fn normal(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The pattern of a zone rule for all paths that begin with `prefix` and with none of `without`,
/// which continue it. `None`: it would be too long.
pub(super) fn prefix(prefix: &str, without: &[&str]) -> Option<String> {
    let rests: Vec<&str> = without
        .iter()
        .filter_map(|longer| longer.strip_prefix(prefix))
        .collect();
    if rests.is_empty() {
        return match prefix.contains('*') {
            false => Some(prefix.to_owned()),
            true => Some(format!("~^{}", regex::escape(prefix))),
        };
    }
    let mut text = format!("~^{}", regex::escape(prefix));
    no_rest(&rests, &mut text, 0)?;
    (text.len() < WRITTEN).then_some(text)
}

/// The pattern for all paths that do not begin with `prefix`. `None`: it would be too long.
pub(super) fn not_prefix(prefix: &str) -> Option<String> {
    let mut text = String::from("~^");
    no_rest(&[prefix], &mut text, 0)?;
    (text.len() < WRITTEN).then_some(text)
}

/// An expression for whatever does not begin with one of `rests`, letter by letter: the crate has
/// no look-ahead.
fn no_rest(rests: &[&str], text: &mut String, deep: usize) -> Option<()> {
    // Groups within groups, of which the crate takes 250.
    if deep > 100 || text.len() > WRITTEN {
        return None;
    }
    let mut next: BTreeMap<char, Vec<&str>> = BTreeMap::new();
    for rest in rests {
        let c = rest.chars().next()?;
        next.entry(c).or_default().push(rest.get(c.len_utf8()..)?);
    }
    text.push_str("(?:$|[^");
    for c in next.keys() {
        if !c.is_ascii_alphanumeric() && !matches!(c, '/' | '_' | '<' | '>') {
            text.push('\\');
        }
        text.push(*c);
    }
    text.push(']');
    for (c, rests) in &next {
        // A rest that ends here is begun by all that goes on so.
        if rests.iter().any(|rest| rest.is_empty()) {
            continue;
        }
        text.push('|');
        text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
        no_rest(rests, text, deep + 1)?;
    }
    text.push(')');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pcre: &str, text: &str) -> bool {
        let expression = regex(pcre, false, Of::Path).unwrap();
        regex::Regex::new(&expression).unwrap().is_match(text)
    }

    /// A location would answer for other paths than nginx's.
    #[test]
    fn expressions_mean_the_same() {
        for (pcre, text, hit) in [
            ("\\.php$", "/a.php", true),
            ("\\.php$", "/aphp", false),
            ("^\\/api\\/v(\\d+)\\/", "/api/v12/", true),
            ("^/\\d+$", "/\u{664}", false),
            ("^/[\\w-]+$", "/a-b_c", true),
            ("^/[[]a", "/[a", true),
            ("^/[a&&b]$", "/&", true),
            ("^/[~~]$", "/~", true),
            ("^/{id}$", "/{id}", true),
            ("^/a{2,3}$", "/aaa", true),
            ("^/a b$", "/a%20b", true),
            ("^/é$", "/%C3%A9", true),
            ("^/100%$", "/100%25", true),
            ("^/(?<Year>[0-9]{4})$", "/2024", true),
            ("^/(?i)ABC$", "/abc", true),
            ("^/[]a]$", "/]", true),
            ("^/[^]a]$", "/b", true),
            ("^/a\\-b\\_c$", "/a-b_c", true),
            ("^/[[:digit:]]+$", "/12", true),
            ("^/x\\Z", "/x", true),
        ] {
            assert_eq!(fits(pcre, text), hit, "{pcre} {text}");
        }
        for wrong in [
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?<!a)",
            "(?>a)",
            "(a)\\1",
            "a++",
            "a{2}+",
            "[a",
            "(",
            "\\K",
            "a\\",
            "[a--b]",
            "[é]",
            "(?#x)",
            &"a".repeat(3_000),
        ] {
            assert!(regex(wrong, false, Of::Path).is_err(), "{wrong}");
        }
        assert_eq!(groups("^(?P<year>a)(b)$"), (3, vec!["year".to_owned()]));
    }

    /// A rule would be kept away from paths that are its, or the other way round.
    #[test]
    fn what_a_match_begins_with() {
        for (expression, expected) in [
            ("^/api/(.*)$", "/api/"),
            ("^/a\\.b", "/a.b"),
            ("^/abc?", "/ab"),
            ("^/ab+", "/ab"),
            ("^/a|^/b", ""),
            ("^/(a|b)/", "/"),
            ("/api", ""),
            ("^/a\\d", "/a"),
        ] {
            assert_eq!(head(expression), expected, "{expression}");
        }
    }

    /// A longer location would be answered by a shorter one, or a guard be walked around.
    #[test]
    fn prefixes_without_others() {
        assert_eq!(prefix("/a/", &[]).unwrap(), "/a/");
        assert_eq!(prefix("/a*", &[]).unwrap(), "~^/a\\*");
        let longer = ["/a/b/", "/a/bc", "/a/b/d", "/a/-"];
        let pattern = prefix("/a/", &longer).unwrap();
        let expression = regex::Regex::new(pattern.strip_prefix('~').unwrap()).unwrap();
        let not = regex::Regex::new(not_prefix("/a/b").unwrap().strip_prefix('~').unwrap()).unwrap();
        for path in [
            "/a/", "/a/b", "/a/b/", "/a/b/x", "/a/bc", "/a/bcd", "/a/bd", "/a/c", "/a/-x", "/a", "/", "/b", "/a/x-y",
            "*", "",
        ] {
            let expected = path.starts_with("/a/") && !longer.iter().any(|longer| path.starts_with(longer));
            assert_eq!(expression.is_match(path), expected, "{path}");
            assert_eq!(not.is_match(path), !path.starts_with("/a/b"), "{path}");
        }
        assert!(not_prefix(&"/x".repeat(100)).is_none());
    }

    #[test]
    fn paths_in_their_normal_form() {
        assert_eq!(normal("/a b/é/100%"), "/a%20b/%C3%A9/100%25");
    }
}
