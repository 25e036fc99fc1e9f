//! Handshakes with keys that are elsewhere, against every kind of key server: each ends in success
//! or a clean alert within its time, and leaves nothing behind.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{AlertDescription, ClientConfig, NamedGroup, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::server::{self, Mood, Pki, Running};
use super::*;
use crate::base::clock::UnixTime;
use crate::config::KeyServer;
use crate::gate::keys::{Epochs, Secret};
use crate::gate::token::Tokens;
use crate::keyserver::wire::ErrorCode;
use crate::tls::certificates::{Credential, Entry};
use crate::tls::policy::Policy;
use crate::tls::remote::{KeyServers, PublicKey};
use crate::tls::sealing::Sealing;
use crate::tls::settings;
use crate::tls::tickets::Tickets;

const NAME: &str = "zone.test";
const PATIENCE: Duration = Duration::from_millis(1_500);
const UNHURRIED: Duration = Duration::from_secs(60);
const V12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const V13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// An edge's zone and its key server.
struct World {
    pki: Pki,
    key: Vec<u8>,
    certificate: rustls::pki_types::CertificateDer<'static>,
    keyless: Arc<Keyless>,
    server: Running,
}

fn terms(waiting: usize) -> config::Tls {
    config::Tls {
        key_server_timeout: PATIENCE,
        handshakes_waiting: waiting,
        handshakes_waiting_per_address: waiting,
        ..config::Tls::default()
    }
}

/// For what is counted and not timed, on a machine that is busy with something else as well.
fn unhurried(waiting: usize) -> config::Tls {
    config::Tls {
        handshake_timeout: UNHURRIED,
        key_server_timeout: UNHURRIED,
        ..terms(waiting)
    }
}

impl World {
    async fn new() -> Self {
        let pki = Pki::new();
        let (certificate, key) = pki.leaf(NAME);
        let key = key.serialize_der();
        let server = server::start(&pki, key.clone(), Arc::default(), None).await;
        Self {
            keyless: Arc::new(Keyless::new(&terms(20_000), &mut Registry::default())),
            pki,
            key,
            certificate,
            server,
        }
    }

    fn mood(&self) -> &Mood {
        &self.server.mood
    }

    fn zone(&self, servers: &[KeyServer], exchange: bool) -> Zone {
        let servers = KeyServers::load(servers, None, &mut Vec::new()).0;
        let key = PublicKey::of(&self.certificate).unwrap();
        let all = ["one", "two"]
            .iter()
            .filter_map(|name| servers.get(name).cloned())
            .collect();
        let route = Route::new(NAME.into(), key, all);
        let chain = vec![self.certificate.clone()];
        let entry = Arc::new(Entry {
            first: Credential::elsewhere(chain, route.clone()),
            more: Vec::new(),
            exchange,
            policy: Policy::open(NAME),
            early_data: false,
            min_version: None,
            #[cfg(feature = "legacy-rsa")]
            legacy: None,
            config: OnceLock::new(),
        });
        let secret = Secret::new(b"an example of thirty-two bytes..").unwrap();
        let tokens = Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::now()));
        let life = Duration::from_secs(3600);
        let tickets = Tickets::new(tokens, Sealing::new(life, std::time::Instant::now()), life, false);
        let config = settings::special(&terms(1), &entry).unwrap();
        Zone {
            config: tickets.equip(&config, [192, 0, 2, 1].into(), &entry.policy).0,
            whose: Whose {
                route,
                exchange,
                client: [192, 0, 2, 1].into(),
            },
            keyless: self.keyless.clone(),
            _servers: servers,
        }
    }

    /// With this one key server.
    fn simple(&self, exchange: bool) -> Zone {
        self.zone(&[self.pki.entry("one", self.server.address, 0)], exchange)
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion], groups: &[NamedGroup]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.root()).unwrap();
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if !groups.is_empty() {
            let all = std::mem::take(&mut provider.kx_groups);
            provider.kx_groups = groups
                .iter()
                .filter_map(|group| all.iter().find(|one| one.name() == *group).copied())
                .collect();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Nothing of any handshake is left.
    async fn level(&self) {
        let (made, free, waiting) = self.keyless.count();
        assert_eq!((made - free, waiting), (0, 0), "stacks in use, places taken");
        self.keyless.sweep();
        self.keyless.sweep();
        assert_eq!(self.keyless.count(), (0, 0, 0));
    }
}

#[derive(Clone)]
struct Zone {
    config: Arc<ServerConfig>,
    whose: Whose,
    keyless: Arc<Keyless>,
    _servers: KeyServers,
}

impl Zone {
    async fn accept(self, io: DuplexStream) -> Result<TlsStream<DuplexStream>, Closed> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        self.keyless
            .shake(start.accepted, start.io, self.config.clone(), &self.whose, |_| ())
            .await
    }

    /// A whole handshake, and five bytes there and back.
    async fn visit(&self, client: Arc<ClientConfig>) -> (Result<HandshakeKind, rustls::Error>, Result<(), Closed>) {
        let (near, far) = duplex(64 << 10);
        let zone = self.clone();
        let edge = tokio::spawn(async move {
            let mut stream = zone.accept(far).await?;
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await?;
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            Ok(())
        });
        let name = ServerName::try_from(NAME).unwrap();
        let talk = async {
            let mut stream = TlsConnector::from(client).connect(name, near).await?;
            stream.write_all(b"hello").await?;
            stream.flush().await?;
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await?;
            assert_eq!(&bytes, b"hello");
            Ok::<_, std::io::Error>(stream.get_ref().1.handshake_kind().unwrap())
        };
        let met = talk.await.map_err(|error| match error.downcast::<rustls::Error>() {
            Ok(error) => error,
            Err(error) => rustls::Error::General(format!("{error}")),
        });
        (met, edge.await.unwrap())
    }

    async fn fails(&self, client: Arc<ClientConfig>) -> Refusal {
        let start = Instant::now();
        let (met, edge) = self.visit(client).await;
        assert!(
            start.elapsed() < PATIENCE + Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        let alert = rustls::Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(met.unwrap_err(), alert, "the client is told, and in TLS's words");
        match edge.unwrap_err() {
            Closed::KeyServer(refusal) => refusal,
            other => panic!("{other}"),
        }
    }
}

/// Clients that do not take the first certificate's kind of signature would be shown it all the
/// same, or the second one's signature would be asked of the first one's key.
#[tokio::test]
async fn a_second_certificate_elsewhere() {
    let world = World::new().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let second = world.pki.leaf_of(NAME, &key);
    let other = server::start(&world.pki, key.serialize_der(), Arc::default(), None).await;
    let mut zone = world.simple(false);
    let entry = world.pki.entry("two", other.address, 0);
    let servers = KeyServers::load(&[entry], None, &mut Vec::new()).0;
    let legs = servers.get("two").cloned().into_iter().collect();
    let route = Route::new(NAME.into(), PublicKey::of(&second).unwrap(), legs);
    let entry = Arc::new(Entry {
        first: Credential::elsewhere(vec![world.certificate.clone()], zone.whose.route.clone()),
        more: vec![Credential::elsewhere(vec![second.clone()], route)],
        exchange: false,
        policy: Policy::open(NAME),
        early_data: false,
        min_version: None,
        #[cfg(feature = "legacy-rsa")]
        legacy: None,
        config: OnceLock::new(),
    });
    zone.config = settings::special(&unhurried(1), &entry).unwrap();
    for (scheme, asked) in [
        (SignatureScheme::ECDSA_NISTP256_SHA256, [1, 0]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, [0, 1]),
    ] {
        for versions in [V12, V13] {
            let (before, after) = (world.mood(), &other.mood);
            let was = [before.asked.load(SeqCst), after.asked.load(SeqCst)];
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            let all = &mut provider.signature_verification_algorithms;
            let at = all.mapping.iter().position(|(one, _)| *one == scheme).unwrap();
            all.mapping = &all.mapping[at..=at];
            let mut roots = RootCertStore::empty();
            roots.add(world.pki.root()).unwrap();
            let client = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let (met, edge) = zone.visit(Arc::new(client)).await;
            assert_eq!(met.unwrap(), HandshakeKind::Full);
            edge.unwrap();
            let is = [before.asked.load(SeqCst), after.asked.load(SeqCst)];
            assert_eq!(is, [was[0] + asked[0], was[1] + asked[1]], "{scheme:?}");
        }
    }
    drop(servers);
    world.level().await;
}

/// What clients do: both versions, a retry with another group, a hello in many pieces, coming back;
/// with the key exchange here and there.
#[tokio::test]
async fn handshakes_of_every_kind() {
    let world = World::new().await;
    for exchange in [false, true] {
        let zone = world.simple(exchange);
        for versions in [V13, V12] {
            let client = world.client(versions, &[]);
            let kind = zone.visit(client.clone()).await.0.unwrap();
            assert_ne!(kind, HandshakeKind::Resumed, "{versions:?} {exchange}");
            let before = world.mood().asked.load(SeqCst);
            assert_eq!(zone.visit(client).await.0.unwrap(), HandshakeKind::Resumed);
            let after = world.mood().asked.load(SeqCst);
            // In TLS 1.3 a resumed session has a key exchange too.
            assert_eq!(
                after - before,
                usize::from(exchange && versions == V13),
                "resumed without the key server"
            );
        }
        let mut long = ClientConfig::clone(&world.client(V13, &[]));
        long.alpn_protocols.extend((0..60).map(|n| vec![b'a' + n % 26; 200]));
        zone.visit(Arc::new(long)).await.0.unwrap();
        // P-521 first, which the edge has not: a HelloRetryRequest.
        if !exchange {
            let hybrid = world.client(V13, &[NamedGroup::X25519MLKEM768]);
            assert_eq!(zone.visit(hybrid).await.0.unwrap(), HandshakeKind::Full);
        }
        let plain = world.client(V13, &[NamedGroup::X25519, NamedGroup::secp256r1]);
        assert_eq!(
            zone.visit(plain).await.0.unwrap(),
            HandshakeKind::Full,
            "no retry without the hybrid"
        );
    }
    world.level().await;
}

/// A client whose first share is for a group that is not the edge's.
#[tokio::test]
async fn hello_retry_requests() {
    let world = World::new().await;
    for exchange in [false, true] {
        let mut zone = world.simple(exchange);
        // The edge of this test has P-384 alone, the client shows another share first.
        let mut config = ServerConfig::clone(&zone.config);
        let mut provider = rustls::crypto::CryptoProvider::clone(config.crypto_provider());
        provider.kx_groups.retain(|group| group.name() == NamedGroup::secp384r1);
        let entry = Arc::new(Entry {
            first: Credential::elsewhere(vec![world.certificate.clone()], zone.whose.route.clone()),
            more: Vec::new(),
            exchange,
            policy: Policy::open(NAME),
            early_data: false,
            min_version: None,
            #[cfg(feature = "legacy-rsa")]
            legacy: None,
            config: OnceLock::new(),
        });
        config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(V13)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(entry);
        config.alpn_protocols = zone.config.alpn_protocols.clone();
        zone.config = Arc::new(config);
        let kind = zone.visit(world.client(V13, &[])).await.0.unwrap();
        assert_eq!(kind, HandshakeKind::FullWithHelloRetryRequest);
        world
            .mood()
            .error
            .store(usize::from(ErrorCode::NotAllowed.code()), SeqCst);
        assert_eq!(
            zone.fails(world.client(V13, &[])).await,
            Refusal::Refused(ErrorCode::NotAllowed)
        );
        world.mood().error.store(0, SeqCst);
    }
    world.level().await;
}

/// Whatever the key server does wrong, the client hears of it in time, and the next one is served
/// again.
#[tokio::test]
async fn faults_end_in_an_alert() {
    let world = World::new().await;
    let zone = world.simple(false);
    let client = || world.client(V13, &[]);
    zone.visit(client()).await.0.unwrap();

    world.mood().wedged.store(true, SeqCst);
    let start = Instant::now();
    assert_eq!(zone.fails(client()).await, Refusal::Timeout);
    assert!(start.elapsed() >= PATIENCE);
    assert_eq!(zone.fails(world.client(V12, &[])).await, Refusal::Timeout);
    world.mood().wedged.store(false, SeqCst);
    zone.visit(client()).await.0.unwrap();

    world.mood().malformed.store(true, SeqCst);
    assert_eq!(zone.fails(client()).await, Refusal::Unfitting);
    world.mood().malformed.store(false, SeqCst);
    zone.visit(client()).await.0.unwrap();

    // The connection cannot be used any more: a new one is made, until the time is over.
    world.mood().garbage.store(true, SeqCst);
    let refusal = zone.fails(client()).await;
    assert!(matches!(refusal, Refusal::Unreachable | Refusal::Timeout), "{refusal}");
    world.mood().garbage.store(false, SeqCst);
    until_served(&zone, &world).await;

    for code in [
        ErrorCode::UnknownKey,
        ErrorCode::NotAllowed,
        ErrorCode::Overload,
        ErrorCode::Internal,
    ] {
        world.mood().error.store(usize::from(code.code()), SeqCst);
        assert_eq!(zone.fails(client()).await, Refusal::Refused(code));
    }
    world.mood().error.store(0, SeqCst);
    until_served(&zone, &world).await;
    world.level().await;
}

async fn until_served(zone: &Zone, world: &World) {
    let start = Instant::now();
    while zone.visit(world.client(V13, &[])).await.0.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "not served again");
    }
}

/// A key server that has got another key in the certificate's place is found by the edge, not by
/// its clients.
#[tokio::test]
async fn a_wrong_key_is_noticed() {
    let world = World::new().await;
    world.mood().wrong_key.store(true, SeqCst);
    let zone = world.simple(false);
    assert_eq!(zone.fails(world.client(V13, &[])).await, Refusal::WrongKey);
    assert_eq!(zone.fails(world.client(V12, &[])).await, Refusal::WrongKey);
    world.level().await;
}

/// Handshakes under way live through a restart of the key server that is quicker than their
/// patience.
#[tokio::test]
async fn a_restart_is_not_noticed() {
    let mut world = World::new().await;
    let zone = world.simple(false);
    zone.visit(world.client(V13, &[])).await.0.unwrap();
    world.mood().delay.store(5_000, SeqCst);
    let client = world.client(V13, &[]);
    let under_way: Vec<_> = (0..20)
        .map(|_| {
            let (zone, client) = (zone.clone(), client.clone());
            tokio::spawn(async move { zone.visit(client).await.0 })
        })
        .collect();
    while world.keyless.count().2 < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Killed mid-handshake; another process takes its place.
    let address = world.server.address;
    let (key, pki) = (world.key.clone(), &world.pki);
    world.server.task_abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.server = server::start(pki, key, Arc::default(), Some(address)).await;
    for visit in under_way {
        visit.await.unwrap().unwrap();
    }
    world.level().await;
}

/// With two servers, a slow or a dead first one costs a moment, not the handshake.
#[tokio::test]
async fn another_server_helps_out() {
    let world = World::new().await;
    let mood = Arc::new(Mood::default());
    let second = server::start(&world.pki, world.key.clone(), mood.clone(), None).await;
    let entries = [
        world.pki.entry("one", world.server.address, 0),
        world.pki.entry("two", second.address, 1),
    ];
    let zone = world.zone(&entries, false);
    for _ in 0..5 {
        zone.visit(world.client(V13, &[])).await.0.unwrap();
    }
    assert_eq!(mood.asked.load(SeqCst), 0, "the preferred one is asked alone");
    world.mood().wedged.store(true, SeqCst);
    let start = Instant::now();
    zone.visit(world.client(V13, &[])).await.0.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(1_200),
        "hedged: {:?}",
        start.elapsed()
    );
    assert_eq!(mood.asked.load(SeqCst), 1);
    world.server.task_abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..10 {
        zone.visit(world.client(V13, &[])).await.0.unwrap();
    }
    world.mood().wedged.store(false, SeqCst);
    world.level().await;
}

/// Nobody there at all: the client waits as long as the operator said, and not longer.
#[tokio::test]
async fn no_key_server() {
    let world = World::new().await;
    let mut entry = world.pki.entry("one", "127.0.0.1:1".parse().unwrap(), 0);
    assert_eq!(
        world.zone(&[entry.clone()], false).fails(world.client(V13, &[])).await,
        Refusal::Unreachable
    );
    // One whose certificate is for another name.
    entry.address = world.server.address;
    entry.server_name = Some("other.test".to_owned());
    assert_eq!(
        world.zone(&[entry], false).fails(world.client(V12, &[])).await,
        Refusal::Unreachable
    );
    world.level().await;
}

/// Clients that go away mid-handshake: 10,000 of them leave no stack, no place and no request
/// behind.
#[tokio::test]
async fn ten_thousand_go_away() {
    let mut world = World::new().await;
    world.keyless = Arc::new(Keyless::new(&unhurried(2_000), &mut Registry::default()));
    let zone = world.simple(false);
    zone.visit(world.client(V13, &[])).await.0.unwrap();
    world.mood().wedged.store(true, SeqCst);
    let client = world.client(V13, &[]);
    for _ in 0..10 {
        let mut visits = Vec::new();
        for _ in 0..1_000 {
            let (mut near, far) = duplex(16 << 10);
            let mut session =
                rustls::ClientConnection::new(client.clone(), ServerName::try_from(NAME).unwrap()).unwrap();
            let mut hello = Vec::new();
            session.write_tls(&mut hello).unwrap();
            near.write_all(&hello).await.unwrap();
            visits.push((near, tokio::spawn(zone.clone().accept(far))));
        }
        let start = Instant::now();
        while world.keyless.count().2 < 1_000 {
            assert!(start.elapsed() < UNHURRIED / 2, "{:?}", world.keyless.count());
            tokio::task::yield_now().await;
        }
        for (_, visit) in &visits {
            visit.abort();
        }
        for (_, visit) in visits {
            assert!(visit.await.unwrap_err().is_cancelled());
        }
        assert_eq!(world.keyless.count().2, 0);
    }
    // A ping may be under way.
    assert!(zone.whose.route.pending() <= 1, "requests nobody waits for");
    let (made, _, _) = world.keyless.count();
    assert!(made <= 1_001, "stacks are used again: {made}");
    world.mood().wedged.store(false, SeqCst);
    until_served(&zone, &world).await;
    world.level().await;
}

/// Many at once, on one thread, against a key server that takes its time.
#[tokio::test]
async fn a_slow_key_server_stops_nobody() {
    let mut world = World::new().await;
    world.keyless = Arc::new(Keyless::new(&unhurried(1_000), &mut Registry::default()));
    let zone = world.simple(false);
    world.mood().delay.store(3_000, SeqCst);
    let client = world.client(V13, &[NamedGroup::X25519]);
    let visits: Vec<_> = (0..300)
        .map(|_| {
            let (zone, client) = (zone.clone(), client.clone());
            tokio::spawn(async move { zone.visit(client).await.0 })
        })
        .collect();
    let mut most = 0;
    for visit in visits {
        most = most.max(world.keyless.count().2);
        visit.await.unwrap().unwrap();
    }
    assert!(most > 100, "only {most} waited at once");
    world.level().await;
}

/// Beyond the bound, handshakes are refused before anything is asked; who resumes is not.
#[tokio::test]
async fn shedding() {
    let mut world = World::new().await;
    world.keyless = Arc::new(Keyless::new(&terms(2), &mut Registry::default()));
    let zone = world.simple(false);
    let known = world.client(V13, &[]);
    zone.visit(known.clone()).await.0.unwrap();
    world.mood().wedged.store(true, SeqCst);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (zone, client) = (zone.clone(), world.client(V13, &[]));
            tokio::spawn(async move { zone.visit(client).await.0 })
        })
        .collect();
    while world.keyless.count().2 < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = world.mood().asked.load(SeqCst);
    assert_eq!(zone.fails(world.client(V13, &[])).await, Refusal::Shed);
    assert_eq!(world.mood().asked.load(SeqCst), before);
    assert_eq!(zone.visit(known).await.0.unwrap(), HandshakeKind::Resumed);
    for visit in waiting {
        assert!(visit.await.unwrap().is_err());
    }
    world.level().await;
}
