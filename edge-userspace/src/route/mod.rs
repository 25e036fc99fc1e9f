//! Room 6: which handler answers. Takes sound requests from `http`, and hands them to what the
//! zone's configuration says.

pub mod gated;
pub mod ready;
pub mod routed;
