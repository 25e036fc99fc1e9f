//! Patterns of paths, hosts and values, as zone rules write them. Parsed when the file is read;
//! matched by the room `rules`.
//!
//! Three spellings: plain text, a glob (`*` is any characters), and `~` in front of a regular
//! expression. The engine is of the crate `regex`, which takes time linear in the text whatever the
//! expression (Thompson 1968; no backtracking), so that no request can make a rule slow (ReDoS).

use regex::{Regex, RegexBuilder};

use crate::base::glob;

/// Bytes of one expression as written, and of its compiled form.
const WRITTEN: usize = 2_048;
const COMPILED: usize = 1 << 20;

/// One pattern.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// The whole text.
    Exact(Box<str>),
    /// What the text begins with.
    Prefix(Box<str>),
    /// Literals with any characters between them: the whole text.
    Glob(Box<str>),
    /// Found anywhere in the text, unless it is anchored.
    Regex(Regex),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) | (Self::Glob(a), Self::Glob(b)) => {
                a == b
            }
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Pattern {
    /// Of a path: `/api/` is a prefix, `=/api` that path alone, `/*/export` a glob of the whole
    /// path, `~^/v(\d+)/` a regular expression. Matched against the path's normal form.
    ///
    /// # Errors
    /// What is wrong, and the mend.
    pub fn path(text: &str) -> Result<Self, (String, String)> {
        if let Some(expression) = text.strip_prefix('~') {
            return regex(expression);
        }
        let (exact, path) = match text.strip_prefix('=') {
            Some(path) => (true, path),
            None => (false, text),
        };
        if !(path.starts_with('/') || !exact && path.starts_with('*')) {
            return Err((
                format!("\"{text}\" is not a valid path"),
                "write a prefix like \"/api/\", one path like \"=/api\", a glob like \"*.php\", or an expression like \
                 \"~^/v[0-9]+/\""
                    .to_owned(),
            ));
        }
        Ok(match (exact, path.contains('*')) {
            (true, _) => Self::Exact(path.into()),
            (false, true) => Self::Glob(path.into()),
            (false, false) => Self::Prefix(path.into()),
        })
    }

    /// Of a value (a field's, a cookie's, a parameter's): the whole value, a glob, or `~` and a
    /// regular expression. `*` alone matches whatever value there is.
    ///
    /// # Errors
    /// What is wrong, and the mend.
    pub fn value(text: &str) -> Result<Self, (String, String)> {
        match text.strip_prefix('~') {
            Some(expression) => regex(expression),
            None if text.contains('*') => Ok(Self::Glob(text.into())),
            None => Ok(Self::Exact(text.into())),
        }
    }

    /// Whether `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Glob(glob) => glob::fits(glob, text),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

fn regex(expression: &str) -> Result<Pattern, (String, String)> {
    if expression.len() > WRITTEN {
        return Err((
            format!("an expression of {} bytes", expression.len()),
            format!("write at most {WRITTEN} bytes"),
        ));
    }
    RegexBuilder::new(expression)
        .size_limit(COMPILED)
        .dfa_size_limit(COMPILED)
        .build()
        .map(Pattern::Regex)
        .map_err(|error| {
            let why = error.to_string();
            let last = why
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .trim_start_matches("error: ");
            (
                format!("\"{expression}\" is not a valid regular expression: {last}"),
                "the syntax is that of Rust's regex crate: no look-around, no back-references".to_owned(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule would apply to the wrong requests, or to none.
    #[test]
    fn each_spelling_matches_what_it_says() {
        for (pattern, text, hit) in [
            ("/api/", "/api/x", true),
            ("/api/", "/apix", false),
            ("=/api", "/api", true),
            ("=/api", "/api/", false),
            ("=/a*", "/a*", true),
            ("/*/export", "/a/b/export", true),
            ("/*/export", "/a/export/", false),
            ("*.php", "/x.php", true),
            ("/ab*ba", "/aba", false),
            ("~^/v[0-9]+/", "/v12/x", true),
            ("~^/v[0-9]+/", "/x/v1/", false),
            ("~(?i)\\.jpe?g$", "/a.JPG", true),
        ] {
            assert_eq!(Pattern::path(pattern).unwrap().matches(text), hit, "{pattern} {text}");
        }
        for (pattern, text, hit) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("~b$", "ab", true),
        ] {
            assert_eq!(Pattern::value(pattern).unwrap().matches(text), hit, "{pattern} {text}");
        }
    }

    /// An operator would search for what is wrong, or a compiled expression would fill the memory.
    #[test]
    fn mistakes_are_told() {
        for wrong in ["api", "=api", "=*", "~(", "~(?=a)", "~a{1000}{1000}{100}"] {
            assert!(Pattern::path(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::value(&format!("~{}", "a".repeat(3_000))).is_err());
    }

    /// One request would hold a thread for minutes (ReDoS): this expression is exponential where an
    /// engine backtracks.
    #[test]
    fn an_evil_expression_takes_linear_time() {
        let pattern = Pattern::value("~^(a+)+$").unwrap();
        let text = format!("{}b", "a".repeat(50_000));
        let began = std::time::Instant::now();
        assert!(!pattern.matches(&text));
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
    }
}
