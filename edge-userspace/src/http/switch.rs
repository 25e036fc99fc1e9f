//! A client's connection, or one stream of it, where HTTP has ended: after `Upgrade` of HTTP/1.1
//! (RFC 9110 section 7.8) or extended CONNECT of HTTP/2 and HTTP/3 (RFC 8441, RFC 9220). Who agrees
//! to the other protocol takes it out of the request's extensions.

use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

/// Bytes under way, each way, of a stream of HTTP/3.
const BETWEEN: usize = 16 << 10;

/// The client's side.
#[derive(Clone, Debug)]
pub struct Switch(Way);

#[derive(Clone, Debug)]
enum Way {
    /// hyper's, which has it when the response is out.
    Hyper(OnUpgrade),
    /// A stream of HTTP/3, to be taken once.
    Stream(Arc<Mutex<Option<DuplexStream>>>),
}

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Switch {
    /// For whoever agrees, and the end that the stream of HTTP/3 is joined with.
    pub fn stream() -> (Self, DuplexStream) {
        let (one, other) = tokio::io::duplex(BETWEEN);
        (Self(Way::Stream(Arc::new(Mutex::new(Some(one))))), other)
    }

    /// Takes it out of a request's extensions; `None`: its client asks for no other protocol.
    pub fn take(extensions: &mut Extensions) -> Option<Self> {
        let hyper = extensions.remove::<OnUpgrade>().map(|on| Self(Way::Hyper(on)));
        hyper.or_else(|| extensions.remove::<Self>())
    }

    /// The client, once it has switched; `None` if it is gone, or was taken before.
    pub async fn switched(self) -> Option<Box<dyn Io>> {
        match self.0 {
            Way::Hyper(on) => Some(Box::new(TokioIo::new(on.await.ok()?))),
            Way::Stream(stream) => {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                Some(Box::new(stream))
            }
        }
    }
}
