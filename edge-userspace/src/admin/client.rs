//! The other side of the endpoint: what `edge status`, `edge deny` and others ask a running daemon.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::guard::CONTROL_HEADER;
use crate::config::value::AdminAddress;

/// A command that did not come through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("no daemon answers at {address}: {cause}; is `edge run` up? name another address with --admin")]
    Connect {
        /// Where.
        address: AdminAddress,
        /// Why not.
        cause: io::Error,
    },
    /// Something listens that is not our endpoint, or it broke off.
    #[error("the daemon at {address} gave no sound answer: {cause}")]
    Exchange {
        /// Where.
        address: AdminAddress,
        /// Why not.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon took too long.
    #[error("the daemon at {0} did not answer within {1:?}")]
    Timeout(AdminAddress, Duration),
    /// The daemon refused, in its own words.
    #[error("{message}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// And these words.
        message: String,
    },
}

/// Sends one command and gives the answer's content.
///
/// # Errors
/// As [`Error`] says.
pub fn ask(address: &AdminAddress, method: Method, path: &str, body: String) -> Result<String, Error> {
    send(address, method, path, body.into(), Duration::from_secs(10))
}

/// As [`ask`], with content that may be long and a daemon that may take `patience`.
///
/// # Errors
/// As [`Error`] says.
pub fn send(
    address: &AdminAddress,
    method: Method,
    path: &str,
    body: Bytes,
    patience: Duration,
) -> Result<String, Error> {
    let exchange = |cause: Box<dyn std::error::Error + Send + Sync>| Error::Exchange {
        address: address.clone(),
        cause,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| exchange(e.into()))?;
    runtime.block_on(async {
        tokio::time::timeout(patience, converse(address, method, path, body))
            .await
            .unwrap_or_else(|_| Err(Error::Timeout(address.clone(), patience)))
    })
}

/// Asks for what changes nothing, within a runtime; the caller bounds the time.
///
/// # Errors
/// As [`Error`] says.
pub async fn read(address: &AdminAddress, path: &str) -> Result<String, Error> {
    converse(address, Method::GET, path, Bytes::new()).await
}

/// As [`send`] within a runtime, without a bound on the time.
///
/// # Errors
/// As [`Error`] says.
pub(super) async fn converse(address: &AdminAddress, method: Method, path: &str, body: Bytes) -> Result<String, Error> {
    let connect = |cause| Error::Connect {
        address: address.clone(),
        cause,
    };
    match address {
        AdminAddress::Tcp(tcp) => {
            let io = TcpStream::connect(tcp).await.map_err(connect)?;
            exchange(address, io, method, path, body).await
        }
        AdminAddress::Unix(path_name) => {
            let io = UnixStream::connect(path_name).await.map_err(connect)?;
            exchange(address, io, method, path, body).await
        }
    }
}

async fn exchange(
    address: &AdminAddress,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<String, Error> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| Error::Exchange {
        address: address.clone(),
        cause,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|e| failed(e.into()))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header(CONTROL_HEADER, "1")
        .body(Full::new(body))
        .map_err(|e| failed(e.into()))?;
    let response = sender.send_request(request).await.map_err(|e| failed(e.into()))?;
    let status = response.status();
    let bytes = Limited::new(response.into_body(), 64 << 20)
        .collect()
        .await
        .map_err(failed)?
        .to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if status.is_success() {
        Ok(text)
    } else {
        Err(Error::Refused {
            status,
            message: text.trim_end().to_owned(),
        })
    }
}
