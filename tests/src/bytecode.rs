//! Instructions of BPF (RFC 9669), as many as the programs made here take.

/// `register = value`, and what else has a value on its right side.
pub(crate) const ALU_MOVE: u8 = 0xb7;
pub(crate) const ALU_ADD: u8 = 0x07;
pub(crate) const ALU_AND: u8 = 0x57;
pub(crate) const ALU_SHIFT: u8 = 0x67;
/// `register = register`, and what else has a register there.
pub(crate) const MOVE: u8 = 0xbf;
pub(crate) const ADD: u8 = 0x0f;
/// `register = *(register + offset)`, with zeros in front.
pub(crate) const LOAD_64: u8 = 0x79;
pub(crate) const LOAD_32: u8 = 0x61;
pub(crate) const LOAD_16: u8 = 0x69;
/// `*(register + offset) = register`.
pub(crate) const STORE_64: u8 = 0x7b;
pub(crate) const STORE_16: u8 = 0x6b;
/// Jumps by `offset` instructions from the next one.
pub(crate) const JUMP: u8 = 0x05;
pub(crate) const JUMP_NOT_ZERO: u8 = 0x55;
pub(crate) const JUMP_AT_LEAST: u8 = 0x3d;
pub(crate) const JUMP_ABOVE: u8 = 0x2d;
pub(crate) const JUMP_BELOW: u8 = 0xa5;
pub(crate) const CALL: u8 = 0x85;
pub(crate) const EXIT: u8 = 0x95;
/// A register's 64 bits, from two words; the second one follows. The source says what the value
/// means.
pub(crate) const WIDE: u8 = 0x18;
/// The map of this descriptor, and the first byte of its first value.
pub(crate) const MAP: u8 = 1;
pub(crate) const MAP_VALUE: u8 = 2;

/// Helpers by their numbers (linux/bpf.h).
pub(crate) const KTIME_GET_NS: i32 = 5;
pub(crate) const TAIL_CALL: i32 = 12;
pub(crate) const REDIRECT: i32 = 23;

/// One instruction.
pub(crate) const fn one(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (value.cast_unsigned() as u64) << 32
}
