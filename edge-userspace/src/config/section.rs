//! One declaration per key. [`section!`] takes of each key its meaning, its kind, its default, its
//! bounds and its life, and gives what is read, what the rooms get, the check between the two, what
//! a reload cannot carry out, and the lines of the printed defaults and of `docs/configuration.md`.
//! Bounds are spelled in one way, which is the way they are written.

#[cfg(test)]
mod tests;

use super::Mistake;

/// What a section says of itself.
pub(super) trait Section {
    /// What is known of its keys.
    fn entries() -> Vec<Entry>;

    /// The keys in which what is written differs and that take a restart.
    fn fixed_keys_that_differ(&self, other: &Self) -> Vec<&'static str>;
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
    /// As the file would have it; empty: the key may or must be written, and has no default.
    pub(super) default: String,
    /// Such as.
    pub(super) example: &'static str,
    /// What the key was called before; empty: nothing else.
    pub(super) was: &'static str,
    /// A file without it is a mistake.
    pub(super) required: bool,
    /// The least and the most.
    pub(super) bounds: Option<(String, String)>,
    pub(super) life: Life,
}

/// `template` with sections in place of their marks, which are `#@` and a header each. The header
/// of a section that a file need not have begins with `# `.
pub(super) fn filled<'a>(template: &str, sections: impl IntoIterator<Item = (&'a str, Vec<Entry>)>) -> String {
    let mut text = template.to_owned();
    for (header, entries) in sections {
        let mark = format!("#@{}\n", header.trim_start_matches("# "));
        text = text.replace(&mark, &printed(header, &entries));
    }
    text
}

/// A section as the printed defaults have it: with `# ` before each line if a file need not have
/// it.
fn printed(header: &str, entries: &[Entry]) -> String {
    let optional = header.starts_with("# ");
    let mut text = format!("{header}\n");
    for entry in entries {
        let mut words: String = entry
            .meaning
            .iter()
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" ");
        if let Some((least, most)) = &entry.bounds {
            words.push_str(&format!(" {least} to {most}."));
        }
        if entry.life == Life::Fixed {
            words.push_str(" Takes a restart.");
        }
        for line in wrapped(&words, 98) {
            text.push_str(&format!("# {line}\n"));
        }
        // The compiler breaks the lines of long ones.
        let example: Vec<_> = entry.example.split_whitespace().collect();
        let example = example.join(" ");
        let (key, off) = (entry.key.trim_start_matches("r#"), if optional { "# " } else { "" });
        match (entry.default.as_str(), example.as_str()) {
            ("", example) if entry.required => text.push_str(&format!("{off}{key} = {example}\n")),
            ("", example) => text.push_str(&format!("# {key} = {example}\n")),
            (default, "") => text.push_str(&format!("{off}{key} = {default}\n")),
            (default, example) => text.push_str(&format!("{off}{key} = {default}\n# {key} = {example}\n")),
        }
    }
    text
}

/// `text` in lines of at most `columns`.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
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

/// A mistake about a key that there is not, with the new name if one of `sections` says that it had
/// that name.
pub(super) fn with_new_name(mut mistake: Mistake, sections: &[(&str, Vec<Entry>)]) -> Mistake {
    let unknown = mistake.what.strip_prefix("unknown key `");
    let Some(key) = unknown.and_then(|rest| rest.strip_suffix('`')).map(str::to_owned) else {
        return mistake;
    };
    let table = mistake.key.rsplit_once('.').map_or("", |(table, _)| table);
    let named = |header: &str| header.trim_matches(['#', ' ', '[', ']']) == table;
    let mut entries = sections
        .iter()
        .filter(|(header, _)| named(header))
        .flat_map(|(_, entries)| entries);
    if let Some(entry) = entries.find(|entry| entry.was == key) {
        mistake.what = format!("`{key}` is called `{}` now", entry.key);
        mistake.mend = format!("write {} = …", entry.key);
    }
    mistake
}

/// Declares a section: `written` is what is read, `checked` what its room gets. Of each key: its
/// meaning, its life, its kind, its default, its bounds if it has any, an example if its default
/// says nothing (`like`), and the name it had before (`was`). Keys under `read` are in the file
/// alone: the section's own check makes fields under `checked` of them, and of the tables under
/// `tables`.
macro_rules! section {
    (@life fixed) => { $crate::config::section::Life::Fixed };
    (@life live) => { $crate::config::section::Life::Live };
    (@bounds) => { None };
    (@bounds $least:expr, $most:expr) => { Some(($least, $most)) };
    (@like) => { "" };
    (@like $($example:tt)+) => { stringify!($($example)+) };
    (@entry $defaults:ident $life:ident $key:ident $kind:ty, ($($doc:literal)+) ($($least:expr, $most:expr)?) ($($example:tt)?) ($($old:ident)?)) => {
        $crate::config::section::Entry {
            key: stringify!($key),
            meaning: vec![$($doc),+],
            default: <$kind as $crate::config::kind::Kind>::text($defaults.$key.get_ref()),
            example: $crate::config::section::section!(@like $($example)?),
            was: $crate::config::section::section!(@like $($old)?),
            required: <$kind as $crate::config::kind::Kind>::REQUIRED,
            bounds: {
                let bounds: Option<(
                    <$kind as $crate::config::kind::Kind>::Bound,
                    <$kind as $crate::config::kind::Kind>::Bound,
                )> = $crate::config::section::section!(@bounds $($least, $most)?);
                bounds.map(|(least, most)| (
                    <$kind as $crate::config::kind::Kind>::bound(&least),
                    <$kind as $crate::config::kind::Kind>::bound(&most),
                ))
            },
            life: $crate::config::section::section!(@life $life),
        }
    };
    (
        $(#[$meta:meta])*
        $written:ident => $checked:ident {
            $( $(#[doc = $doc:literal])+ $life:ident $key:ident: $kind:ty = $default:expr $(, $least:expr => $most:expr)?; $(like $example:tt;)? $(was $old:ident;)? )*
        }
        $(read {
            $( $(#[doc = $read_doc:literal])+ $read_life:ident $read:ident: $read_kind:ty = $read_default:expr
                $(, $read_least:expr => $read_most:expr)?; $(like $read_example:tt;)? $(was $read_old:ident;)? )*
        })?
        $(tables { $( $table:ident: $table_type:ty, )* })?
        $(checked { $( $(#[$made_meta:meta])+ $made:ident: $made_type:ty, )* })?
    ) => {
        /// As it is written.
        #[derive(Clone, Debug, serde::Deserialize, PartialEq)]
        #[serde(default, deny_unknown_fields)]
        pub(in crate::config) struct $written {
            $( pub(in crate::config) $key: toml::Spanned<<$kind as $crate::config::kind::Kind>::Written>, )*
            $($( pub(in crate::config) $read: toml::Spanned<<$read_kind as $crate::config::kind::Kind>::Written>, )*)?
            $($( pub(in crate::config) $table: $table_type, )*)?
        }

        impl Default for $written {
            fn default() -> Self {
                Self {
                    $( $key: toml::Spanned::new(0..0, $default), )*
                    $($( $read: toml::Spanned::new(0..0, $read_default), )*)?
                    $($( $table: Default::default(), )*)?
                }
            }
        }

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $checked {
            $( $(#[doc = $doc])+ pub $key: <$kind as $crate::config::kind::Kind>::Checked, )*
            $($( $(#[$made_meta])+ pub $made: $made_type, )*)?
        }

        impl Default for $checked {
            /// Of a file that says nothing.
            fn default() -> Self {
                $written::default().check(&mut $crate::config::checker::Checker::nowhere())
            }
        }

        impl $written {
            /// What the room gets, without what is made of several keys; what is wrong is told to
            /// `checker`.
            pub(in crate::config) fn check(&self, checker: &mut $crate::config::checker::Checker<'_>) -> $checked {
                $checked {
                    $( $key: {
                        checker.at(stringify!($key), $crate::config::section::section!(@like $($example)?));
                        <$kind as $crate::config::kind::Kind>::check(
                            &self.$key,
                            $crate::config::section::section!(@bounds $($least, $most)?),
                            checker,
                        )
                    }, )*
                    $($( $made: Default::default(), )*)?
                }
            }

        }

        impl $crate::config::section::Section for $written {
            fn entries() -> Vec<$crate::config::section::Entry> {
                let defaults = Self::default();
                vec![
                    $( $crate::config::section::section!(
                        @entry defaults $life $key $kind, ($($doc)+) ($($least, $most)?) ($($example)?) ($($old)?)
                    ), )*
                    $($( $crate::config::section::section!(
                        @entry defaults $read_life $read $read_kind, ($($read_doc)+) ($($read_least, $read_most)?) ($($read_example)?) ($($read_old)?)
                    ), )*)?
                ]
            }

            fn fixed_keys_that_differ(&self, other: &Self) -> Vec<&'static str> {
                use $crate::config::section::Life;
                let mut keys = Vec::new();
                $( if $crate::config::section::section!(@life $life) == Life::Fixed && self.$key != other.$key {
                    keys.push(stringify!($key));
                } )*
                $($( if $crate::config::section::section!(@life $read_life) == Life::Fixed && self.$read != other.$read {
                    keys.push(stringify!($read));
                } )*)?
                keys
            }
        }
    };
}
pub(super) use section;
