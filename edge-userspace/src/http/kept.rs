//! What a worker keeps in its zone's cache by itself (the Cache API): wishes among the extensions
//! of a request, made by the room `isolate` and carried out by the room `cache`. Neither knows the
//! other, and no other room looks at them: a request with a wish ends in the cache.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

/// A wish. The request that it comes with is the one that the worker names: its method and fields
/// say which of several responses is meant.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The name of the worker's cache.
    pub cache: Arc<str>,
    /// The request's URL: scheme, authority in one spelling, target.
    pub url: Arc<str>,
    /// What is wanted.
    pub deed: Deed,
}

/// What is wanted of a cache.
#[derive(Clone, Debug)]
pub enum Deed {
    /// The response that is kept for the request, if it is fresh. Else: not found.
    Find,
    /// To keep this response for the request, whose content is the response's. Not found: it is not
    /// kept.
    Keep(StatusCode, HeaderMap),
    /// To forget what is kept for the URL. Not found: there was nothing.
    Forget,
}
