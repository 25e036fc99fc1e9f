//! From the checked configuration to quinn's: TLS 1.3 with ALPN `h3`, flow control, time-outs,
//! versions. `front` holds the result and swaps it on reload.

use std::sync::Arc;
use std::time::Duration;

use edge_common::retry;
use edge_common::token::SKEW;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt};
use rustls::Tls13CipherSuite;
use rustls::crypto::ring;
use rustls::quic::Suite;

use super::Error;
use super::ids::Ids;
use super::reset::Resets;
use super::token::{SpentTokens, TokenKey};
use crate::config::Limits;

/// Unread content per stream, as over HTTP/2.
pub const STREAM_WINDOW: u32 = 128 << 10;
/// Unread bytes of a connection on which no content is expected: heads and control streams. Whoever
/// serves it gives more for each request that has content, so that uploads that nobody reads on
/// take nothing from the others.
pub const CONNECTION_WINDOW: u32 = 64 << 10;
/// Handed over but not acknowledged, per connection, until whoever serves it knows the path.
const SEND_WINDOW: u64 = 64 << 10;
/// Bytes of handshake messages out of order; a ClientHello with ML-KEM and a client certificate
/// fits well.
const CRYPTO_BUFFER: usize = 32 << 10;
/// HTTP/3 needs three unidirectional streams of the client (RFC 9114 section 6.2), some clients
/// open more.
const UNIDIRECTIONAL: u32 = 16;
/// Stateless resets, at most one in this time per endpoint: each answers a packet of anybody (RFC
/// 9000 section 10.3).
const RESET_INTERVAL: Duration = Duration::from_millis(20);
/// QUIC version 1 alone: quinn has no version 2, and drafts would walk past what the XDP program
/// knows.
const VERSIONS: [u32; 1] = [1];
/// NEW_TOKENs given to a client on each path it proves: one for a next connection, one should two
/// race.
const TOKENS: u32 = 2;
/// Connections that wait to be accepted, per endpoint, and what their first packets may hold.
const INCOMING: usize = 1 << 12;
const INCOMING_BYTES: u64 = 32 << 10;
const INCOMING_BYTES_TOTAL: u64 = 32 << 20;

/// rustls's configuration for QUIC: as over TCP, but for the protocol.
pub(super) fn tls(tcp: &rustls::ServerConfig) -> rustls::ServerConfig {
    let mut tls = tcp.clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.max_early_data_size = 0;
    tls
}

/// quinn's own sessions, for what is not ours to do, and what Initial packets are sealed by (RFC
/// 9001 section 5.2).
///
/// # Errors
/// The library lacks the cipher suite of Initial packets.
pub(super) fn crypto(tls: &rustls::ServerConfig) -> Result<(Arc<QuicServerConfig>, Suite), Error> {
    // ring's: keys of Initial packets are made for every attempt, and used once or twice; it makes
    // them in half the time.
    let initial = ring::cipher_suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .and_then(Tls13CipherSuite::quic_suite);
    let initial = initial.ok_or(Error::NoInitialSuite)?;
    let stock = QuicServerConfig::with_initial(Arc::new(tls.clone()), initial).map_err(|_| Error::NoInitialSuite)?;
    Ok((Arc::new(stock), initial))
}

/// quinn's configuration for new connections; sessions and NEW_TOKENs of each connection replace
/// those here.
pub(super) fn server(crypto: Arc<QuicServerConfig>, key: Arc<TokenKey>, limits: &Limits) -> ServerConfig {
    let mut config = ServerConfig::new(crypto, key);
    let mut validation = ValidationTokenConfig::default();
    validation.log(Arc::new(SpentTokens::default())).sent(TOKENS);
    config
        .retry_token_lifetime(Duration::from_secs(retry::LIFE + SKEW))
        .validation_token_config(validation)
        .transport_config(Arc::new(transport(limits)))
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    config
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // Silence ends a connection; one that pings but asks for nothing is ended by whoever serves it.
    let idle = IdleTimeout::try_from(limits.idle_timeout).unwrap_or_else(|_| IdleTimeout::from(VarInt::MAX));

    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_per_connection))
        .max_concurrent_uni_streams(VarInt::from_u32(UNIDIRECTIONAL))
        .max_idle_timeout(Some(idle))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .crypto_buffer_size(CRYPTO_BUFFER)
        .datagram_receive_buffer_size(None);
    transport
}

/// quinn's configuration of an endpoint, whose connections `ids` names; `resets` makes its
/// stateless reset tokens.
pub(super) fn endpoint(resets: Resets, ids: &Ids) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(resets));
    config
        .supported_versions(VERSIONS.to_vec())
        .cid_generator({
            let ids = ids.clone();
            move || Box::new(ids.clone())
        })
        .min_reset_interval(RESET_INTERVAL);
    config
}
