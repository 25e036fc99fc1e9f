//! What rules do to messages: changes of fields, and answers of their own.

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A change of a message's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The field goes.
    Remove(HeaderName),
    /// This one field, whatever there was.
    Set(HeaderName, HeaderValue),
    /// One more.
    Add(HeaderName, HeaderValue),
    /// This one if there is none.
    Default(HeaderName, HeaderValue),
}

impl Change {
    /// Makes it in `headers`.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        match self {
            Self::Remove(name) => drop(headers.remove(name)),
            Self::Set(name, value) => drop(headers.insert(name, value)),
            Self::Add(name, value) => drop(headers.append(name, value)),
            Self::Default(name, value) => {
                if !headers.contains_key(&name) {
                    headers.insert(name, value);
                }
            }
        }
    }
}

/// An answer that a rule gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The content is a phrase of ours, or nothing: an error page may stand in its place.
    pub(super) phrase: bool,
}
