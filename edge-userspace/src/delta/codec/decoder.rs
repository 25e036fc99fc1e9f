//! Undoes `dcz` and `zstd` as the bytes arrive: fed with input, asked for output in pieces, so that
//! the first of them leaves before the last has come. What the peer can make it hold is bounded by
//! the window and by one piece.

use bytes::{Bytes, BytesMut};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::frame::{self, Head};
use super::{CodecError, Dictionary, SMALLEST_WINDOW, dcz};

/// Output is given in pieces of at most this many bytes, unless it is wanted in one.
const PIECE: usize = 64 << 10;

/// One stream on its way back to content.
pub struct Decoder {
    context: DCtx<'static>,
    state: State,
    /// The header that a stream must begin with: none for plain zstd.
    prefix: Vec<u8>,
    /// Bytes of the head, until it is whole.
    head: Vec<u8>,
    input: Bytes,
    window: u64,
    must_check: bool,
    /// Bytes of content that may still come.
    left: u64,
    /// The longest piece.
    piece: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Frame,
    Ended,
    Failed(CodecError),
}

impl Decoder {
    /// For a `dcz` stream that refers to `dictionary`, whose content is at most `limit` bytes.
    /// Copies the dictionary.
    ///
    /// # Errors
    /// [`CodecError::Unsuitable`] or [`CodecError::Memory`].
    pub fn dcz(dictionary: &Dictionary, limit: u64) -> Result<Self, CodecError> {
        if !dictionary.suitable() {
            return Err(CodecError::Unsuitable);
        }
        let mut this = Self::new(dictionary.window(), limit)?;
        this.context
            .load_dictionary(dictionary.content())
            .map_err(|_| CodecError::Memory)?;
        this.prefix = [&dcz::MAGIC[..], dictionary.digest().as_bytes()].concat();
        this.must_check = true;
        Ok(this)
    }

    /// For a plain `zstd` stream whose content is at most `limit` bytes.
    ///
    /// # Errors
    /// [`CodecError::Memory`].
    pub fn zstd(limit: u64) -> Result<Self, CodecError> {
        Self::new(SMALLEST_WINDOW, limit)
    }

    fn new(window: u64, limit: u64) -> Result<Self, CodecError> {
        let mut context = DCtx::try_create().ok_or(CodecError::Memory)?;
        // The exact bound is checked on the head; this one is the library's own, in powers of two.
        let log = window.next_power_of_two().trailing_zeros();
        context
            .set_parameter(DParameter::WindowLogMax(log))
            .map_err(|_| CodecError::Memory)?;
        Ok(Self {
            context,
            state: State::Head,
            prefix: Vec::new(),
            head: Vec::new(),
            input: Bytes::new(),
            window,
            must_check: false,
            left: limit,
            piece: PIECE,
        })
    }

    /// Gives content of its full length in one piece, for who needs all of it at once: room for all
    /// of it is taken at the first.
    pub fn in_one_piece(mut self) -> Self {
        self.piece = usize::try_from(self.left).unwrap_or(PIECE).saturating_add(1);
        self
    }

    /// Gives it what has arrived; to be called when [`Decoder::piece`] had nothing more.
    pub fn feed(&mut self, input: Bytes) {
        if self.input.is_empty() {
            self.input = input;
        } else {
            let mut both = BytesMut::from(&*self.input);
            both.extend_from_slice(&input);
            self.input = both.freeze();
        }
    }

    /// The next piece of content, of at least one byte; `None` when input is needed, or when all
    /// has been given.
    ///
    /// # Errors
    /// Why the stream cannot be decoded; from then on always the same.
    pub fn piece(&mut self) -> Result<Option<Bytes>, CodecError> {
        let outcome = self.step();
        if let Err(error) = outcome {
            self.state = State::Failed(error);
            self.input = Bytes::new();
        }
        outcome
    }

    /// To be asked when no more input will come and [`Decoder::piece`] had nothing more.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] unless the stream came to its end.
    pub fn finish(&self) -> Result<(), CodecError> {
        match self.state {
            State::Ended => Ok(()),
            State::Failed(error) => Err(error),
            State::Head | State::Frame => Err(CodecError::Truncated),
        }
    }

    fn step(&mut self) -> Result<Option<Bytes>, CodecError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        if self.state == State::Head && !self.read_head()? {
            return Ok(None);
        }
        if self.state == State::Ended {
            return if self.input.is_empty() {
                Ok(None)
            } else {
                Err(CodecError::Trailing)
            };
        }
        // One byte more than may come, so that it is seen to come.
        let room = usize::try_from(self.left)
            .unwrap_or(PIECE)
            .saturating_add(1)
            .min(self.piece);
        let mut piece = Vec::with_capacity(room);
        loop {
            let mut input = InBuffer::around(&self.input);
            let mut output = OutBuffer::around_pos(&mut piece, 0);
            let hint = self
                .context
                .decompress_stream(&mut output, &mut input)
                .map_err(|_| CodecError::Corrupt)?;
            let taken = input.pos();
            self.input = self.input.split_off(taken);
            if hint == 0 {
                self.state = State::Ended;
            }
            if !piece.is_empty() {
                break;
            }
            match self.state {
                State::Ended if self.input.is_empty() => return Ok(None),
                State::Ended => return Err(CodecError::Trailing),
                _ if self.input.is_empty() => return Ok(None),
                _ if taken == 0 => return Err(CodecError::Corrupt),
                _ => {}
            }
        }
        let given = u64::try_from(piece.len()).map_err(|_| CodecError::TooLarge)?;
        self.left = self.left.checked_sub(given).ok_or(CodecError::TooLarge)?;
        Ok(Some(piece.into()))
    }

    /// Collects the stream's head and checks it; the frame's part of it goes to the library.
    fn read_head(&mut self) -> Result<bool, CodecError> {
        let most = self.prefix.len().saturating_add(frame::LONGEST);
        let missing = most.saturating_sub(self.head.len()).min(self.input.len());
        self.head.extend_from_slice(&self.input.split_to(missing));
        let (prefix, frame) = self.head.split_at(self.prefix.len().min(self.head.len()));
        if !self.prefix.starts_with(prefix) {
            let ours = prefix.len() > dcz::MAGIC.len() && prefix.starts_with(&dcz::MAGIC);
            return Err(if ours {
                CodecError::WrongDictionary
            } else {
                CodecError::Header
            });
        }
        if prefix.len() < self.prefix.len() {
            return Ok(false);
        }
        let Some(head) = Head::read(frame)? else {
            return Ok(false);
        };
        if head.trained {
            return Err(CodecError::Header);
        }
        if head.window > self.window {
            return Err(CodecError::Window);
        }
        if self.must_check && !head.checked {
            return Err(CodecError::Unchecked);
        }
        if head.content.is_some_and(|content| content > self.left) {
            return Err(CodecError::TooLarge);
        }
        let mut input = BytesMut::with_capacity(frame.len().saturating_add(self.input.len()));
        input.extend_from_slice(frame);
        input.extend_from_slice(&self.input);
        self.input = input.freeze();
        self.head = Vec::new();
        self.state = State::Frame;
        Ok(true)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
