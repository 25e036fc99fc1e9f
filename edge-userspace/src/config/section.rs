//! One declaration per key. [`section!`] takes of each key its meaning, its kind, its default, its bounds and its life, and gives
//! what is read, what the rooms get, the check between the two, what a reload cannot carry out, and the lines of the printed
//! defaults and of `docs/configuration.md`. Bounds are spelled in one way, which is the way they are written.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::Place;
use super::checker::Checker;
use super::value::{Size, Time};

/// A kind of key: what is written for it, and what a room gets.
pub trait Kind {
    /// As the file has it.
    type Written: Clone + fmt::Debug + PartialEq;
    /// As a room has it.
    type Checked;

    /// The value as the file would have it.
    fn text(written: &Self::Written) -> String;

    /// The value for the room; a value out of `bounds` is told to `checker`.
    fn check(
        written: &Spanned<Self::Written>,
        bounds: Option<(Self::Written, Self::Written)>,
        checker: &mut Checker<'_>,
    ) -> Self::Checked;
}

/// A count.
pub struct Count<T>(std::marker::PhantomData<T>);

impl<T: Copy + fmt::Debug + fmt::Display + PartialOrd> Kind for Count<T> {
    type Written = T;
    type Checked = T;

    fn text(written: &T) -> String {
        written.to_string()
    }

    fn check(written: &Spanned<T>, bounds: Option<(T, T)>, checker: &mut Checker<'_>) -> T {
        checker.within(written, bounds, Self::text);
        *written.get_ref()
    }
}

/// A number of bytes.
pub struct Bytes;

impl Kind for Bytes {
    type Written = Size;
    type Checked = u64;

    fn text(written: &Size) -> String {
        format!("\"{written}\"")
    }

    fn check(written: &Spanned<Size>, bounds: Option<(Size, Size)>, checker: &mut Checker<'_>) -> u64 {
        checker.within(written, bounds, Size::to_string);
        written.get_ref().0
    }
}

/// A number of bytes that are held in memory.
pub struct Memory;

impl Kind for Memory {
    type Written = Size;
    type Checked = usize;

    fn text(written: &Size) -> String {
        Bytes::text(written)
    }

    fn check(written: &Spanned<Size>, bounds: Option<(Size, Size)>, checker: &mut Checker<'_>) -> usize {
        usize::try_from(Bytes::check(written, bounds, checker)).unwrap_or(usize::MAX)
    }
}

/// A number of bytes of which 0 means no limit.
pub struct Limit;

impl Kind for Limit {
    type Written = Size;
    type Checked = Option<u64>;

    fn text(written: &Size) -> String {
        Bytes::text(written)
    }

    fn check(written: &Spanned<Size>, bounds: Option<(Size, Size)>, checker: &mut Checker<'_>) -> Option<u64> {
        Some(Bytes::check(written, bounds, checker)).filter(|bytes| *bytes > 0)
    }
}

/// A duration.
pub struct Span;

impl Kind for Span {
    type Written = Time;
    type Checked = Duration;

    fn text(written: &Time) -> String {
        format!("\"{written}\"")
    }

    fn check(written: &Spanned<Time>, bounds: Option<(Time, Time)>, checker: &mut Checker<'_>) -> Duration {
        checker.within(written, bounds, Time::to_string);
        written.get_ref().0
    }
}

/// A duration of which 0 means no limit.
pub struct Deadline;

impl Kind for Deadline {
    type Written = Time;
    type Checked = Option<Duration>;

    fn text(written: &Time) -> String {
        Span::text(written)
    }

    fn check(written: &Spanned<Time>, bounds: Option<(Time, Time)>, checker: &mut Checker<'_>) -> Option<Duration> {
        Some(Span::check(written, bounds, checker)).filter(|time| !time.is_zero())
    }
}

/// A count of which 0 means no limit.
pub struct Unlimited;

impl Kind for Unlimited {
    type Written = u64;
    type Checked = Option<u64>;

    fn text(written: &u64) -> String {
        written.to_string()
    }

    fn check(written: &Spanned<u64>, bounds: Option<(u64, u64)>, checker: &mut Checker<'_>) -> Option<u64> {
        checker.within(written, bounds, Self::text);
        Some(*written.get_ref()).filter(|n| *n > 0)
    }
}

/// Yes or no.
pub struct Flag;

impl Kind for Flag {
    type Written = bool;
    type Checked = bool;

    fn text(written: &bool) -> String {
        written.to_string()
    }

    fn check(written: &Spanned<bool>, _: Option<(bool, bool)>, _: &mut Checker<'_>) -> bool {
        *written.get_ref()
    }
}

/// A file or directory, with its place for errors of the room that opens it.
pub struct File;

impl Kind for File {
    type Written = PathBuf;
    type Checked = (PathBuf, Place);

    fn text(written: &PathBuf) -> String {
        format!("\"{}\"", written.display())
    }

    fn check(written: &Spanned<PathBuf>, _: Option<(PathBuf, PathBuf)>, checker: &mut Checker<'_>) -> (PathBuf, Place) {
        (checker.path(written), checker.place(written.span()))
    }
}

/// One of a few words.
pub struct Word<T>(std::marker::PhantomData<T>);

/// A closed set of words.
pub trait Words: Copy + fmt::Debug + PartialEq {
    /// The word for it.
    fn word(self) -> &'static str;
}

impl<T: Words> Kind for Word<T> {
    type Written = T;
    type Checked = T;

    fn text(written: &T) -> String {
        format!("\"{}\"", written.word())
    }

    fn check(written: &Spanned<T>, _: Option<(T, T)>, _: &mut Checker<'_>) -> T {
        *written.get_ref()
    }
}

/// What a reload does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It takes a restart.
    Fixed,
    /// A reload carries it out.
    Live,
}

/// What is known of one key, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: &'static str,
    /// The lines of its declaration's comment.
    pub(super) meaning: Vec<&'static str>,
    /// As the file would have it.
    pub(super) default: String,
    /// The least and the most.
    pub(super) bounds: Option<(String, String)>,
    pub(super) life: Life,
}

/// A section as the printed defaults have it.
pub(super) fn printed(header: &str, entries: &[Entry]) -> String {
    let mut text = format!("{header}\n");
    for Entry {
        key,
        meaning,
        default,
        bounds,
        life,
    } in entries
    {
        let mut words: String = meaning.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        if let Some((least, most)) = bounds {
            words.push_str(&format!(" {} to {}.", least.trim_matches('"'), most.trim_matches('"')));
        }
        if *life == Life::Fixed {
            words.push_str(" Takes a restart.");
        }
        for line in wrapped(&words, 98) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("{key} = {default}\n"));
    }
    text
}

/// `text` in lines of at most `columns`.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Declares a section: `written` is what is read, `checked` what its room gets. Of each key: its meaning, its life, its kind, its
/// default, and its bounds where it has any.
macro_rules! section {
    (@life fixed) => { $crate::config::section::Life::Fixed };
    (@life live) => { $crate::config::section::Life::Live };
    (@bounds) => { None };
    (@bounds $least:expr, $most:expr) => { Some(($least, $most)) };
    (
        $(#[$meta:meta])*
        $written:ident => $checked:ident {
            $( $(#[doc = $doc:literal])+ $life:ident $key:ident: $kind:ty = $default:expr $(, $least:expr => $most:expr)?; )*
        }
    ) => {
        /// As it is written.
        #[derive(Clone, Debug, serde::Deserialize, PartialEq)]
        #[serde(default, deny_unknown_fields)]
        pub(in crate::config) struct $written {
            $( pub(in crate::config) $key: toml::Spanned<<$kind as $crate::config::section::Kind>::Written>, )*
        }

        impl Default for $written {
            fn default() -> Self {
                Self { $( $key: toml::Spanned::new(0..0, $default), )* }
            }
        }

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $checked {
            $( $(#[doc = $doc])+ pub $key: <$kind as $crate::config::section::Kind>::Checked, )*
        }

        impl $written {
            /// What the room gets; what is out of bounds is told to `checker`.
            pub(in crate::config) fn check(&self, checker: &mut $crate::config::checker::Checker<'_>) -> $checked {
                use $crate::config::section::Kind;
                $checked {
                    $( $key: <$kind>::check(
                        &self.$key,
                        $crate::config::section::section!(@bounds $($least, $most)?),
                        checker,
                    ), )*
                }
            }

            /// What is known of its keys.
            pub(in crate::config) fn entries() -> Vec<$crate::config::section::Entry> {
                use $crate::config::section::Kind;
                let defaults = Self::default();
                vec![ $( $crate::config::section::Entry {
                    key: stringify!($key),
                    meaning: vec![$($doc),+],
                    default: <$kind>::text(defaults.$key.get_ref()),
                    bounds: {
                        let bounds: Option<(<$kind as Kind>::Written, <$kind as Kind>::Written)> =
                            $crate::config::section::section!(@bounds $($least, $most)?);
                        bounds.map(|(least, most)| (<$kind>::text(&least), <$kind>::text(&most)))
                    },
                    life: $crate::config::section::section!(@life $life),
                }, )* ]
            }
        }

        impl $checked {
            /// The keys in which the sections differ and that take a restart.
            pub fn fixed_keys_that_differ(&self, other: &Self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $( if $crate::config::section::section!(@life $life) == $crate::config::section::Life::Fixed
                    && self.$key != other.$key {
                    keys.push(stringify!($key));
                } )*
                keys
            }
        }
    };
}
pub(super) use section;
