//! Clients that know no key exchange but RSA's, on zones that let them in (feature `legacy-rsa`): a
//! handshake of TLS 1.2 by BoringSSL, for rustls has no static RSA. `accept` hands over the
//! ClientHello as it came and the socket behind it; the premaster is decrypted by the zone's key
//! (`key`), here or at its key servers. There is no forward secrecy: whoever gets the key later
//! reads what was recorded before.
//!
//! Every handshake is a full one: no tickets, no session cache. Only HTTP/1.1 is offered, for
//! HTTP/2 forbids these suites (RFC 9113 section 9.2.2). Versions below 1.2 are refused,
//! renegotiation too.

mod key;
mod replay;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use boring::error::ErrorStack;
use boring::ex_data::Index;
use boring::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion,
    select_next_proto,
};
use boring::x509::X509;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_boring::{HandshakeError, SslStream, SslStreamBuilder};

use super::closed::Closed;
use super::hello::OldHello;
use super::keyless::{Keyless, Whose};
use super::static_rsa;
use key::{Call, Ended, Key};
use replay::Replay;

/// ALPN's form (RFC 7301 section 3.1).
const PROTOCOLS: &[u8] = b"\x08http/1.1";
/// Alerts (RFC 5246 section 7.2).
const DECRYPT_ERROR: u8 = 51;
const INTERNAL_ERROR: u8 = 80;

/// A connection that has shaken hands.
pub type Stream = SslStream<Replay>;

/// What a zone needs for such handshakes.
pub struct Legacy {
    context: SslContext,
    calls: Index<Ssl, Call>,
}

impl fmt::Debug for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Legacy").finish_non_exhaustive()
    }
}

impl Legacy {
    /// For the certificate `chain`, leaf first, with its RSA `key`; without one, its key servers
    /// are asked in each handshake.
    ///
    /// # Errors
    /// BoringSSL cannot read the chain or the key, or has no memory.
    pub fn new(chain: &[CertificateDer<'_>], key: Option<&PrivateKeyDer<'_>>) -> Result<Self, ErrorStack> {
        let key = match key {
            Some(key) => Key::here(key.secret_der())?,
            None => Key::elsewhere(),
        };
        let calls = key::calls()?;
        let mut builder = SslContextBuilder::new(SslMethod::tls())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_strict_cipher_list(static_rsa::NAMES)?;
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE | SslOptions::NO_TICKET);
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        // hyper may come back with its bytes elsewhere.
        builder.set_mode(SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER);
        builder
            .set_alpn_select_callback(|_, offered| select_next_proto(PROTOCOLS, offered).ok_or(AlpnError::ALERT_FATAL));
        for (n, certificate) in chain.iter().enumerate() {
            let certificate = X509::from_der(certificate)?;
            if n == 0 {
                builder.set_certificate(&certificate)?;
            } else {
                builder.add_extra_chain_cert(certificate)?;
            }
        }
        builder.set_async_private_key_method(key.method(calls));
        Ok(Self {
            context: builder.build(),
            calls,
        })
    }

    /// Shakes hands with a client whose ClientHello has been read; `asks` where the key is
    /// elsewhere. It is the caller's to bound the time. Dropped, it leaves nothing behind.
    ///
    /// # Errors
    /// The client's fault, the connection's, or a refusal; the client has its alert.
    pub(super) async fn shake(
        &self,
        hello: OldHello,
        io: TcpStream,
        asks: Option<(Arc<Keyless>, Whose)>,
    ) -> Result<Stream, Closed> {
        let ended = Arc::new(OnceLock::new());
        let call = Call {
            asks,
            version: hello.version,
            ended: ended.clone(),
        };
        let mut ssl = Ssl::new(&self.context).map_err(|error| Closed::Io(io::Error::other(error)))?;
        ssl.set_ex_data(self.calls, call);
        match SslStreamBuilder::new(ssl, Replay::new(hello.bytes, io)).accept().await {
            Ok(stream) => Ok(stream),
            Err(error) => Err(refuse(error, ended.get().copied()).await),
        }
    }
}

/// Says goodbye. BoringSSL has sent its own alert, unless it was the key that failed: of that it
/// says nothing.
async fn refuse(error: HandshakeError<Replay>, ended: Option<Ended>) -> Closed {
    let (alert, closed) = match ended {
        Some(Ended::Refused(refusal)) => (Some(INTERNAL_ERROR), Closed::KeyServer(refusal)),
        Some(Ended::Length) => (
            Some(DECRYPT_ERROR),
            Closed::Handshake(rustls::Error::General(
                "the encrypted premaster has not the key's length".into(),
            )),
        ),
        None => (None, cause(&error)),
    };
    if let Some(replay) = error.into_source_stream() {
        let mut io = replay.into_inner();
        if let Some(code) = alert {
            // Nothing is encrypted yet. A client that is gone needs no goodbye.
            let _ = io.write_all(&[21, 3, 3, 0, 2, 2, code]).await;
        }
        let _ = io.shutdown().await;
    }
    closed
}

fn cause(error: &HandshakeError<Replay>) -> Closed {
    if let Some(io) = error.as_io_error() {
        return Closed::Io(io.kind().into());
    }
    match error.code() {
        Some(boring::ssl::ErrorCode::SYSCALL | boring::ssl::ErrorCode::ZERO_RETURN) => {
            Closed::Io(io::ErrorKind::UnexpectedEof.into())
        }
        _ => Closed::Handshake(rustls::Error::General(error.to_string())),
    }
}
