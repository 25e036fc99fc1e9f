//! Which capabilities (capabilities(7)) this process lacks for XDP, in words for the operator.

use std::fs;

/// Name and number of each one that loading and attaching take. CAP_SYS_ADMIN stands in for the
/// first two.
const NEEDED: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_NET_ADMIN", 12)];
const CAP_SYS_ADMIN: u32 = 21;

/// What is missing.
pub(super) fn missing() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    match effective(&status) {
        Some(held) => told(held),
        None => "the daemon needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN".to_owned(),
    }
}

/// The effective set, out of proc_pid_status(5).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn told(held: u64) -> String {
    let has = |number: u32| held >> number & 1 != 0;
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(name, number)| !has(*number) && (*name == "CAP_NET_ADMIN" || !has(CAP_SYS_ADMIN)))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return "the daemon has CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, so a security module or the container forbids it \
                (CAP_SYS_ADMIN mounts a BPF file system)"
            .to_owned();
    }
    format!("the daemon lacks {}", missing.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator who is told to give what is there already looks in the wrong place.
    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let held = |numbers: &[u32]| numbers.iter().fold(0, |set, number| set | 1_u64 << number);
        assert_eq!(told(0), "the daemon lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN");
        assert_eq!(told(held(&[39, 38])), "the daemon lacks CAP_NET_ADMIN");
        assert_eq!(told(held(&[21])), "the daemon lacks CAP_NET_ADMIN");
        assert!(told(held(&[39, 38, 12])).contains("a security module"));
        assert_eq!(effective("Name:\tedge\nCapEff:\t0000000000201000\n"), Some(0x20_1000));
        assert_eq!(effective("CapEff:\tnone\n"), None);
    }
}
