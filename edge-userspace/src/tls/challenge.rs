//! What ACME servers ask this node to prove that it has a host: answers by token over plain HTTP
//! (RFC 8555 section 8.3), which `http` gives, and by a certificate in a handshake (RFC 8737),
//! which [`accept`](super::accept) gives. The room `acme` puts both here for as long as an order is
//! under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;

use super::names::normal;

/// The protocol in which certificates of challenges are asked for (RFC 8737 section 6.2).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Challenges under way. As many as there are hosts in orders, which the node makes one at a time.
#[derive(Debug, Default)]
pub struct Challenges(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// By token: the host, and the key authorization.
    http: HashMap<String, (String, String)>,
    /// By host.
    tls: HashMap<String, Arc<ServerConfig>>,
}

/// A certificate for a challenge cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    /// Ours: no randomness, or a host that is no name.
    #[error("the certificate of the challenge: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Ours.
    #[error("the certificate of the challenge: {0}")]
    Tls(#[from] rustls::Error),
}

impl Challenges {
    /// Answers `token` for `host` with `authorization`.
    pub fn by_http(&self, host: &str, token: &str, authorization: &str) {
        let answer = (normal(host), authorization.to_owned());
        self.answers().http.insert(token.to_owned(), answer);
    }

    /// Answers handshakes for `host` with the digest of the key authorization.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn by_tls(&self, host: &str, digest: &[u8; 32]) -> Result<(), Unmade> {
        let host = normal(host);
        let config = Arc::new(config(&host, digest)?);
        self.answers().tls.insert(host, config);
        Ok(())
    }

    /// Answers nothing more for `host`.
    pub fn forget(&self, host: &str) {
        let host = normal(host);
        let mut answers = self.answers();
        answers.http.retain(|_, (of, _)| *of != host);
        answers.tls.remove(&host);
    }

    /// The content that proves that `host` is this node's, if `token` was given for it.
    pub fn answer(&self, host: &str, token: &str) -> Option<String> {
        let answers = self.answers();
        let (of, authorization) = answers.http.get(token)?;
        (*of == normal(host)).then(|| authorization.clone())
    }

    fn of(&self, host: &str) -> Option<Arc<ServerConfig>> {
        self.answers().tls.get(&normal(host)).cloned()
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a client offers the challenge's protocol and no other: no one else does (RFC 8737
/// section 3).
pub(super) fn is_asked(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(PROTOCOL) && protocols.next().is_none()
}

/// Shakes hands as the challenge of the host asks; the connection is of no other use. Whether there
/// was such a challenge.
pub(super) async fn shake(start: StartHandshake<TcpStream>, challenges: &Challenges) -> bool {
    let host = start.client_hello().server_name().map(str::to_owned);
    let Some(config) = host.and_then(|host| challenges.of(&host)) else {
        return false;
    };
    if let Ok(mut stream) = start.into_stream(config).await {
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
    }
    true
}

/// With the self-signed certificate of RFC 8737 section 3: for the host alone, with the digest in a
/// critical extension.
fn config(host: &str, digest: &[u8; 32]) -> Result<ServerConfig, Unmade> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()])?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // rustls would look into the certificate, and refuse it for the critical extension that makes
    // it what it is.
    let signer = rustls::crypto::ring::sign::any_supported_type(&key)?;
    let shown = CertifiedKey::new(vec![certificate.der().clone()], signer);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token that is answered for another host would prove that host to whoever ordered.
    #[test]
    fn a_token_is_answered_for_its_host_and_as_long_as_it_is_asked() {
        let challenges = Challenges::default();
        challenges.by_http("A.test.", "tok", "tok.thumb");
        assert_eq!(challenges.answer("a.test", "tok").as_deref(), Some("tok.thumb"));
        assert_eq!(challenges.answer("b.test", "tok"), None);
        assert_eq!(challenges.answer("a.test", "other"), None);
        challenges.forget("a.test");
        assert_eq!(challenges.answer("a.test", "tok"), None);
    }

    /// A validating server (RFC 8737 section 3) looks for one name and the critical extension with
    /// the digest.
    #[test]
    fn the_certificate_is_as_validators_want_it() {
        let challenges = Challenges::default();
        challenges.by_tls("a.test", &[7; 32]).unwrap();
        let config = challenges.of("A.test").unwrap();
        assert_eq!(config.alpn_protocols, [PROTOCOL]);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(&[7; 32])];
        let made = params.self_signed(&key).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(made.der()).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        let oid = x509_parser::der_parser::oid!(1.3.6.1.5.5.7.1.31);
        let extension = parsed.extensions().iter().find(|e| e.oid == oid).unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4_u8, 32][..], &[7; 32]].concat());
    }
}
