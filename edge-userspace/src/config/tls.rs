//! `[tls]` and `[quic]`: handshakes with clients.

use std::path::PathBuf;
use std::time::Duration;

use super::Place;
use super::checker::Checker;
use super::kind::{Count, Flag, Span, Word, words};
use super::section::section;
use super::value::{Time, seconds};

words! {
    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        V1_2 = "1.2",
        /// RFC 8446.
        V1_3 = "1.3",
    }
}

section! {
    /// TLS towards clients.
    TlsText => Tls {
        /// The oldest version that is spoken: "1.2" or "1.3". A zone may set its own.
        live min_version: Word<TlsVersion> = TlsVersion::V1_2;
        /// A session ticket is good for this time, at most a `[gate]` key_epoch. The keys that seal
        /// tickets are random, of this node or its fleet alone, never written to a file, replaced
        /// twice in that time, and wiped when the last ticket under them has ended.
        live ticket_rotation: Span = seconds(6 * 3_600), seconds(60) => seconds(6 * 3_600);
        /// Whether a ticket resumes its session from another address than the one it was given to.
        /// The client's id does not come along.
        live ticket_roaming: Flag = false;
        /// From the accept to the end of the handshake.
        live handshake_timeout: Span = seconds(10);
        /// Zones with `key_servers`: the time that all answers for one handshake may take; then the
        /// client gets an alert.
        live key_server_timeout: Span = seconds(3), Time(Duration::from_millis(100)) => seconds(60);
        /// Handshakes that may wait for key servers at once: about 50 KiB each. Beyond half of them
        /// no zone gets more than its equal part.
        // A stack each, with two of the 65,530 mappings that a process has by default.
        live handshakes_waiting: Count<usize> = 16_384, 1 => 1 << 20;
        /// The same for one client (IPv4 address or IPv6 /64).
        live handshakes_waiting_per_address: Count<usize> = 512, 1 => 1 << 20;
    }
    checked {
        /// At a far end: the authority of the certificates that near ends must show; HTTP/2 alone
        /// is spoken then.
        near_ends: Option<(PathBuf, Place)>,
    }
}

words! {
    /// Whether attempts that prove nothing get a Retry.
    #[derive(serde::Serialize)]
    #[serde(rename_all = "lowercase")]
    LockdownMode {
        /// By their rate.
        Auto = "auto",
        /// Always.
        On = "on",
        /// Never.
        Off = "off",
    }
}

section! {
    /// When attempts that prove nothing get a Retry: see `quic::lockdown`.
    QuicText => Quic {
        /// Lockdown: QUIC attempts that prove nothing are answered with a Retry, by XDP if it runs,
        /// and TCP SYNs by XDP with a SYN cookie. auto: by the rate of such attempts of both; on;
        /// off. `edge lockdown` changes it on a running node. See docs/xdp.md.
        live lockdown: Word<LockdownMode> = LockdownMode::Auto;
        /// It starts above this many per second.
        live lockdown_above: Count<u32> = 2_000, 1 => 10_000_000;
        /// It ends after the rate stayed under this many per second for `lockdown_hold`.
        live lockdown_below: Count<u32> = 500, 1 => 10_000_000;
        /// How long that must have been so.
        live lockdown_hold: Span = seconds(30);
    }
}

/// `[quic]`.
pub(super) fn quic(raw: &QuicText, checker: &mut Checker<'_>) -> Quic {
    let quic = raw.check(checker);
    let (above, below) = (quic.lockdown_above, quic.lockdown_below);
    if below > above {
        checker.mistake(
            raw.lockdown_below.span(),
            format!("lockdown_below = {below} is more than lockdown_above = {above}: it would begin and end at once"),
            "write less than lockdown_above, such as a quarter",
        );
    }
    quic
}
