//! What one connection holds of responses that its client has not taken, on the ledger. `delivery`
//! says what it hands over, `guard` what of it was written; in between it lies in hyper's buffers.
//! Over HTTP/3 it lies in quinn's, and `h3::window` counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::ledger::{Charge, Holder, Kind};

/// What each connection is charged for itself: TLS, hyper's or quinn's state and buffers, and
/// [`FREE`].
pub(super) const CONNECTION: u64 = 32 << 10;
/// Handed over and not written, that much costs nothing more: ordinary answers never touch the
/// shared accounts.
pub(super) const FREE: u64 = 16 << 10;
/// Charged in steps of this.
const GRAIN: u64 = 32 << 10;
/// A request under way, beside its head: its stream and task, what each room keeps while it waits
/// for the next one, field lists of both sides, timers, the line for the log. As `bench attack`
/// measures it: 16 KiB, and 30 with a far end.
pub(super) const REQUEST: u64 = 32 << 10;
/// How often a head's length is held for a request under way, as `bench attack` measures it: the
/// fields point into the buffer that their frames were gathered in, which has grown to twice what
/// it holds, and into that of the socket; the connection to the origin keeps the buffer, which grew
/// likewise, that it wrote the head from; and there is the cache's copy.
pub(super) const HEADS: u64 = 6;
/// Read ahead of a client for one response that streams: pieces on their way through the rooms, and
/// what the origin's connection has read. The room `origin` may say more
/// ([`ReadAhead`](super::message::ReadAhead)).
pub(super) const AHEAD: u64 = 128 << 10;

/// Content of one request that has come and that nobody has read yet: of longer content, what its
/// flow-control window lets come.
pub(super) const UPLOAD: u64 = 128 << 10;

/// One connection's.
#[derive(Debug)]
pub(super) struct Holding {
    holder: Arc<Holder>,
    _connection: Charge,
    /// Handed over, not written.
    out: AtomicU64,
    charged: AtomicU64,
    charge: Mutex<Charge>,
}

impl Holding {
    /// Charges the connection itself.
    pub(super) fn new(holder: Arc<Holder>) -> Arc<Self> {
        Arc::new(Self {
            _connection: holder.must(Kind::Connections, None, CONNECTION),
            charge: Mutex::new(holder.must(Kind::Responses, None, 0)),
            out: AtomicU64::new(0),
            charged: AtomicU64::new(0),
            holder,
        })
    }

    /// Whose it is.
    pub(super) fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }

    /// Whether `more` bytes may be handed over. One piece may always, so that whoever takes what
    /// there is gets on.
    pub(super) fn admits(&self, more: u64) -> bool {
        let after = self.out.load(Relaxed).saturating_add(more);
        after <= FREE || after == more || after <= self.charged.load(Relaxed).saturating_add(FREE) || {
            let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = beyond(after);
            let fits = wanted <= charge.bytes() || charge.set(wanted);
            self.charged.store(charge.bytes(), Relaxed);
            fits
        }
    }

    /// Handed over to be sent.
    pub(super) fn handed(&self, bytes: u64) {
        self.out.fetch_add(bytes, Relaxed);
    }

    /// Written to the socket.
    pub(super) fn written(&self, bytes: u64) {
        let before = self.out.load(Relaxed);
        let after = before.saturating_sub(bytes);
        // One task writes and hands over: nothing comes in between.
        self.out.store(after, Relaxed);
        self.holder.moved();
        let charged = self.charged.load(Relaxed);
        if charged > 0 && (after == 0 || charged >= beyond(after).saturating_add(2 * GRAIN)) {
            let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
            charge.move_to(beyond(after));
            self.charged.store(charge.bytes(), Relaxed);
        }
    }
}

/// What is charged for `out` bytes.
fn beyond(out: u64) -> u64 {
    match out.saturating_sub(FREE) {
        0 => 0,
        more => more.div_ceil(GRAIN).saturating_mul(GRAIN),
    }
}

/// Counts the content in what is written on an HTTP/2 connection: the payloads of DATA frames (RFC
/// 9113 section 4.1).
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; 9],
    /// Bytes of the header so far.
    seen: usize,
    /// Bytes of the payload still to come.
    left: usize,
    data: bool,
}

impl Frames {
    /// How much content is in the next `bytes`.
    pub(super) fn content(&mut self, mut bytes: &[u8]) -> u64 {
        let mut content = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let now = self.left.min(bytes.len());
                self.left -= now;
                if self.data {
                    content += now as u64;
                }
                bytes = bytes.get(now..).unwrap_or_default();
                continue;
            }
            let now = (self.header.len() - self.seen).min(bytes.len());
            for (to, from) in self.header.iter_mut().skip(self.seen).zip(bytes.iter().take(now)) {
                *to = *from;
            }
            self.seen += now;
            bytes = bytes.get(now..).unwrap_or_default();
            if self.seen == self.header.len() {
                let [a, b, c, kind, ..] = self.header;
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.data = kind == 0;
                self.seen = 0;
            }
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ledger::Ledger;

    /// Frames that were miscounted would let a connection hold more than it is charged for, or
    /// stand still for ever.
    #[test]
    fn frames() {
        let frame = |kind: u8, length: usize| {
            let [_, _, _, _, _, a, b, c] = (length as u64).to_be_bytes();
            [vec![a, b, c, kind, 0, 0, 0, 0, 1], vec![0; length]].concat()
        };
        let bytes = [
            frame(4, 18),
            frame(1, 70_000),
            frame(0, 16_375),
            frame(0, 0),
            frame(8, 4),
            frame(0, 5),
        ]
        .concat();
        for piece in [1, 8, 9, 10, 100_000] {
            let mut frames = Frames::default();
            let content: u64 = bytes.chunks(piece).map(|bytes| frames.content(bytes)).sum();
            assert_eq!(content, 16_380, "{piece}");
        }
    }

    /// A client that takes nothing is charged for what lies there, and no more is handed over than
    /// its address may have.
    #[test]
    fn back_pressure() {
        let ledger = Ledger::new(1 << 30, CONNECTION * 2 + (64 << 10));
        let responses = || ledger.figures().kinds[Kind::Responses as usize];
        let client = "192.0.2.1".parse().unwrap();
        let (one, other) = (Holding::new(ledger.open(client)), Holding::new(ledger.open(client)));
        let fill = |holding: &Holding| {
            let mut pieces = 0;
            while pieces < 1_000 && holding.admits(16 << 10) {
                holding.handed(16 << 10);
                pieces += 1;
            }
            pieces
        };
        assert_eq!(fill(&one), 5, "16 KiB free, 64 KiB charged");
        assert_eq!(responses(), 64 << 10);
        assert_eq!(fill(&other), 1, "the free part is left to it");
        assert!(!one.admits(16 << 10) && !other.admits(16 << 10));
        one.written(80 << 10);
        assert_eq!(responses(), 0);
        assert_eq!(fill(&other), 4);
        assert!(one.admits(1 << 20), "one piece always gets on");
        drop((one, other));
        assert_eq!(ledger.figures().kinds, [0; Kind::ALL.len()]);
    }

    /// The figures of docs/limits.md are what the constants come to: whoever changes one sees what
    /// it multiplies to.
    #[test]
    fn the_sums_that_are_told() {
        let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"z.example\"]\n\
                    [zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";
        let config = crate::config::Config::parse(std::path::Path::new("edge.toml"), text).unwrap();
        let limits = &config.limits;
        let streams = u64::from(limits.streams_per_connection);
        let told = |bytes: u64| match bytes {
            n if n >= 1 << 30 => format!("{} GiB", n >> 30),
            n if n >= 1 << 20 => format!("{} MiB", n >> 20),
            n => format!("{} KiB", n >> 10),
        };
        let head = limits.header_bytes as u64;
        let send = super::super::server::SEND_BUFFER as u64;
        let rows = [
            (Kind::Connections, None, CONNECTION),
            (
                Kind::Requests,
                Some(REQUEST + HEADS * head),
                streams * (REQUEST + HEADS * head),
            ),
            (Kind::Uploads, Some(UPLOAD), streams * UPLOAD),
            (Kind::Responses, Some(AHEAD + send), streams * (AHEAD + send)),
            (
                Kind::Quic,
                None,
                super::super::h3::window::MOST + super::super::h3::TABLES,
            ),
            (Kind::Dictionaries, Some(16 << 20), streams * (16 << 20)),
        ];
        let docs = include_str!("../../../docs/limits.md");
        for (kind, request, connection) in rows {
            let address = limits
                .memory_per_address
                .min(connection * limits.connections_per_address as u64);
            let cells: Vec<String> = [request, Some(connection), Some(address)]
                .into_iter()
                .map(|bytes| bytes.map_or("-".to_owned(), told))
                .collect();
            let line = docs
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", kind.label())));
            let told: Vec<&str> = line.unwrap().split('|').map(str::trim).skip(3).take(3).collect();
            assert_eq!(told, cells, "{kind:?}");
        }
        assert!(docs.contains(&format!("`cache.filling` = {}", told(config.cache.filling))));
        // What hyper and quinn may hold of a request's content is what is charged for it.
        assert!(u64::from(crate::quic::STREAM_WINDOW) <= UPLOAD);
    }
}
