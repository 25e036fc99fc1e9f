//! Clients with certificates: how long what they have shown is good for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge::config::Clients;
use edge::tls::certificates;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::harness::{Edge, config, read, response};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
/// The client's certificate is good for this time; connections are made in less on a busy machine.
const LIFE: Duration = Duration::from_secs(4);
/// After its end a connection may take this long to leave, and a busy machine some more.
const FAREWELL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// Zone a asks for certificates; a client with one that ends soon.
fn begin() -> (Edge, ClientConfig) {
    let edge = Edge::start("");
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(edge.directory.path().join("people.pem"), authority.pem()).unwrap();
    let mut config = config(edge.directory.path(), "");
    let certificate = config.zones[0].certificate.as_mut().unwrap();
    let place = certificate.chain_place.clone();
    certificate.clients = Some(Clients {
        ca: (edge.directory.path().join("people.pem"), place),
        required: true,
        revoked: Vec::new(),
        revoked_must_be_current: false,
    });
    let loaded = certificates::load(&config.zones, &config.key_servers, None).unwrap();
    edge.front.reload(config.serving(), loaded).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((now + LIFE).as_secs());
    let chain = vec![params.signed_by(&key, &authority).unwrap().der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(edge.roots.clone())
        .with_client_auth_cert(chain, key)
        .unwrap();
    (edge, client)
}

/// Whoever keeps a tunnel open, or never stops to read, would stay for ever with a certificate that
/// has ended.
#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let (edge, client) = begin();
    let start = Instant::now();
    let open = || async { edge.tls_with("a.example", client.clone()).await.unwrap() };
    let (mut idle, mut busy, mut tunnel) = (open().await, open().await, open().await);
    idle.write_all(GET).await.unwrap();
    assert!(response(&mut idle).await.starts_with("HTTP/1.1 200"));
    busy.write_all(b"GET /stream HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    let upgrade = b"GET /upgrade HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    tunnel.write_all(upgrade).await.unwrap();
    assert!(response(&mut tunnel).await.starts_with("HTTP/1.1 101"));
    let idle = async {
        let (closed, _) = read(&mut idle, PATIENCE).await;
        (closed, start.elapsed())
    };
    let busy = async {
        let (mut bytes, mut buffer) = (0, vec![0; 1 << 16]);
        let taken = async {
            while let Ok(n @ 1..) = busy.read(&mut buffer).await {
                bytes += n;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let closed = tokio::time::timeout(PATIENCE, taken).await.is_ok();
        assert!(bytes > 1 << 16, "it was served until then");
        (closed, start.elapsed())
    };
    let tunnel = async {
        let talk = async {
            let mut echo = [0; 4];
            while tunnel.write_all(b"ping").await.is_ok() && tunnel.read_exact(&mut echo).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let closed = tokio::time::timeout(PATIENCE, talk).await.is_ok();
        (closed, start.elapsed())
    };
    let (idle, busy, tunnel) = tokio::join!(idle, busy, tunnel);
    for (what, (closed, after)) in [("idle", idle), ("busy", busy), ("tunnel", tunnel)] {
        assert!(closed, "{what} stays");
        // The end is on a whole second.
        assert!(after + Duration::from_secs(1) >= LIFE, "{what} went after {after:?}");
    }
    assert!(busy.1 + Duration::from_secs(1) >= LIFE + FAREWELL && tunnel.1 + Duration::from_secs(1) >= LIFE + FAREWELL);
    edge.counts("edge_http_overdue_total{reason=\"expired\"} 2").await;
    let late = edge.tls_with("a.example", client.clone()).await;
    let refused = match late {
        Err(_) => true,
        Ok(mut late) => late.write_all(GET).await.is_err() || matches!(late.read(&mut [0]).await, Err(_) | Ok(0)),
    };
    assert!(refused, "it is let in no more");
}
