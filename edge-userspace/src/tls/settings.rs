//! From the checked configuration to rustls's: versions, ciphers, ALPN, tickets. `front` holds the result and swaps it on
//! reload.

use std::sync::{Arc, LazyLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};

use super::Error;
use super::certificates::{Entry, Store};
use super::remote::exchange;
use crate::config::{self, TlsVersion};

/// HTTP/2 before HTTP/1.1; a client that offers neither is refused (RFC 7301 section 3.2), one that offers nothing gets
/// HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// rustls's configuration for all zones that need none of their own; `tickets` adds a ticketer for each connection.
///
/// # Errors
/// rustls finds versions and ciphers that do not fit; cannot happen with the values here.
pub fn server(tls: &config::Tls, certificates: Arc<Store>) -> Result<Arc<ServerConfig>, Error> {
    build(tls, &LOCAL, WebPkiClientVerifier::no_client_auth(), certificates)
}

/// The same for a zone that needs its own.
///
/// # Errors
/// As [`server`].
pub fn special(tls: &config::Tls, entry: &Arc<Entry>) -> Result<Arc<ServerConfig>, Error> {
    let provider = if entry.exchange { &REMOTE } else { &LOCAL };
    let clients = entry.clients.clone();
    let clients = clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    build(tls, provider, clients, entry.clone())
}

/// ring's cryptography, with the post-quantum hybrid that today's browsers prefer in front of its groups.
static LOCAL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = provider();
    provider.kx_groups.insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
    Arc::new(provider)
});

/// The same with the key exchange at the key servers.
static REMOTE: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = provider();
    provider.kx_groups = exchange::GROUPS.to_vec();
    Arc::new(provider)
});

fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    // AES-128 before AES-256: as strong against every known attack, a third less work per byte, and forward secrecy bounds
    // what a quantum computer of the far future would gain. Clients without AES instructions are rare enough by now.
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    provider
}

fn build(
    tls: &config::Tls,
    provider: &Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, Error> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(clients)
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
