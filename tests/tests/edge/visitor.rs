//! A client as a browser is one, in few lines: honours `Retry-After`, keeps its cookie, resumes its
//! TLS sessions, and uses a connection more than once.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{EDGE, LIMITED};

/// Requests on one connection.
const USES: u32 = 5;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Got {
    Served,
    /// Told to wait.
    Wait(Duration),
}

pub(crate) struct Visitor {
    tls: Arc<ClientConfig>,
    patience: Duration,
    pub(crate) cookie: Option<String>,
    open: Option<(BufReader<TlsStream<TcpStream>>, u32)>,
    /// The last handshake resumed a session.
    pub(crate) resumed: bool,
}

/// What all trust.
pub(crate) fn trust(directory: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

impl Visitor {
    /// One that has never been here; gives a connection up after `patience`.
    pub(crate) fn new(trust: &ClientConfig, patience: Duration) -> Self {
        let mut tls = trust.clone();
        tls.resumption = Resumption::in_memory_sessions(8);
        Self {
            tls: Arc::new(tls),
            patience,
            cookie: None,
            open: None,
            resumed: false,
        }
    }

    /// Forgets everything but what it trusts.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(&self.tls, self.patience);
    }

    /// One request to the limited zone.
    pub(crate) async fn ask(&mut self) -> io::Result<Got> {
        let (mut stream, uses) = match self.open.take() {
            Some(open) => open,
            None => (timeout(self.patience, self.connect()).await??, 0),
        };
        let cookie = self.cookie.as_ref().map(|cookie| format!("cookie: {cookie}\r\n"));
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {LIMITED}\r\n{}\r\n",
            cookie.unwrap_or_default()
        );
        stream.get_mut().write_all(request.as_bytes()).await?;
        let (status, wait, length) = timeout(self.patience, self.head(&mut stream)).await??;
        let mut content = vec![0; length];
        timeout(self.patience, stream.read_exact(&mut content)).await??;
        if status == 200 {
            self.open = (uses + 1 < USES).then_some((stream, uses + 1));
            return Ok(Got::Served);
        }
        Ok(Got::Wait(Duration::from_secs(wait)))
    }

    async fn connect(&mut self) -> io::Result<BufReader<TlsStream<TcpStream>>> {
        let address = SocketAddr::new(EDGE[0].parse().unwrap(), 443);
        let name = ServerName::try_from(LIMITED).unwrap();
        let stream = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        self.resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Ok(BufReader::new(stream))
    }

    /// Status, seconds to wait, bytes of content; keeps the cookie.
    async fn head(&mut self, stream: &mut BufReader<TlsStream<TcpStream>>) -> io::Result<(u16, u64, usize)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut values = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
            values.next().map(|(_, value)| value.to_owned())
        };
        if let Some(set) = field("set-cookie") {
            let cookie = set.split(';').next().unwrap_or_default().to_owned();
            self.cookie = (!cookie.ends_with('=')).then_some(cookie);
        }
        let number = |name| field(name).and_then(|value| value.parse().ok());
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((
            status.unwrap(),
            number("retry-after").unwrap_or(1),
            number("content-length").unwrap_or(0) as usize,
        ))
    }
}
