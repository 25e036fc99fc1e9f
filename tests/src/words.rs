//! What xtask says to a load: `key=value` words after its role.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// The words of one run.
#[derive(Debug)]
pub struct Words(HashMap<String, String>);

impl Words {
    /// Of a command line; words without a `=` are left out.
    pub fn parse(words: impl Iterator<Item = String>) -> Self {
        let pair = |word: String| {
            word.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        Self(words.filter_map(pair).collect())
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// It is missing, or no such value.
    pub fn get<T: std::str::FromStr>(&self, key: &str) -> Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let word = self.0.get(key).with_context(|| format!("{key}= is missing"))?;
        word.parse().with_context(|| format!("{key}={word}"))
    }
}
