//! The cryptography of the links between edges and key servers: both ends agree here.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};

/// ring's, with the post-quantum hybrid in front: secrets of handshakes cross the link, and what is
/// recorded today must not be opened by a quantum computer later. Peers of an earlier release agree
/// on X25519.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.kx_groups.insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
    Arc::new(provider)
}
