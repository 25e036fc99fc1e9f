//! QUIC where things move: clients to other addresses, daemons to their successors, the node into a
//! lockdown, and the gate's word into the kernel. If this fails, users lose connections, or a crowd
//! behind one address pays for one of them.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Buf as _;
use http::{Method, Request, StatusCode};

use crate::http3::{Client, PATIENCE, endpoint, identity, run, socket};
use crate::world::{EDGE, HOST, LIMITED, World};

fn get(host: &str, path: &str) -> Request<()> {
    Request::get(format!("https://{host}{path}")).body(()).unwrap()
}

/// The sum of all figures whose line begins so.
fn sum(world: &World, beginning: &str) -> u64 {
    let metrics = world.metrics();
    let lines = metrics.lines().filter(|line| line.starts_with(beginning));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Packets that the kernel counted by this reason.
fn packets(world: &World, verdict: &str, reason: &str) -> u64 {
    sum(
        world,
        &format!("edge_dataplane_packets_total{{verdict=\"{verdict}\",reason=\"{reason}\"}}"),
    )
}

/// What the kernel and the gate have counted, for messages.
fn counted(world: &World) -> String {
    let metrics = world.metrics();
    let counted = |line: &&str| {
        !line.ends_with(" 0")
            && (line.starts_with("edge_dataplane_packets")
                || line.starts_with("edge_gate")
                || line.starts_with("edge_quic"))
    };
    metrics.lines().filter(counted).collect::<Vec<_>>().join("\n")
}

/// A telephone that leaves the house keeps its connections: packets from another port or address
/// still reach the worker that has them. By the hash of the addresses half of them would not.
#[test]
fn connections_survive_another_address() {
    let Some(world) = World::start() else { return };
    run(async {
        for _ in 0..12 {
            let endpoint = endpoint(&world, "0.0.0.0:0");
            let dialled = Client::dial(&endpoint, identity(&world), EDGE[0], HOST);
            let mut client = tokio::time::timeout(PATIENCE, dialled).await.unwrap().unwrap();
            for _ in 0..2 {
                let (response, body) = client.ask(get(HOST, "/"), &[]).await;
                assert_eq!((response.status(), &body[..]), (StatusCode::OK, &b"the page\n"[..]));
                client.endpoint.rebind(socket(&world, "0.0.0.0:0")).unwrap();
            }
            let (response, _) = client.ask(get(HOST, "/"), &[]).await;
            assert_eq!(response.status(), StatusCode::OK);
        }
    });
}

const CLIENTS: usize = 200;
const ENDPOINTS: usize = 10;
/// Large enough that a client takes some seconds of it piece by piece, and must go on saying that
/// it wants more.
const LARGE: usize = 768 << 10;

/// One download that stretches over the restart; how much came.
async fn download(mut client: Client) -> Result<usize, h3::error::StreamError> {
    let mut stream = client.requests.send_request(get(HOST, "/large")).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    assert_eq!(response.status(), StatusCode::OK);
    let mut came = 0;
    let mut next = 0;
    while let Some(data) = stream.recv_data().await? {
        came += data.remaining();
        if came > next {
            next = came + (16 << 10);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    Ok(came)
}

/// An upgrade ends no connection: the daemon that goes finishes what its clients ask for, its
/// successor takes who is new.
#[test]
fn a_restart_loses_no_connection() {
    let Some(mut world) = World::start() else { return };
    fs::write(world.file("www/large"), vec![b'x'; LARGE]).unwrap();
    run(async {
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window((16_u32 << 10).into());
        let transport = std::sync::Arc::new(transport);
        let endpoints: Vec<_> = (0..ENDPOINTS).map(|_| endpoint(&world, "0.0.0.0:0")).collect();
        let mut clients = Vec::new();
        for n in 0..CLIENTS {
            let mut identity = identity(&world);
            identity.transport_config(transport.clone());
            let dialled = Client::dial(&endpoints[n % ENDPOINTS], identity, EDGE[0], HOST);
            clients.push(tokio::time::timeout(PATIENCE, dialled).await.unwrap().unwrap());
        }
        let downloads: Vec<_> = clients
            .into_iter()
            .map(|client| tokio::spawn(download(client)))
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;

        let mut before = world.succeed();
        // Whoever comes now comes in, as soon as there is somebody.
        let newcomer = async {
            let endpoint = endpoint(&world, "0.0.0.0:0");
            loop {
                let dialled = Client::dial(&endpoint, identity(&world), EDGE[0], HOST);
                if let Ok(Ok(mut client)) = tokio::time::timeout(PATIENCE, dialled).await {
                    return client.ask(get(HOST, "/"), &[]).await.0.status();
                }
            }
        };
        let status = tokio::time::timeout(3 * PATIENCE, newcomer).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let unfinished = downloads.iter().filter(|download| !download.is_finished()).count();
        let mut lost = Vec::new();
        for download in downloads {
            match tokio::time::timeout(6 * PATIENCE, download).await.unwrap() {
                Ok(Ok(LARGE)) => {}
                other => lost.push(format!("{other:?}")),
            }
        }
        let first = lost.first();
        assert!(
            lost.is_empty(),
            "{} of {CLIENTS} lost: {first:?}; log: {}",
            lost.len(),
            before.tail()
        );
        assert!(unfinished > 0, "the downloads were over before the successor served");
        assert!(before.wait(3 * PATIENCE).unwrap().success());
        let served = world.control("status", &[]);
        assert!(served.contains("\"running\""), "{served}");
    });
}

/// Locked down by the operator, the kernel answers, and every client gets in by its answer.
#[test]
fn clients_get_in_during_a_lockdown() {
    let Some(world) = World::start() else { return };
    assert!(world.control("lockdown", &["status"]).starts_with("off\tauto"));
    let before = identity(&world);
    run(async {
        let endpoint = endpoint(&world, "0.0.0.0:0");
        let mut known = Client::dial(&endpoint, before.clone(), EDGE[0], HOST).await.unwrap();
        assert_eq!(known.ask(get(HOST, "/"), &[]).await.0.status(), StatusCode::OK);

        assert!(world.control("lockdown", &["on"]).starts_with("on\tmanual"));
        assert!(world.metrics().contains("edge_quic_lockdown 1\n"));
        for address in EDGE {
            let local = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let endpoint = crate::http3::endpoint(&world, local);
            let retries = packets(&world, "answer", "retry");
            let dialled = Client::dial(&endpoint, identity(&world), address, HOST);
            let mut client = tokio::time::timeout(PATIENCE, dialled).await.unwrap().unwrap();
            assert_eq!(client.ask(get(HOST, "/"), &[]).await.0.status(), StatusCode::OK);
            assert!(packets(&world, "answer", "retry") > retries, "{address}");
        }
        // Connections that there were go on, and who holds a token of ours needs no Retry.
        assert_eq!(known.ask(get(HOST, "/"), &[]).await.0.status(), StatusCode::OK);
        let (retries, tokens) = (packets(&world, "answer", "retry"), packets(&world, "pass", "token"));
        let mut again = Client::dial(&endpoint, before, EDGE[0], HOST).await.unwrap();
        assert_eq!(again.ask(get(HOST, "/"), &[]).await.0.status(), StatusCode::OK);
        assert_eq!(packets(&world, "answer", "retry"), retries);
        assert!(packets(&world, "pass", "token") > tokens);

        assert!(world.control("lockdown", &["off"]).starts_with("off\tmanual"));
        let retries = packets(&world, "answer", "retry");
        let mut client = Client::dial(&endpoint, identity(&world), EDGE[0], HOST).await.unwrap();
        assert_eq!(client.ask(get(HOST, "/"), &[]).await.0.status(), StatusCode::OK);
        assert_eq!(packets(&world, "answer", "retry"), retries);
    });
}

/// A flood locks the node down by itself, and the lockdown ends when the flood does.
#[test]
fn a_flood_locks_the_node_down() {
    let settings = "[quic]\nlockdown_above = 20\nlockdown_below = 5\nlockdown_hold = \"2s\"";
    let Some(world) = World::configured("", settings) else {
        return;
    };
    let is = |state: &str| world.control("lockdown", &["status"]).starts_with(state);
    run(async {
        let endpoint = endpoint(&world, "0.0.0.0:0");
        let identity = identity(&world);
        let dial = || {
            tokio::spawn({
                let (endpoint, identity) = (endpoint.clone(), identity.clone());
                async move { Client::dial(&endpoint, identity, EDGE[0], HOST).await.is_ok() }
            })
        };
        let crowd: Vec<_> = (0..80).map(|_| dial()).collect();
        let deadline = Instant::now() + PATIENCE;
        while !is("on\tauto") {
            assert!(Instant::now() < deadline, "{}", world.control("lockdown", &["status"]));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for one in crowd {
            assert!(tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap());
        }
        let deadline = Instant::now() + PATIENCE;
        while is("on") {
            assert!(Instant::now() < deadline, "it does not end");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let log = world.daemon.log();
    assert!(
        log.contains("lockdown: too many") && log.contains("the lockdown is over"),
        "{log}"
    );
}

/// Who was told to wait and comes at once ends in the kernel, by its token; who shares its address
/// does not notice.
#[test]
fn over_quic_a_wait_is_one_clients_alone() {
    let Some(world) = World::gated("[[zone.gate.rule]]\nmanual = { wait = \"5s\" }") else {
        return;
    };
    let (told, neighbour) = (identity(&world), identity(&world));
    run(async {
        let endpoint = endpoint(&world, "0.0.0.0:0");
        let mut client = Client::dial(&endpoint, told.clone(), EDGE[0], LIMITED).await.unwrap();
        let (response, _) = client.ask(get(LIMITED, "/"), &[]).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let asked = Instant::now();
        let token = response.headers()["edge-wait"].clone();
        // The kernel hears of it within a batch's time.
        tokio::time::sleep(Duration::from_millis(400)).await;

        let dropped = packets(&world, "drop", "client_penalty");
        let early = Client::dial(&endpoint, told.clone(), EDGE[0], LIMITED);
        let early = tokio::time::timeout(Duration::from_millis(1_500), early).await;
        assert!(early.is_err(), "it came in at once: {}", counted(&world));
        assert!(packets(&world, "drop", "client_penalty") > dropped);
        let begun = Instant::now();
        let mut other = Client::dial(&endpoint, neighbour, EDGE[0], HOST).await.unwrap();
        assert_eq!(other.ask(get(HOST, "/"), &[]).await.0.status(), StatusCode::OK);
        assert!(begun.elapsed() < Duration::from_secs(4), "the neighbour had to wait");
        assert!(world.control("penalty", &["list"]).is_empty());

        let ended = tokio::time::timeout(PATIENCE, client.driver).await.unwrap().unwrap();
        assert!(
            ended.is_h3_no_error(),
            "the connection did not end in good order: {ended:?}"
        );

        let wait = Duration::from_millis(6_500).saturating_sub(asked.elapsed());
        tokio::time::sleep(wait).await;
        let dialled = Client::dial(&endpoint, told, EDGE[0], LIMITED);
        let mut client = tokio::time::timeout(PATIENCE, dialled).await.unwrap().unwrap();
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("https://{LIMITED}/"))
            .header("edge-wait", token)
            .body(())
            .unwrap();
        let (response, body) = client.ask(request, &[]).await;
        assert_eq!((response.status(), &body[..]), (StatusCode::OK, &b"the page\n"[..]));
    });
}
