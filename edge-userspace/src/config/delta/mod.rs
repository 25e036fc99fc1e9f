//! The near end's part of the file: far ends, and what is held to refer to. `config::far` is the far end's own file.

mod check;
pub(super) mod raw;

use std::sync::Arc;

use super::{Place, Upstream};

pub(super) use check::{far_ends, node};

/// What all zones with a far end share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Bytes of the last versions of resources.
    pub memory: usize,
    /// Larger content is not kept.
    pub object_bytes: u64,
}

/// A far end.
#[derive(Clone, Debug, PartialEq)]
pub struct FarEnd {
    /// Zones name it by this.
    pub name: Arc<str>,
    /// Where it is named.
    pub place: Place,
    /// Its servers, over mutual TLS and HTTP/2.
    pub upstream: Arc<Upstream>,
    /// Versions that say `no-store` may be held in memory, only to refer to.
    pub keep_no_store: bool,
}
