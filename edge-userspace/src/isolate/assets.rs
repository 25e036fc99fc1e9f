//! Files of a zone's worker (`assets`): served before the worker is asked, and to a script that
//! asks for them. `handler` and `grant` come here; the room `origin` reads them as it reads all
//! files, with their types, validators and ranges.

use std::sync::Arc;

use http::Method;

use crate::http::body::Body;
use crate::http::door::Head;
use crate::http::handler::{Failure, Handler, Reason};
use crate::http::message::{Exchange, Request, Response};
use crate::zones::Zone;
use crate::zones::path::Path;

/// The answer to a client's request from the worker's files; `None`: it is the worker's, because
/// there is no such file, or the worker is asked first, or the request is not one for a file.
///
/// # Errors
/// The file is there and cannot be read.
pub(super) async fn before(
    origin: &dyn Handler,
    head: &Head,
    exchange: &Exchange,
) -> Result<Option<Response>, Failure> {
    let zone = &exchange.zone;
    let (Some(files), Some(worker)) = (&zone.assets, &zone.worker) else {
        return Ok(None);
    };
    let path = head.path();
    let first = worker.worker_first.iter().any(|pattern| path.matches(pattern));
    if first || !matches!(head.method, Method::GET | Method::HEAD) || head.meant().upgrade.is_some() {
        return Ok(None);
    }
    file(origin, files.clone(), head.clone(), exchange).await
}

/// The file that `head` asks for among `files`; `None`: there is none under this path, or the path
/// is not in its normal form: a guard that compares paths would not know it for the file's.
///
/// # Errors
/// It cannot be read.
pub(super) async fn file(
    origin: &dyn Handler,
    files: Arc<Zone>,
    head: Head,
    exchange: &Exchange,
) -> Result<Option<Response>, Failure> {
    if !is_normal(head.uri.path()) {
        return Ok(None);
    }
    let request = Request {
        head,
        body: Body::Empty,
        exchange: Exchange {
            zone: files,
            ..exchange.clone()
        },
    };
    match origin.handle(request).await {
        Ok(response) => Ok(Some(response)),
        Err(failure) if failure.reason == Reason::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether a path is written as all servers read it; the case of hexadecimal digits does not
/// matter.
fn is_normal(written: &str) -> bool {
    Path::of(written)
        .plain()
        .is_some_and(|plain| plain.eq_ignore_ascii_case(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that a worker guards under one name would be had under another.
    #[test]
    fn a_file_has_one_name() {
        for path in [
            "/",
            "/a.css",
            "/a/b/",
            "/caf%c3%a9.html",
            "/caf%C3%A9.html",
            "/a%20b",
            "/.well-known/x",
        ] {
            assert!(is_normal(path), "{path}");
        }
        for path in [
            "/%61.css",
            "//a.css",
            "/x/../a.css",
            "/./a.css",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a;x",
            "/x/%2e%2e/a.css",
        ] {
            assert!(!is_normal(path), "{path}");
        }
    }
}
