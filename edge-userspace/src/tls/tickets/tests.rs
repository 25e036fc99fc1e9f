//! Tickets as rustls asks for them: ids that are kept, those that must not be, and sessions that
//! are none any more.

use std::time::Instant;

use rustls::ServerConnection;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};

use super::*;
use crate::gate::keys::{Epochs, Secret};

/// A node with the cluster's secret.
struct Node {
    config: ServerConfig,
    tickets: Tickets,
}

/// The cluster's certificate, and what a client trusts.
struct Identity {
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Identity {
    fn new() -> Self {
        let names = vec!["a.example".to_owned(), "b.example".to_owned()];
        Self {
            certificate: rcgen::generate_simple_self_signed(names).unwrap(),
        }
    }

    fn node(&self, secret: &[u8]) -> Node {
        self.node_with(secret, None, false)
    }

    fn node_with(&self, secret: &[u8], clients: Option<&Policy>, roams: bool) -> Node {
        let clients = clients.and_then(|policy| policy.clients().cloned());
        let clients = clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.certificate.signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![self.certificate.cert.der().clone()], key)
            .unwrap();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let secret = Secret::new(secret).unwrap();
        let tokens = Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::now()));
        let sealing = Sealing::new(LIFE, Instant::now());
        let tickets = Tickets::new(tokens, sealing, LIFE, roams);
        Node { config, tickets }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        roots
    }

    /// Asks for certificates of this authority; none is required.
    fn policy(&self, zone: &str, part: &[u8]) -> Policy {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider);
        Policy::asking(zone, verifier.allow_unauthenticated().build().unwrap(), &[part])
    }

    fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        let roots = self.roots();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const LIFE: Duration = Duration::from_secs(3_600);
const SECRET: &[u8] = b"an example of thirty-two bytes..";

/// A connection from there: who it is, and whether it resumed.
fn connect(node: &Node, client: &Arc<ClientConfig>, from: IpAddr, name: &'static str) -> (u64, bool, bool) {
    connect_to(node, client, from, name, &Policy::open(name))
}

fn connect_to(
    node: &Node,
    client: &Arc<ClientConfig>,
    from: IpAddr,
    name: &'static str,
    policy: &Policy,
) -> (u64, bool, bool) {
    let (config, ticketer) = node.tickets.equip(&node.config, from, policy);
    let server = ServerConnection::new(config).unwrap();
    let server = shake(server, client, name, |server| ticketer.settle(server));
    let (id, known) = ticketer.client();
    (id.0, known, server.handshake_kind() == Some(HandshakeKind::Resumed))
}

/// A handshake; `settle` sees the server once it has read the ClientHello.
fn shake(
    mut server: ServerConnection,
    client: &Arc<ClientConfig>,
    name: &'static str,
    settle: impl Fn(&ServerConnection),
) -> ServerConnection {
    let mut client = ClientConnection::new(client.clone(), ServerName::try_from(name).unwrap()).unwrap();
    let mut first = true;
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        if std::mem::take(&mut first) {
            settle(&server);
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    server
}

/// Clients would shake hands in full at every worker or be somebody else each time.
#[test]
fn a_client_keeps_its_name() {
    let identity = Identity::new();
    for version in [&version::TLS13, &version::TLS12] {
        let node = identity.node(SECRET);
        let (alice, bob) = (identity.client(version), identity.client(version));
        let (id, known, resumed) = connect(&node, &alice, HOME, "a.example");
        assert!(!known && !resumed);
        for _ in 0..2 {
            let again = connect(&node, &alice, HOME, "a.example");
            assert_eq!(again, (id, true, true), "{version:?}");
        }
        let (other, known, _) = connect(&node, &bob, HOME, "a.example");
        assert!(other != id && !known);
    }
}

/// Whoever gets hold of the cluster's secret, from a backup or another node, would read every
/// recorded connection of TLS 1.2 the client of which took a ticket, and play the server in TLS
/// 1.3.
#[test]
fn no_file_opens_a_ticket() {
    let identity = Identity::new();
    for version in [&version::TLS13, &version::TLS12] {
        let (one, two) = (identity.node(SECRET), identity.node(SECRET));
        let alice = identity.client(version);
        let (id, ..) = connect(&one, &alice, HOME, "a.example");
        let (new, known, resumed) = connect(&two, &alice, HOME, "a.example");
        assert!(new != id && !known && !resumed, "{version:?}");
        // The gate of every node with the secret knows the client by the header all the same.
        let policy = Policy::open("a.example");
        let (_, ticketer) = one.tickets.equip(&one.config, HOME, &policy);
        let ticket = ticketer.encrypt(b"a session").unwrap();
        let front = ticket.first_chunk::<HEADER>().unwrap();
        let checked = two
            .tickets
            .tokens
            .check(UnixTime::now(), HOME, Carrier::Ticket, front)
            .unwrap();
        assert_eq!(ClientId(checked.header.client), ticketer.client().0);
        let (_, other) = two.tickets.equip(&two.config, HOME, &policy);
        assert_eq!(other.decrypt(&ticket), None);
    }
}

/// Who looks on could tell the devices behind one address apart.
#[test]
fn tickets_of_one_client_have_nothing_in_common() {
    let identity = Identity::new();
    let node = identity.node(SECRET);
    let policy = Policy::open("a.example");
    let tickets: Vec<_> = (0..3)
        .map(|_| {
            let (_, ticketer) = node.tickets.equip_for(&node.config, HOME, ClientId(7), &policy);
            ticketer.encrypt(&[0; 64]).unwrap()
        })
        .collect();
    let [one, two, three] = &tickets[..] else { panic!() };
    // In front are the key's number, times to the second and the nonce; behind, the sealing key's
    // name.
    for at in (13..HEADER - 8).chain(HEADER + 4..one.len() - 8) {
        let part = |ticket: &[u8]| ticket[at..at + 8].to_vec();
        assert!(part(one) != part(two) && part(two) != part(three), "byte {at}");
    }
}

/// A session of before a zone asked for certificates would go round them; one of an authority that
/// is gone would lock out the client that has a new certificate by now.
#[test]
fn a_ticket_is_of_one_zone_and_policy() {
    let identity = Identity::new();
    for version in [&version::TLS13, &version::TLS12] {
        let node = identity.node(SECRET);
        let alice = identity.client(version);
        let policies = [
            Policy::open("a"),
            Policy::open("b"),
            identity.policy("a", &[1]),
            identity.policy("a", &[2]),
        ];
        for policy in policies {
            let first = connect_to(&node, &alice, HOME, "a.example", &policy);
            assert!(!first.1 && !first.2, "{version:?}");
            if policy.clients().is_none() {
                let again = connect_to(&node, &alice, HOME, "a.example", &policy);
                assert_eq!(again, (first.0, true, true), "{version:?}");
            }
        }
    }
}

/// What rustls keeps in a session is its own affair: if another version writes it otherwise,
/// clients with certificates no longer resume, and this says so.
#[test]
fn the_clients_certificates_are_found_in_a_session() {
    #[derive(Debug, Default)]
    struct Spy(std::sync::Mutex<Vec<Vec<u8>>>);
    impl ProducesTickets for Spy {
        fn enabled(&self) -> bool {
            true
        }
        fn lifetime(&self) -> u32 {
            60
        }
        fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
            self.0.lock().unwrap().push(plain.to_vec());
            Some(vec![1; 32])
        }
        fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }
    }
    let identity = Identity::new();
    let policy = identity.policy("a", &[]);
    for version in [&version::TLS13, &version::TLS12] {
        for shows in [false, true] {
            let mut node = identity.node_with(SECRET, Some(&policy), false);
            let spy = Arc::new(Spy::default());
            node.config.ticketer = spy.clone();
            let mut client = identity.client(version);
            if shows {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
                    identity.certificate.signing_key.serialize_der(),
                ));
                let chain = vec![identity.certificate.cert.der().clone()];
                let roots = identity.roots();
                client = Arc::new(
                    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                        .with_protocol_versions(&[version])
                        .unwrap()
                        .with_root_certificates(roots)
                        .with_client_auth_cert(chain, key)
                        .unwrap(),
                );
            }
            let server = ServerConnection::new(Arc::new(node.config.clone())).unwrap();
            shake(server, &client, "a.example", |_| {});
            let sessions = spy.0.lock().unwrap();
            let expected: Vec<_> = shows
                .then(|| identity.certificate.cert.der().clone())
                .into_iter()
                .collect();
            assert_eq!(chain(sessions.first().unwrap()).unwrap(), expected, "{version:?}");
        }
    }
    for cut in 0..20 {
        assert_eq!(
            chain(&[1, 0, 3, 4, 0x13, 1, 2, 7, 7, 0, 1, 0, 0, 4, 0, 0, 1, 9][..cut.min(17)]),
            None,
            "{cut}"
        );
    }
}

/// A client in a train would shake hands in full at every change of its address; one that is
/// followed by its id would be known.
#[test]
fn by_option_a_session_outlives_a_change_of_address() {
    let identity = Identity::new();
    let away = IpAddr::from([198, 51, 100, 1]);
    for version in [&version::TLS13, &version::TLS12] {
        let node = identity.node_with(SECRET, None, true);
        let alice = identity.client(version);
        let (id, ..) = connect(&node, &alice, HOME, "a.example");
        let (new, known, resumed) = connect(&node, &alice, away, "a.example");
        assert!(new != id && !known && resumed, "{version:?}");
    }
}

/// A client could be followed from network to network; a ticket that was overheard would make its
/// thief another.
#[test]
fn a_name_is_bound_to_the_network_and_to_the_session() {
    let identity = Identity::new();
    let node = identity.node(SECRET);
    for version in [&version::TLS13, &version::TLS12] {
        let alice = identity.client(version);
        let (id, ..) = connect(&node, &alice, HOME, "a.example");
        let (new, known, resumed) = connect(&node, &alice, IpAddr::from([198, 51, 100, 1]), "a.example");
        assert!(new != id && !known && !resumed, "another network");
        let policy = Policy::open("a.example");
        let (config, ticketer) = node.tickets.equip(&node.config, HOME, &policy);
        let stolen = {
            let (_, owner) = node.tickets.equip(&node.config, HOME, &policy);
            let _ = owner.presented.set(ClientId(id));
            owner.encrypt(b"a session").unwrap()
        };
        assert_eq!(ticketer.decrypt(&stolen).as_deref(), Some(&b"a session"[..]));
        assert_eq!(ticketer.client(), (ClientId(id), true));
        // rustls would not resume it: what follows is a handshake in full, which proves nothing of
        // the ticket.
        ticketer.settle(&ServerConnection::new(config).unwrap());
        let (kept, known) = ticketer.client();
        assert!(kept != ClientId(id) && !known);
        for bit in 0..stolen.len() * 8 {
            let mut altered = stolen.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ticketer.decrypt(&altered), None, "bit {bit}");
        }
    }
}

/// A ticketer for each connection must not be what a handshake costs: at most 2 % of it, with room
/// for a noisy machine.
#[test]
fn a_ticketer_costs_little() {
    let identity = Identity::new();
    let (node, client) = (identity.node(SECRET), identity.client(&version::TLS13));
    let least = |work: &dyn Fn()| {
        let time = |_| {
            let start = Instant::now();
            (0..20).for_each(|_| work());
            start.elapsed() / 20
        };
        (0..10).map(time).min().unwrap()
    };
    let policy = Policy::open("a.example");
    let equip = least(&|| drop(std::hint::black_box(node.tickets.equip(&node.config, HOME, &policy))));
    let handshake = least(&|| {
        connect(&node, &identity.client(&version::TLS13), HOME, "a.example");
    });
    let resumption = least(&|| {
        connect(&node, &client, HOME, "a.example");
    });
    println!("ticketer {equip:?}, both ends: handshake {handshake:?}, resumption {resumption:?}");
    assert!(equip * 20 < handshake, "{equip:?} of {handshake:?}");
}
