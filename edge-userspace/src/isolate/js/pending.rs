//! A response whose first piece of content decides whether it is coded as its fields say.

use http::{HeaderMap, header};

use crate::http::body::Body;
use crate::isolate::coding::Coding;
use crate::isolate::program::Responder;

/// A response that waits for its first piece of content.
pub(super) struct Pending {
    /// The number of its content's stream.
    pub(super) stream: i32,
    /// What its fields say of it.
    pub(super) coding: Coding,
    pub(super) parts: http::response::Parts,
    pub(super) body: Body,
    pub(super) responder: Responder,
}

impl Pending {
    /// Sends it; `first` is what its content begins with.
    pub(super) fn begin(mut self, first: &[u8]) {
        if !self.coding.begins(first) {
            uncoded(&mut self.parts.headers);
        }
        self.responder.send(self.parts, self.body);
    }
}

/// The script read content that was coded, and copied its fields: what it sends is not coded.
pub(super) fn uncoded(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
}
