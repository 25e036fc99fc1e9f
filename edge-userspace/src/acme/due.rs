//! When a certificate is to be renewed: when there is none that fits, in the window that the
//! authority names (RFC 9773), or after a share of its life.

use std::time::Duration;

use super::files::Held;

/// Between two looks at a certificate that is not due, and between two questions for the
/// authority's window.
pub(super) const LOOK: Duration = Duration::from_secs(6 * 3_600);

/// When the authority would have a certificate renewed, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// From.
    pub(super) start: i64,
    /// Until.
    pub(super) end: i64,
}

/// Whether a certificate is to be ordered at `now`, in seconds since 1970.
pub(super) fn is_due(held: Option<&Held>, window: Option<&Window>, percent: u8, now: u64) -> bool {
    let Some(held) = held.filter(|held| held.covers) else {
        return true;
    };
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let at = match window {
        // Nodes spread over the window, each always at the same moment (RFC 9773 section 4.2).
        Some(window) => {
            let width = window.end.saturating_sub(window.start).max(1);
            window.start.saturating_add(i64::from(held.share) * (width / 256))
        }
        None => {
            let life = held.until.saturating_sub(held.from);
            held.from.saturating_add(life / 100 * i64::from(percent))
        }
    };
    now >= at || now >= held.until
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Held = Held {
        from: 1_000_000,
        until: 1_000_000 + 90 * 86_400,
        covers: true,
        share: 128,
        leaf: Vec::new(),
    };

    /// Too late, and visitors see an expired certificate; too early, and the authority's limits are
    /// used up.
    #[test]
    fn it_is_renewed_in_time_and_not_before() {
        let due = |day: u64, window| is_due(Some(&HELD), window, 67, 1_000_000 + day * 86_400);
        assert!(!due(0, None) && !due(60, None));
        assert!(due(61, None) && due(89, None) && due(200, None));
        let day = |n: i64| 1_000_000 + n * 86_400;
        let window = Window {
            start: day(10),
            end: day(20),
        };
        assert!(
            !due(14, Some(&window)) && due(15, Some(&window)),
            "in the middle of the window"
        );
        let late = Window {
            start: day(100),
            end: day(120),
        };
        assert!(due(91, Some(&late)), "never after its end, whatever the authority says");
    }

    #[test]
    fn what_is_not_there_or_does_not_fit_is_due_at_once() {
        assert!(is_due(None, None, 67, 0));
        let other = Held { covers: false, ..HELD };
        assert!(is_due(Some(&other), None, 67, 1_000_001));
    }
}
