//! Attempts whose sender never shows that it is there: what they cost others, and what goes back to
//! them.

use quinn::Runtime as _;

use super::*;

/// A client's socket that never hears anything: to the server like a source address that somebody
/// has made up.
#[derive(Debug)]
struct Deaf {
    inner: Arc<dyn quinn::AsyncUdpSocket>,
    sent: std::sync::Mutex<Vec<Vec<u8>>>,
    /// Sends nothing, either: what it would send is for others.
    mute: bool,
}

impl quinn::AsyncUdpSocket for Deaf {
    fn create_io_poller(self: Arc<Self>) -> std::pin::Pin<Box<dyn quinn::UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &quinn::udp::Transmit<'_>) -> std::io::Result<()> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        let datagrams = transmit.contents.chunks(size).map(<[u8]>::to_vec);
        self.sent.lock().unwrap().extend(datagrams);
        match self.mute {
            true => Ok(()),
            false => self.inner.try_send(transmit),
        }
    }

    fn poll_recv(
        &self,
        _: &mut std::task::Context<'_>,
        _: &mut [std::io::IoSliceMut<'_>],
        _: &mut [quinn::udp::RecvMeta],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Pending
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

fn deaf(world: &World, groups: &[NamedGroup], mute: bool) -> (Client, Arc<Deaf>) {
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = Arc::new(Deaf {
        inner: runtime.wrap_udp_socket(socket).unwrap(),
        sent: std::sync::Mutex::default(),
        mute,
    });
    let config = quinn::EndpointConfig::default();
    let mut client = world.client(groups);
    client.endpoint = Endpoint::new_with_abstract_socket(config, None, socket.clone(), runtime).unwrap();
    (client, socket)
}

fn count(world: &World, name: &str) -> u64 {
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &world.registry).unwrap();
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0)
}

/// A hundred datagrams a second in the name of an office would close HTTPS for it, over TCP too; in
/// the name of a client of a keyless zone they would keep the key servers busy.
#[tokio::test]
async fn made_up_attempts_cost_nobody_a_place_or_a_signature() {
    let world = World::start().await;
    let mut retries = 0;
    for host in [LOCAL, REMOTE] {
        let asked = world.keys.mood.asked.load(SeqCst);
        let (client, _socket) = deaf(&world, CLASSIC, false);
        let attempts: Vec<_> = (0..60)
            .map(|_| {
                client
                    .endpoint
                    .connect_with(client.config.clone(), client.address, host)
                    .unwrap()
            })
            .collect();
        let (start, before) = (Instant::now(), retries);
        while retries < before + 52 {
            retries = count(&world, "edge_quic_retries_total{by=\"daemon\"}");
            assert!(start.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(world.tcp.connections(), 0, "{host}: places are for those who are there");
        // From the same address, with and without the round trip of a Retry.
        let real = world.client(CLASSIC);
        for _ in 0..3 {
            real.connect(LOCAL).await.unwrap();
        }
        assert!(world.tcp.connections() <= 3);
        assert_eq!(world.keys.mood.asked.load(SeqCst), asked, "{host}");
        drop(attempts);
        real.endpoint.close(0_u32.into(), b"");
        while world.tcp.connections() > 0 {
            assert!(start.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whoever is there gets in all the same: one round trip later, also where the key is elsewhere.
#[tokio::test]
async fn a_retry_lets_in_who_is_there() {
    let mut world = World::start().await;
    let (client, _socket) = deaf(&world, CLASSIC, false);
    let _attempts: Vec<_> = (0..20)
        .map(|_| {
            client
                .endpoint
                .connect_with(client.config.clone(), client.address, LOCAL)
                .unwrap()
        })
        .collect();
    rest().await;
    for (host, groups) in [
        (LOCAL, CLASSIC),
        (LOCAL, HYBRID),
        (REMOTE, CLASSIC),
        (REMOTE, HYBRID),
        (EXCHANGE, CLASSIC),
    ] {
        let _connection = world.client(groups).connect(host).await.unwrap();
        assert!(!world.peer().await.known, "{host}");
    }
    world.level().await;
}

/// Whoever spoofs an address would have the node send its owner more than three times what he sends
/// himself, with everything that is sent again.
#[tokio::test]
async fn three_times_what_came_and_no_more() {
    let world = World::start().await;
    for groups in [CLASSIC, HYBRID] {
        let (client, socket) = deaf(&world, groups, true);
        let _attempt = client
            .endpoint
            .connect_with(client.config.clone(), client.address, LOCAL)
            .unwrap();
        rest().await;
        let first = socket.sent.lock().unwrap().clone();
        let victim = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in &first {
            victim.send_to(datagram, world.address).await.unwrap();
        }
        let sent: usize = first.iter().map(Vec::len).sum();
        let (mut got, mut buffer) = (0, [0; 2_000]);
        while let Ok(came) = timeout(Duration::from_secs(4), victim.recv(&mut buffer)).await {
            got += came.unwrap();
        }
        assert!(got > sent / 2 && got <= 3 * sent, "{got} bytes for {sent}");
    }
}
