//! The HTTPS client of ACME messages: one connection for each, with the system's roots or the
//! operator's.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Uri};
use http_body_util::Limited;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::AcmeError;
use super::files::wrong;
use crate::base::{file, pem};

/// For one message, connecting included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of an answer: a chain of certificates is some KiB.
const LONGEST: usize = 1 << 20;

/// A client.
#[derive(Clone)]
pub(super) struct Client(Arc<ClientConfig>);

impl Client {
    /// Believes what `root` has signed, or what the system's roots have.
    ///
    /// # Errors
    /// The root cannot be read, or there are none.
    pub(super) fn new(root: Option<&Path>) -> Result<Self, AcmeError> {
        let mut roots = RootCertStore::empty();
        match root {
            Some(path) => {
                let bytes = file::read(path).map_err(|source| wrong(path, source))?;
                let unusable = |words: String| AcmeError::Unusable(format!("{}: {words}", path.display()));
                for certificate in pem::certificates(&bytes).map_err(|unread| unusable(unread.to_string()))? {
                    roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(AcmeError::Unusable(
                "this machine has no roots to verify an authority with; install ca-certificates, or write [acme] ca"
                    .to_owned(),
            ));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| AcmeError::Unusable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |error: io::Error| Error::Other(Box::new(error));
        let (mut head, body) = request.into_parts();
        if head.uri.scheme_str() != Some("https") {
            return Err(Error::Str("https in an address of the authority's"));
        }
        let authority = head.uri.authority().ok_or(Error::Str("host of the authority"))?.clone();
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(443);
        let name = ServerName::try_from(host.clone()).map_err(|_| Error::Str("host of the authority"))?;
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(other)?;
        let stream = TlsConnector::from(self.0).connect(name, stream).await.map_err(other)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::Other(Box::new(error)))?;
        tokio::spawn(connection);
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Error::Str("host of the authority"))?;
        head.headers.insert(HOST, value);
        head.uri = head
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .parse::<Uri>()?;
        let answer = sender
            .send_request(Request::from_parts(head, body))
            .await
            .map_err(|error| Error::Other(Box::new(error)))?;
        Ok(BytesResponse::from(answer.map(|body| Limited::new(body, LONGEST))))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(PATIENCE, client.exchange(request)).await {
                Ok(result) => result,
                Err(_) => Err(Error::Other(Box::new(io::Error::from(io::ErrorKind::TimedOut)))),
            }
        })
    }
}
