//! Room 9: differences. A resource that changes all the time crosses a wire as what changed of it: a zstd or brotli stream
//! that refers to a version the receiver has (RFC 9842).
//!
//! `codec` makes and undoes such streams, `digest` names versions.

pub mod browser;
pub mod codec;
pub mod coding;
pub mod digest;
