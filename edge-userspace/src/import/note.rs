//! What an import tells of a directive: how much it matters, and why.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How much it matters that a directive did not come along. The gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It guarded something.
    Protection,
    /// Answers will differ.
    Missing,
    /// It was translated, and means something else in part.
    Different,
    /// Nothing is lost: edge does it by itself, or it tunes what edge does not have.
    Idle,
}

impl Weight {
    /// The word for it, in reports and comments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Protection => "LOSS OF PROTECTION",
            Self::Missing => "not translated",
            Self::Different => "different",
            Self::Idle => "not needed",
        }
    }
}

/// What there is to tell of one directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// The file that the directive stands in.
    pub file: Arc<Path>,
    /// Its line there, from 1.
    pub line: usize,
    /// The directive, on one line.
    pub directive: String,
    /// Why, and what to write.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, word) = (self.file.display(), self.weight.word());
        write!(f, "{file}:{}: {word}: {}: {}", self.line, self.directive, self.why)
    }
}
