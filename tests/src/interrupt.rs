//! Ctrl-C, SIGTERM and SIGHUP turned into a flag, so that `Drop` runs and nothing is left behind.
//!
//! A program calls [`install`] once; every wait in [`crate::process`] looks at [`requested`] and
//! ends with an error.
#![expect(unsafe_code, reason = "std offers no way to install a signal handler")]

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP only set the flag. The second one still only sets it:
/// clean-up is bounded by its own timeouts, and cutting it short is what leaves namespaces behind.
pub fn install() {
    extern "C" fn note(_: libc::c_int) {
        REQUESTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe, and it lives as
        // long as the program.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

/// Whether the user asked the program to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
