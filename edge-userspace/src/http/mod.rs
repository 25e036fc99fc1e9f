//! Room 5: HTTP. Takes connections from `tls`, makes each request sound, asks the handler to its right, and logs the end.

pub mod body;
pub mod handler;
pub mod message;
