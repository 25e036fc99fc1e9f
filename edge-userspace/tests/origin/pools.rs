//! Pools: servers chosen by what requests are placed by, reserves, an operator's word, and other
//! ways to servers than TCP.

use std::path::Path;
use std::sync::{Arc, Mutex};

use edge::config::{Config, Faults};
use edge::http::body::Body;
use edge::origin::{Fleet, Metrics, Order, Origin};
use edge::zones::Zones;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bed::{Bed, Server, full, nowhere, read_head, until};

/// A server that answers with its name.
async fn named(name: &'static str) -> Server {
    Server::h1(move |_| async move { http::Response::new(full(name)) }).await
}

fn servers(all: &[(&Server, &str)]) -> String {
    let all: Vec<_> = all
        .iter()
        .map(|(server, more)| format!("{{ address = \"http://{}\"{more} }}", server.address))
        .collect();
    format!("servers = [{}]\n", all.join(", "))
}

async fn ask(bed: &Bed, name: &'static str, value: &str) -> String {
    let request = http::Request::get("/").header(name, value).body(Body::Empty).unwrap();
    super::bed::text(bed.ask(request).await.unwrap()).await.1
}

/// A visitor would lose what its server remembers, on every other request.
#[tokio::test]
async fn requests_with_one_key_meet_one_server() {
    let (a, b, c) = (named("a").await, named("b").await, named("c").await);
    for (hash, field) in [("cookie:session", "cookie"), ("header:X-Tenant", "x-tenant")] {
        let text = servers(&[(&a, ""), (&b, ""), (&c, "")]) + "balance = \"hash\"\nhash = \"" + hash + "\"\n";
        let bed = Bed::new(&text);
        let mut met = std::collections::BTreeSet::new();
        for n in 0..30 {
            let value = format!("session={n}");
            let first = ask(&bed, field, &value).await;
            for _ in 0..3 {
                assert_eq!(ask(&bed, field, &value).await, first, "{hash} {n}");
            }
            met.insert(first);
        }
        assert_eq!(met.len(), 3, "{hash}: all have their part");
        // Without what it is placed by, a request takes its turn.
        let turns: std::collections::BTreeSet<_> =
            [bed.text("/").await, bed.text("/").await, bed.text("/").await].into();
        assert_eq!(turns.len(), 3);
    }
}

/// A visitor would lose what its server remembers; or one whose server is gone would get nothing;
/// or servers would be told what is between the edge and its clients.
#[tokio::test]
async fn a_cookie_leads_back_to_a_server() {
    let named = async |name: &'static str| {
        Server::h1(move |request| async move {
            let cookie = request.headers().get("cookie").map(|cookie| cookie.to_str().unwrap());
            let mut response = http::Response::new(full(format!("{name} {}", cookie.unwrap_or("-"))));
            if request.uri().path() == "/failing" {
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        })
        .await
    };
    let (a, b) = (named("a").await, named("b").await);
    let text = servers(&[(&a, ""), (&b, "")]) + "sticky = { cookie = \"server\" }\n";
    let bed = Bed::new(&text);
    let ask = async |bed: &Bed, path: &str, cookies: Option<&str>| {
        let mut request = http::Request::get(path).body(Body::Empty).unwrap();
        if let Some(cookies) = cookies {
            request.headers_mut().insert("cookie", cookies.parse().unwrap());
        }
        let response = bed.ask(request).await.unwrap();
        let set = response.head.headers.get("set-cookie");
        let set = set.map(|set| set.to_str().unwrap().split(';').next().unwrap().to_owned());
        (super::bed::text(response).await.1, set)
    };
    let (first, cookie) = ask(&bed, "/", None).await;
    let cookie = cookie.unwrap();
    for _ in 0..5 {
        let cookies = format!("x=1; {cookie}");
        let (again, set) = ask(&bed, "/", Some(&cookies)).await;
        assert_eq!(again, format!("{} x=1", &first[..1]));
        assert_eq!(set, None, "it is led already");
    }
    let (_, set) = ask(&bed, "/", Some("server=forged")).await;
    assert!(set.is_some());
    // A server that fails binds nobody to it.
    assert_eq!(ask(&bed, "/failing", None).await.1, None);
    // A reload keeps the word, and so do servers in another order.
    let text = servers(&[(&b, ""), (&a, "")]) + "sticky = { cookie = \"server\" }\nretries = 2\n";
    let zones = super::bed::zones(&text);
    bed.fleet.install(bed.fleet.plan(&zones).unwrap());
    let reloaded = Bed {
        fleet: bed.fleet.clone(),
        origin: bed.origin.clone(),
        zones: Arc::new(zones),
    };
    for _ in 0..3 {
        assert_eq!(ask(&reloaded, "/", Some(&cookie)).await, (first.clone(), None));
    }
    // Drained, it is as good as gone.
    let server = if first.starts_with('a') { &a } else { &b };
    assert_eq!(
        bed.fleet
            .order(None, &format!("http://{}", server.address), Order::Drain),
        1
    );
    let (moved, set) = ask(&reloaded, "/", Some(&cookie)).await;
    assert_ne!(moved, first);
    let set = set.unwrap();
    assert_eq!(ask(&reloaded, "/", Some(&set)).await, (moved, None));
}

/// A standby machine would be asked all the time, or never.
#[tokio::test]
async fn reserves_serve_while_nobody_else_can() {
    let reserve = named("reserve").await;
    let down = nowhere().await;
    let bed = Bed::new(&format!(
        "servers = [{{ address = \"http://{down}\" }}, {{ address = \"http://{}\", priority = 1 }}]\n\
         [zone.origin.passive]\nfailures = 1\ncooldown = \"1m\"\n",
        reserve.address
    ));
    for _ in 0..3 {
        assert_eq!(bed.text("/").await, (200, "reserve".to_owned()));
    }
    let first = named("first").await;
    let bed = Bed::new(&servers(&[(&first, ""), (&reserve, ", priority = 1")]));
    for _ in 0..5 {
        assert_eq!(bed.text("/").await.1, "first");
    }
}

/// An operator who takes a machine out for maintenance would cut its visitors off, or go on sending
/// it some.
#[tokio::test]
async fn operators_drain_and_weigh_servers() {
    let (a, b) = (named("a").await, named("b").await);
    let bed = Bed::new(&servers(&[(&a, ""), (&b, "")]));
    let address = format!("http://{}", a.address);
    let count = async |n: usize| {
        let mut of_a = 0;
        for _ in 0..n {
            of_a += usize::from(bed.text("/").await.1 == "a");
        }
        of_a
    };
    assert_eq!(count(10).await, 5);
    assert_eq!(bed.fleet.order(None, &address, Order::Drain), 1);
    assert_eq!(count(10).await, 0);
    let status = &bed.fleet.status()[0].servers[0];
    assert!(status.drained && status.weight == 0);
    assert_eq!(bed.fleet.order(Some("z"), &address, Order::Weight(4)), 1);
    assert_eq!(count(10).await, 8);
    // A reload keeps the word.
    let text = servers(&[(&a, ""), (&b, "")]) + "retries = 2\n";
    bed.fleet.install(bed.fleet.plan(&super::bed::zones(&text)).unwrap());
    assert_eq!(bed.fleet.status()[0].servers[0].weight, 4);
    assert_eq!(bed.fleet.order(None, &address, Order::Restore), 1);
    assert_eq!(bed.fleet.status()[0].servers[0].weight, 1);
    assert_eq!(bed.fleet.order(None, "http://192.0.2.1:80", Order::Drain), 0);
    assert_eq!(bed.fleet.order(Some("other"), &address, Order::Drain), 0);
}

/// A server that comes back would get its whole share at once, with cold caches, and fall over
/// again.
#[tokio::test]
async fn a_server_that_comes_back_begins_slowly() {
    let (a, b) = (named("a").await, named("b").await);
    let bed = Bed::new(&(servers(&[(&a, ""), (&b, "")]) + "slow_start = \"10m\"\n"));
    let address = format!("http://{}", a.address);
    bed.fleet.order(None, &address, Order::Drain);
    bed.fleet.order(None, &address, Order::Restore);
    let mut of_a = 0;
    for _ in 0..44 {
        of_a += usize::from(bed.text("/").await.1 == "a");
    }
    // A tenth of the other's.
    assert!((1..=8).contains(&of_a), "{of_a}");
}

/// Servers that listen on a socket file could not be asked.
#[tokio::test]
async fn unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix";
            socket.write_all(answer).await.unwrap();
        }
    });
    let bed = Bed::new(&format!("servers = [{{ address = \"unix:{}\" }}]\n", path.display()));
    assert_eq!(bed.text("/").await, (200, "unix".to_owned()));
    assert_eq!(
        bed.fleet.status()[0].servers[0].address,
        format!("unix:{}", path.display())
    );
}

/// A server would take all clients for one; or one client's connection would carry another one's
/// requests.
#[tokio::test]
async fn connections_name_their_client() {
    let heads: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = heads.clone();
    let server = Server::raw(move |mut socket| {
        let seen = seen.clone();
        async move {
            let mut header = vec![0; 28];
            socket.read_exact(&mut header).await.unwrap();
            seen.lock().unwrap().push(header);
            loop {
                if read_head(&mut socket).await.is_empty() {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if socket.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let bed = Bed::one(server.address, "proxy_protocol = true\n");
    for _ in 0..2 {
        assert_eq!(bed.text("/").await, (200, "ok".to_owned()));
    }
    until(|| heads.lock().unwrap().len() == 2).await;
    for header in heads.lock().unwrap().iter() {
        assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        // PROXY, TCP over IPv4, 12 bytes: 203.0.113.7 to 192.0.2.1, ports 1234 and 443.
        assert_eq!(
            header[12..],
            [0x21, 0x11, 0, 12, 203, 0, 113, 7, 192, 0, 2, 1, 0x04, 0xd2, 0x01, 0xbb]
        );
    }
}

/// A zone that a reload leaves as it was would lose its pool, or get what the new file says of it.
#[tokio::test]
async fn a_zone_that_is_kept_keeps_its_pool() {
    let (old, new) = (named("old").await, named("new").await);
    let zones = |server: &Server| {
        let zone = |name: &str| {
            format!("[[zone]]\nname = \"{name}\"\nhosts = [\"{name}.example\"]\n[zone.origin]\npool = \"one\"\n")
        };
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:80\"]\n{}{}[[origin]]\nname = \"one\"\n{}",
            zone("z"),
            zone("y"),
            servers(&[(server, "")])
        );
        Arc::new(Zones::new(&Config::parse(Path::new("test.toml"), &text).unwrap().zones))
    };
    let before = zones(&old);
    let fleet = Fleet::new(&before, Metrics::default()).unwrap();
    let origin = Arc::new(Origin::new(fleet.clone()));
    for _ in 0..3 {
        // Each reload says the same anew, and `z` cannot be prepared.
        let after = zones(&new);
        let mut plan = fleet.gather(&after, &mut Faults::default());
        fleet.settle(&mut plan, |zone| zone == "z", |_| false);
        fleet.install(plan);
        for (zones, host, wanted) in [(&before, "z.example", "old"), (&after, "y.example", "new")] {
            let bed = Bed {
                origin: origin.clone(),
                fleet: fleet.clone(),
                zones: zones.clone(),
            };
            let request = http::Request::get("/").header("host", host).body(Body::Empty).unwrap();
            let mut request = bed.request(request);
            request.exchange.zone = zones.find(host).unwrap().clone();
            let response = edge::http::handler::Handler::handle(&*origin, request).await.unwrap();
            assert_eq!(super::bed::text(response).await.1, wanted, "{host}");
        }
        assert_eq!(fleet.status().len(), 2, "both are checked");
    }
    // When it can, nobody asks the old one any more.
    let plan = fleet.plan(&zones(&new)).unwrap();
    fleet.install(plan);
    assert_eq!(fleet.status().len(), 1);
}

/// Zones that share a pool would each have connections and health checks of their own; or one
/// zone's mistake would be all's.
#[tokio::test]
async fn zones_share_a_pool() {
    let server = named("shared").await;
    let zone = |name: &str| {
        format!("[[zone]]\nname = \"{name}\"\nhosts = [\"{name}.example\"]\n[zone.origin]\npool = \"one\"\n")
    };
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n{}{}[[origin]]\nname = \"one\"\n{}",
        zone("z"),
        zone("y"),
        servers(&[(&server, "")])
    );
    let zones = Arc::new(Zones::new(&Config::parse(Path::new("test.toml"), &text).unwrap().zones));
    let fleet = Fleet::new(&zones, Metrics::default()).unwrap();
    let bed = Bed {
        origin: Arc::new(Origin::new(fleet.clone())),
        fleet,
        zones,
    };
    for host in ["z.example", "y.example"] {
        let request = http::Request::get("/").header("host", host).body(Body::Empty).unwrap();
        let mut request = bed.request(request);
        request.exchange.zone = bed.zones.find(host).unwrap().clone();
        let response = edge::http::handler::Handler::handle(&*bed.origin, request)
            .await
            .unwrap();
        assert_eq!(super::bed::text(response).await.1, "shared");
    }
    assert_eq!(server.connections(), 1);
    let status = bed.fleet.status();
    assert_eq!((status.len(), status[0].zone.as_str()), (1, "origin/one"));
}
