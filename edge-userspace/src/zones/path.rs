//! A request's path as rules and routes are compared with it: not what the client wrote, but what
//! an origin may come to read.

use std::borrow::Cow;

use crate::base::glob;

/// A path in the forms that an origin may read it in. The only thing that a pattern is compared
/// with: a rule that is compared with what the client wrote is walked around by writing it
/// differently.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    /// As every server reads it (RFC 3986 section 6.2.2): `%41` is `A`, as is every other printable
    /// character but `/`; no `.`, `..` and empty segments.
    plain: Cow<'a, str>,
    /// As some do besides: `%2F` and `\` are slashes, `;` begins a segment's parameters. Empty if
    /// they come to nothing else.
    others: Vec<String>,
}

impl<'a> Path<'a> {
    /// The path of a target, as written.
    pub fn of(written: &'a str) -> Self {
        let odd = |byte: u8| matches!(byte, b'%' | b'\\' | b';') || !byte.is_ascii();
        if !written.bytes().any(odd) && !written.contains("/.") && !written.contains("//") {
            let plain = Cow::Borrowed(written);
            return Self { plain, others: vec![] };
        }
        let decoded = decoded(written);
        let plain = resolved(&decoded);
        let mut others = Vec::new();
        let readings = [decoded.contains("%2F"), decoded.contains('\\'), decoded.contains(';')];
        if readings.contains(&true) {
            // A server may take any of them so, and the others not.
            for which in 1..8_u8 {
                let taken = |at: u8| which & (1 << at) != 0;
                if !(0..3).all(|at| !taken(at) || readings.get(usize::from(at)) == Some(&true)) {
                    continue;
                }
                let mut text = Cow::Borrowed(&*decoded);
                if taken(0) {
                    text = text.replace("%2F", "/").into();
                }
                if taken(1) {
                    text = text.replace('\\', "/").into();
                }
                if taken(2) {
                    text = without_parameters(&text).into();
                }
                let other = resolved(&text);
                if other != plain && !others.contains(&other) {
                    others.push(other);
                }
            }
        }
        Self {
            plain: Cow::Owned(plain),
            others,
        }
    }

    /// Whether the path is one of `pattern` in any reading: without `*` a prefix; with it the whole
    /// path, each `*` any characters.
    pub fn matches(&self, pattern: &str) -> bool {
        let mut others = self.others.iter();
        glob::begins(pattern, &self.plain) || others.any(|other| glob::begins(pattern, other))
    }

    /// The path, if all servers read the same in it.
    pub fn plain(&self) -> Option<&str> {
        self.others.is_empty().then_some(&*self.plain)
    }

    /// As every server reads it.
    pub fn usual(&self) -> &str {
        &self.plain
    }

    /// Every form that a server may read it in, the usual one first.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.plain).chain(self.others.iter().map(String::as_str))
    }

    /// Whether servers may differ about what is asked for.
    pub fn is_ambiguous(&self) -> bool {
        !self.others.is_empty()
    }
}

/// Percent-encoding of printable characters undone, but for `/` and `%`; what stays encoded in
/// capitals, and what cannot stand in a URL encoded (RFC 3986 sections 2.1, 6.2.2).
pub(super) fn decoded(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let bytes = path.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'%' {
            push(&mut decoded, byte);
            continue;
        }
        let hex = bytes
            .get(at..at + 2)
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%') => {
                decoded.push(char::from(byte));
                at += 2;
            }
            Some(byte) => {
                encode(&mut decoded, byte);
                at += 2;
            }
            None => decoded.push('%'),
        }
    }
    decoded
}

fn push(text: &mut String, byte: u8) {
    if byte.is_ascii() {
        text.push(char::from(byte));
    } else {
        encode(text, byte);
    }
}

fn encode(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    text.push('%');
    for digit in [byte >> 4, byte & 15] {
        text.push(DIGITS[usize::from(digit)]);
    }
}

/// Each segment up to its first `;`.
fn without_parameters(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            text.push('/');
        }
        text.push_str(segment.split(';').next().unwrap_or_default());
    }
    text
}

/// Without `.`, `..` and empty segments.
fn resolved(path: &str) -> String {
    if !path.starts_with('/') {
        // `*` of OPTIONS.
        return path.to_owned();
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/') {
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if open || resolved.is_empty() {
        resolved.push('/');
    }
    resolved
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
            assert_eq!(Path::of(path).matches(pattern), hit, "{pattern} {path}");
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
            ("/../../admin", "/admin"),
            ("/a%2561", "/a%2561"),
            ("/a%", "/a%"),
            ("/a%4", "/a%4"),
            ("/a%é", "/a%%C3%A9"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/%00%20", "/%00%20"),
            ("/..", "/"),
            ("*", "*"),
        ] {
            let read = Path::of(path);
            assert_eq!(read.plain, form);
            assert!(!read.is_ambiguous(), "{path}");
        }
    }

    /// What one server reads as a folder's file and the next one as a name with a slash in it would
    /// pass the rule of the one and be served by the other.
    #[test]
    fn every_reading_counts() {
        for path in [
            "/admin%2fx",
            "/x/..%2fadmin/x",
            "/x%2F..%2Fadmin/x",
            "/x/%2e%2e%2fadmin%2Fx",
            "/x\\..\\admin\\x",
            "/x/..%5cadmin/x",
            "/admin%5Cx",
            "/x/..;/admin/x",
            "/x/..%3b/admin/x",
            "/x/..;a=b/;c/admin;d/x",
            "/admin;/x",
            "/x;%2f../admin/x",
            "/..;\\admin%2fx",
            "//x/..;/admin/x",
        ] {
            let read = Path::of(path);
            assert!(read.matches("/admin/") && read.is_ambiguous(), "{path}: {read:?}");
        }
        // Of two that may be taken so, a server may take one.
        let read = Path::of("/admin/a;b%2f..%2f..%2fx");
        assert!(read.matches("/admin/a/") || read.matches("/admin/a;b"), "{read:?}");
        assert!(read.matches("/x"), "{read:?}");
        assert!(!Path::of("/a%2fb").matches("/b"));
    }
}
