//! Requests that no client sent: an operator has the cache filled. `node` hands orders over; they
//! are carried out on one thread of those that serve, one order after the other, through the same
//! door, rules and rooms as clients' requests, but for the gate. Each is of a client without an
//! address (0.0.0.0), certificate and credentials, so that what is stored is what nobody in
//! particular gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::body::Body;
use super::door::{self, Recent};
use super::handler::Handler;
use super::message::{Exchange, Request};
use super::stored::{Became, Witness};
use crate::base::id::RequestId;
use crate::base::peer::{Peer, Via};
use crate::zones::Current;

/// One request, its content and the storing of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The beginning of an order's last request: what is left by then is told as not begun, so that who
/// ordered hears within this and [`PATIENCE`].
const ORDER: Duration = Duration::from_secs(200);
/// Fields of one request.
const FIELDS: usize = 64;

/// An order.
#[derive(Debug)]
pub struct Job {
    /// What is asked for, in order.
    pub urls: Vec<String>,
    /// Sent with each.
    pub fields: HeaderMap,
    /// Requests under way at once, at least 1.
    pub at_once: usize,
    /// Between the beginnings of two, more than nothing.
    pub gap: Duration,
    /// Who waits; the order is given up when nobody does.
    pub done: oneshot::Sender<Vec<Outcome>>,
}

/// What came of one URL.
#[derive(Debug)]
pub struct Outcome {
    /// Its place in the order.
    pub place: usize,
    /// The response's, if there was one.
    pub status: Option<StatusCode>,
    /// What the cache says; `None`: the request did not come to it.
    pub became: Option<Became>,
    /// What went wrong.
    pub failure: Option<String>,
}

impl Outcome {
    fn at(place: usize) -> Self {
        Self {
            place,
            status: None,
            became: None,
            failure: None,
        }
    }
}

/// Carries orders out.
pub struct Warmer {
    asks: Arc<Asks>,
    jobs: mpsc::Receiver<Job>,
}

/// Where requests go.
struct Asks {
    next: Arc<dyn Handler>,
    zones: Current,
}

impl Warmer {
    /// Sends what `jobs` order to `next`, which is behind no gate.
    pub fn new(next: Arc<dyn Handler>, zones: Current, jobs: mpsc::Receiver<Job>) -> Self {
        Self {
            asks: Arc::new(Asks { next, zones }),
            jobs,
        }
    }

    /// Until nobody can order any more.
    pub async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            self.carry_out(job).await;
        }
    }

    async fn carry_out(&self, job: Job) {
        let Job {
            urls,
            fields,
            at_once,
            gap,
            mut done,
        } = job;
        let fields = Arc::new(fields);
        let mut outcomes = Vec::with_capacity(urls.len());
        let mut under_way = JoinSet::new();
        let mut beat = tokio::time::interval(gap);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        for (place, url) in urls.into_iter().enumerate() {
            tokio::select! {
                // Who asked has gone; what is under way is dropped.
                () = done.closed() => return,
                _ = beat.tick() => {}
            }
            while under_way.len() >= at_once {
                outcomes.extend(under_way.join_next().await.and_then(Result::ok));
            }
            if began.elapsed() > ORDER {
                outcomes.push(Outcome {
                    failure: Some("not asked for: those before took too long".to_owned()),
                    ..Outcome::at(place)
                });
                continue;
            }
            let (asks, fields) = (self.asks.clone(), fields.clone());
            under_way.spawn(async move { asks.one(place, &url, &fields).await });
        }
        while let Some(outcome) = under_way.join_next().await {
            // A panic was reported by the hook.
            outcomes.extend(outcome.ok());
        }
        outcomes.sort_unstable_by_key(|outcome| outcome.place);
        // Nobody waits any more: nothing is lost.
        drop(done.send(outcomes));
    }
}

impl Asks {
    async fn one(&self, place: usize, url: &str, fields: &HeaderMap) -> Outcome {
        let mut outcome = Outcome::at(place);
        let (witness, told) = Witness::new();
        let request = match self.request(url, fields, witness) {
            Ok(request) => request,
            Err(what) => {
                outcome.failure = Some(what);
                return outcome;
            }
        };
        let asked = tokio::time::timeout(PATIENCE, self.ask(request, told, &mut outcome)).await;
        if asked.is_err() {
            outcome.failure = Some(format!("not done within {} s", PATIENCE.as_secs()));
        }
        outcome
    }

    async fn ask(&self, request: Request, mut told: watch::Receiver<Option<Became>>, outcome: &mut Outcome) {
        match self.next.handle(request).await {
            Ok(response) => {
                outcome.status = Some(response.head.status);
                let mut body = response.body;
                while let Some(piece) = body.frame().await {
                    if let Err(error) = piece {
                        outcome.failure = Some(format!("its content broke off: {error}"));
                        break;
                    }
                }
            }
            Err(failure) => outcome.failure = Some(failure.to_string()),
        }
        outcome.became = match told.wait_for(Option::is_some).await {
            Ok(told) => *told,
            // Nobody is left who could say something.
            Err(_) => None,
        };
    }

    /// # Errors
    /// What is wrong with the URL.
    fn request(&self, url: &str, fields: &HeaderMap, witness: Witness) -> Result<Request, String> {
        let unsound = || "not a URL; write https://HOST/PATH".to_owned();
        let uri: Uri = url.parse().map_err(|_| unsound())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(unsound()),
        };
        let host = uri.authority().ok_or_else(unsound)?.as_str();
        let host = HeaderValue::try_from(host).map_err(|_| unsound())?;
        let (mut parts, ()) = http::Request::get(uri).body(()).map_err(|_| unsound())?.into_parts();
        parts.headers = fields.clone();
        parts.headers.insert(HOST, host);
        if !parts.headers.contains_key(USER_AGENT) {
            parts
                .headers
                .insert(USER_AGENT, HeaderValue::from_static("edge-cache-warm"));
        }
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = Peer {
            client: nowhere,
            local: nowhere,
            accepted: Instant::now(),
            handshake: None,
            early: None,
            via: Some(Via {
                proxies: [].into(),
                secure: Some(secure),
            }),
        };
        let zones = self.zones.load_full();
        let let_in = door::client(parts, FIELDS, &peer, &zones, &mut Recent::default());
        let (mut head, host) = let_in.map_err(|failure| failure.to_string())?;
        head.extensions.insert(witness);
        Ok(Request {
            head,
            body: Body::Empty,
            exchange: Exchange {
                id: RequestId::next(),
                peer: Arc::new(peer),
                zone: host.zone,
                host: host.authority,
                started: Instant::now(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::Config;
    use crate::http::handler::{Answer, Failure, Reason};
    use crate::http::message::Response;
    use crate::zones::Zones;

    /// Notes what comes, says what it was asked for, and tells for some of it that it is stored.
    #[derive(Default)]
    struct Origin {
        seen: Mutex<Vec<String>>,
        under_way: AtomicUsize,
        most: AtomicUsize,
    }

    impl Handler for Origin {
        fn handle(&self, mut request: Request) -> Answer<'_> {
            Box::pin(async move {
                let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.under_way.fetch_sub(1, Ordering::SeqCst);
                let path = request.head.uri.path().to_owned();
                let said = format!("{}://{}{path}", request.exchange.peer.scheme(), request.exchange.host);
                self.seen.lock().unwrap().push(said);
                let witness = request.head.extensions.remove::<Witness>().unwrap();
                match path.as_str() {
                    "/stored" => witness.tell(Became::Stored),
                    "/not" => witness.tell(Became::Not("a reason")),
                    "/failed" => return Err(Failure::new(Reason::OriginUnreachable, "gone")),
                    _ => {}
                }
                Ok(Response::new(StatusCode::OK, path))
            })
        }
    }

    async fn warm(urls: &[&str], at_once: usize) -> (Vec<Outcome>, Arc<Origin>) {
        let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"z.example\"]\n\
                    [zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";
        let zones = Zones::new(&Config::parse(Path::new("edge.toml"), text).unwrap().zones);
        let origin = Arc::new(Origin::default());
        let (orders, jobs) = mpsc::channel(1);
        let warmer = Warmer::new(origin.clone(), Arc::new(arc_swap::ArcSwap::from_pointee(zones)), jobs);
        let running = tokio::spawn(warmer.run());
        let (done, outcomes) = oneshot::channel();
        let job = Job {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            fields: HeaderMap::new(),
            at_once,
            gap: Duration::from_millis(1),
            done,
        };
        orders.send(job).await.unwrap();
        let outcomes = outcomes.await.unwrap();
        drop(orders);
        running.await.unwrap();
        (outcomes, origin)
    }

    /// An operator would be told that all is stored while some of it is not, or not be told why.
    #[tokio::test]
    async fn each_url_is_accounted_for() {
        let urls = [
            "https://z.example/stored",
            "http://Z.example:80/not",
            "https://z.example/silent",
            "https://z.example/failed",
            "https://other.example/",
            "ftp://z.example/",
            "/stored",
        ];
        let (outcomes, origin) = warm(&urls, 1).await;
        let seen = origin.seen.lock().unwrap().clone();
        assert_eq!(
            seen,
            [
                "https://z.example/stored",
                "http://z.example/not",
                "https://z.example/silent",
                "https://z.example/failed"
            ]
        );
        let became: Vec<_> = outcomes.iter().map(|outcome| outcome.became).collect();
        let not = Some(Became::Not("a reason"));
        assert_eq!(became, [Some(Became::Stored), not, None, None, None, None, None]);
        let failed: Vec<bool> = outcomes.iter().map(|outcome| outcome.failure.is_some()).collect();
        assert_eq!(failed, [false, false, false, true, true, true, true]);
        assert_eq!(outcomes[0].status, Some(StatusCode::OK));
    }

    /// An origin would fall under what was to spare it work.
    #[tokio::test]
    async fn no_more_at_once_than_ordered() {
        let (outcomes, origin) = warm(&["https://z.example/stored"; 20], 3).await;
        assert_eq!(outcomes.len(), 20);
        let most = origin.most.load(Ordering::SeqCst);
        assert!((1..=3).contains(&most), "{most}");
    }
}
