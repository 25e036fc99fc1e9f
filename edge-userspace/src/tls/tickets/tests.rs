//! Tickets as rustls asks for them: ids that are kept, and those that must not be.

use std::time::Instant;

use rustls::ServerConnection;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
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
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.certificate.signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.cert.der().clone()], key)
            .unwrap();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let secret = Secret::new(secret).unwrap();
        let tokens = Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::now()));
        let tickets = Tickets::new(tokens, Duration::from_secs(3_600));
        Node { config, tickets }
    }

    fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const SECRET: &[u8] = b"an example of thirty-two bytes..";

/// A connection from there: who it is, and whether it resumed.
fn connect(node: &Node, client: &Arc<ClientConfig>, from: IpAddr, name: &'static str) -> (u64, bool, bool) {
    let (config, ticketer) = node.tickets.equip(&node.config, from);
    let mut server = ServerConnection::new(config).unwrap();
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
            ticketer.settle(&server);
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
    let (id, known) = ticketer.client();
    (id.0, known, server.handshake_kind() == Some(HandshakeKind::Resumed))
}

/// Clients would shake hands in full at every worker, node or restart, or be somebody else each time.
#[test]
fn a_client_keeps_its_name_on_every_node_of_the_cluster() {
    let identity = Identity::new();
    for version in [&version::TLS13, &version::TLS12] {
        let (one, two) = (identity.node(SECRET), identity.node(SECRET));
        let (alice, bob) = (identity.client(version), identity.client(version));
        let (id, known, resumed) = connect(&one, &alice, HOME, "a.example");
        assert!(!known && !resumed);
        assert_eq!(
            connect(&one, &alice, HOME, "a.example"),
            (id, true, true),
            "{version:?}"
        );
        assert_eq!(
            connect(&two, &alice, HOME, "a.example"),
            (id, true, true),
            "{version:?}"
        );
        let (other, known, _) = connect(&one, &bob, HOME, "a.example");
        assert!(other != id && !known);
        let strange = identity.node(b"another example of 32 bytes.....");
        let (new, known, resumed) = connect(&strange, &alice, HOME, "a.example");
        assert!(new != id && !known && !resumed, "a node with another secret");
    }
}

/// A client could be followed from network to network; a ticket that was overheard would make its thief another.
#[test]
fn a_name_is_bound_to_the_network_and_to_the_session() {
    let identity = Identity::new();
    let node = identity.node(SECRET);
    for version in [&version::TLS13, &version::TLS12] {
        let alice = identity.client(version);
        let (id, ..) = connect(&node, &alice, HOME, "a.example");
        let (new, known, resumed) = connect(&node, &alice, IpAddr::from([198, 51, 100, 1]), "a.example");
        assert!(new != id && !known && !resumed, "another network");
        let (config, ticketer) = node.tickets.equip(&node.config, HOME);
        let stolen = {
            let (_, owner) = node.tickets.equip(&node.config, HOME);
            let _ = owner.presented.set(ClientId(id));
            owner.encrypt(b"a session").unwrap()
        };
        assert_eq!(ticketer.decrypt(&stolen).as_deref(), Some(&b"a session"[..]));
        assert_eq!(ticketer.client(), (ClientId(id), true));
        // rustls would not resume it: what follows is a handshake in full, which proves nothing of the ticket.
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

/// A ticketer for each connection must not be what a handshake costs: at most 2 % of it, with room for a noisy machine.
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
    let equip = least(&|| drop(std::hint::black_box(node.tickets.equip(&node.config, HOME))));
    let handshake = least(&|| {
        connect(&node, &identity.client(&version::TLS13), HOME, "a.example");
    });
    let resumption = least(&|| {
        connect(&node, &client, HOME, "a.example");
    });
    println!("ticketer {equip:?}, both ends: handshake {handshake:?}, resumption {resumption:?}");
    assert!(equip * 20 < handshake, "{equip:?} of {handshake:?}");
}
