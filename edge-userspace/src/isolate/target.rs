//! The URL of a request to a worker. A path that the worker reads in one way and its origin in
//! another would walk around what the worker guards, so both are told one. Pure.

use http::Uri;
use http::uri::PathAndQuery;
use url::{Position, Url};

/// The URL of a request for `target` of `host`, in the form that the URL standard writes it
/// (section 4.5): dot segments resolved, what cannot stand in a URL percent-encoded. `None`: it has
/// none.
pub(super) fn url(scheme: &str, target: &Uri, host: &str) -> Option<Url> {
    let target = target.path_and_query().map_or("/", PathAndQuery::as_str);
    // `*` of OPTIONS.
    let target = if target.starts_with('/') { target } else { "/" };
    Url::parse(&format!("{scheme}://{host}{target}")).ok()
}

/// Path and query of `url`.
pub(super) fn of(url: &Url) -> Option<Uri> {
    url[Position::BeforePath..Position::AfterQuery].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker's guard of a folder would be walked around by writing the folder differently.
    #[test]
    fn one_url_for_guard_and_origin() {
        for (target, path) in [
            ("/admin/x?q=1", "/admin/x?q=1"),
            ("/x/../admin/secret", "/admin/secret"),
            ("/%2e%2e/admin/secret", "/admin/secret"),
            ("/x/%2E./admin/", "/admin/"),
            ("/./admin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("//admin/x", "//admin/x"),
            ("/a%2fb;c", "/a%2fb;c"),
            ("/?a='b'", "/?a=%27b%27"),
            ("*", "/"),
        ] {
            let read = url("https", &target.parse().unwrap(), "a.test:8443").unwrap();
            assert_eq!(read.as_str(), format!("https://a.test:8443{path}"));
            assert_eq!(Url::parse(read.as_str()).unwrap(), read);
            assert_eq!(of(&read).unwrap().to_string(), path);
        }
        assert!(url("https", &"/".parse().unwrap(), "1.2.3.4.5").is_none());
    }
}
