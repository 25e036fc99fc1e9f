//! A key server with its certificates and keys in a directory that goes with it, and clients that
//! speak its protocol.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use edge::keyserver::wire::{ALPN, Answer, KeyId, Query, Reply, Request};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NOBODY: u32 = 65_534;
/// A serial number on the revocation list.
pub(crate) const REVOKED: u64 = 666;

/// An authority and what it signed.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    /// Certificate and key as PEM; the serial number is what a revocation list names.
    pub(crate) fn leaf(&self, name: &str, serial: u64) -> (String, String) {
        self.leaf_until(name, serial, 4_000_000_000)
    }

    /// The same, until so many seconds after 1970.
    pub(crate) fn leaf_until(&self, name: &str, serial: u64, until: u64) -> (String, String) {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
        parameters.serial_number = Some(SerialNumber::from(serial));
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn revoke(&self, serial: u64) -> String {
        self.revoke_until(serial, 2100)
    }

    /// The same, with the next list due in that year.
    pub(crate) fn revoke_until(&self, serial: u64, year: i32) -> String {
        let day = |year| rcgen::date_time_ymd(year, 1, 1);
        let list = CertificateRevocationListParams {
            this_update: day(2020),
            next_update: day(year),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: day(2020),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A running key server.
pub(crate) struct Bed {
    directory: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) child: Child,
}

fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A grant of everything on every key to edge-1.
pub(crate) const ALL: &str = "[[client]]\nname = \"edge-1\"\ndns = \"edge-1.test\"\n[[client.grant]]\nkeys = [\"*\"]\nops = \
                              [\"sign-tls13\", \"sign-tls12\", \"kx-sign-tls12\", \"kx-start\", \"kx-finish\", \"kx-tls13\", \
                              \"rsa-master\", \"rsa-premaster\"]\n";

/// An RSA key as PKCS#8 PEM.
pub(crate) fn rsa() -> String {
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let text = data_encoding::BASE64.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

/// A key made by rcgen, with the name that queries give it.
pub(crate) fn key(kind: &'static rcgen::SignatureAlgorithm) -> (String, KeyId) {
    let key = KeyPair::generate_for(kind).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    (key.serialize_pem(), KeyId::of_spki(&spki))
}

impl Bed {
    /// Starts a server with these keys (file, PEM) and this text behind the parts of its
    /// configuration that every test has.
    pub(crate) fn start(keys: &[(&str, &str)], text: &str) -> Self {
        Self::start_with(keys, text, None)
    }

    /// With a variable in its environment.
    pub(crate) fn start_with(keys: &[(&str, &str)], text: &str, variable: Option<(&str, &Path)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let authority = Authority::new();
        let (certificate, key) = authority.leaf("keys.test", 1);
        fs::write(path.join("server.pem"), certificate).unwrap();
        fs::write(path.join("server.key"), key).unwrap();
        fs::write(path.join("ca.pem"), authority.0.pem()).unwrap();
        fs::write(path.join("revoked.pem"), authority.revoke(REVOKED)).unwrap();
        fs::create_dir(path.join("keys")).unwrap();
        let (address, admin) = (port(), port());
        let mut bed = Self {
            authority,
            address,
            admin,
            child: Command::new("true").spawn().unwrap(),
            directory,
        };
        for (file, pem) in keys {
            bed.write_key(file, pem);
        }
        bed.configure(text);
        // As whoever started us but root: the tests of the sealed process have it so.
        if rustix::process::geteuid().is_root() {
            for entry in [
                "",
                "keys",
                "server.pem",
                "server.key",
                "ca.pem",
                "revoked.pem",
                "keyserver.toml",
            ] {
                chown(bed.path(entry), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let log = fs::File::create(bed.path("log")).unwrap();
        let _ = bed.child.wait();
        bed.child = Command::new(env!("CARGO_BIN_EXE_edge-keyserver"))
            .args(["run", "--log-format", "json", "--config"])
            .arg(bed.path("keyserver.toml"))
            .envs(variable)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        bed.wait("ready", || bed.log().contains("\"ready\""));
        bed
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn configure(&self, text: &str) {
        let user = if rustix::process::geteuid().is_root() {
            "65534:65534"
        } else {
            ""
        };
        let (address, admin) = (self.address, self.admin);
        let head = format!(
            "[server]\nlisten = [\"{address}\"]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \
             \"ca.pem\"\nrevoked = [\"revoked.pem\"]\nworkers = 2\ndrain = \"5s\"\n[admin]\nlisten = \"{admin}\"\n[keys]\npoll = \"100ms\"\n[process]\nuser = \
             \"{user}\"\n"
        );
        fs::write(self.path("keyserver.toml"), head + text).unwrap();
    }

    /// Aside and moved into place, as operators are told to.
    pub(crate) fn write_key(&self, file: &str, pem: &str) {
        self.write(&format!("keys/{file}"), pem);
    }

    /// The same for any file.
    pub(crate) fn write(&self, file: &str, pem: &str) {
        let aside = self.path("aside");
        fs::write(&aside, pem).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&aside, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::rename(aside, self.path(file)).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "waiting for {what}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "it does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the admin endpoint answers, head and content.
    pub(crate) fn admin(&self, path: &str) -> String {
        use std::io::{Read, Write};
        let mut io = std::net::TcpStream::connect(self.admin).unwrap();
        write!(io, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        io.read_to_string(&mut text).unwrap();
        text
    }

    /// A metric's value; 0 where it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> f64 {
        self.metric("process_resident_memory_bytes") / f64::from(1 << 20)
    }

    /// The TLS side of a client with a certificate of our authority.
    pub(crate) fn tls(&self, name: &str, serial: u64) -> ClientConfig {
        let (certificate, key) = self.authority.leaf(name, serial);
        self.tls_with(Some((certificate, key)))
    }

    pub(crate) fn tls_with(&self, certificate: Option<(String, String)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.0.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config
    }

    pub(crate) async fn connect_with(&self, config: ClientConfig) -> std::io::Result<Client> {
        // Narrow, so that a client that reads nothing is felt soon.
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(64 << 10)?;
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("keys.test").unwrap();
        let io = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        Ok(Client {
            io,
            input: Vec::new(),
            next: 1,
        })
    }

    /// As edge-1.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(self.tls("edge-1.test", 2)).await.unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// An edge's end of a connection.
pub(crate) struct Client {
    pub(crate) io: TlsStream<TcpStream>,
    input: Vec<u8>,
    next: u64,
}

impl Client {
    /// Sends a query and gives its id.
    pub(crate) async fn send(&mut self, key: KeyId, request: Request) -> u64 {
        let mut out = Vec::new();
        let id = self.push(&mut out, key, request);
        self.io.write_all(&out).await.unwrap();
        self.io.flush().await.unwrap();
        id
    }

    /// Writes a query behind others, to be sent together.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, key: KeyId, request: Request) -> u64 {
        let id = self.next;
        self.next += 1;
        Query { id, key, request }.encode(out);
        id
    }

    /// The next reply; `None` when the server closed the connection.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                if let Some(decoded) = Reply::decode(&self.input).unwrap() {
                    self.input.drain(..decoded.used);
                    return Some(decoded.content.unwrap());
                }
                match self.io.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
        .expect("a reply within 20 s")
    }

    /// Asks, with nothing else under way.
    pub(crate) async fn ask(&mut self, key: KeyId, request: Request) -> Answer {
        let id = self.send(key, request).await;
        let reply = self.reply().await.expect("an answer");
        assert_eq!(reply.id, id);
        reply.answer
    }
}

/// A runtime for one test.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Runs openssl, which makes keys in forms that rcgen does not.
pub(crate) fn openssl(arguments: &[&str], directory: &Path) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output.stdout
}
