//! The waiting page: a template with placeholders, checked when it is loaded, filled in with
//! escaped text. It retries by itself with a meta refresh; its script moves a bar, and works on a
//! challenge if there is one.

use std::fmt::Write as _;
use std::sync::Arc;

use super::texts::{Catalogue, Texts};
use crate::base::markup::escape;

/// The built-in page.
const BUILT_IN: &str = include_str!("page.html");
/// The script that works on a challenge.
const WORK: &str = include_str!("work.js");

/// A page cut at its placeholders, and what it says in each language.
#[derive(Clone, Debug)]
pub struct Template {
    pieces: Arc<[Piece]>,
    texts: Arc<Catalogue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Hole(Hole),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    Refresh,
    Nonce,
    Seconds,
    Ahead,
    Estimate,
    Zone,
    Message,
    Language,
    Direction,
    Title,
    Bar,
    Work,
}

const HOLES: [(&str, Hole); 12] = [
    ("refresh", Hole::Refresh),
    ("nonce", Hole::Nonce),
    ("seconds", Hole::Seconds),
    ("ahead", Hole::Ahead),
    ("estimate", Hole::Estimate),
    ("zone", Hole::Zone),
    ("message", Hole::Message),
    ("language", Hole::Language),
    ("direction", Hole::Direction),
    ("title", Hole::Title),
    ("bar", Hole::Bar),
    ("work", Hole::Work),
];

/// What is filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling<'a> {
    /// Random, once per page; the Content-Security-Policy names it.
    pub(super) nonce: &'a str,
    /// Until the page loads itself again.
    pub(super) seconds: u64,
    /// Whether it does: only a request that may be repeated is.
    pub(super) again: bool,
    pub(super) ahead: Option<u64>,
    /// Seconds.
    pub(super) estimate: Option<u64>,
    pub(super) zone: &'a str,
    /// `Accept-Language`.
    pub(super) languages: Option<&'a str>,
    /// A challenge: the token, and the bits that its answer takes.
    pub(super) work: Option<(&'a str, u8)>,
}

/// A template that cannot be used: the operator's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{…` without an end.
    #[error("\"{{{{\" without \"}}}}\"")]
    Open,
    /// A name that stands for nothing.
    #[error("unknown placeholder \"{0}\"")]
    Unknown(String),
    /// Without it, clients without scripts wait for ever.
    #[error("the placeholder {{{{refresh}}}} is missing")]
    NoRefresh,
}

impl Template {
    /// Cuts `text` at `{{name}}`.
    ///
    /// # Errors
    /// What an operator has to mend.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            let known = HOLES.iter().find(|(known, _)| *known == name.trim());
            let (_, hole) = known.ok_or_else(|| TemplateError::Unknown(name.trim().to_owned()))?;
            pieces.extend([Piece::Text(before.into()), Piece::Hole(*hole)]);
            rest = after;
        }
        pieces.push(Piece::Text(rest.into()));
        if !pieces.contains(&Piece::Hole(Hole::Refresh)) {
            return Err(TemplateError::NoRefresh);
        }
        Ok(Self {
            pieces: pieces.into(),
            texts: Arc::default(),
        })
    }

    /// The same with these texts.
    pub fn with_texts(self, texts: Catalogue) -> Self {
        Self {
            texts: Arc::new(texts),
            ..self
        }
    }

    pub(super) fn fill(&self, with: Filling<'_>) -> String {
        let mut page = String::with_capacity(4_096);
        let (language, texts) = self.texts.choose(with.languages);
        for piece in &*self.pieces {
            match piece {
                Piece::Text(text) => page.push_str(text),
                Piece::Hole(Hole::Language) => escape(&mut page, language),
                Piece::Hole(hole) => fill(&mut page, *hole, with, texts),
            }
        }
        page
    }
}

impl Default for Template {
    fn default() -> Self {
        // A test holds the built-in page to its syntax; an empty one would still carry the refresh
        // in the header.
        Self::parse(BUILT_IN).unwrap_or_else(|_| Self {
            pieces: Arc::from([Piece::Hole(Hole::Refresh)]),
            texts: Arc::default(),
        })
    }
}

/// Writing to a `String` cannot fail.
fn fill(page: &mut String, hole: Hole, with: Filling<'_>, texts: &Texts) {
    let seconds = with.seconds;
    let _ = match hole {
        Hole::Refresh if with.again => write!(page, "<meta http-equiv=\"refresh\" content=\"{seconds}\">"),
        Hole::Refresh => Ok(()),
        Hole::Nonce => return escape(page, with.nonce),
        Hole::Seconds => write!(page, "{seconds}"),
        Hole::Ahead => with.ahead.map_or(Ok(()), |n| write!(page, "{n}")),
        Hole::Estimate => with.estimate.map_or(Ok(()), |n| write!(page, "{n}")),
        Hole::Zone => return escape(page, with.zone),
        Hole::Message => return escape(page, &message(with, texts)),
        Hole::Direction => write!(page, "{}", texts.direction.label()),
        Hole::Title => return escape(page, &texts.title),
        Hole::Bar => return escape(page, &texts.bar),
        Hole::Work => return work(page, with, texts),
        // Filled in by who chose it.
        Hole::Language => Ok(()),
    };
}

/// The script, with what it works on; nothing if there is no challenge.
fn work(page: &mut String, with: Filling<'_>, texts: &Texts) {
    let Some((token, bits)) = with.work else { return };
    for (attribute, value) in [
        ("<script nonce=\"", with.nonce),
        ("\" data-token=\"", token),
        ("\" data-working=\"", &texts.working),
    ] {
        page.push_str(attribute);
        escape(page, value);
    }
    // Writing to a String cannot fail.
    let _ = write!(page, "\" data-bits=\"{bits}\">\n{WORK}</script>");
}

fn message(with: Filling<'_>, texts: &Texts) -> String {
    let mut text = match (with.ahead, with.estimate) {
        (Some(0), _) => texts.next.clone(),
        (Some(ahead), Some(estimate)) => {
            let minutes = estimate.div_ceil(60).to_string();
            texts
                .ahead
                .replace("{ahead}", &ahead.to_string())
                .replace("{minutes}", &minutes)
        }
        _ => texts.busy.clone(),
    };
    text.push(' ');
    text.push_str(if with.again { &texts.again } else { &texts.resend });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH: Filling<'_> = Filling {
        nonce: "n0",
        seconds: 7,
        again: true,
        ahead: Some(41),
        estimate: Some(90),
        zone: "<script>alert('x')</script>\"&",
        languages: None,
        work: None,
    };

    /// What a template shows could become markup, and a template that cannot work would be found by
    /// visitors.
    #[test]
    fn escaped_and_checked() {
        let page = Template::parse("{{refresh}}<p title=\"{{zone}}\">{{ message }} {{ahead}}</p>").unwrap();
        let text = page.fill(WITH);
        assert!(
            !text.contains("<script>") && text.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;")
        );
        assert!(text.starts_with("<meta http-equiv=\"refresh\" content=\"7\">") && text.contains("41 ahead"));
        let error = |text| Template::parse(text).unwrap_err();
        assert_eq!(error("{{refresh}}{{oops}}"), TemplateError::Unknown("oops".into()));
        assert_eq!(
            (error("{{refresh"), error("hello")),
            (TemplateError::Open, TemplateError::NoRefresh)
        );
    }

    /// A visitor would see a page that is not its language's, or one whose script has nothing to
    /// work on.
    #[test]
    fn texts_and_challenge() {
        let arabic = "[de]\n[ar]\ndirection = \"rtl\"\ntitle = \"<انتظر>\"\nahead = \"{minutes}/{ahead}\"\n";
        let template = Template::default().with_texts(Catalogue::parse(arabic).unwrap());
        let page = template.fill(Filling {
            languages: Some("ar"),
            work: Some(("to.ken", 17)),
            ..WITH
        });
        for needed in [
            "<html lang=\"ar\" dir=\"rtl\">",
            "<title>&lt;انتظر&gt;</title>",
            "2/41",
            "<script nonce=\"n0\" data-token=\"to.ken\"",
            "data-bits=\"17\">",
        ] {
            assert!(page.contains(needed), "{needed} is not in {page}");
        }
        assert!(!Template::default().fill(WITH).contains("data-token"));
    }

    /// The built-in page must work without scripts, for screen readers, and load nothing from
    /// elsewhere.
    #[test]
    fn built_in() {
        let text = Template::parse(BUILT_IN).unwrap().fill(WITH);
        for needed in [
            "<html lang=",
            "http-equiv=\"refresh\" content=\"7\"",
            "role=\"status\"",
            "aria-live=\"polite\"",
            "prefers-reduced-motion",
            "<script nonce=\"n0\">",
            "<style nonce=\"n0\">",
        ] {
            assert!(text.contains(needed), "{needed}");
        }
        for foreign in ["http://", "https://", "src=", "href=", " style=", "onload"] {
            assert!(!text.contains(foreign), "{foreign}");
        }
        let unsafe_method = Template::default().fill(Filling { again: false, ..WITH });
        assert!(
            !unsafe_method.contains("http-equiv=\"refresh\""),
            "a form must not be lost to a GET"
        );
    }
}
