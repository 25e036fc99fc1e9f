//! Why a packet got its verdict. A reason is the index of a packet counter; the program adds to it
//! for every packet that it sees, and the daemon gives it a name in metrics and in the log.

/// Nothing for us: another protocol, another port, or a header that ends before the port (the
/// host's stack judges it).
pub const PASS_NOT_OURS: u32 = 0;
/// Belongs to a connection that exists or ends: any TCP segment but a bare SYN, any QUIC packet but
/// an Initial.
pub const PASS_ESTABLISHED: u32 = 1;
/// Starts a connection, and is on no list.
pub const PASS_ATTEMPT: u32 = 2;
/// Starts a connection, and the operator's allow list covers its source.
pub const PASS_ALLOWED: u32 = 3;
/// A later fragment. It carries no port, so it cannot be told whom it is for; it is harmless,
/// because the first fragment of the same packet was dropped if it started a connection to us, and
/// nothing is reassembled without it.
pub const PASS_FRAGMENT: u32 = 4;
/// Starts a connection from a deferred address, within its budget.
pub const PASS_BUDGETED: u32 = 5;
/// A QUIC Initial with a valid, mature token of a client without a penalty.
pub const PASS_TOKEN: u32 = 6;

/// The first reason that drops: every reason below passes.
pub const FIRST_DROP: u32 = 32;

/// Starts a connection, and the deny list covers its source and the allow list does not.
pub const DROP_DENIED: u32 = 32;
/// The first fragment of a packet for an edge port that starts a TCP connection or hides whether it
/// does, or is QUIC, whose packets are never fragmented (RFC 9000 section 14).
pub const DROP_FRAGMENT: u32 = 33;
/// For an edge port, and no client sends such a packet: a header cut short, a TCP data offset below
/// 5, SYN with FIN or RST, a UDP length that contradicts itself, or a length that goes beyond the
/// IP packet or the frame.
pub const DROP_MALFORMED: u32 = 34;
/// An IPv6 header chain that hides the port: longer than the program follows, or a first fragment
/// that ends before it (RFC 7112 section 5 lets any node on the way discard the latter).
pub const DROP_HEADERS: u32 = 35;
/// Starts a connection from a blocked address.
pub const DROP_PENALTY_BLOCKED: u32 = 36;
/// Starts a connection from a deferred address, beyond its budget.
pub const DROP_PENALTY_DEFERRED: u32 = 37;
/// A QUIC Initial with a valid, mature token of a client with a penalty.
pub const DROP_CLIENT_PENALTY: u32 = 38;
/// A QUIC Initial with a valid token before its time.
pub const DROP_TOKEN_EARLY: u32 = 39;
/// A QUIC Initial with a Retry token of ours that is forged, altered, late, or another address's.
pub const DROP_TOKEN_BAD: u32 = 40;
/// A QUIC Initial with a genuine token that has come too often: see [`replay`](crate::replay).
pub const DROP_TOKEN_REPLAYED: u32 = 41;

/// A QUIC Initial in a datagram of less than 1,200 bytes, which no client sends (RFC 9000 section
/// 14.1).
pub const DROP_INITIAL_SHORT: u32 = 42;
/// Starts a QUIC connection of a version that is not spoken, in lockdown.
pub const DROP_VERSION: u32 = 43;
/// Starts a connection, from an address that no packet on a wire comes from: unspecified, loopback,
/// multicast or broadcast (RFC 1122 section 3.2.1.3), IPv4-mapped.
pub const DROP_MARTIAN: u32 = 44;
/// Belongs to no QUIC connection that we can have, by its id, in lockdown.
pub const DROP_ID_FOREIGN: u32 = 45;
/// A QUIC Initial with a connection id of ours that has come too often, in lockdown: see
/// [`replay`](crate::replay).
pub const DROP_ID_REPLAYED: u32 = 46;
/// A TCP SYN in lockdown for which the kernel has no cookie: the listener's queue of accepted
/// connections is full.
pub const DROP_COOKIE: u32 = 47;
/// A TCP segment that belongs to no connection and carries no cookie of ours, under a flood of
/// such.
pub const DROP_ACK: u32 = 48;

/// The first reason that is answered: every reason from here on goes back to where it came from.
pub const FIRST_ANSWER: u32 = 56;
/// A QUIC Initial without a token, in lockdown: answered with a Retry.
pub const ANSWER_RETRY: u32 = 56;
/// A TCP SYN, in lockdown: answered with a SYN cookie (RFC 4987 section 3.6).
pub const ANSWER_COOKIE: u32 = 57;

/// No reason, but a counter of its own: TCP SYNs that were let through as attempts, which `attempt`
/// and others count together with QUIC's.
pub const COUNT_SYN: u32 = 63;

/// Entries of the counters' map. Larger than the reasons there are, so that a new one fits the
/// pinned map of a daemon that ran before it.
pub const COUNTERS_CAPACITY: u32 = 64;

/// What the network stack does with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hands it on.
    Pass,
    /// Forgets it.
    Drop,
    /// Nothing: the program has made an answer of it, which leaves by the interface it came from.
    Answer,
}

impl Verdict {
    /// The value of the metrics' label `verdict`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Answer => "answer",
        }
    }
}

/// The verdict that belongs to a reason.
#[inline(always)]
pub const fn verdict(reason: u32) -> Verdict {
    if reason < FIRST_DROP {
        Verdict::Pass
    } else if reason < FIRST_ANSWER {
        Verdict::Drop
    } else {
        Verdict::Answer
    }
}

/// Every reason with the value of the metrics' label `reason`.
pub const REASONS: [(u32, &str); 26] = [
    (PASS_NOT_OURS, "not_ours"),
    (PASS_ESTABLISHED, "established"),
    (PASS_ATTEMPT, "attempt"),
    (PASS_ALLOWED, "allowed"),
    (PASS_FRAGMENT, "fragment"),
    (PASS_BUDGETED, "budgeted"),
    (PASS_TOKEN, "token"),
    (DROP_DENIED, "denied"),
    (DROP_FRAGMENT, "fragment"),
    (DROP_MALFORMED, "malformed"),
    (DROP_HEADERS, "headers"),
    (DROP_PENALTY_BLOCKED, "penalty_blocked"),
    (DROP_PENALTY_DEFERRED, "penalty_deferred"),
    (DROP_CLIENT_PENALTY, "client_penalty"),
    (DROP_TOKEN_EARLY, "token_early"),
    (DROP_TOKEN_BAD, "token_bad"),
    (DROP_TOKEN_REPLAYED, "token_replayed"),
    (DROP_INITIAL_SHORT, "initial_short"),
    (DROP_VERSION, "version"),
    (DROP_MARTIAN, "martian"),
    (DROP_ID_FOREIGN, "id_foreign"),
    (DROP_ID_REPLAYED, "id_replayed"),
    (DROP_COOKIE, "cookie"),
    (DROP_ACK, "ack"),
    (ANSWER_RETRY, "retry"),
    (ANSWER_COOKIE, "syn_cookie"),
];

const _: () = {
    let mut index = 0;
    while index < REASONS.len() {
        assert!(REASONS[index].0 < COUNTERS_CAPACITY);
        assert!(index == 0 || REASONS[index - 1].0 < REASONS[index].0);
        index += 1;
    }
};
