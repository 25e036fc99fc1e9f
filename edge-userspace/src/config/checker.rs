//! Collects what is wrong with a file, for all of its sections, so that the operator sees every mistake at once.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use toml::Spanned;

use super::mistake::{Faults, Mistake, Mistakes, Place, Source};
use super::value::{Size, Time};

/// What was found so far.
pub struct Checker<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) mistakes: Vec<Mistake>,
    /// With the files that single zones name.
    pub(super) faults: Faults,
    /// The same of the one zone that is checked.
    pub(super) of_files: Vec<Mistake>,
    /// The zones come from a fleet's manifest, which may be still to come.
    pub(super) in_fleet: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            mistakes: Vec::new(),
            faults: Faults::default(),
            of_files: Vec::new(),
            in_fleet: false,
        }
    }

    /// What was checked, if nothing was wrong.
    ///
    /// # Errors
    /// The mistakes.
    pub(super) fn end<T>(self, checked: T) -> Result<T, Mistakes> {
        if self.mistakes.is_empty() {
            Ok(checked)
        } else {
            Err(Mistakes(self.mistakes))
        }
    }

    pub(super) fn mistake(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.mistakes.push(self.source.place(span).mistake(what, mend));
    }

    /// What was found wrong with files that single zones name.
    pub(super) fn faults(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }

    pub(super) fn path(&self, path: &Spanned<PathBuf>) -> PathBuf {
        self.source.path(path)
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        self.source.place(span)
    }

    /// A mistake if the value is not within `bounds`, both ends among them; `text` is how one is written.
    pub(super) fn within<T: PartialOrd>(
        &mut self,
        value: &Spanned<T>,
        bounds: Option<(T, T)>,
        text: impl Fn(&T) -> String,
    ) {
        if let Some((least, most)) = bounds {
            self.between(value.span(), value.get_ref(), (&least, &most), "", text);
        }
    }

    /// The same of a value within a table on one line; `key` is its name there.
    pub(super) fn between<T: PartialOrd>(
        &mut self,
        span: Range<usize>,
        value: &T,
        (least, most): (&T, &T),
        key: &str,
        text: impl Fn(&T) -> String,
    ) {
        if value < least || value > most {
            let key = if key.is_empty() {
                String::new()
            } else {
                format!("{key} ")
            };
            let what = format!("{key}{} is out of bounds", text(value));
            self.mistake(span, what, format!("write {} to {}", text(least), text(most)));
        }
    }

    /// A duration from `least` to `most`.
    pub(super) fn time(&mut self, value: &Spanned<Time>, least: Duration, most: Duration) -> Duration {
        self.within(value, Some((Time(least), Time(most))), Time::to_string);
        value.get_ref().0
    }

    /// A number of bytes from `least` to `most`.
    pub(super) fn size(&mut self, value: &Spanned<Size>, least: u64, most: u64) -> u64 {
        self.within(value, Some((Size(least), Size(most))), Size::to_string);
        value.get_ref().0
    }

    /// The same, to be held in memory.
    pub(super) fn bytes(&mut self, value: &Spanned<Size>, least: u64, most: u64) -> usize {
        usize::try_from(self.size(value, least, most)).unwrap_or(usize::MAX)
    }

    /// A count from `least` to `most`.
    pub(super) fn number<T: Copy + PartialOrd + fmt::Display>(&mut self, value: &Spanned<T>, least: T, most: T) -> T {
        self.within(value, Some((least, most)), T::to_string);
        *value.get_ref()
    }
}

impl Checker<'static> {
    /// Of what no file says.
    pub(super) fn nowhere() -> Self {
        static SOURCE: LazyLock<Source<'static>> = LazyLock::new(|| Source {
            file: Path::new(""),
            text: "",
            included: &[],
        });
        Self::new(&SOURCE)
    }
}
