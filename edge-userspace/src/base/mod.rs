//! What every room may lean on and what leans on none: the clock, identifiers, the peer of a
//! connection and whether its handshake is over, the stop signal, the process as a service, QUIC's
//! integers, the outline of PEM files, digests, fields of messages, files as they are read and
//! replaced, directories that are to be written to, a thread's random generator, the cryptography
//! of links to key servers, name servers and their messages, what waits until a thread is idle, the
//! ledger of memory, a request that the zone rules are tried on, when certificates end, files that
//! somebody else replaces, and the words of penalties.

pub mod clock;
#[cfg(feature = "node")]
pub mod digest;
pub mod directory;
#[cfg(feature = "node")]
pub mod dns;
pub mod early;
pub mod field;
pub mod file;
#[cfg(any(feature = "node", feature = "keyserver"))]
pub mod generator;
pub mod glob;
pub mod id;
pub mod idle;
pub mod invented;
pub mod ledger;
#[cfg(feature = "node")]
pub mod lines;
pub mod link;
#[cfg(feature = "node")]
pub mod markup;
#[cfg(feature = "node")]
pub mod name_servers;
pub mod peer;
pub mod pem;
pub mod penalty;
#[cfg(feature = "node")]
pub mod rolling;
#[cfg(any(feature = "node", feature = "keyserver"))]
pub mod service;
pub mod shutdown;
pub mod validity;
pub mod varint;
#[cfg(any(feature = "node", feature = "keyserver"))]
pub mod watched;
