//! The gate as clients meet it: curl, with a cookie jar and without.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use edge_testbed::netns::Netns;

use crate::http3::{Client, endpoint, identity, run};
use crate::world::{CLIENT, EDGE, LIMITED, RESOLVER, World};

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    head.lines().find_map(line).map(|(_, value)| value.trim())
}

/// A client that waits as it was told is served without a line of code of its own; its token opens
/// the gate once, and the connection of who was told to wait ends.
#[test]
fn a_client_that_waits_is_served_once() {
    let Some(world) = World::start() else { return };
    let jar = world.file("jar");
    let first = world.ask_limited(&world.file("other")).unwrap();
    assert_eq!(status(&first), "200", "{first}");

    let told = world.ask_limited(&jar).unwrap();
    assert_eq!(status(&told), "429", "{told}");
    for name in ["ratelimit", "ratelimit-policy", "edge-wait", "set-cookie"] {
        assert!(field(&told, name).is_some(), "{name} is missing in {told}");
    }
    assert_eq!(field(&told, "connection"), Some("close"), "{told}");
    let seconds: u64 = field(&told, "retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{told}");
    let copied = world.file("copied");
    fs::copy(&jar, &copied).unwrap();

    sleep(Duration::from_secs(seconds));
    let served = world.ask_limited(&jar).unwrap();
    assert_eq!(status(&served), "200", "{served}");
    assert!(served.ends_with("the page\n"), "{served}");
    let again = world.ask_limited(&copied).unwrap();
    assert_eq!(status(&again), "429", "a token was good twice: {again}");
}

const THIRTY_A_MINUTE: &str = r#"grace = 1
defer = "1s"
strike_base = "60s"
[[zone.gate.rule]]
rate = { requests = 30, per = "1m", burst = 1 }"#;

/// Asks without a wait until the client's address has come to this level.
fn comes_to(world: &World, level: &str) -> bool {
    let nothing = world.file("none");
    (0..60).any(|_| {
        let _ = world.ask_limited(&nothing);
        // The address's: its clients have penalties of their own.
        let list = world.control("penalty", &["list"]);
        list.lines()
            .any(|line| line.starts_with(CLIENT[0]) && line.contains(level))
    })
}

fn drops(world: &World) -> u64 {
    let metrics = world.metrics();
    let line = "edge_dataplane_packets_total{verdict=\"drop\",reason=\"penalty_blocked\"} ";
    let count = metrics.lines().find_map(|l| l.strip_prefix(line));
    count.and_then(|count| count.parse().ok()).unwrap()
}

/// A client that does not wait ends in the kernel: its connections are not even refused, and no
/// crash of the daemon helps it, until its time is over or an operator lifts the penalty. Its
/// neighbour at another address is served all the while.
#[test]
fn a_client_that_does_not_wait_is_dropped_by_the_kernel() {
    let Some(mut world) = World::gated(THIRTY_A_MINUTE) else {
        return;
    };
    assert!(
        comes_to(&world, "deferred"),
        "60 attempts without a wait, and no penalty"
    );
    // Others may have been told to wait at this address. Their waits run out, and nobody keeps one.
    sleep(Duration::from_secs(11));
    assert!(comes_to(&world, "blocked"), "nobody waits, and still it is not blocked");
    // The kernel hears of it within a batch's time.
    sleep(Duration::from_millis(500));
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    let before = drops(&world);
    assert!(before > 0);
    assert!(world.control("penalty", &["list"]).contains(CLIENT[0]));
    assert!(world.get(EDGE[1]).status.success(), "the neighbour is not served");

    world.daemon.kill().unwrap();
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    world.restart();
    world.wait_ready(EDGE[1]);
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(drops(&world) > before);

    world.control("penalty", &["lift", CLIENT[0]]);
    // The kernel hears of it within a batch's time.
    sleep(Duration::from_millis(500));
    assert!(world.connect(EDGE[0], 443).is_ok());
    assert!(!world.control("penalty", &["list"]).contains(CLIENT[0]));
}

/// A crash in the middle of a storm: not one of the blocked client's attempts gets in while there
/// is no daemon, nor while the next one starts; and who waits is served as soon as it has waited,
/// by the token of the daemon that crashed.
#[test]
fn a_crash_under_storm_lets_nobody_in_and_keeps_nobody_out() {
    let Some(mut world) = World::gated(THIRTY_A_MINUTE) else {
        return;
    };
    assert!(comes_to(&world, "deferred"));
    sleep(Duration::from_secs(11));
    assert!(comes_to(&world, "blocked"));
    // The kernel hears of it within a batch's time.
    sleep(Duration::from_millis(500));
    let before = drops(&world);
    // Both families are the same machine's; to the gate they are two clients.
    let jar = world.file("patient");
    let told = loop {
        let answer = world.ask_limited_at(EDGE[1], &jar).unwrap();
        if status(&answer) == "429" {
            break answer;
        }
        assert_eq!(status(&answer), "200", "{answer}");
    };
    let seconds = field(&told, "retry-after").unwrap().parse().unwrap();
    let waited = Instant::now() + Duration::from_secs(seconds);

    let ended = AtomicBool::new(false);
    let (attempts, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let address = SocketAddr::new(EDGE[0].parse().unwrap(), 443);
    let client = Netns::existing(world.client.name()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                client.enter(|| {
                    while !ended.load(Relaxed) {
                        let connected = TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_ok();
                        attempts.fetch_add(1, Relaxed);
                        admitted.fetch_add(usize::from(connected), Relaxed);
                    }
                })
            });
        }
        // Whatever fails in here must end the others.
        let _end = End(&ended);
        sleep(Duration::from_millis(300));
        world.daemon.kill().unwrap();
        sleep(Duration::from_millis(500));
        world.restart();
        world.wait_ready(EDGE[1]);
        sleep(waited.saturating_duration_since(Instant::now()));
        let served = world.ask_limited_at(EDGE[1], &jar).unwrap();
        assert_eq!(status(&served), "200", "{served}");
    });
    let (attempts, admitted) = (attempts.into_inner(), admitted.into_inner());
    assert!(attempts > 100, "{attempts} attempts are no storm");
    assert_eq!(admitted, 0, "of {attempts}");
    assert!(drops(&world) > before);
    let list = world.control("penalty", &["list"]);
    assert!(
        list.lines()
            .any(|line| line.starts_with(CLIENT[0]) && line.contains("blocked")),
        "{list}"
    );
}

/// Ends what runs until it is told to.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A limit by a key would hold over one version and not over the next, or be another one for each.
#[test]
fn one_limit_of_a_key_over_all_versions() {
    let rule = "[[zone.gate.rule]]\nrate = { requests = 3, per = \"1h\", burst = 3, key = \"header:x-api-key\" }";
    let Some(world) = World::gated(rule) else { return };
    let ask = |version: &str, key: &str| {
        let head = world.ask_limited_with(&[version, "--header", &format!("X-Api-Key: {key}")]);
        (status(&head).to_owned(), head)
    };
    let over_quic = |key: &str| {
        let mut answered = 0;
        run(async {
            let endpoint = endpoint(&world, "0.0.0.0:0");
            let mut client = Client::dial(&endpoint, identity(&world), EDGE[0], LIMITED)
                .await
                .unwrap();
            let request = http::Request::builder()
                .uri(format!("https://{LIMITED}/"))
                .header("x-api-key", key);
            let (response, _) = client.ask(request.body(()).unwrap(), &[]).await;
            answered = response.status().as_u16();
        });
        answered
    };
    assert_eq!(ask("--http1.1", "one").0, "200");
    assert_eq!(ask("--http2", "one").0, "200");
    assert_eq!(over_quic("one"), 200);
    for version in ["--http1.1", "--http2"] {
        let (code, head) = ask(version, "one");
        assert_eq!(code, "429", "{version}: {head}");
        assert!(
            field(&head, "retry-after").is_some() && field(&head, "edge-wait").is_none(),
            "{head}"
        );
        assert_eq!(
            ask(version, "two").0,
            "200",
            "{version}: another customer behind the address"
        );
    }
    assert_eq!((over_quic("one"), over_quic("two")), (429, 200));
}

/// A program that answers its challenge would wait like one that cannot, or the origin would see
/// the answer.
#[test]
fn a_program_solves_its_challenge() {
    let Some(world) = World::gated("[[zone.gate.rule]]\nchallenge = { bits = 12, wait = \"10m\" }") else {
        return;
    };
    let told = world.ask_limited_with(&["--http2", "--header", "Accept: application/json"]);
    assert_eq!(status(&told), "503", "{told}");
    let body = told.split("\r\n\r\n").nth(1).unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    let challenge = &problem["challenge"];
    let (token, bits) = (
        challenge["token"].as_str().unwrap(),
        challenge["bits"].as_u64().unwrap(),
    );
    assert_eq!(bits, 12);
    let zeros = |answer: &str| {
        let hash = ring::digest::digest(&ring::digest::SHA256, answer.as_bytes());
        let hash = u64::from_be_bytes(hash.as_ref()[..8].try_into().unwrap());
        u64::from(hash.leading_zeros())
    };
    let answers = || (0..).map(|number| format!("{token}.{number}"));
    let wrong = answers().find(|answer| zeros(answer) < bits).unwrap();
    let right = answers().find(|answer| zeros(answer) >= bits).unwrap();
    let show =
        |version: &str, answer: &str| world.ask_limited_with(&[version, "--header", &format!("Edge-Work: {answer}")]);
    assert_ne!(status(&show("--http1.1", &wrong)), "200");
    let served = show("--http1.1", &right);
    assert_eq!(status(&served), "200", "{served}");
    assert!(field(&served, "set-cookie").is_some(), "{served}");
}

/// A visitor that has answered the operator's challenge would be asked again, or the page that it
/// wanted be lost on the way.
#[test]
fn a_visitor_answers_the_operators_challenge() {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("challenge.key");
    let secret = b"a key that edge and the service share";
    fs::write(&key, secret).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let rule = format!(
        "[[zone.gate.rule]]\nchallenge = {{ kind = \"external\", url = \"https://ask.example/start\", key = {key:?} }}"
    );
    let Some(world) = World::gated(&rule) else { return };
    let jar = world.file("jar");
    let jar = jar.to_str().unwrap();
    let browse = |more: &[&str]| {
        let browser = [
            "--http1.1",
            "--header",
            "Accept: text/html",
            "--cookie-jar",
            jar,
            "--cookie",
            jar,
        ];
        let answers = world.ask_limited_with(&[&browser[..], more].concat());
        // Of several the last.
        let at = answers.rfind("HTTP/1.1 ").unwrap();
        answers[at..].to_owned()
    };
    let handed = browse(&[]);
    assert_eq!(status(&handed), "302", "{handed}");
    let url = field(&handed, "location").unwrap();
    let query = url.strip_prefix("https://ask.example/start?").unwrap();
    let of = |name: &str| {
        let pair = query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.unwrap().replace("%3A", ":").replace("%2F", "/")
    };
    let (state, back) = (of("state"), of("return"));
    assert_eq!(back, format!("https://{LIMITED}/.well-known/edge-challenge"));
    let base64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let mac = |key: &[u8], text: String| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        base64(ring::hmac::sign(&key, text.as_bytes()).as_ref())
    };
    assert_eq!(
        of("mac"),
        mac(secret, format!("edge-challenge-question\n{state}\n{back}"))
    );
    let until = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 60;
    let answer = |key: &[u8]| {
        let mac = mac(key, format!("edge-challenge-answer\n{state}\n{until}"));
        format!("{back}?state={state}&until={until}&answer={mac}")
    };
    let forged = browse(&[&answer(b"a key that somebody else has made up!")]);
    assert_eq!(status(&forged), "302", "{forged}");
    assert!(
        field(&forged, "location").unwrap().starts_with("https://ask.example/"),
        "{forged}"
    );
    // Somebody else with that answer, and no cookie.
    let stolen = world.ask_limited_with(&["--http1.1", "--header", "Accept: text/html", &answer(secret)]);
    assert!(
        !stolen.contains("HTTP/1.1 303") && !stolen.contains("the page"),
        "{stolen}"
    );
    let led = browse(&[&answer(secret)]);
    assert_eq!((status(&led), field(&led, "location")), ("303", Some("/")), "{led}");
    let served = browse(&[]);
    assert_eq!(status(&served), "200", "{served}");
    assert!(served.ends_with("the page\n"), "{served}");
}

/// A crawler would be told to wait though its address has the crawler's name, or whoever says that
/// it is one be let in.
#[test]
fn a_crawler_is_known_by_the_name_of_its_address() {
    let gate = "grace = 1000\n[[zone.gate.crawler]]\nname = \"bot\"\nhosts = [\"bot.example\"]\n\
                [[zone.gate.rule]]\nmanual = { wait = \"1h\" }\nnot_crawlers = [\"bot\"]";
    let Some(world) = World::gated(gate) else { return };
    let socket = world.edge.enter(|| UdpSocket::bind(RESOLVER)).unwrap().unwrap();
    // The address of the bot's name; the first time it is another one's.
    let truth = std::sync::Arc::new(AtomicBool::new(false));
    let told = truth.clone();
    let [_, _, _, last] = CLIENT[0].parse::<std::net::Ipv4Addr>().unwrap().octets();
    std::thread::spawn(move || {
        let mut buffer = [0; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let end = 12 + buffer[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let (name, kind) = (&buffer[12..end - 4], buffer[end - 3]);
            let reverse = name.ends_with(b"\x07in-addr\x04arpa\0");
            let data = match (reverse, kind) {
                (true, 12) => b"\x02c1\x03bot\x07example\0".to_vec(),
                (false, 1) if name == b"\x02c1\x03bot\x07example\0" => {
                    vec![10, 77, 0, if told.load(Relaxed) { last } else { 99 }]
                }
                _ => continue,
            };
            let mut answer = buffer[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            answer.extend(data);
            let _ = socket.send_to(&answer, from);
        }
    });
    let ask = |agent: &str| {
        let head = world.ask_limited_with(&["--http1.1", "--user-agent", agent]);
        status(&head).to_owned()
    };
    let bot = "Mozilla/5.0 (compatible; Bot/2.1)";
    assert_eq!(ask("Mozilla/5.0"), "503");
    // Its address has the name, and the name leads elsewhere.
    assert_eq!((ask(bot), ask(bot)), ("503".to_owned(), "503".to_owned()));
    // A reload keeps what is known; another daemon asks anew.
    truth.store(true, Relaxed);
    let mut world = world;
    world.daemon.kill().unwrap();
    world.restart();
    world.wait_ready(EDGE[0]);
    let ask = |agent: &str| {
        let head = world.ask_limited_with(&["--http1.1", "--user-agent", agent]);
        status(&head).to_owned()
    };
    // A loaded machine may take longer than a request's patience.
    let served = (0..50).any(|_| {
        sleep(Duration::from_millis(100));
        ask(bot) == "200"
    });
    assert!(served);
    assert_eq!(ask("Mozilla/5.0"), "503", "another one of its address");
}
