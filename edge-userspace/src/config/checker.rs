//! Collects what is wrong with a file, for all of its sections, so that the operator sees every
//! mistake at once.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use toml::Spanned;

use super::mistake::{Faults, Mistake, Mistakes, Place, Source};
use super::value::Size;

/// What was found so far.
pub struct Checker<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) mistakes: Vec<Mistake>,
    /// With the files that single zones name.
    pub(super) faults: Faults,
    /// The table that is checked: where a key that is missing is missed.
    table: Range<usize>,
    /// The key that is checked, and an example of it.
    key: (&'static str, &'static str),
}

impl<'a> Checker<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            mistakes: Vec::new(),
            faults: Faults::default(),
            table: 0..0,
            key: ("", ""),
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

    /// Checks one table of which there may be any number.
    pub(super) fn table<T, R>(&mut self, table: &Spanned<T>, check: impl FnOnce(&T, &mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.table, table.span());
        let checked = check(table.get_ref(), self);
        self.table = outer;
        checked
    }

    /// The key that is checked next, and an example of it.
    pub(super) fn at(&mut self, key: &'static str, example: &'static str) {
        self.key = (key, example);
    }

    /// The key that is checked must be there, and is not.
    pub(super) fn missing(&mut self) {
        let (key, example) = self.key;
        let mend = match example {
            "" => format!("write {key} = …"),
            example => format!("write {key} = {example}"),
        };
        self.mistake(self.table.clone(), format!("no `{key}`"), mend);
    }

    pub(super) fn path(&self, path: &Spanned<PathBuf>) -> PathBuf {
        self.source.path(path)
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        self.source.place(span)
    }

    /// A file or directory, with its place for errors of the room that opens it.
    pub(super) fn file(&self, path: &Spanned<PathBuf>) -> (PathBuf, Place) {
        (self.path(path), self.place(path.span()))
    }

    /// A mistake if the value is not within `bounds`, both ends among them; `text` is how one is
    /// written.
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

    /// A mistake if a size is less than `least`, and not 0B, which stands for `default`; `what` is
    /// wrong with it.
    pub(super) fn enough(&mut self, size: &Spanned<Size>, least: Size, what: &str, default: &str) {
        if *size.get_ref() > Size(0) && *size.get_ref() < least {
            let mend = format!("write at least {least}, or 0B for {default}");
            self.mistake(size.span(), what, mend);
        }
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
