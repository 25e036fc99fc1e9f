//! HTTP/2 frames on their way to the h2 crate: each message's fields are looked at before h2 sees
//! them, and one with a malformed field becomes one that h2 refuses alone (see `hpack`). Content is
//! not held back or copied. Pure; `guard` calls it for clients, `origin` for servers.

use tokio::io::ReadBuf;

use super::hpack;

/// Bytes that a client begins with (RFC 9113 section 3.4).
pub const PREFACE: usize = 24;
/// Bytes of a frame's front (RFC 9113 section 4.1).
const FRONT: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// Bytes of the longest frame that every receiver takes (SETTINGS_MAX_FRAME_SIZE as it is by
/// itself).
const FRAME: usize = 16_384;
/// Bytes of the longest frame that we let anybody send: servers, not clients.
pub const LONGEST: usize = 64 << 10;

/// The frames of a connection.
#[derive(Debug)]
pub struct Heads {
    /// Bytes of a frame's payload that are still to come and are none of ours.
    passing: usize,
    /// A frame's front, or a head's frames, that are not whole.
    held: Vec<u8>,
    /// Bytes of a head that are held at most; a longer one is h2's to refuse.
    most: usize,
    /// Nothing is looked at any more.
    off: bool,
    /// Who sends them, and what is known of their table.
    by: hpack::By,
    known: hpack::Known,
}

/// What is at the beginning of some bytes.
enum Next<'a> {
    /// More has to come before it is known.
    More,
    /// The front of a frame that is not looked at, and the length of its payload.
    Frame(usize),
    /// A head's frames, whole: so many bytes, and the block within them.
    Head(usize, Block<'a>),
    /// Frames that h2 ends the connection for.
    Wrong,
}

/// A header block, and what of its frames is more than that.
struct Block<'a> {
    stream: [u8; 4],
    ends: bool,
    pieces: Vec<&'a [u8]>,
}

/// Heads between a socket and the h2 crate: what is held of them until they are whole, or was
/// changed, goes on when there is room for it.
#[derive(Debug)]
pub struct Passage {
    heads: Heads,
    /// What goes on in place of what came, from `given` on.
    ready: Vec<u8>,
    given: usize,
}

impl Passage {
    /// Nothing has come yet.
    pub fn new(heads: Heads) -> Self {
        Self {
            heads,
            ready: Vec::new(),
            given: 0,
        }
    }

    /// Gives on what is ready, as much as `buf` has room for.
    pub fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let left = self.ready.get(self.given..).unwrap_or_default();
        let now = left.get(..left.len().min(buf.remaining())).unwrap_or_default();
        buf.put_slice(now);
        self.given += now.len();
        if self.given == self.ready.len() {
            // A head is rarely changed, and then the room is not worth keeping.
            (self.ready, self.given) = (Vec::new(), 0);
        }
    }

    /// Looks at what was filled into `buf` after `before`, and leaves there what goes on now.
    pub fn pass(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let new = buf.filled().get(before..).unwrap_or_default();
        let at = self.heads.feed(new, &mut self.ready);
        buf.set_filled(before + at);
        self.give(buf);
    }
}

impl Heads {
    /// For a client whose fields may have `header_bytes`, from its preface on. A field section is
    /// at most 30/8 times as long as what it says (RFC 7541 appendix B); padding and fronts come on
    /// top.
    pub fn new(header_bytes: usize) -> Self {
        Self {
            passing: PREFACE,
            held: Vec::new(),
            most: header_bytes.saturating_mul(4).saturating_add(4 * FRAME),
            off: false,
            by: hpack::By::Client,
            known: hpack::Known::default(),
        }
    }

    /// The same for a server, which begins without a preface.
    pub fn of_server(header_bytes: usize) -> Self {
        Self {
            passing: 0,
            by: hpack::By::Server,
            ..Self::new(header_bytes)
        }
    }

    /// Takes the next bytes: how many of them go on at once, as they are. What is behind them goes
    /// on by `out`, in so far as it goes on at all.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        if self.off {
            return bytes.len();
        }
        let mut at = 0;
        if self.held.is_empty() {
            at = self.pass(bytes);
            if at == bytes.len() {
                return at;
            }
        }
        self.held.extend_from_slice(bytes.get(at..).unwrap_or_default());
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        loop {
            let passed = self.pass(rest);
            let (sound, after) = rest.split_at_checked(passed).unwrap_or((rest, &[]));
            out.extend_from_slice(sound);
            rest = after;
            match next(rest) {
                Next::Head(length, block) => {
                    let (mended, new) = block.mended(self.by, &self.known);
                    self.known.take(new);
                    out.extend_from_slice(&mended.unwrap_or_default());
                    rest = rest.get(length..).unwrap_or_default();
                }
                Next::More if rest.len() <= self.most => break,
                Next::More | Next::Wrong | Next::Frame(_) => {
                    self.off = true;
                    out.extend_from_slice(rest);
                    return at;
                }
            }
        }
        self.held = rest.to_vec();
        at
    }

    /// How many bytes of `bytes` need no change.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let passed = rest.len().min(self.passing);
            self.passing -= passed;
            at += passed;
            let rest = rest.get(passed..).unwrap_or_default();
            match next(rest) {
                Next::Frame(length) => {
                    at += FRONT;
                    self.passing = length;
                }
                Next::Head(length, block) => {
                    let (mended, new) = block.mended(self.by, &self.known);
                    if mended.is_some() {
                        return at;
                    }
                    self.known.take(new);
                    at += length;
                }
                Next::More | Next::Wrong => return at,
            }
        }
    }
}

fn next(bytes: &[u8]) -> Next<'_> {
    let mut pieces = Vec::new();
    let mut first: Option<(u8, [u8; 4])> = None;
    let mut rest = bytes;
    loop {
        let Some((front, after)) = rest.split_first_chunk::<FRONT>() else {
            return Next::More;
        };
        let [a, b, c, kind, flags, stream @ ..] = *front;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match (kind, first) {
            (HEADERS, None) | (CONTINUATION, Some(_)) => {}
            (_, None) => return Next::Frame(length),
            (_, Some(_)) => return Next::Wrong,
        }
        if length > LONGEST || first.is_some_and(|(_, of)| of != stream) {
            return Next::Wrong;
        }
        let Some((payload, after)) = after.split_at_checked(length) else {
            return Next::More;
        };
        let Some(piece) = (if kind == HEADERS {
            block_of(payload, flags)
        } else {
            Some(payload)
        }) else {
            return Next::Wrong;
        };
        pieces.push(piece);
        let (of, _) = *first.get_or_insert((flags, stream));
        rest = after;
        if flags & END_HEADERS != 0 {
            let block = Block {
                stream,
                ends: of & END_STREAM != 0,
                pieces,
            };
            return Next::Head(bytes.len() - rest.len(), block);
        }
    }
}

/// The block in a HEADERS frame's payload, without padding and priority (RFC 9113 section 6.2).
fn block_of(mut payload: &[u8], flags: u8) -> Option<&[u8]> {
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (&length, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(length), rest);
    }
    if flags & PRIORITY != 0 {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

impl Block<'_> {
    /// The frames of a block that h2 refuses by itself; `None` if it is sound. And what it inserts
    /// into the client's table.
    fn mended(&self, by: hpack::By, known: &hpack::Known) -> (Option<Vec<u8>>, hpack::Insertions) {
        let (mended, new) = match self.pieces.as_slice() {
            [whole] => hpack::mended(whole, by, known),
            pieces => hpack::mended(&pieces.concat(), by, known),
        };
        (mended.map(|mended| self.frames(&mended)), new)
    }

    /// The frames that carry `mended` in the block's place.
    fn frames(&self, mended: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(mended.len() + FRONT);
        let mut pieces = mended.chunks(FRAME).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let mut flags = if kind == HEADERS && self.ends { END_STREAM } else { 0 };
            if pieces.peek().is_none() {
                flags |= END_HEADERS;
            }
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes();
            out.extend_from_slice(length.get(1..).unwrap_or_default());
            out.extend_from_slice(&[kind, flags]);
            out.extend_from_slice(&self.stream);
            out.extend_from_slice(piece);
            kind = CONTINUATION;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'a'];
    const BAD: &[u8] = b"\x82\x87\x84\x41\x01a\x00\x05X-Bad\x01a";

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn mended(block: &[u8]) -> Vec<u8> {
        hpack::mended(block, hpack::By::Client, &hpack::Known::default())
            .0
            .unwrap()
    }

    /// What h2 gets of `whole`, in pieces of `size`.
    fn passed(whole: &[u8], size: usize) -> Vec<u8> {
        let mut heads = Heads::new(1 << 10);
        let mut all = Vec::new();
        assert_eq!(heads.feed(&[b'P'; PREFACE], &mut all), PREFACE);
        fed(heads, all, whole, size)
    }

    fn fed(mut heads: Heads, mut all: Vec<u8>, whole: &[u8], size: usize) -> Vec<u8> {
        for piece in whole.chunks(size) {
            let mut out = Vec::new();
            let at = heads.feed(piece, &mut out);
            all.extend_from_slice(&piece[..at]);
            all.extend_from_slice(&out);
        }
        assert!(heads.off || heads.held.is_empty());
        all
    }

    fn alike(whole: &[u8], right: &[u8]) {
        for size in [whole.len(), 1, 2, 7, 9, 10, 100] {
            assert_eq!(passed(whole, size), right, "in pieces of {size}");
        }
    }

    /// Requests and content would be lost or changed.
    #[test]
    fn sound_frames_go_on_as_they_are() {
        let padded = [&[3, 0, 0, 0, 0, 9][..], GET, &[0; 3]].concat();
        let whole = [
            frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(HEADERS, END_HEADERS, 1, GET),
            frame(0, 1, 1, &[7; 3000]),
            frame(HEADERS, 0, 3, &GET[..2]),
            frame(CONTINUATION, 0, 3, &[]),
            frame(CONTINUATION, END_HEADERS, 3, &GET[2..]),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY | END_STREAM, 5, &padded),
            frame(8, 0, 0, &[0, 0, 1, 0]),
        ]
        .concat();
        alike(&whole, &whole);
        let mut out = Vec::new();
        let whole = [&[b'P'; PREFACE][..], &whole].concat();
        assert_eq!(Heads::new(100).feed(&whole, &mut out), whole.len(), "without a copy");
    }

    /// A request with a bad field would end the others of its connection.
    #[test]
    fn a_malformed_field_changes_its_own_frame() {
        let (front, behind) = (frame(HEADERS, 5, 1, GET), frame(0, 1, 1, &[7; 300]));
        let instead = frame(HEADERS, 5, 3, &mended(BAD));
        let right = [&front[..], &instead, &behind].concat();
        alike(&[&front[..], &frame(HEADERS, 5, 3, BAD), &behind].concat(), &right);
        let padded = [&[2][..], BAD, &[0; 2]].concat();
        alike(
            &[&front[..], &frame(HEADERS, 5 | PADDED, 3, &padded), &behind].concat(),
            &right,
        );
        let pieces = [frame(HEADERS, 1, 3, &BAD[..9]), frame(CONTINUATION, 4, 3, &BAD[9..])].concat();
        alike(&[&front[..], &pieces, &behind].concat(), &right);
        // 20,000 bytes of a value, each of them wrong.
        let long = [GET, b"\x00\x01x\x7f\xa1\x9b\x01", &[0; 20_000]].concat();
        let instead = mended(&long);
        let whole = [
            frame(HEADERS, 1, 3, &long[..10_000]),
            frame(CONTINUATION, 4, 3, &long[10_000..]),
        ]
        .concat();
        let right = [
            frame(HEADERS, 1, 3, &instead[..FRAME]),
            frame(CONTINUATION, 4, 3, &instead[FRAME..]),
        ]
        .concat();
        assert_eq!(passed(&whole, 1_000), right);
    }

    /// One bad field of a server's would end everybody's responses on its connection.
    #[test]
    fn a_malformed_field_of_a_server_changes_its_own_frame() {
        let (bad, good) = (b"\x88\x00\x05X-Bad\x01a", b"\x88\x00\x03x-a\x01b");
        let (settings, content) = (frame(4, 0, 0, &[]), frame(0, 0, 1, &[7; 300]));
        let instead = frame(HEADERS, 5, 3, &mended(bad));
        let whole = [
            &settings[..],
            &frame(HEADERS, 4, 1, good),
            &frame(HEADERS, 5, 3, bad),
            &content,
        ]
        .concat();
        let right = [&settings[..], &frame(HEADERS, 4, 1, good), &instead, &content].concat();
        for size in [whole.len(), 1, 2, 9, 10] {
            let heads = Heads::of_server(1 << 10);
            assert_eq!(fed(heads, Vec::new(), &whole, size), right, "in pieces of {size}");
        }
    }

    /// A head that never ends would fill the memory here in place of h2, which counts.
    #[test]
    fn what_is_wrong_or_long_is_left_to_h2() {
        let lone = [
            frame(HEADERS, 0, 1, GET),
            frame(0, 0, 1, &[0; 5]),
            frame(HEADERS, 5, 3, BAD),
        ]
        .concat();
        alike(&lone, &lone);
        let other = [frame(HEADERS, 0, 1, GET), frame(CONTINUATION, 4, 3, GET)].concat();
        alike(&other, &other);
        let short = frame(HEADERS, 5 | PADDED, 1, &[9, 0]);
        alike(&short, &short);
        let endless = [
            frame(HEADERS, 0, 1, GET),
            frame(CONTINUATION, 0, 1, &[0x82; 16_000]).repeat(8),
        ]
        .concat();
        assert_eq!(passed(&endless, 1_000), endless);
    }
}
