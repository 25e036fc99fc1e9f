//! `[[zone.error_page]]`: what clients see in place of the edge's phrases for failures, and of what
//! origins say, by status. Read and cut at its placeholders here; `http::error_page` fills it in.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::kind::{File, Flag, List, Maybe, Must, Text, unbounded};
use super::section::section;
use crate::base::file;

/// Pages of one zone, and bytes of each: 16 MiB a zone.
const PAGES: usize = 64;
const BYTES: usize = 256 << 10;
/// Placeholders of one page.
const HOLES: usize = 64;

section! {
    /// A page for statuses.
    ErrorPageText => ErrorPage {
        /// Statuses from 400 on, or "4xx" and "5xx" for all of a class. Of several pages the first
        /// that fits is shown.
        live status: Must<List<Codes>> = None; like [404, "5xx"];
        /// Also in place of what the zone's origin or worker answers with such a status.
        live origin: Flag = false;
    }
    read {
        /// Its content, at most 256KiB: {{status}}, {{title}}, {{request}}, {{host}} and {{zone}}
        /// are filled in.
        live file: Maybe<File> = None; like "sorry.html";
        /// Instead of a file: the content itself.
        live text: Maybe<Text> = None; like "Sorry: {{title}}.";
        /// Its media type. Left out: by the file's name; of text text/plain.
        live r#type: Maybe<Text> = None; like "text/html; charset=utf-8";
    }
    checked {
        /// What is shown.
        page: Arc<Page>,
    }
}

/// Statuses: from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range(u16, u16);

/// One status, or all of a class.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum StatusText {
    /// This one.
    One(u16),
    /// "4xx" or "5xx".
    Class(String),
}

unbounded! {
    /// Statuses that a page is for.
    Codes: StatusText => Range, |written| match written {
        StatusText::One(status) => status.to_string(),
        StatusText::Class(class) => format!("{class:?}"),
    }, |written, checker| match written.get_ref() {
        StatusText::One(status) if (400..=599).contains(status) => Range(*status, *status),
        StatusText::Class(class) if class == "4xx" => Range(400, 499),
        StatusText::Class(class) if class == "5xx" => Range(500, 599),
        _ => {
            let what = "not the status of an error";
            checker.mistake(written.span(), what, "write 400 to 599, \"4xx\" or \"5xx\"");
            Range(0, 0)
        }
    }
}

/// The content of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Its media type.
    pub media_type: HeaderValue,
    /// How values stand in it.
    pub form: Form,
    /// Its pieces in order.
    pub pieces: Vec<Piece>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            media_type: HeaderValue::from_static("text/plain; charset=utf-8"),
            form: Form::Plain,
            pieces: Vec::new(),
        }
    }
}

/// How values stand in a page, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Plain,
    /// With `&`, `<`, `>`, `"`, `'` escaped: HTML, XML.
    Markup,
    /// With `"`, `\` and what is below a space escaped: JSON.
    Json,
}

/// A piece of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(Bytes),
    /// To be filled in.
    Hole(Hole),
}

/// What is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// The status, three digits.
    Status,
    /// What it is called: `Not Found`.
    Title,
    /// The request's id, as in the log.
    Request,
    /// The host that was asked for.
    Host,
    /// The zone's name.
    Zone,
}

const NAMES: [(&str, Hole); 5] = [
    ("status", Hole::Status),
    ("title", Hole::Title),
    ("request", Hole::Request),
    ("host", Hole::Host),
    ("zone", Hole::Zone),
];

impl ErrorPage {
    /// Whether it is for `status`.
    pub fn fits(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.status
            .iter()
            .any(|Range(from, to)| (*from..=*to).contains(&status))
    }
}

/// The page of `pages` for `status`, for a client that asks for JSON before anything a human reads,
/// or not; `of_origin`: in place of an origin's answer. Who asks for JSON gets no other.
pub fn choose(pages: &[ErrorPage], status: StatusCode, json: bool, of_origin: bool) -> Option<&Arc<Page>> {
    let fits = |page: &&ErrorPage| page.fits(status) && (page.origin || !of_origin);
    let meant = |page: &&ErrorPage| fits(page) && (page.page.form == Form::Json) == json;
    let any = || pages.iter().find(|page| !json && fits(page));
    pages.iter().find(meant).or_else(any).map(|found| &found.page)
}

/// All `[[zone.error_page]]` of the zone `name`; `None` without any.
pub(super) fn pages(
    name: &Arc<str>,
    raw: &[Spanned<ErrorPageText>],
    checker: &mut Checker<'_>,
) -> Option<Arc<[ErrorPage]>> {
    if let Some(over) = raw.get(PAGES) {
        checker.mistake(over.span(), "too many error pages", format!("write at most {PAGES}"));
    }
    let pages = raw.iter().take(PAGES);
    let pages: Vec<_> = pages
        .map(|raw| checker.table(raw, |text, checker| page(name, text, raw.span(), checker)))
        .collect();
    (!pages.is_empty()).then(|| pages.into())
}

fn page(name: &Arc<str>, text: &ErrorPageText, span: std::ops::Range<usize>, checker: &mut Checker<'_>) -> ErrorPage {
    let mut this = text.check(checker);
    let (content, at, usual) = match (text.file.get_ref(), text.text.get_ref()) {
        (None, Some(content)) => (content.clone(), text.text.span(), "text/plain; charset=utf-8"),
        (Some(file), None) => {
            let at = text.file.span();
            let spanned = Spanned::new(at.clone(), file.clone());
            (read(name, &spanned, checker), at, usual(file))
        }
        (file, _) => {
            let what = match file {
                None => "neither `file` nor `text`",
                Some(_) => "both `file` and `text`",
            };
            checker.mistake(span, what, "write one of them");
            return this;
        }
    };
    let written = text.r#type.get_ref().as_deref().unwrap_or(usual);
    let media_type = HeaderValue::from_str(written).ok().filter(|_| written.contains('/'));
    let media_type = media_type.unwrap_or_else(|| {
        let what = format!("\"{written}\" is not a media type");
        checker.mistake(text.r#type.span(), what, "write one such as text/html; charset=utf-8");
        HeaderValue::from_static("text/plain")
    });
    let kind = written.split(';').next().unwrap_or_default().to_ascii_lowercase();
    let form = match kind.trim() {
        kind if kind.ends_with("json") => Form::Json,
        kind if kind.ends_with("html") || kind.ends_with("xml") => Form::Markup,
        _ => Form::Plain,
    };
    let pieces = pieces(&content).unwrap_or_else(|what| {
        let known = NAMES.map(|(name, _)| format!("{{{{{name}}}}}")).join(", ");
        checker.mistake(at, what, format!("write {known}, at most {HOLES} in all"));
        Vec::new()
    });
    this.page = Arc::new(Page {
        media_type,
        form,
        pieces,
    });
    this
}

fn usual(file: &std::path::Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// The file's content; one that cannot be used is the zone's fault alone.
fn read(zone: &Arc<str>, file: &Spanned<PathBuf>, checker: &mut Checker<'_>) -> String {
    let path = checker.path(file);
    let content = file::read_at_most(&path, BYTES as u64).map_err(|error| error.to_string());
    let text = content.and_then(|mut content| {
        let content = std::mem::take(&mut *content);
        String::from_utf8(content).map_err(|error| error.to_string())
    });
    let what = match text {
        Ok(text) => return text,
        Err(what) => format!("{}: {what}", path.display()),
    };
    let mistake = checker
        .place(file.span())
        .mistake(what, "name a file of UTF-8 text, of at most 256KiB");
    checker.faults.zone(zone, mistake);
    String::new()
}

/// `content` cut at its placeholders.
///
/// # Errors
/// What is wrong with it.
fn pieces(content: &str) -> Result<Vec<Piece>, String> {
    if content.len() > BYTES {
        return Err("more than 256KiB".to_owned());
    }
    let (mut pieces, mut holes) = (Vec::new(), 0);
    let text = |text: &str| (!text.is_empty()).then(|| Piece::Text(Bytes::copy_from_slice(text.as_bytes())));
    let mut rest = content;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("\"{{\" without \"}}\"")?;
        let known = NAMES.iter().find(|(known, _)| *known == name.trim());
        let (_, hole) = known.ok_or_else(|| format!("unknown placeholder \"{}\"", name.trim()))?;
        pieces.extend(text(before));
        pieces.push(Piece::Hole(*hole));
        holes += 1;
        if holes > HOLES {
            return Err("too many placeholders".to_owned());
        }
        rest = after;
    }
    pieces.extend(text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Config, Mistakes};

    fn parsed(pages: &str) -> Result<Config, Mistakes> {
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
             servers = [{{ address = \"http://127.0.0.1:1\" }}]\n{pages}"
        );
        Config::parse(std::path::Path::new("edge.toml"), &text)
    }

    fn page(keys: &str) -> String {
        format!("[[zone.error_page]]\n{keys}\n")
    }

    /// Visitors would see another page than the operator meant, and programs a page for humans.
    #[test]
    fn the_first_that_fits_is_shown() {
        let pages = [
            "status = [404]\ntext = \"one\"\norigin = true",
            "status = [\"4xx\", 503]\ntext = \"two\"\ntype = \"text/html\"",
            "status = [\"4xx\"]\ntext = \"{}\"\ntype = \"application/problem+json\"\norigin = true",
        ];
        let config = parsed(&pages.map(page).concat()).unwrap();
        let pages = config.zones[0].error_pages.clone().unwrap();
        let shown = |status, json, of_origin| {
            let page = choose(&pages, StatusCode::from_u16(status).unwrap(), json, of_origin)?;
            match page.pieces.as_slice() {
                [Piece::Text(text)] => Some(String::from_utf8(text.to_vec()).unwrap()),
                other => panic!("{other:?}"),
            }
        };
        for (status, json, of_origin, text) in [
            (404, false, false, Some("one")),
            (404, false, true, Some("one")),
            (404, true, true, Some("{}")),
            (403, false, false, Some("two")),
            (403, false, true, Some("{}")),
            (503, false, false, Some("two")),
            (503, true, false, None),
            (503, false, true, None),
            (500, false, false, None),
        ] {
            assert_eq!(
                shown(status, json, of_origin).as_deref(),
                text,
                "{status} {json} {of_origin}"
            );
        }
        assert_eq!(pages[1].page.form, Form::Markup);
    }

    /// An operator would learn from visitors that a page says `{{titel}}`, or is not there.
    #[test]
    fn mistakes_are_told_when_the_file_is_read() {
        for (keys, says) in [
            ("text = \"a\"", "no `status`"),
            ("status = [200]\ntext = \"a\"", "not the status of an error"),
            ("status = [\"3xx\"]\ntext = \"a\"", "not the status of an error"),
            ("status = [404]", "neither `file` nor `text`"),
            ("status = [404]\ntext = \"a\"\nfile = \"b\"", "both `file` and `text`"),
            ("status = [404]\ntext = \"{{titel}}\"", "unknown placeholder \"titel\""),
            ("status = [404]\ntext = \"{{title\"", "without"),
            ("status = [404]\ntext = \"a\"\ntype = \"html\"", "not a media type"),
        ] {
            let mistakes = parsed(&page(keys)).unwrap_err().0;
            let told = mistakes
                .iter()
                .any(|mistake| mistake.what.contains(says) && mistake.line > 7);
            assert!(told, "{keys}: {mistakes:?}");
        }
        let holes = "{{title}}".repeat(HOLES);
        assert!(parsed(&page(&format!("status = [404]\ntext = \"{holes}\""))).is_ok());
        let holes = "-{{title}}".repeat(HOLES + 1);
        assert!(parsed(&page(&format!("status = [404]\ntext = \"{holes}\""))).is_err());
        // A file that is missing is the zone's fault, not the node's.
        let config = parsed(&page("status = [404]\nfile = \"none.html\"")).unwrap();
        assert!(config.faults.has("z") && config.faults.of_node().is_empty());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("big.html");
        fs::write(&file, " ".repeat(BYTES + 1)).unwrap();
        let config = parsed(&page(&format!("status = [404]\nfile = {file:?}"))).unwrap();
        assert!(config.faults.has("z"));
    }
}
