//! Everything that can go wrong on the hop, at random: what a client takes for a whole answer is
//! the origin's, byte for byte.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use http::{HeaderValue, StatusCode};

use super::origin::Pieces;
use super::*;

/// A far end and a network that lie, cut, stall and change.
struct Storm {
    noise: Mutex<Noise>,
    /// Another answer's body, to be put in place of one.
    other: Mutex<Bytes>,
    injected: AtomicUsize,
}

impl Wire for Arc<Storm> {
    fn ask(&self) -> Result<(), Failure> {
        let mut noise = self.noise.lock().unwrap();
        let reason = match noise.below(30_000) {
            // Seldom: the far end is then left alone for a second, in which thousands of requests
            // go elsewhere.
            0 => Reason::OriginUnreachable,
            1..100 => Reason::OriginTimeout,
            100..200 => Reason::OriginMalformed,
            _ => return Ok(()),
        };
        self.injected.fetch_add(1, Ordering::Relaxed);
        Err(Failure::new(reason, "the storm"))
    }

    fn answer(&self, mut response: Response) -> Response {
        let mut noise = self.noise.lock().unwrap();
        if !noise.one_in(8) || response.head.headers.get("edge-delta").is_none() {
            return response;
        }
        self.injected.fetch_add(1, Ordering::Relaxed);
        let Body::Full(bytes) = std::mem::take(&mut response.body) else {
            // Nothing in it: only the head can lie.
            lie(&mut response, &mut noise);
            return response;
        };
        let mut bad = bytes.to_vec();
        let at = noise.below(bad.len());
        response.body = match noise.below(9) {
            0 => {
                bad[at] ^= 1 << noise.below(8);
                Bytes::from(bad).into()
            }
            1 => bytes.slice(..at).into(),
            2 => Body::boxed(Pieces::of(&bytes.slice(..at), 2, true)),
            3 => Body::boxed(Pieces::of(&bytes, 3, true)),
            4 => {
                bad.extend_from_slice(b"more");
                Bytes::from(bad).into()
            }
            5 => self.other.lock().unwrap().clone().into(),
            6 => {
                *self.other.lock().unwrap() = bytes.clone();
                Body::boxed(Pieces::of(&bytes, 4, false))
            }
            7 => {
                lie(&mut response, &mut noise);
                bytes.into()
            }
            _ => {
                bad.splice(at..at, *b"inserted");
                Bytes::from(bad).into()
            }
        };
        response
    }
}

/// Changes the head so that it says something else than is true. Taking the hop's field away
/// altogether is left out for plain zstd: it would be an origin's answer in a coding of its own,
/// and right.
fn lie(response: &mut Response, noise: &mut Noise) {
    let said = response.head.headers["edge-delta"].to_str().unwrap().to_owned();
    let coded = response.head.headers.contains_key("content-encoding");
    let told = match noise.below(7) {
        0 => said.replace("length=", "length=1"),
        1 => said.replace("dcz", "zstd"),
        2 => said.replace("dcz", "same").replace("zstd", "identity"),
        3 => {
            response.head.status = if response.head.status == 200 {
                StatusCode::NOT_MODIFIED
            } else {
                StatusCode::OK
            };
            said
        }
        4 => {
            let wrong = super::super::digest::Digest::of(&noise.next().to_le_bytes());
            response.head.headers.insert("repr-digest", wrong.repr_digest());
            said
        }
        5 if !coded && response.head.status == 304 => {
            response.head.headers.remove("edge-delta");
            return;
        }
        _ => "nonsense".to_owned(),
    };
    response
        .head
        .headers
        .insert("edge-delta", HeaderValue::from_str(&told).unwrap());
}

/// How many answers: `EDGE_FAULT_RESPONSES`, else few enough for every run of the suite.
fn wanted() -> usize {
    std::env::var("EDGE_FAULT_RESPONSES").map_or(8_000, |n| n.parse().expect("EDGE_FAULT_RESPONSES is a number"))
}

const PATHS: &[&str] = &[
    "/page",
    "/page?9000",
    "/page?60000",
    "/page?200000",
    "/asset.js?40000",
    "/asset.js?2000000",
    "/asset.json",
    "/image.png?5000",
    "/varies",
    "/private",
    "/secret",
    "/login",
    "/lasting",
    "/chunked?30000",
    "/tagged",
    "/gone",
    "/short",
    "/long",
    "/breaks",
    "/page?1",
    "/asset.js?0",
    "/page?150",
    "/unreachable",
];

/// Two near ends with stores that are too small, a far end that forgets and restarts, an origin
/// that changes between any two fetches and breaks off, and the storm between them.
#[test]
fn never_a_wrong_byte() {
    let wanted = wanted();
    let threads = std::thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .min(4);
    let totals = std::thread::scope(|scope| {
        let run = |thread: usize| scope.spawn(move || storm(thread as u64, wanted.div_ceil(threads)));
        let threads: Vec<_> = (0..threads).map(run).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .reduce(|a, b| std::array::from_fn(|i| a[i] + b[i]))
            .unwrap()
    });
    let [whole, broken, failed, injected, deltas, same, mismatches] = totals;
    println!(
        "{whole} whole answers compared byte for byte, {broken} broken off, {failed} failed; {injected} faults injected, \
         {mismatches} found by near ends; {deltas} answers were differences, {same} unchanged"
    );
    // A test in which little arrives, or little goes wrong, would prove little.
    assert!(whole + broken + failed >= wanted);
    assert!(whole > wanted * 8 / 10, "{whole} of {wanted}");
    assert!(broken > 0 && injected > wanted / 20 && mismatches > injected / 4);
    assert!(deltas > wanted / 16 && same > wanted / 100);
}

fn storm(seed: u64, wanted: usize) -> [usize; 7] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let origin = Arc::new(Source::new(seed));
        let wire = Arc::new(Storm {
            noise: Mutex::new(Noise(seed ^ 77)),
            other: Mutex::default(),
            injected: AtomicUsize::new(0),
        });
        let world = World::new(origin.clone(), wire.clone(), 300_000, 900_000);
        let second = near_end(world.behind.clone(), 6 << 20, &world.near_metrics);
        let mut noise = Noise(seed ^ 99);
        let (mut whole, mut broken, mut failed) = (0, 0, 0);
        for round in 0..wanted {
            if round % 1_000 == 999 {
                origin.forget_old();
                // The far end is started again, without what it had in memory.
                let memory = if noise.one_in(2) { 8 << 20 } else { 200_000 };
                *world.behind.far.lock().unwrap() = far_end(origin.clone(), memory, &world.far_metrics);
            }
            // Large ones seldom, or they would be all there is time for.
            let mut path = PATHS[noise.below(PATHS.len())];
            if path.len() > 15 && !noise.one_in(20) {
                path = PATHS[noise.below(3)];
            }
            let language = ["en", "de", "fr"][noise.below(3)];
            let cookie = ["a=1", "a=2"][noise.below(2)];
            let mut fields = vec![("accept-language", language), ("accept-encoding", "gzip, br")];
            if noise.one_in(3) {
                fields.push(("cookie", cookie));
            }
            // Elsewhere a 304 would be no lie that anyone could find.
            if path == "/tagged" && noise.one_in(2) {
                fields.push(("if-none-match", "\"1\""));
            }
            let near = if noise.one_in(3) { &second } else { &world.near };
            let answer = near.handle(world.request("GET", path, &fields)).await;
            match got(answer).await {
                Got::Whole(status, headers, bytes) => {
                    whole += 1;
                    assert!(headers.get("edge-delta").is_none() && headers.get("repr-digest").is_none());
                    assert!(headers.get("content-encoding").is_none(), "{path}: {headers:?}");
                    if status == 304 {
                        assert!(path == "/tagged" && bytes.is_empty(), "{path}: {fields:?}");
                    } else if status < 500 {
                        let expected = origin.given(&headers).expect("an answer of the origin's");
                        assert!(
                            bytes == expected,
                            "{path}: {} bytes for {}",
                            bytes.len(),
                            expected.len()
                        );
                        assert!(
                            !["/short", "/long", "/breaks"].contains(&path),
                            "{path} cannot be whole"
                        );
                    }
                }
                Got::Broken => broken += 1,
                Got::Failed(_) => failed += 1,
            }
        }
        let count = |outcome| world.near_metrics.count(outcome) as usize;
        [
            whole,
            broken,
            failed,
            wire.injected.load(Ordering::Relaxed),
            count("dcz"),
            count("same"),
            world.near_metrics.mismatched() as usize,
        ]
    })
}
