//! Certificates as clients get to see them: with their OCSP responses, as their files say.

use std::sync::Mutex;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};

use super::*;
use crate::config::Config;
use crate::tls::settings;
use crate::tls::staple::tests::{Authority, GOOD, Said};

const V12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const V13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Believes whom webpki believes, and keeps what was stapled.
#[derive(Debug)]
struct Reader {
    believes: Arc<WebPkiServerVerifier>,
    stapled: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Reader {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        response: &[u8],
        now: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().unwrap() = response.to_vec();
        self.believes.verify_server_cert(leaf, rest, name, response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.believes.verify_tls12_signature(message, leaf, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.believes.verify_tls13_signature(message, leaf, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.believes.supported_verify_schemes()
    }
}

/// What is stapled for a client in a handshake with the certificate of `snapshot` for a.example.
fn stapled(
    snapshot: &Snapshot,
    root: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let reader = Arc::new(Reader {
        believes: WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap(),
        stapled: Mutex::default(),
    });
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(reader.clone())
        .with_no_client_auth();
    let entry = snapshot.find(Some("a.example")).unwrap();
    let server = settings::special(&config::Tls::default(), entry).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), "a.example".try_into().unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        client.write_tls(&mut there).unwrap();
        server.read_tls(&mut there.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        server.write_tls(&mut back).unwrap();
        let mut back = back.as_slice();
        while !back.is_empty() {
            client.read_tls(&mut back).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    reader.stapled.lock().unwrap().clone()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// A zone whose certificate and response lie in a directory.
struct Zone {
    directory: tempfile::TempDir,
    authority: Authority,
    leaf: CertificateDer<'static>,
    config: Config,
}

impl Zone {
    fn new(must_staple: bool, keys: &str) -> Self {
        let authority = Authority::new("an authority");
        let (leaf, key) = authority.leaf(must_staple);
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let chain = pem("CERTIFICATE", &leaf) + &pem("CERTIFICATE", &authority.root());
        std::fs::write(at("a.pem"), chain).unwrap();
        std::fs::write(at("a.key"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(at("a.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[server]\nhttps = [\"127.0.0.1:443\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n\
             certificate = \"a.pem\"\n{keys}[zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n"
        );
        let config = Config::parse(&at("edge.toml"), &text).unwrap();
        Self {
            directory,
            authority,
            leaf,
            config,
        }
    }

    fn write(&self, response: &[u8]) {
        std::fs::write(self.directory.path().join("a.ocsp"), response).unwrap();
    }

    /// What is stapled now, and what the operator is told.
    fn load(&self, versions: &[&'static SupportedProtocolVersion]) -> (Vec<u8>, String) {
        let loaded = load(&self.config.zones, &self.config.key_servers, None).unwrap();
        let told: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        (
            stapled(&loaded.snapshot, &self.authority.root(), versions),
            told.join("\n"),
        )
    }
}

const KEYS: &str = "key = \"a.key\"\nocsp = \"a.ocsp\"\n";

/// Clients that demand a response would refuse the certificate though its file is there; or get one
/// that they refuse, or that is somebody else's; and nobody would be told.
#[test]
fn a_response_is_stapled_if_it_is_good() {
    let zone = Zone::new(true, KEYS);
    let good = zone.authority.says(&zone.leaf, &GOOD);
    zone.write(&good);
    for versions in [V12, V13] {
        assert_eq!(zone.load(versions), (good.clone(), String::new()));
    }
    let others = zone.authority.says(&zone.authority.leaf(false).0, &GOOD);
    let past = zone.authority.says(
        &zone.leaf,
        &Said {
            until: Some("20210101000000Z"),
            ..GOOD
        },
    );
    let revoked = [&[0xa1, 17, 0x18, 15][..], b"20240101000000Z"].concat();
    let revoked = zone.authority.says(
        &zone.leaf,
        &Said {
            status: &revoked,
            ..GOOD
        },
    );
    for (response, words) in [
        (&others, "is for another certificate; it is not stapled"),
        (&past, "has expired; it is not stapled"),
        (
            &revoked,
            "says that the certificate is revoked; it is not stapled; have another certificate issued",
        ),
        (&b"text".to_vec(), "is not an OCSP response in DER"),
    ] {
        zone.write(response);
        let (stapled, told) = zone.load(V13);
        assert!(stapled.is_empty() && told.contains(words), "{told}");
        assert!(told.contains("edge.toml:8: zone.ocsp: "), "{told}");
        assert!(
            told.contains("asks for a stapled OCSP response (RFC 7633), and none is sent"),
            "{told}"
        );
    }
    std::fs::remove_file(zone.directory.path().join("a.ocsp")).unwrap();
    let (stapled, told) = zone.load(V13);
    assert!(
        stapled.is_empty() && told.contains("no OCSP response is stapled; name a file that is there"),
        "{told}"
    );
    // Back again: as a reload finds it.
    zone.write(&good);
    assert_eq!(zone.load(V13), (good, String::new()));
    let none = Zone::new(true, "key = \"a.key\"\n");
    assert!(none.load(V13).1.contains("name a file with the response as `ocsp`"));
}

/// A response that ends while the node runs would be sent for ever, and make clients refuse.
#[test]
fn a_response_is_not_sent_after_its_end() {
    let zone = Zone::new(false, KEYS);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(150);
    let soon = soon.strftime("%Y%m%d%H%M%SZ").to_string();
    zone.write(&zone.authority.says(
        &zone.leaf,
        &Said {
            until: Some(&soon),
            ..GOOD
        },
    ));
    let (sent, told) = zone.load(V13);
    assert!(!sent.is_empty());
    assert!(told.contains("a.ocsp expires in 2 hours; fetch it anew"), "{told}");
    let loaded = load(&zone.config.zones, &zone.config.key_servers, None).unwrap();
    assert_eq!(loaded.snapshot.aging(&zone.config.zones).len(), 1);
    assert_eq!(loaded.snapshot.responses_end().count(), 1);
    let key = loaded.snapshot.find(Some("a.example")).unwrap().first.key.clone();
    let file = zone.config.zones[0].certificate.as_ref().unwrap().ocsp.clone().unwrap();
    let mut credential = Credential::here(key).staple(Some(&file), &mut Vec::new());
    assert!(credential.shown().ocsp.is_some());
    credential.stapled.as_mut().unwrap().until = validity::now();
    assert!(credential.shown().ocsp.is_none(), "its end is reached");
    let told = credential.response_ends(&file.0, &file.1).unwrap().to_string();
    assert!(told.contains("has expired; it is not stapled any more"), "{told}");
}

/// Zones whose keys are elsewhere, and second certificates, would be served without.
#[test]
fn second_certificates_and_keys_elsewhere_have_responses_too() {
    let more =
        "key = \"a.key\"\nmore_certificates = [{ certificate = \"a.pem\", key = \"a.key\", ocsp = \"a.ocsp\" }]\n";
    let zone = Zone::new(true, more);
    let good = zone.authority.says(&zone.leaf, &GOOD);
    zone.write(&good);
    let loaded = load(&zone.config.zones, &zone.config.key_servers, None).unwrap();
    let entry = loaded.snapshot.find(Some("a.example")).unwrap();
    assert_eq!(entry.more[0].shown().ocsp.as_ref(), Some(&good));
    let told: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "the first one has none: {told:?}");
    let route = Route::new("a".into(), PublicKey::of(&zone.leaf).unwrap(), Vec::new());
    let file = (zone.directory.path().join("a.ocsp"), Place::default());
    let credential = Credential::elsewhere(vec![zone.leaf.clone(), zone.authority.root()], route);
    let credential = credential.staple(Some(&file), &mut Vec::new());
    assert_eq!(credential.shown().ocsp.as_ref(), Some(&good));
    assert!(
        credential
            .shown()
            .key
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])
            .is_some()
    );
}
