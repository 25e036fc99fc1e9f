//! What a worker costs without connections, TLS and HTTP: an instance, a request, and a request
//! within a request, as the room `isolate` does them on one thread. Run it by `cargo xtask bench
//! isolate`, which has an edge compile the workers first: `--config` is that edge's configuration.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use edge::base::id::RequestId;
use edge::base::idle;
use edge::base::ledger::Ledger;
use edge::base::peer::Peer;
use edge::config::{Config, Faults};
use edge::http::body::Body;
use edge::http::door::{self, Recent};
use edge::http::handler::{Answer, Failure, Handler, Reason};
use edge::http::message::{Exchange, Request};
use edge::isolate::handler::Isolated;
use edge::isolate::isolates::Isolates;
use edge::isolate::metrics::Metrics;
use edge::zones::Zones;
use http_body_util::BodyExt;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Nothing is asked of servers.
struct Nowhere;

impl Handler for Nowhere {
    fn handle(&self, _: Request) -> Answer<'_> {
        Box::pin(async { Err(Failure::new(Reason::NoWorker, "no servers here")) })
    }
}

/// Medians, microseconds.
struct Measured {
    request: f64,
    behind: f64,
}

struct Room {
    zones: Arc<Zones>,
    handler: Arc<dyn Handler>,
    peer: Arc<Peer>,
}

impl Room {
    /// Asks `path` of `zone`, one request behind the other, each when what the one before left to
    /// do is done.
    async fn measure(&self, zone: &str, path: &str, expected: &str, count: usize) -> Outcome<Measured> {
        let host = format!("{zone}.example");
        let zone = self.zones.find(&host).ok_or("no such zone")?.clone();
        let (mut requests, mut behind) = (Vec::new(), Vec::new());
        for number in 0..count + count / 10 {
            let (parts, ()) = http::Request::get(path).header("host", &host).body(())?.into_parts();
            let (head, _) = door::client(parts, 100, &self.peer, &self.zones, &mut Recent::default())?;
            let began = Instant::now();
            let exchange = Exchange {
                id: RequestId::next(),
                peer: self.peer.clone(),
                zone: zone.clone(),
                host: host.as_str().into(),
                started: began,
            };
            let request = Request {
                head,
                body: Body::Empty,
                exchange,
            };
            let answered = self.handler.handle(request).await;
            let response = answered.map_err(|failure| format!("{}{path}: {failure:?}", zone.name))?;
            let status = response.head.status;
            let text = response.body.collect().await?.to_bytes();
            let ended = Instant::now();
            idle::when_idle().await;
            if status != 200 || !text.ends_with(expected.as_bytes()) {
                return Err(format!("{}{path}: {status}, {text:?}", zone.name).into());
            }
            // The first tenth warms up.
            if number >= count / 10 {
                requests.push((ended - began).as_secs_f64() * 1e6);
                behind.push(ended.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(Measured {
            request: median(requests),
            behind: median(behind),
        })
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn main() -> Outcome<()> {
    let (mut config, mut output, mut count) = (None, None, 20_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--config" => config = arguments.next().map(PathBuf::from),
            "--output" => output = arguments.next().map(PathBuf::from),
            "--quick" => count = 500,
            // What cargo adds.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let config = config.ok_or("--config FILE is missing")?;
    let output = output.ok_or("--output FILE is missing")?;
    let config = Config::read(&config).map_err(|mistakes| format!("{mistakes:?}"))?;
    let zones = Arc::new(Zones::new(&config.zones));
    let ledger = Ledger::new(config.limits.memory, u64::MAX);
    let current = Arc::new(ArcSwap::new(zones.clone()));
    let isolates = Isolates::new(
        &config.isolate,
        config.server.workers,
        current,
        Metrics::default(),
        &ledger,
    )?;
    let mut faults = Faults::default();
    let plan = isolates.plan(&config.zones, &mut faults);
    faults.or(()).map_err(|mistakes| mistakes.to_string())?;
    isolates.install(plan, |_| false, |_| false);
    let isolated = Arc::new(Isolated::new(isolates, Arc::new(Nowhere)));
    let handler: Arc<dyn Handler> = isolated.clone();
    isolated.join(Arc::downgrade(&handler));
    let address = "192.0.2.1:1".parse()?;
    let room = Room {
        zones,
        handler,
        peer: Arc::new(Peer {
            client: address,
            local: address,
            accepted: Instant::now(),
            handshake: None,
            early: None,
            via: None,
        }),
    };
    idle::begin();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(idle::idle)
        .event_interval(4)
        .build()?;
    // A task as connections are: what the runtime polls itself would overtake them.
    let measuring = runtime.spawn(tokio::task::unconstrained(async move {
        let mut report = serde_json::Map::new();
        for (name, zone) in [("rust_fresh", "one"), ("rust_reused", "reused"), ("js_fresh", "script")] {
            let plain = room.measure(zone, "/", "hello from a worker\n", count).await?;
            let nested = room.measure(zone, "/sub", "hello from a worker\n", count).await?;
            let figures = serde_json::json!({
                "request_us": tenths(plain.request),
                "behind_us": tenths(plain.behind),
                "subrequest_us": tenths(nested.request - plain.request),
            });
            println!("in process, {name}: {figures}");
            report.insert(name.to_owned(), figures);
        }
        Outcome::Ok(report)
    }));
    let report = runtime.block_on(measuring)??;
    std::fs::write(&output, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(())
}
