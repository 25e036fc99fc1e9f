//! Patterns of paths, as gates' rules and routes write them, and the form of a path that they are compared with.

use std::borrow::Cow;

/// Whether `path` is one of `pattern`: without `*` a prefix; with it the whole path, each `*` any characters. Linear in the
/// path per `*`: the leftmost fit of each literal is never worse than a later one.
pub fn matches(pattern: &str, path: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return path.starts_with(pattern);
    };
    let Some(mut path) = path.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for literal in middle.split('*') {
        match path.find(literal) {
            Some(at) => path = path.get(at + literal.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    path.ends_with(tail)
}

/// `path` as an origin may come to read it: `%41` as `A` (RFC 3986 section 6.2.2.2, and every other printable character but
/// `/`), without `.`, `..` and empty segments. A route that is compared with what the client wrote could be walked around by
/// writing it differently.
pub fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains('%') && !path.contains("/.") && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let decoded = decode(path);
    let mut segments: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in decoded.split('/') {
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if open || normal.is_empty() {
        normal.push('/');
    }
    Cow::Owned(normal)
}

fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after.get(..2).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%') => {
                decoded.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wrong requests would be judged or routed, or none.
    #[test]
    fn patterns() {
        for (pattern, path, hit) in [
            ("/api/", "/api/x", true),
            ("/api/", "/apix", false),
            ("/*/export", "/a/b/export", true),
            ("/*/export", "/a/export/", false),
            ("*.php", "/x.php", true),
            ("*.php", "/x.phpx", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/a-c-b", false),
            ("/ab*ba", "/aba", false),
            ("*", "/anything", true),
        ] {
            assert_eq!(matches(pattern, path), hit, "{pattern} {path}");
        }
    }

    /// A worker that guards a path would be walked around.
    #[test]
    fn one_form_of_each_path() {
        for (path, form) in [
            ("/admin/x", "/admin/x"),
            ("/%61dmin/%78", "/admin/x"),
            ("/x/..//admin/./x", "/admin/x"),
            ("/x/%2e%2E/admin/", "/admin/"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2561", "/a%2561"),
            ("/a%", "/a%"),
            ("/a%é", "/a%é"),
            ("/..", "/"),
            ("*", "*"),
        ] {
            assert_eq!(normal(path), form);
        }
    }
}
