//! From the checked configuration to rustls's: versions, ciphers, ALPN, tickets. `front` holds the result and swaps it on
//! reload.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;

use super::Error;
use super::certificates::Store;
use crate::config::{self, TlsVersion};

/// HTTP/2 before HTTP/1.1; a client that offers neither is refused (RFC 7301 section 3.2), one that offers nothing gets
/// HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// rustls's configuration for all TLS listeners; `tickets` adds a ticketer for each connection.
///
/// # Errors
/// rustls finds versions and ciphers that do not fit; cannot happen with the values here.
pub fn server(tls: &config::Tls, certificates: Arc<Store>) -> Result<Arc<ServerConfig>, Error> {
    let mut provider = ring::default_provider();
    // AES-128 before AES-256: as strong against every known attack, a third less work per byte, and forward secrecy bounds
    // what a quantum computer of the far future would gain. Clients without AES instructions are rare enough by now.
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    let versions: &[_] = match tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    config.ignore_client_order = true;
    // Tickets alone: nothing held here per client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One connection per client is the rule with HTTP/2; each further ticket is a seal and a record per handshake.
    config.send_tls13_tickets = 1;
    // 0-RTT data could be replayed (RFC 8446 section 8).
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}
