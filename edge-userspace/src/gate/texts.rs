//! What the waiting page says, in the languages of a zone's catalogue: a TOML file with a table for
//! each language, by its tag (RFC 5646). What a table leaves out is said in English. The first
//! table's language is for who asks for none that is there.

use serde::Deserialize;

/// Languages of one catalogue at most.
const LANGUAGES: usize = 64;

/// The texts of all languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue(Vec<(String, Texts)>);

/// The texts of one language. `{ahead}` and `{minutes}` stand for numbers.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Texts {
    pub(super) direction: Direction,
    /// Title and heading.
    pub(super) title: String,
    /// Why there is a wait.
    pub(super) busy: String,
    /// Place in a waiting room.
    pub(super) ahead: String,
    pub(super) next: String,
    /// The page loads itself again.
    pub(super) again: String,
    /// It does not, since something was sent.
    pub(super) resend: String,
    /// What the bar shows, for screen readers.
    pub(super) bar: String,
    /// A challenge is being worked on.
    pub(super) working: String,
}

/// How a language is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    /// From left to right.
    #[default]
    Ltr,
    /// From right to left.
    Rtl,
}

impl Direction {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Ltr => "ltr",
            Self::Rtl => "rtl",
        }
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            direction: Direction::Ltr,
            title: "Please wait".to_owned(),
            busy: "Many people want this page right now.".to_owned(),
            ahead: "{ahead} ahead of you; about {minutes} min to go.".to_owned(),
            next: "You are next.".to_owned(),
            again: "This page will try again by itself; you need not reload it.".to_owned(),
            resend: "What you sent has not been processed: please go back and send it again in a moment.".to_owned(),
            bar: "Time until the next try".to_owned(),
            working: "Your browser is solving a small puzzle, to show that it is not part of an attack. You need not do anything."
                .to_owned(),
        }
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self(vec![("en".to_owned(), Texts::default())])
    }
}

/// A catalogue that cannot be used: the operator's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, or other keys.
    #[error("{0}")]
    Form(String),
    /// Not a tag of a language.
    #[error("\"{0}\" is not a language's tag")]
    Tag(String),
    /// None, or too many.
    #[error("{0} languages")]
    Number(usize),
}

impl Catalogue {
    /// Reads a catalogue.
    ///
    /// # Errors
    /// What an operator has to mend.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        // In the file's order, which the default language depends on.
        let document: toml::Table = toml::from_str(text).map_err(|error| CatalogueError::Form(error.to_string()))?;
        let mut order: Vec<(usize, String, Texts)> = Vec::new();
        for (tag, table) in document {
            let sound =
                tag.len() <= 35 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !tag.is_empty();
            if !sound {
                return Err(CatalogueError::Tag(tag));
            }
            let texts = table
                .try_into()
                .map_err(|error: toml::de::Error| CatalogueError::Form(format!("[{tag}] {error}")))?;
            let at = text.find(&format!("[{tag}]")).unwrap_or(usize::MAX);
            order.push((at, tag.to_ascii_lowercase(), texts));
        }
        if !(1..=LANGUAGES).contains(&order.len()) {
            return Err(CatalogueError::Number(order.len()));
        }
        order.sort_by_key(|(at, ..)| *at);
        Ok(Self(order.into_iter().map(|(_, tag, texts)| (tag, texts)).collect()))
    }

    /// The texts for a value of `Accept-Language` (RFC 9110 section 12.5.4), by lookup (RFC 4647
    /// section 3.4): a range is shortened from its end until a language of that tag is there.
    pub(super) fn choose(&self, accepted: Option<&str>) -> (&str, &Texts) {
        let mut ranges: Vec<(f32, &str)> = accepted
            .unwrap_or_default()
            .split(',')
            .take(LANGUAGES)
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let tag = parts.next().filter(|tag| !tag.is_empty())?;
                let quality = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(1.0, |q| q.parse().unwrap_or(0.0));
                (quality > 0.0).then_some((quality, tag))
            })
            .collect();
        ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
        let found = ranges.into_iter().find_map(|(_, range)| self.lookup(range));
        found
            .or_else(|| self.0.first())
            .map_or(("en", ENGLISH.get_or_init(Texts::default)), |(tag, texts)| (tag, texts))
    }

    fn lookup(&self, range: &str) -> Option<&(String, Texts)> {
        let mut range = range.to_ascii_lowercase();
        loop {
            if let Some(found) = self.0.iter().find(|(tag, _)| *tag == range) {
                return Some(found);
            }
            let end = range.rfind('-')?;
            range.truncate(end);
        }
    }
}

static ENGLISH: std::sync::OnceLock<Texts> = std::sync::OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    /// A visitor would get a page in a language that it does not read, though its own is there.
    #[test]
    fn the_language_that_is_asked_for() {
        let text = "[de]\ntitle = \"Bitte warten\"\n[ar]\ndirection = \"rtl\"\ntitle = \"انتظر\"\n[zh-Hant]\ntitle = \"請稍候\"\n";
        let catalogue = Catalogue::parse(text).unwrap();
        let of = |accepted| catalogue.choose(accepted).0;
        assert_eq!(of(Some("fr;q=0.9, ar-EG;q=0.8, de;q=0.1")), "ar");
        assert_eq!(of(Some("zh-Hant-TW")), "zh-hant");
        assert_eq!(of(Some("ar;q=0, *")), "de");
        assert_eq!((of(None), of(Some("fr")), of(Some(""))), ("de", "de", "de"));
        let (_, arabic) = catalogue.choose(Some("ar"));
        assert_eq!(
            (arabic.direction, &*arabic.next),
            (Direction::Rtl, "You are next."),
            "what is left out is English"
        );
    }

    /// A mistake in a catalogue would be found by visitors.
    #[test]
    fn mistakes() {
        let error = |text| Catalogue::parse(text).unwrap_err();
        assert!(
            matches!(error("[de]\ntitel = \"x\"\n"), CatalogueError::Form(e) if e.contains("titel") && e.contains("[de]"))
        );
        assert_eq!(error("[\"d e\"]\n"), CatalogueError::Tag("d e".to_owned()));
        assert_eq!(error(""), CatalogueError::Number(0));
    }
}
