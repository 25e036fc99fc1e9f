//! What quinn would make of an attempt, before it does: an endpoint without a socket is fed the
//! attempt's Initial packets, and shows the ClientHello in them and the transport parameters that
//! go with it. One for each attempt, thrown away after it; nothing that it would send is sent.
//! `prepare` runs it for attempts that are to be accepted.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{
    Connection, ConnectionHandle, ConnectionId, DatagramEvent, Endpoint, EndpointConfig, NoneTokenLog, Side,
    TransportError, TransportErrorCode,
};

use super::{hello, parameters};

/// An attempt's ClientHello.
#[derive(Debug)]
pub struct Hello {
    /// The message, whole.
    pub message: Vec<u8>,
    /// Transport parameters of ours, encoded.
    pub parameters: Vec<u8>,
    /// The connection id in them.
    pub source: ConnectionId,
}

/// One attempt's endpoint.
pub struct Shadow {
    endpoint: Endpoint,
    config: Arc<quinn_proto::ServerConfig>,
    stock: Arc<QuicServerConfig>,
    connection: Option<(ConnectionHandle, Connection)>,
    seen: Arc<Mutex<Seen>>,
    from: SocketAddr,
    to: Option<IpAddr>,
    original: ConnectionId,
    retried: bool,
    buffer: Vec<u8>,
}

#[derive(Debug, Default)]
struct Seen {
    parameters: Vec<u8>,
    message: Vec<u8>,
}

impl Shadow {
    /// For the attempt that quinn knows by `from`, `original` and whether it was `retried`, and
    /// came to `to`. `endpoint` and `config` are those of the real one, or the transport parameters
    /// would be others; `stock` reads Initial packets.
    pub fn new(
        endpoint: Arc<EndpointConfig>,
        config: &quinn_proto::ServerConfig,
        stock: Arc<QuicServerConfig>,
        from: SocketAddr,
        to: Option<IpAddr>,
        (original, retried): (ConnectionId, bool),
    ) -> Self {
        let mut config = config.clone();
        // The real one takes note of tokens that were used.
        config.validation_token.log(Arc::new(NoneTokenLog));
        let seen = Arc::new(Mutex::new(Seen::default()));
        config.crypto = Arc::new(Look {
            stock: stock.clone(),
            seen: seen.clone(),
        });
        let config = Arc::new(config);
        Self {
            endpoint: Endpoint::new(endpoint, Some(config.clone()), false, None),
            config,
            stock,
            connection: None,
            seen,
            from,
            to,
            original,
            retried,
            buffer: Vec::new(),
        }
    }

    /// Looks at one more datagram; the ClientHello once it is whole. A datagram of another attempt
    /// does nothing.
    ///
    /// # Errors
    /// Where a ClientHello should be is something else.
    pub fn feed(&mut self, now: Instant, datagram: &Bytes) -> Result<Option<Hello>, TransportError> {
        self.buffer.clear();
        let data = BytesMut::from(datagram.as_ref());
        let event = self
            .endpoint
            .handle(now, self.from, self.to, None, data, &mut self.buffer);
        match event {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let same = *incoming.orig_dst_cid() == self.original && incoming.may_retry() != self.retried;
                if !same || self.connection.is_some() {
                    self.endpoint.ignore(incoming);
                    return Ok(None);
                }
                self.buffer.clear();
                let accepted = self
                    .endpoint
                    .accept(incoming, now, &mut self.buffer, Some(self.config.clone()));
                // What cannot be accepted here, cannot there; quinn is to say so.
                self.connection = accepted.ok();
            }
            Some(DatagramEvent::ConnectionEvent(of, event)) => {
                if let Some((handle, connection)) = &mut self.connection
                    && *handle == of
                {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(length) = hello::length(&seen.message)? else {
            return Ok(None);
        };
        let Some(source) = parameters::source(&seen.parameters) else {
            return Ok(None);
        };
        Ok(Some(Hello {
            message: seen.message.get(..length).unwrap_or_default().to_vec(),
            parameters: seen.parameters.clone(),
            source,
        }))
    }
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shadow")
            .field("from", &self.from)
            .field("stock", &Arc::as_ptr(&self.stock))
            .finish_non_exhaustive()
    }
}

/// Makes sessions that only look.
struct Look {
    stock: Arc<QuicServerConfig>,
    seen: Arc<Mutex<Seen>>,
}

impl ServerConfig for Look {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.stock.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, original: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.stock.retry_tag(version, original, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, ours: &TransportParameters) -> Box<dyn Session> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.parameters.clear();
        ours.write(&mut seen.parameters);
        drop(seen);
        // For its Initial keys alone.
        let stock = self.stock.clone().start_session(version, ours);
        Box::new(Onlooker {
            stock,
            seen: self.seen.clone(),
        })
    }
}

struct Onlooker {
    stock: Box<dyn Session>,
    seen: Arc<Mutex<Seen>>,
}

impl Session for Onlooker {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.stock.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        true
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.message.len().saturating_add(bytes.len()) > hello::LONGEST.saturating_add(4) {
            return Err(hello::error(TransportErrorCode::CRYPTO_BUFFER_EXCEEDED, ""));
        }
        seen.message.extend_from_slice(bytes);
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(None)
    }

    fn write_handshake(&mut self, _: &mut Vec<u8>) -> Option<Keys> {
        None
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        None
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}
