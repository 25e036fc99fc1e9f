//! What every room may lean on and what leans on none: identifiers, the peer of a connection, the stop signal.

pub mod id;
pub mod peer;
pub mod shutdown;
