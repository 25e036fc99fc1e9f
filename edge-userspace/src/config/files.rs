//! `[zone.files]`: how the files of a zone are served, wherever a directory answers: as the zone's
//! origin, by a route, or beside a worker.

use std::ops::Range;

use http::HeaderValue;
use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::coding::Encoding;
use super::kind::{self, Flag, Inline, List, Text, Word};
use super::section::section;

/// Names in one list.
const MOST: usize = 16;
/// Patterns of `cache_control`.
const PATTERNS: usize = 64;
/// What stands for the path in `try`.
const PATH: &str = "${path}";

section! {
    /// How files are served.
    FilesText => Files {
        /// List what is in a directory without an index, up to 1,000 names, but for those that
        /// begin with a dot.
        live listing: Flag = false;
        /// Codings whose form of a file may stand beside it, with `.zst`, `.br` or `.gz` at the end
        /// of its name, in the order in which they are preferred if the client does not mind: zstd,
        /// br, gzip. One that is older than the file is passed over.
        live precompressed: List<Word<Encoding>> = Vec::new(); like ["zstd", "br", "gzip"];
    }
    read {
        /// The file that answers for a directory: the first of these that is there.
        live index: List<Text> = kind::list(["index.html".to_owned()]);
        /// What answers where nothing is under a path, the first that is there: a file
        /// ("/app.html", for applications of one page), or the path with an ending
        /// ("${path}.html").
        live r#try: List<Text> = Vec::new(); like ["${path}.html", "/index.html"];
        /// `Cache-Control` of files by their paths below the directory, a prefix or a glob each;
        /// the first that matches.
        live cache_control: Inline<Vec<CacheControlText>> = Vec::new();
            like [{ path = "/assets/", value = "public, max-age=31536000, immutable" }, { path = "*.html", value = "no-cache" }];
    }
    checked {
        /// The names of the file that answers for a directory.
        index: Vec<Box<str>>,
        /// What answers where there is nothing.
        fallbacks: Vec<Fallback>,
        /// Patterns of paths, and `Cache-Control` of the files that they match.
        cache_control: Vec<(Box<str>, HeaderValue)>,
    }
}

/// `Cache-Control` of some files, as it is written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheControlText {
    path: Spanned<String>,
    value: Spanned<String>,
}

/// What answers where nothing is under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This file, relative to the directory.
    File(Box<str>),
    /// The file that is called like the path, with this at the end.
    Ending(Box<str>),
}

impl Files {
    /// As files beside a worker are served: where there is none, the worker is asked.
    pub fn beside_a_worker(&self) -> Self {
        Self {
            listing: false,
            fallbacks: Vec::new(),
            ..self.clone()
        }
    }
}

/// `[zone.files]` of a zone.
pub(super) fn files(text: &FilesText, checker: &mut Checker<'_>) -> Files {
    let mut files = text.check(checker);
    let mut most = |over: Option<Range<usize>>, most: usize| {
        if let Some(span) = over {
            checker.mistake(span, "too many", format!("write at most {most}"));
        }
    };
    most(text.index.get_ref().get(MOST).map(Spanned::span), MOST);
    most(text.r#try.get_ref().get(MOST).map(Spanned::span), MOST);
    most(
        text.cache_control.get_ref().get(PATTERNS).map(|one| one.path.span()),
        PATTERNS,
    );
    for name in text.index.get_ref() {
        let plain = name.get_ref();
        if plain.is_empty() || plain.starts_with('.') || plain.contains(['/', '\0']) {
            let what = format!("\"{}\" is not a name of a file", plain.escape_debug());
            checker.mistake(name.span(), what, "write one such as index.html");
        }
        files.index.push(plain.as_str().into());
    }
    for written in text.r#try.get_ref() {
        files.fallbacks.extend(fallback(written, checker));
    }
    for CacheControlText { path, value } in text.cache_control.get_ref() {
        if !path.get_ref().starts_with(['/', '*']) {
            let what = format!("\"{}\" is not a path", path.get_ref().escape_debug());
            checker.mistake(
                path.span(),
                what,
                "write a prefix like \"/assets/\" or a glob like \"*.css\"",
            );
        }
        match HeaderValue::from_str(value.get_ref()) {
            Ok(value) if !value.is_empty() => files.cache_control.push((path.get_ref().as_str().into(), value)),
            _ => {
                let what = format!("\"{}\" cannot stand in a field", value.get_ref().escape_debug());
                checker.mistake(
                    value.span(),
                    what,
                    "write directives such as no-cache or public, max-age=3600",
                );
            }
        }
    }
    files
}

fn fallback(written: &Spanned<String>, checker: &mut Checker<'_>) -> Option<Fallback> {
    let text = written.get_ref();
    let (of_path, rest) = match text.strip_prefix(PATH) {
        Some(ending) => (true, ending),
        None => (false, text.strip_prefix('/').unwrap_or_default()),
    };
    // No segment that leads elsewhere, or that is hidden.
    let sound = |segment: &str| !segment.starts_with('.') && !segment.contains(['\0', '$']);
    let sound = match of_path {
        // The end of a name may begin with a dot.
        true => rest
            .strip_prefix('.')
            .unwrap_or(rest)
            .split('/')
            .skip_while(|s| s.is_empty())
            .all(sound),
        false => rest.split('/').all(|segment| !segment.is_empty() && sound(segment)),
    };
    if rest.is_empty() || rest.ends_with('/') || !sound {
        checker.mistake(
            written.span(),
            format!("\"{}\" is not a file", text.escape_debug()),
            "write one of the directory like \"/index.html\", or an ending like \"${path}.html\"",
        );
        return None;
    }
    Some(match of_path {
        true => Fallback::Ending(rest.into()),
        false => Fallback::File(rest.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Mistakes};

    fn parse(files: &str) -> Result<Config, Mistakes> {
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
             servers = [{{ address = \"http://127.0.0.1:1\" }}]\n[zone.files]\n{files}\n"
        );
        Config::parse(Path::new("edge.toml"), &text)
    }

    /// A file outside of the directory, or a hidden one, would be named by a slip of the pen; or
    /// nothing answer where the operator thinks that something does.
    #[test]
    fn what_is_written_is_checked() {
        let config = parse(
            "index = [\"home.html\", \"index.htm\"]\ntry = [\"${path}.html\", \"${path}/main.html\", \"/app/index.html\"]\n\
             cache_control = [{ path = \"*.css\", value = \"max-age=5\" }]",
        )
        .unwrap();
        let files = &config.zones[0].files;
        assert_eq!(files.index, ["home.html".into(), "index.htm".into()]);
        assert_eq!(
            files.fallbacks,
            [
                Fallback::Ending(".html".into()),
                Fallback::Ending("/main.html".into()),
                Fallback::File("app/index.html".into())
            ]
        );
        for (wrong, what) in [
            ("index = [\"a/b\"]", "name of a file"),
            ("index = [\".htaccess\"]", "name of a file"),
            ("try = [\"index.html\"]", "not a file"),
            ("try = [\"/\"]", "not a file"),
            ("try = [\"/../x\"]", "not a file"),
            ("try = [\"//x\"]", "not a file"),
            ("try = [\"/.env\"]", "not a file"),
            ("try = [\"${path}\"]", "not a file"),
            ("try = [\"${path}/../x\"]", "not a file"),
            ("try = [\"${path}/.env\"]", "not a file"),
            ("try = [\"${uri}\"]", "not a file"),
            ("cache_control = [{ path = \"css\", value = \"x\" }]", "not a path"),
            ("cache_control = [{ path = \"/\", value = \"\" }]", "cannot stand"),
            ("cache_control = [{ path = \"/\", value = \"a\\nb\" }]", "cannot stand"),
            ("precompressed = [\"lzma\"]", ""),
        ] {
            let mistakes = parse(wrong).unwrap_err();
            assert!(mistakes.0.iter().any(|m| m.what.contains(what)), "{wrong}: {mistakes}");
        }
        let plain = parse("").unwrap().zones[0].files.clone();
        assert_eq!(plain.index, ["index.html".into()]);
        assert!(!plain.listing && plain.fallbacks.is_empty() && plain.precompressed.is_empty());
    }
}
