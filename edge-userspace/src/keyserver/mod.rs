//! The key server: the only process that holds private keys. An edge asks it, over mutual TLS, for what a handshake needs of
//! a key; it checks whether this edge may, builds the signed structure itself, and answers.

pub mod wire;
