//! Near end, far end and an origin in memory, with whatever may happen between them; `ends` says
//! what each must do, `faults` that nothing that happens makes a wrong byte.

mod ends;
mod faults;
mod origin;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use prometheus_client::registry::Registry;

use super::versions::Versions;
use super::{Far, Metrics, Near, far, near};
use crate::base::id::RequestId;
use crate::base::peer::{Handshake, Peer};
use crate::config;
use crate::http::body::{Body, BodyError};
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Exchange, Request, Response};
use crate::zones::{Zone, Zones};

use origin::Source;

/// A generator of repeatable noise (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Noise(pub(super) u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What changes a far end's answer on its way, or keeps the question from getting there.
trait Wire: Send + Sync + 'static {
    fn ask(&self) -> Result<(), Failure> {
        Ok(())
    }
    fn answer(&self, response: Response) -> Response {
        response
    }
}

/// Nothing happens.
struct Calm;
impl Wire for Calm {}

/// What is behind a near end: the wire to the far end, and beside it the way to the origin.
struct Behind {
    origin: Arc<Source>,
    far: Mutex<Arc<Far>>,
    wire: Box<dyn Wire>,
    zone: Arc<Zone>,
    /// The direct way is closed.
    alone: AtomicBool,
}

impl Handler for Behind {
    fn handle(&self, mut request: Request) -> Answer<'_> {
        Box::pin(async move {
            if &*request.exchange.zone.name != "far:end" {
                if self.alone.load(Ordering::Relaxed) {
                    return Err(Failure::new(Reason::OriginUnreachable, "closed"));
                }
                return self.origin.handle(request).await;
            }
            self.wire.ask()?;
            // What the room `origin` writes, and what the far end's own listener makes of it.
            let headers = &mut request.head.headers;
            headers.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
            headers.insert("x-forwarded-proto", "https".parse().unwrap());
            headers.insert("x-request-id", request.exchange.id.to_string().parse().unwrap());
            request.exchange.zone = self.zone.clone();
            request.exchange.peer = peer("198.51.100.1:1", false);
            let far = self.far.lock().unwrap().clone();
            Ok(self.wire.answer(far.handle(request).await?))
        })
    }
}

/// One near end, one far end, one origin.
pub(super) struct World {
    near: Near,
    near_metrics: Metrics,
    far_metrics: Metrics,
    behind: Arc<Behind>,
    zone: Arc<Zone>,
}

fn peer(client: &str, secure: bool) -> Arc<Peer> {
    Arc::new(Peer {
        client: client.parse().unwrap(),
        local: "192.0.2.1:443".parse().unwrap(),
        accepted: Instant::now(),
        handshake: secure.then(|| {
            Arc::new(Handshake {
                duration: Duration::ZERO,
                server_name: None,
                version: "TLSv1.3",
                resumed: false,
                client: 0,
                known: false,
                certificate: None,
                standing: None,
            })
        }),
        early: None,
        via: None,
    })
}

fn zone(name: &str, delta: Option<&str>) -> Arc<Zone> {
    Arc::new(Zone {
        name: name.into(),
        default: false,
        body_bytes: None,
        body_timeout: std::time::Duration::from_secs(30),
        requests: Arc::default(),
        strict_paths: false,
        stand_in: "shop.example".into(),
        request_timeout: None,
        delta: delta.map(Arc::from),
        cache: None,
        files: Arc::default(),
        cache_keys: Arc::default(),
        coding: None,
        worker: None,
        routes: Vec::new(),
        rules: None,
        uncached: None,
        elsewhere: Vec::new(),
        assets: None,
        kept: None,
        origin: config::Origin::Directory("/".into()),
        pools: Vec::new(),
        pool: None,
        asked: Vec::new(),
        error_pages: None,
        out: false,
    })
}

/// A far end with `memory` for its versions.
fn far_end(origin: Arc<Source>, memory: usize, metrics: &Metrics) -> Arc<Far> {
    let versions = Versions::open(memory, None, metrics.clone()).unwrap();
    let shared = far::Shared::new(versions, 1 << 20, 4 << 20, metrics.clone()).unwrap();
    Arc::new(Far::new(shared, origin))
}

impl World {
    fn new(origin: Arc<Source>, wire: impl Wire, near_memory: usize, far_memory: usize) -> Self {
        let (near_metrics, far_metrics) = (
            Metrics::near(&mut Registry::default()),
            Metrics::far(&mut Registry::default()),
        );
        let zone_of = zone("shop", Some("end"));
        let behind = Arc::new(Behind {
            far: Mutex::new(far_end(origin.clone(), far_memory, &far_metrics)),
            origin,
            wire: Box::new(wire),
            zone: zone_of.clone(),
            alone: AtomicBool::new(false),
        });
        Self {
            near: near_end(behind.clone(), near_memory, &near_metrics),
            near_metrics,
            far_metrics,
            behind,
            zone: zone_of,
        }
    }

    fn request(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Request {
        let mut builder = http::Request::builder().method(method).uri(target);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        Request {
            head: builder.body(()).unwrap().into_parts().0.into(),
            body: Body::Empty,
            exchange: Exchange {
                id: RequestId::next(),
                peer: peer("192.0.2.7:5", true),
                zone: self.zone.clone(),
                host: "shop.example".into(),
                started: Instant::now(),
            },
        }
    }

    /// What a client gets: `Err` where its connection would be aborted.
    async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Got {
        let answer = self.near.handle(self.request("GET", target, fields)).await;
        got(answer).await
    }
}

fn near_end(behind: Arc<Behind>, memory: usize, metrics: &Metrics) -> Near {
    let shared = near::Shared::new(memory, 4 << 20, metrics.clone());
    let end = near::FarEnd {
        zone: zone("far:end", None),
        keep_no_store: false,
    };
    shared.install([(Arc::from("end"), end)]);
    Near::new(shared, behind)
}

/// A client's view of an answer.
#[derive(Debug)]
enum Got {
    Whole(u16, HeaderMap, Bytes),
    /// It saw that something was missing.
    Broken,
    Failed(Reason),
}

impl Got {
    fn bytes(&self) -> &Bytes {
        match self {
            Self::Whole(200, _, bytes) => bytes,
            other => panic!("no content: {other:?}"),
        }
    }

    fn headers(&self) -> &HeaderMap {
        match self {
            Self::Whole(_, headers, _) => headers,
            other => panic!("no answer: {other:?}"),
        }
    }
}

async fn got(answer: Result<Response, Failure>) -> Got {
    let response = match answer {
        Ok(response) => response,
        Err(failure) => return Got::Failed(failure.reason),
    };
    let length: Option<usize> = response
        .head
        .headers
        .get("content-length")
        .map(|length| length.to_str().unwrap().parse().unwrap());
    match read(response.body).await {
        Ok(bytes) if length.is_none_or(|length| length == bytes.len()) || response.head.status == 304 => {
            Got::Whole(response.head.status.as_u16(), response.head.headers, bytes)
        }
        _ => Got::Broken,
    }
}

async fn read(mut body: Body) -> Result<Bytes, BodyError> {
    let mut all = BytesMut::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
    {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

/// A zone's name must stay a label of metrics: the far end's own zone has one that no operator can
/// write.
#[test]
fn far_zones_collide_with_none() {
    let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"far:end\"\nhosts = [\"a.example\"]\n\
                [zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";
    assert!(config::Config::parse(std::path::Path::new("t.toml"), text).is_err());
    assert!(Zones::default().all().is_empty());
}
