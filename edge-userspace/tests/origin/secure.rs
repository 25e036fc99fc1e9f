//! TLS to origins: verified, always; the version settled by ALPN.

use std::convert::Infallible;
use std::sync::Arc;

use edge::http::handler::Reason;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::bed::{Bed, Server, full, zones};

/// An origin with a certificate for `name` by a CA of its own, whose PEM is given too.
async fn server(name: &str, alpn: &[&[u8]]) -> (Server, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    (with(leaf.der().clone(), &key, alpn).await, ca_certificate.pem())
}

fn acceptor(certificate: CertificateDer<'static>, key: &rcgen::KeyPair, alpn: &[&[u8]]) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// An origin that shows `certificate`.
async fn with(certificate: CertificateDer<'static>, key: &rcgen::KeyPair, alpn: &[&[u8]]) -> Server {
    over(acceptor(certificate, key, alpn)).await
}

/// An origin behind `acceptor`.
async fn over(acceptor: tokio_rustls::TlsAcceptor) -> Server {
    Server::raw(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(tls) = acceptor.accept(socket).await else { return };
            let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                Ok::<_, Infallible>(http::Response::new(full(format!("{:?}", request.version()))))
            });
            let io = TokioIo::new(tls);
            if h2 {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            }
        }
    })
    .await
}

/// The certificate that most guides make, which is an authority's by its own account, would be
/// refused however it is trusted.
#[tokio::test]
async fn a_certificate_that_is_trusted_itself() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap();
    let server = with(own.der().clone(), &key, &[]).await;
    assert_eq!(bed(&server, &own.pem(), "").bed.text("/").await.0, 200);
    // It is trusted for its name alone, and nobody else's is by it.
    let tls = bed(&server, &own.pem(), "server_name = \"other.example\"");
    assert!(tls.bed.get("/").await.unwrap_err().detail.contains("another name"));
    let (stranger, ca) = self::server("localhost", &[]).await;
    assert!(bed(&stranger, &own.pem(), "").bed.get("/").await.is_err());
    let failure = bed(&server, &ca, "").bed.get("/").await.unwrap_err();
    assert!(failure.detail.contains("CA:TRUE"), "{failure}");
}

struct Tls {
    _directory: tempfile::TempDir,
    bed: Bed,
}

fn bed(server: &Server, ca: &str, more: &str) -> Tls {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, ca).unwrap();
    let bed = Bed::new(&format!(
        "servers = [{{ address = \"https://localhost:{}\" }}]\nca = \"{}\"\n{more}",
        server.address.port(),
        file.display()
    ));
    Tls {
        _directory: directory,
        bed,
    }
}

/// Both versions, as configured and as the origin can.
#[tokio::test]
async fn versions_by_alpn() {
    for (alpn, http, expected) in [
        (&[b"http/1.1".as_slice()][..], "1.1", "HTTP/1.1"),
        (&[b"h2", b"http/1.1"], "1.1", "HTTP/1.1"),
        (&[b"h2", b"http/1.1"], "auto", "HTTP/2.0"),
        (&[b"http/1.1"], "auto", "HTTP/1.1"),
        (&[b"h2"], "2", "HTTP/2.0"),
    ] {
        let (server, ca) = server("localhost", alpn).await;
        let tls = bed(&server, &ca, &format!("http = \"{http}\""));
        for _ in 0..3 {
            assert_eq!(tls.bed.text("/").await, (200, expected.into()), "{http}");
        }
        assert_eq!(server.connections(), 1);
    }
    let (server, ca) = server("localhost", &[b"http/1.1"]).await;
    let tls = bed(&server, &ca, "http = \"2\"");
    assert_eq!(tls.bed.get("/").await.unwrap_err().reason, Reason::OriginUnreachable);
}

/// Whoever sits between edge and origin must not be taken for the origin.
#[tokio::test]
async fn wrong_certificates_are_refused() {
    let (wrong_name, ca) = server("other.example", &[]).await;
    let failure = bed(&wrong_name, &ca, "").bed.get("/").await.unwrap_err();
    assert_eq!(failure.reason, Reason::OriginUnreachable);
    assert!(
        failure.detail.contains("another name") && !failure.detail.contains("other.example"),
        "{failure}"
    );
    assert_eq!(
        bed(&wrong_name, &ca, "server_name = \"other.example\"")
            .bed
            .text("/")
            .await
            .0,
        200
    );

    let (_, stranger) = server("localhost", &[]).await;
    let (good, _) = server("localhost", &[]).await;
    let failure = bed(&good, &stranger, "").bed.get("/").await.unwrap_err();
    assert_eq!(failure.reason, Reason::OriginUnreachable, "{failure}");

    let plain = Server::h1(|_| async { http::Response::new(full("x")) }).await;
    assert_eq!(
        bed(&plain, &stranger, "").bed.get("/").await.unwrap_err().reason,
        Reason::OriginUnreachable
    );
}

/// Told when the configuration is read, with its place; the old one goes on.
#[tokio::test]
async fn roots_that_cannot_be_read() {
    let (server, ca) = server("localhost", &[]).await;
    let tls = bed(&server, &ca, "");
    let missing = zones("servers = [{ address = \"https://localhost:1\" }]\nca = \"/nonexistent/ca.pem\"");
    let mistakes = tls.bed.fleet.plan(&missing).unwrap_err();
    assert!(mistakes.to_string().contains("/nonexistent/ca.pem"), "{mistakes}");
    // Those of servers that a worker may ask are read then as well, and not when it first asks.
    let elsewhere = zones(
        "servers = [{ address = \"http://localhost:1\" }]\n[zone.worker]\n\
         origins = [{ address = \"https://api.example\", ca = \"/nonexistent/api.pem\" }]",
    );
    let mistakes = tls.bed.fleet.plan(&elsewhere).unwrap_err();
    assert!(mistakes.to_string().contains("/nonexistent/api.pem"), "{mistakes}");
    assert_eq!(tls.bed.text("/").await.0, 200);
}

/// A server that takes some requests over HTTP/1.1 alone (client certificates by path, for one)
/// would fail them for good.
#[tokio::test]
async fn http_1_1_required() {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let acceptor = acceptor(own.der().clone(), &key, &[b"h2", b"http/1.1"]);
    let server = Server::raw(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(tls) = acceptor.accept(socket).await else { return };
            if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                let service = service_fn(|_| async { Ok::<_, Infallible>(http::Response::new(full("older"))) });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tls), service)
                    .await;
                return;
            }
            let mut connection = h2::server::handshake(tls).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
            }
        }
    })
    .await;
    let auto = bed(&server, &own.pem(), "http = \"auto\"\nretries = 0");
    assert_eq!(auto.bed.text("/").await, (200, "older".into()));
    let two = bed(&server, &own.pem(), "http = \"2\"");
    assert_eq!(two.bed.get("/").await.unwrap_err().reason, Reason::OriginMalformed);
}

/// A server that lets in nobody but its edge (authenticated origin pulls) would refuse every
/// request.
#[tokio::test]
async fn shows_a_certificate_to_servers_that_ask() {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let leaf = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let (shown, key) = leaf("localhost");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![shown.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let server = over(tokio_rustls::TlsAcceptor::from(Arc::new(config))).await;
    let (edge, key) = leaf("edge.example");
    let own = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = own.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("edge.pem", edge.pem()), file("edge.key", key.serialize_pem()));
    let lines = format!("certificate = \"{certificate}\"\nkey = \"{key}\"\n");
    assert_eq!(bed(&server, &root.pem(), &lines).bed.text("/").await.0, 200);
    let failure = bed(&server, &root.pem(), "").bed.get("/").await.unwrap_err();
    assert!(
        matches!(failure.reason, Reason::OriginUnreachable | Reason::OriginMalformed),
        "{failure}"
    );
}
