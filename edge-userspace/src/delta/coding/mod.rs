//! Content coding for clients: ordinary `zstd`, `br` and `gzip`, chosen by `negotiate`, made by
//! `stream` as content passes, or taken from `shelf`, where what the cache holds is coded once,
//! with more effort. `browser` in front decides, and adds dictionaries.

pub mod negotiate;
pub(super) mod shelf;
pub(super) mod stream;
