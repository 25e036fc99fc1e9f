//! The log that has a line for every request. `tracing` would format each line field by field
//! through a visitor, send it over a channel, and wake a thread that writes it alone: a fifth of
//! what a small request costs. Here a line is formatted into a buffer that the thread seldom shares
//! with another, and a thread of its own writes whole buffers ten times a second, or as soon as one
//! has 64 KiB. A reader that does not read stops nobody: lines beyond 1 MiB of a buffer are dropped
//! and counted.

use std::fmt::{Debug, Display};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// The target of access lines; a level of its own in `log.level`.
pub const ACCESS: &str = "edge::access";

/// Buffers. Threads take one each in turn.
const SHARDS: usize = 16;
/// Bytes of a buffer that are written without waiting for [`EVERY`].
const FULL: usize = 64 << 10;
/// Bytes that a buffer holds at most while the writer writes: 16 MiB for all [`SHARDS`], and as
/// much again that is being written.
const MOST: usize = 1 << 20;
/// How long a line waits at most for those that are written with it.
const EVERY: Duration = Duration::from_millis(100);
/// How long the end of the process waits for a reader that does not read.
const LAST: Duration = Duration::from_secs(1);

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An object of JSON.
    Json,
    /// Words for a person at a terminal.
    Human,
}

/// Where lines are written to. Clones write to the same.
#[derive(Clone)]
pub struct Lines(Arc<Inner>);

struct Inner {
    form: Form,
    on: AtomicBool,
    shards: [Mutex<Shard>; SHARDS],
    dropped: AtomicU64,
    /// There are lines that the writer does not know of yet.
    pending: AtomicBool,
    /// A buffer is full, or the end has come: the writer does not wait.
    urgent: AtomicBool,
    ended: AtomicBool,
    writer: OnceLock<Thread>,
}

#[derive(Default)]
struct Shard {
    text: Vec<u8>,
    /// Seconds since 1970, and how they are written.
    second: u64,
    stamp: String,
}

/// Keeps the writer; dropped, it writes what is left, if somebody reads.
pub struct Writer {
    inner: Arc<Inner>,
    thread: JoinHandle<()>,
}

impl Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("form", &self.0.form)
            .finish_non_exhaustive()
    }
}

impl Lines {
    /// Lines that nobody reads.
    pub fn none() -> Self {
        Self(Arc::new(Inner::new(Form::Json)))
    }

    /// Starts the thread that hands whole lines to `output`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(form: Form, output: impl Write + Send + 'static) -> io::Result<(Self, Writer)> {
        let inner = Arc::new(Inner::new(form));
        inner.on.store(true, Ordering::Relaxed);
        let its = inner.clone();
        let thread = thread::Builder::new()
            .name("lines".into())
            .spawn(move || its.keep_writing(output))?;
        // Set here alone.
        let _ = inner.writer.set(thread.thread().clone());
        Ok((Self(inner.clone()), Writer { inner, thread }))
    }

    /// Whether lines are wanted.
    pub fn on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    /// From now on lines are wanted, or not.
    pub fn switch(&self, on: bool) {
        self.0.on.store(on && self.0.writer.get().is_some(), Ordering::Relaxed);
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Writes a line of `target`, level INFO, with what `fields` puts into it.
    pub fn write(&self, target: &str, fields: impl FnOnce(&mut Line<'_>)) {
        let inner = &*self.0;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut shard = inner.shards[own_shard()].lock().unwrap_or_else(PoisonError::into_inner);
        let before = shard.text.len();
        if before >= MOST {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shard.line(inner.form, target, since, fields);
        let after = shard.text.len();
        drop(shard);
        if before < FULL && after >= FULL {
            inner.urgent.store(true, Ordering::Release);
            inner.wake();
        } else if !inner.pending.load(Ordering::Acquire) && !inner.pending.swap(true, Ordering::AcqRel) {
            inner.wake();
        }
    }
}

impl Shard {
    fn line(&mut self, form: Form, target: &str, since: Duration, fields: impl FnOnce(&mut Line<'_>)) {
        if self.stamp.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            let second = i64::try_from(self.second).unwrap_or(i64::MAX);
            self.stamp = Timestamp::from_second(second).unwrap_or_default().to_string();
            // Digits of the second follow before it.
            self.stamp.truncate(self.stamp.trim_end_matches('Z').len());
        }
        let Self { text, stamp, .. } = self;
        let micros = since.subsec_micros();
        match form {
            Form::Json => {
                put(
                    text,
                    format_args!("{{\"timestamp\":\"{stamp}.{micros:06}Z\",\"level\":\"INFO\""),
                );
                fields(&mut Line { text, form });
                text.extend_from_slice(b",\"target\":");
                json(text, target);
                text.extend_from_slice(b"}\n");
            }
            Form::Human => {
                put(text, format_args!("{stamp}.{micros:06}Z  INFO {target}:"));
                fields(&mut Line { text, form });
                text.push(b'\n');
            }
        }
    }
}

/// The buffer of this thread.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    OWN.with(|own| *own)
}

impl Inner {
    fn new(form: Form) -> Self {
        Self {
            form,
            on: AtomicBool::new(false),
            shards: std::array::from_fn(|_| Mutex::default()),
            dropped: AtomicU64::new(0),
            pending: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            writer: OnceLock::new(),
        }
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    fn keep_writing(&self, mut output: impl Write) {
        let mut text = Vec::new();
        let mut failing = false;
        loop {
            let ended = self.ended.load(Ordering::Acquire);
            let urgent = self.urgent.swap(false, Ordering::AcqRel);
            if !(ended || urgent) {
                if self.pending.load(Ordering::Acquire) {
                    thread::park_timeout(EVERY);
                } else {
                    thread::park();
                    continue;
                }
            }
            self.pending.store(false, Ordering::Release);
            for shard in &self.shards {
                std::mem::swap(
                    &mut shard.lock().unwrap_or_else(PoisonError::into_inner).text,
                    &mut text,
                );
                if !text.is_empty() {
                    let failed = output.write_all(&text).err();
                    if failed.is_some() {
                        let lines = text.iter().filter(|byte| **byte == b'\n').count();
                        self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                    }
                    match (&failed, failing) {
                        (Some(error), false) => {
                            tracing::warn!(target: "edge::admin", %error, "access lines cannot be written and are dropped");
                        }
                        (None, true) => tracing::info!(target: "edge::admin", "access lines are written again"),
                        _ => {}
                    }
                    failing = failed.is_some();
                    text.clear();
                    text.shrink_to(2 * FULL);
                }
            }
            if ended {
                return;
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.inner.on.store(false, Ordering::Relaxed);
        self.inner.ended.store(true, Ordering::Release);
        self.inner.wake();
        let start = Instant::now();
        while !self.thread.is_finished() && start.elapsed() < LAST {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// A line that is being written. A field that has no value is left out.
#[derive(Debug)]
pub struct Line<'a> {
    text: &'a mut Vec<u8>,
    form: Form,
}

impl Line<'_> {
    fn name(&mut self, name: &'static str) {
        match self.form {
            Form::Json => {
                self.text.extend_from_slice(b",\"");
                self.text.extend_from_slice(name.as_bytes());
                self.text.extend_from_slice(b"\":");
            }
            Form::Human => {
                self.text.push(b' ');
                self.text.extend_from_slice(name.as_bytes());
                self.text.push(b'=');
            }
        }
    }

    /// Text of anybody: nothing in it ends the line or the value.
    pub fn text<'t>(&mut self, name: &'static str, value: impl Into<Option<&'t str>>) {
        let Some(value) = value.into() else { return };
        self.name(name);
        match self.form {
            Form::Json => json(self.text, value),
            Form::Human => put(self.text, format_args!("{value:?}")),
        }
    }

    /// What shows itself by letters, digits, and punctuation without quotes and backslashes:
    /// addresses, identifiers.
    pub fn plain(&mut self, name: &'static str, value: Option<impl Display>) {
        let Some(value) = value else { return };
        self.name(name);
        match self.form {
            Form::Json => put(self.text, format_args!("\"{value}\"")),
            Form::Human => put(self.text, format_args!("{value}")),
        }
    }

    /// A number.
    pub fn number(&mut self, name: &'static str, value: impl Into<Option<u64>>) {
        let Some(mut value) = value.into() else { return };
        self.name(name);
        // As many digits as a u64 has.
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.text.extend_from_slice(&digits[at..]);
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &'static str, value: impl Into<Option<bool>>) {
        let Some(value) = value.into() else { return };
        self.name(name);
        self.text.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Milliseconds, to three digits after the point.
    pub fn millis(&mut self, name: &'static str, value: impl Into<Option<Duration>>) {
        let Some(value) = value.into() else { return };
        let micros = u64::try_from(value.as_nanos().saturating_add(500) / 1000).unwrap_or(u64::MAX);
        self.number(name, micros / 1000);
        let rest = micros % 1000;
        let digit = |of: u64| b'0' + (rest / of % 10) as u8;
        self.text.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }
}

/// RFC 8259 section 7.
fn json(text: &mut Vec<u8>, value: &str) {
    let plain = value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        text.push(b'"');
        text.extend_from_slice(value.as_bytes());
        text.push(b'"');
    } else {
        // A Vec takes everything.
        let _ = serde_json::to_writer(text, value);
    }
}

fn put(text: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // A Vec takes everything.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(lines: &Lines, path: &str) {
        lines.write("edge::access", |line| {
            line.plain("client", Some(std::net::Ipv4Addr::LOCALHOST));
            line.text("zone", None);
            line.text("path", path);
            line.number("status", 200);
            line.number("none", None);
            line.number("bytes", u64::MAX);
            line.flag("aborted", false);
            line.millis("total_ms", Duration::from_nanos(1_234_056_500));
        });
    }

    /// A collector would refuse a line, or a client write one of its own.
    #[test]
    fn a_line_is_one_object_whatever_clients_send() {
        let sink = Sink::default();
        let (lines, writer) = Lines::start(Form::Json, sink.clone()).unwrap();
        let odd = "/\"},\n{\"a\\\u{1}\u{7f}é";
        for path in ["/plain", odd] {
            line(&lines, path);
        }
        drop(writer);
        let text = sink.text();
        let [plain, escaped] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        let value: serde_json::Value = serde_json::from_str(escaped).unwrap();
        assert_eq!(value["path"], odd);
        let (stamp, rest) = plain.split_once("\",\"level\"").unwrap();
        let stamp: Timestamp = stamp.strip_prefix("{\"timestamp\":\"").unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(stamp) < jiff::SignedDuration::from_secs(60));
        let fields = "\"client\":\"127.0.0.1\",\"path\":\"/plain\",\"status\":200,\"bytes\":18446744073709551615,\
                      \"aborted\":false,\"total_ms\":1234.057,\"target\":\"edge::access\"}";
        assert_eq!(rest, format!(":\"INFO\",{fields}"));
    }

    /// A terminal obeys what a client sends, or shows two lines for one.
    #[test]
    fn a_terminal_gets_no_control_characters() {
        let sink = Sink::default();
        let (lines, writer) = Lines::start(Form::Human, sink.clone()).unwrap();
        line(&lines, "/\u{1b}[2J\n");
        drop(writer);
        let text = sink.text();
        assert!(
            text.ends_with(
                "  INFO edge::access: client=127.0.0.1 path=\"/\\u{1b}[2J\\n\" status=200 \
                 bytes=18446744073709551615 aborted=false total_ms=1234.057\n"
            ),
            "{text}"
        );
    }

    /// A line would wait for the next request.
    #[test]
    fn lines_come_without_more() {
        let sink = Sink::default();
        let (lines, _writer) = Lines::start(Form::Json, sink.clone()).unwrap();
        for round in 1..4 {
            line(&lines, "/");
            let start = Instant::now();
            while sink.text().lines().count() < round {
                assert!(start.elapsed() < Duration::from_secs(20));
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// A collector that hangs would stop the node, or take all its memory.
    #[test]
    fn a_reader_that_hangs_stops_nobody() {
        struct Hangs(mpsc::Receiver<()>);
        impl Write for Hangs {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, hangs) = mpsc::channel();
        let (lines, writer) = Lines::start(Form::Json, Hangs(hangs)).unwrap();
        let path = "x".repeat(8 << 10);
        let mut written = 0;
        while lines.dropped() == 0 {
            line(&lines, &path);
            written += path.len();
            assert!(written < 4 * MOST);
        }
        drop(release);
        drop(writer);
    }

    /// A full disk would lose lines that nobody counts.
    #[test]
    fn what_cannot_be_written_is_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, writer) = Lines::start(Form::Json, Full).unwrap();
        (0..7).for_each(|_| line(&lines, "/"));
        drop(writer);
        assert_eq!(lines.dropped(), 7);
    }

    /// Two threads' lines would be mixed.
    #[test]
    fn lines_of_many_threads_stay_whole() {
        let sink = Sink::default();
        let (lines, writer) = Lines::start(Form::Json, sink.clone()).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..500).for_each(|_| line(&lines, "/some/path")));
            }
        });
        drop(writer);
        let text = sink.text();
        assert_eq!(text.lines().count() as u64 + lines.dropped(), 32 * 500);
        assert!(
            text.lines()
                .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        );
    }

    /// `log.level` would not silence it.
    #[test]
    fn it_is_off_and_on() {
        let (lines, writer) = Lines::start(Form::Json, io::sink()).unwrap();
        assert!(lines.on());
        lines.switch(false);
        assert!(!lines.on());
        lines.switch(true);
        assert!(lines.on());
        drop(writer);
        assert!(!lines.on() && !Lines::none().on());
        Lines::none().switch(true);
        assert!(!Lines::none().on());
    }
}
