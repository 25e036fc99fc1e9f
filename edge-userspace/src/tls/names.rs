//! Server names as zones' certificates are found by.

/// A server name as the maps have it: lower case, no trailing dot.
pub fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
