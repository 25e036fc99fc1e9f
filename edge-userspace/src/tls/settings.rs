//! From the checked configuration to rustls's: versions, ciphers, ALPN, tickets. `front` holds the
//! result and swaps it on reload.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::Error;
use super::certificates::{Entry, Store};
use super::compression;
use super::pem_file;
use super::remote::exchange;
use crate::config::{self, Mistakes, Place, TlsVersion};

/// HTTP/2 before HTTP/1.1; a client that offers neither is refused (RFC 7301 section 3.2), one that
/// offers nothing gets HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// rustls's configuration for all zones that need none of their own; `tickets` adds a ticketer for
/// each connection.
///
/// # Errors
/// The authority of near ends cannot be read. rustls finds versions and ciphers that do not fit;
/// cannot happen with the values here.
pub fn server(tls: &config::Tls, certificates: Arc<Store>) -> Result<Arc<ServerConfig>, Error> {
    let Some((file, place)) = &tls.near_ends else {
        return build(
            tls.min_version,
            &LOCAL,
            WebPkiClientVerifier::no_client_auth(),
            certificates,
        );
    };
    let verifier = near_ends(file, place, LOCAL.clone())?;
    let mut config = Arc::unwrap_or_clone(build(tls.min_version, &LOCAL, verifier, certificates)?);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Connections last; each new one shows its certificate again, so that one taken back is refused
    // at once.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The same for a zone that needs its own.
///
/// # Errors
/// As [`server`].
pub fn special(tls: &config::Tls, entry: &Arc<Entry>) -> Result<Arc<ServerConfig>, Error> {
    let provider = if entry.exchange { &REMOTE } else { &LOCAL };
    let clients = entry.policy.clients().cloned();
    let clients = clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    let oldest = entry.min_version.unwrap_or(tls.min_version);
    build(oldest, provider, clients, entry.clone())
}

/// AWS-LC's cryptography but for ChaCha20, with the post-quantum hybrids that today's browsers
/// prefer in front of its groups.
static LOCAL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::kx_group::{SECP256R1, SECP256R1MLKEM768, SECP384R1, X25519, X25519MLKEM768};
    let mut provider = provider();
    provider.kx_groups = vec![X25519MLKEM768, SECP256R1MLKEM768, X25519, SECP256R1, SECP384R1];
    Arc::new(provider)
});

/// The same with the key exchange at the key servers.
static REMOTE: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = provider();
    provider.kx_groups = exchange::GROUPS.to_vec();
    Arc::new(provider)
});

fn provider() -> CryptoProvider {
    // Against ring's, X25519 takes half the time and AES-128-GCM two thirds; P-256 takes the same,
    // ChaCha20 a third more.
    let mut provider = aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        let of_ring = ring::ALL_CIPHER_SUITES.iter().find(|one| one.suite() == suite.suite());
        if let Some(of_ring) = of_ring.filter(|one| format!("{:?}", one.suite()).contains("CHACHA20")) {
            *suite = *of_ring;
        }
    }
    // AES-128 before AES-256: as strong against every known attack, a third less work per byte, and
    // forward secrecy bounds what a quantum computer of the far future would gain. Clients without
    // AES instructions are rare enough by now.
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    provider
}

fn build(
    oldest: TlsVersion,
    provider: &Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, Error> {
    let versions: &[_] = match oldest {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificates);
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    config.ignore_client_order = true;
    config.cert_compressors = compression::ALL.to_vec();
    // Tickets alone: nothing held here per client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One connection per client is the rule with HTTP/2; each further ticket is a seal and a record
    // per handshake.
    config.send_tls13_tickets = 1;
    // 0-RTT data could be replayed (RFC 8446 section 8).
    config.max_early_data_size = 0;
    #[cfg(feature = "keylog")]
    if let Some(log) = super::keylog::log() {
        config.key_log = log;
    }
    Ok(Arc::new(config))
}

/// Believes those to whom the authority in `file` has issued a certificate for clients.
fn near_ends(path: &Path, place: &Place, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mend = "write a PEM file with the certificate of the near ends' authority";
    let wrong = |what: String| Error::Mistake(Mistakes(vec![place.mistake(what, mend)]));
    let mut roots = RootCertStore::empty();
    let found = pem_file::certificates(path, place).map_err(|mistake| Error::Mistake(Mistakes(vec![mistake])))?;
    if roots.add_parsable_certificates(found).0 == 0 {
        return Err(wrong(format!("{} has no certificate", path.display())));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| wrong(format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use rustls::{NamedGroup, Tls13CipherSuite};

    use super::*;

    /// Whoever sets a variable would read all connections of a node that was not built for that.
    #[test]
    fn session_keys_are_told_to_nobody() {
        let config = server(&config::Tls::default(), Arc::default()).unwrap();
        let labels = [
            "CLIENT_RANDOM",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        ];
        let wanted = cfg!(feature = "keylog") && std::env::var_os("SSLKEYLOGFILE").is_some();
        for label in labels {
            assert_eq!(config.key_log.will_log(label), wanted, "{label}");
        }
    }

    /// A suite or a group that is lost with a change of library is a client that is lost.
    #[test]
    fn every_suite_and_group_is_there() {
        let names = |suites: &[rustls::SupportedCipherSuite]| {
            let mut names: Vec<_> = suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
            names.sort();
            names
        };
        assert_eq!(names(&LOCAL.cipher_suites), names(ring::ALL_CIPHER_SUITES));
        let groups: Vec<_> = LOCAL.kx_groups.iter().map(|group| group.name()).collect();
        for group in [
            NamedGroup::X25519MLKEM768,
            NamedGroup::secp256r1MLKEM768,
            NamedGroup::X25519,
            NamedGroup::secp256r1,
            NamedGroup::secp384r1,
        ] {
            assert!(groups.contains(&group), "{group:?}");
        }
        let first = LOCAL.cipher_suites.first().unwrap();
        assert_eq!(first.suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        // QUIC needs packet and header protection of each suite of TLS 1.3.
        let quic = |suite: &Tls13CipherSuite| suite.quic.is_some();
        assert!(LOCAL.cipher_suites.iter().filter_map(|suite| suite.tls13()).all(quic));
    }
}
