//! One packet that is another one each time: a program that writes the next of many pieces over a
//! place in its packet and hands it to the program under test, so that `BPF_PROG_TEST_RUN` can
//! repeat what must not be repeated. What that costs by itself is measured with a bare program
//! behind it.
#![expect(unsafe_code, reason = "values of maps are bytes to the kernel")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::bytecode::{
    ADD, ALU_ADD, ALU_AND, ALU_MOVE, ALU_SHIFT, CALL, EXIT, JUMP_ABOVE, LOAD_32, LOAD_64, MAP, MAP_VALUE, MOVE,
    STORE_64, TAIL_CALL, WIDE, one,
};
use crate::test_run::{ARRAY, MAP_UPDATE, PROG_ARRAY, Program, Run, array, element};

/// Bytes of a piece.
pub const PIECE: usize = 32;
/// Pieces, a power of two; they fit a processor's cache.
pub const PIECES: usize = 1024;

/// Made for one place in the packet and one program behind it. The pieces come round in turn, over
/// all runs.
#[derive(Debug)]
pub struct Rewriting {
    program: Program,
    state: OwnedFd,
    _next: OwnedFd,
}

/// The map's value.
#[repr(C)]
struct State {
    turn: u64,
    padding: [u64; 3],
    pieces: [[u8; PIECE]; PIECES],
}

const _: () = assert!(size_of::<State>() == PIECE + PIECE * PIECES);

impl Rewriting {
    /// For the bytes of the packet from `at` on, in front of `behind`.
    ///
    /// # Errors
    /// Without CAP_BPF.
    pub fn new(at: usize, behind: &Program) -> io::Result<Self> {
        let state = array(ARRAY, size_of::<State>())?;
        let next = array(PROG_ARRAY, size_of::<u32>())?;
        element(&next, MAP_UPDATE, &mut behind.descriptor()?)?;
        let at = i16::try_from(at).map_err(io::Error::other)?;
        let code = code(state.as_raw_fd(), next.as_raw_fd(), at);
        // As whatever is behind it, which the kernel insists on.
        let program =
            Program::load(&code, "edge_rewriting").or_else(|_| Program::load_fragments(&code, "edge_rewriting"))?;
        Ok(Self {
            program,
            state,
            _next: next,
        })
    }

    /// From now on these, from the first one.
    ///
    /// # Errors
    /// None but the kernel's own.
    pub fn set(&self, pieces: &[[u8; PIECE]; PIECES]) -> io::Result<()> {
        // SAFETY: integers and arrays of them, for which all-zero bytes are a valid value.
        let mut state = unsafe { Box::<State>::new_zeroed().assume_init() };
        state.pieces = *pieces;
        element(&self.state, MAP_UPDATE, &mut *state)
    }

    /// As [`Program::run`].
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run(&self, packet: &[u8], repeat: u32) -> io::Result<Run> {
        self.program.run(packet, repeat)
    }
}

fn code(state: i32, next: i32, at: i16) -> Vec<u64> {
    let size = PIECE as i32;
    let mut code = vec![
        one(MOVE, 6, 1, 0, 0),
        // r7 = the piece whose turn it is.
        one(WIDE, 7, MAP_VALUE, 0, state),
        0,
        one(LOAD_64, 1, 7, 0, 0),
        one(MOVE, 2, 1, 0, 0),
        one(ALU_ADD, 2, 0, 0, 1),
        one(STORE_64, 7, 2, 0, 0),
        one(ALU_AND, 1, 0, 0, (PIECES - 1) as i32),
        one(ALU_SHIFT, 1, 0, 0, PIECE.trailing_zeros() as i32),
        one(ALU_ADD, 1, 0, 0, size),
        one(ADD, 7, 1, 0, 0),
        // r2 = the packet, if it is long enough.
        one(LOAD_32, 2, 6, 0, 0),
        one(LOAD_32, 3, 6, 4, 0),
        one(MOVE, 4, 2, 0, 0),
        one(ALU_ADD, 4, 0, 0, i32::from(at) + size),
        one(JUMP_ABOVE, 4, 3, 13, 0), // to the end
    ];
    for offset in (0..PIECE as i16).step_by(8) {
        code.extend([one(LOAD_64, 5, 7, offset, 0), one(STORE_64, 2, 5, at + offset, 0)]);
    }
    code.extend([
        one(MOVE, 1, 6, 0, 0),
        one(WIDE, 2, MAP, 0, next),
        0,
        one(ALU_MOVE, 3, 0, 0, 0),
        one(CALL, 0, 0, 0, TAIL_CALL),
        // Nobody behind it, or a short packet: XDP_ABORTED.
        one(ALU_MOVE, 0, 0, 0, 0),
        one(EXIT, 0, 0, 0, 0),
    ]);
    code
}
