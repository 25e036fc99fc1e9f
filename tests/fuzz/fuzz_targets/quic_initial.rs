//! Initial packets on their way to a prepared handshake: the front as the tap reads it, what is
//! kept, and the throw-away endpoint that looks for the ClientHello. The first byte chooses whether
//! the rest is a datagram as it is, or frames in packets that are sealed as a client would, so that
//! the fuzzer gets behind the cryptography.
#![no_main]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use edge::quic::hello;
use edge::quic::initial::{Cid, Initial, LEAST};
use edge::quic::keep::Kept;
use edge::quic::shadow::Shadow;
use libfuzzer_sys::fuzz_target;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{ConnectionId, EndpointConfig, ServerConfig};
use rustls::quic::{Suite, Version};
use rustls::server::ResolvesServerCert;

#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

struct World {
    endpoint: Arc<EndpointConfig>,
    config: ServerConfig,
    stock: Arc<QuicServerConfig>,
    suite: Suite,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let suite = provider
        .cipher_suites
        .iter()
        .find_map(|suite| match suite.suite() {
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => suite.tls13()?.quic_suite(),
            _ => None,
        })
        .unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nobody));
    let stock = Arc::new(QuicServerConfig::with_initial(Arc::new(tls), suite).unwrap());
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[7; 32]);
    let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&[7; 32]);
    World {
        endpoint: Arc::new(EndpointConfig::new(Arc::new(secret))),
        config: ServerConfig::new(stock.clone(), Arc::new(token_key)),
        stock,
        suite,
    }
});

const ID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// A client's Initial packet `number` with these frames, padded.
fn sealed(number: u8, frames: &[u8]) -> Vec<u8> {
    let mut payload = frames.to_vec();
    payload.truncate(1400);
    payload.resize(payload.len().max(LEAST), 0);
    let mut packet = vec![0xc0, 0, 0, 0, 1, 8];
    packet.extend(ID);
    packet.extend([0, 0]);
    let length = u16::try_from(payload.len() + 17).unwrap() | 0x4000;
    packet.extend(length.to_be_bytes());
    packet.push(number);
    let keys = WORLD.suite.keys(&ID, rustls::Side::Client, Version::V1).local;
    let tag = keys
        .packet
        .encrypt_in_place(number.into(), &packet, &mut payload)
        .unwrap();
    payload.extend(tag.as_ref());
    let (first, rest) = packet.split_at_mut(1);
    let at = rest.len() - 1;
    keys.header
        .encrypt_in_place(&payload[3..19], &mut first[0], &mut rest[at..])
        .unwrap();
    packet.extend(payload);
    packet
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let datagrams: Vec<Vec<u8>> = match how % 2 {
        0 => vec![data.to_vec()],
        // 0xff ends a packet's frames.
        _ => data
            .split(|byte| *byte == 0xff)
            .take(8)
            .enumerate()
            .map(|(n, frames)| sealed(n as u8, frames))
            .collect(),
    };
    let from: SocketAddr = ([192, 0, 2, 1], 4433).into();
    let now = Instant::now();
    let kept = Arc::new(Kept::default());
    let mut ids = Vec::new();
    for datagram in &datagrams {
        let Some(initial) = Initial::read(datagram) else {
            continue;
        };
        let inside = datagram.as_ptr_range();
        let token = initial.token.as_ptr_range();
        assert!(inside.start <= token.start && token.end <= inside.end);
        kept.see(now, from, &initial, datagram, Cid::new);
        ids.push(initial.destination);
    }
    for id in ids {
        for retried in [false, true] {
            let Some(claim) = kept.claim(from, id.as_bytes(), retried) else {
                continue;
            };
            let world = &*WORLD;
            let original = (ConnectionId::new(id.as_bytes()), retried);
            let mut shadow = Shadow::new(
                world.endpoint.clone(),
                &world.config,
                world.stock.clone(),
                from,
                None,
                original,
            );
            for datagram in &claim.first {
                let datagram: &Bytes = datagram;
                if let Ok(Some(found)) = shadow.feed(now, datagram) {
                    assert_eq!(hello::length(&found.message), Ok(Some(found.message.len())));
                    let _ = hello::server_name(&found.message);
                    let _ = hello::offers_early_data(&found.message);
                    break;
                }
            }
        }
    }
});
