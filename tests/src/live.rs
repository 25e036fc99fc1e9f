//! Frames that a driver could have received: sent as XDP frames by a program that
//! `BPF_PROG_TEST_RUN` runs on live pages and that redirects them out of an interface. What is sent
//! through a socket reaches the peer of a veth pair as an skb, which the kernel must copy before
//! XDP sees it; these reach XDP as they are, as a network card's do.
#![expect(unsafe_code, reason = "values of maps are bytes to the kernel")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::bytecode::{
    ADD, ALU_ADD, ALU_AND, ALU_MOVE, ALU_SHIFT, CALL, EXIT, JUMP, JUMP_ABOVE, JUMP_AT_LEAST, JUMP_BELOW, JUMP_NOT_ZERO,
    KTIME_GET_NS, LOAD_16, LOAD_32, LOAD_64, MAP_VALUE, MOVE, REDIRECT, STORE_16, STORE_64, WIDE, one,
};
use crate::test_run::{ARRAY, MAP_LOOKUP, MAP_UPDATE, Program, array, element};

/// Bytes of a frame, the Ethernet header included; a multiple of two.
pub const FRAME: usize = 58;
/// Frames that go out together, as a network card hands over what it gathered between two
/// interrupts. A veth's ring takes 256.
const BURST: u64 = 192;
/// Runs of the program between two looks for what it sent; the most that the kernel takes.
const BATCH: u32 = 256;
/// Runs in one call: a fraction of a second, whether they send or wait.
const RUNS: u32 = 1 << 16;
/// Looks at the clock in one run, some four microseconds: a run that ends without sending gives its
/// page back, for the lock of which it would compete with who receives.
const LOOKS: i32 = 100;
/// Frames kept, a power of two, and the bytes of each.
const KEPT: usize = 1 << 14;
const SLOT: usize = 64;

/// The map's value: counters that the program keeps, and behind them the frames.
#[repr(C)]
struct State {
    /// `CLOCK_MONOTONIC`, nanoseconds: when the next burst is due.
    due: u64,
    /// Of this burst, yet to be sent.
    left: u64,
    sent: u64,
    /// Nanoseconds from one burst to the next.
    period: u64,
    burst: u64,
    padding: [u64; 3],
    frames: [[u8; SLOT]; KEPT],
}

const _: () = assert!(size_of::<State>() == SLOT + KEPT * SLOT && FRAME <= SLOT && FRAME.is_multiple_of(2));

/// Frames, and the program that sends them.
pub struct Sender {
    map: OwnedFd,
    program: Program,
}

impl Sender {
    /// To send `frames` in turn out of the interface of this index, in this thread's network
    /// namespace, at so many a second.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN, or without a frame.
    pub fn new(interface: u32, frames: &[[u8; FRAME]], rate: f64) -> io::Result<Self> {
        let map = array(ARRAY, size_of::<State>())?;
        let mut state = state();
        state.burst = BURST;
        state.period = (BURST as f64 / rate * 1e9) as u64;
        for (n, slot) in state.frames.iter_mut().enumerate() {
            let frame = frames.get(n % frames.len().max(1)).ok_or(io::ErrorKind::InvalidInput)?;
            slot[..FRAME].copy_from_slice(frame);
        }
        element(&map, MAP_UPDATE, &mut *state)?;
        let program = Program::load(&code(map.as_raw_fd(), interface), "edge_live")?;
        Ok(Self { map, program })
    }

    /// Sends until `time` is over or `stop` says so, and says how many. What a full ring or a busy
    /// processor kept from going out in time is not made up for.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn send(&self, time: Duration, stop: impl Fn() -> bool) -> io::Result<u64> {
        let start = Instant::now();
        while start.elapsed() < time && !stop() {
            self.program.run_live(&[0; FRAME], RUNS, BATCH)?;
        }
        let mut state = state();
        element(&self.map, MAP_LOOKUP, &mut *state)?;
        Ok(state.sent)
    }
}

fn state() -> Box<State> {
    // SAFETY: integers and arrays of them, for which all-zero bytes are a valid value.
    unsafe { Box::<State>::new_zeroed().assume_init() }
}

/// The program: a run waits for the burst that is due, or gives up after some looks at the clock;
/// if there is one, it writes the next frame over its packet and redirects it.
fn code(map: i32, interface: u32) -> Vec<u64> {
    // Registers: 0 result, 1 to 5 scratch, 6 context, 7 state, 8 looks.
    let mut code = vec![
        one(MOVE, 6, 1, 0, 0),
        // r7 = &state.
        one(WIDE, 7, MAP_VALUE, 0, map),
        0,
        one(LOAD_64, 1, 7, 8, 0),
        one(JUMP_NOT_ZERO, 1, 0, 13, 0), // to `take`
        one(ALU_MOVE, 8, 0, 0, 0),
        // `look`
        one(CALL, 0, 0, 0, KTIME_GET_NS),
        one(LOAD_64, 2, 7, 0, 0),
        one(JUMP_AT_LEAST, 0, 2, 3, 0), // to `due`
        one(ALU_ADD, 8, 0, 0, 1),
        one(JUMP_BELOW, 8, 0, -5, LOOKS), // to `look`
        one(JUMP, 0, 0, 0, 0),            // to `drop`
        // `due`: the next one a period later, or from now.
        one(LOAD_64, 3, 7, 24, 0),
        one(ADD, 2, 3, 0, 0),
        one(JUMP_AT_LEAST, 2, 0, 1, 0),
        one(MOVE, 2, 0, 0, 0),
        one(STORE_64, 7, 2, 0, 0),
        one(LOAD_64, 1, 7, 32, 0),
        // `take`
        one(ALU_ADD, 1, 0, 0, -1),
        one(STORE_64, 7, 1, 8, 0),
        one(LOAD_64, 1, 7, 16, 0),
        one(MOVE, 2, 1, 0, 0),
        one(ALU_ADD, 2, 0, 0, 1),
        one(STORE_64, 7, 2, 16, 0),
        // r7 = the frame of that number; r2 = the packet, if it is long enough.
        one(ALU_AND, 1, 0, 0, (KEPT - 1) as i32),
        one(ALU_SHIFT, 1, 0, 0, SLOT.trailing_zeros() as i32),
        one(ALU_ADD, 1, 0, 0, SLOT as i32),
        one(ADD, 7, 1, 0, 0),
        one(LOAD_32, 2, 6, 0, 0),
        one(LOAD_32, 3, 6, 4, 0),
        one(MOVE, 4, 2, 0, 0),
        one(ALU_ADD, 4, 0, 0, FRAME as i32),
        one(JUMP_ABOVE, 4, 3, 0, 0), // to `drop`
    ];
    for at in (0..FRAME / 8 * 8).step_by(8) {
        code.extend([one(LOAD_64, 5, 7, at as i16, 0), one(STORE_64, 2, 5, at as i16, 0)]);
    }
    for at in (FRAME / 8 * 8..FRAME).step_by(2) {
        code.extend([one(LOAD_16, 5, 7, at as i16, 0), one(STORE_16, 2, 5, at as i16, 0)]);
    }
    code.extend([
        one(ALU_MOVE, 1, 0, 0, interface.cast_signed()),
        one(ALU_MOVE, 2, 0, 0, 0),
        one(CALL, 0, 0, 0, REDIRECT),
        one(EXIT, 0, 0, 0, 0),
    ]);
    // The two jumps to `drop` learn where that is.
    let drop = code.len();
    for from in [11, 32] {
        let distance = ((drop - from - 1) as u64 & 0xffff) << 16;
        if let Some(jump) = code.get_mut(from) {
            *jump = *jump & !0xffff_0000 | distance;
        }
    }
    code.extend([one(ALU_MOVE, 0, 0, 0, 1), one(EXIT, 0, 0, 0, 0)]);
    code
}
