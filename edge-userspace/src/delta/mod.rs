//! Room 9: differences. A resource that changes all the time crosses a wire as what changed of it:
//! a zstd or brotli stream that refers to a version the receiver has (RFC 9842).
//!
//! `near` stands in the edge: it names the version it has (`bases`), asks the far end, undoes the
//! coding (`restore`) and compares digests before it believes the result. `far` stands beside the
//! origin: it fetches (`flights`, `intake`), keeps versions (`versions`), encodes what changed
//! (`encodings`). `hop` is what the two say to each other. `coding` codes responses for clients,
//! `browser` as differences where a browser has a dictionary. `codec` makes and undoes streams,
//! `digest` names versions.

mod bases;
pub mod browser;
pub mod codec;
pub mod coding;
pub mod digest;
mod encodings;
pub mod far;
mod flights;
mod hop;
mod intake;
mod lru;
pub mod metrics;
pub mod near;
mod privacy;
mod restore;
#[cfg(test)]
mod tests;
pub mod versions;

pub use far::Far;
pub use metrics::Metrics;
pub use near::Near;
