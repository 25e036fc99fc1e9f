//! A response's head on its way to the client. Pure. The origin is not trusted: what could be read
//! in two ways is refused.

use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Version, response};

use super::forward::via;
use crate::http::fields;

/// Makes an origin's head ours: nothing hop-by-hop, framing that can be read in one way only,
/// `Via`. `method` is the request's.
///
/// # Errors
/// Why the head cannot be forwarded.
pub(super) fn clean(head: &mut response::Parts, method: &Method) -> Result<(), &'static str> {
    if !(200..600).contains(&head.status.as_u16()) {
        // RFC 9110 section 15: other codes are invalid; 101 is `upgrade`'s.
        return Err("a status out of bounds");
    }
    let bodiless = *method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        // hyper undoes chunked and nothing else; a coding below it would reach the client
        // undeclared.
        if !bodiless && (!coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") || codings.next().is_some()) {
            return Err("a transfer coding other than chunked");
        }
        // Transfer-Encoding overrides Content-Length, which must not be forwarded then (RFC 9112
        // section 6.3).
        head.headers.remove(header::CONTENT_LENGTH);
    }
    content_length(head)?;
    fields::strip_hop_by_hop(&mut head.headers);
    head.headers.append(header::VIA, via(head.version));
    // How the server to the client frames it is that server's affair.
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(())
}

/// One decimal number, or none. Repeated alike is allowed and made one (RFC 9110 section 8.6).
fn content_length(head: &mut response::Parts) -> Result<(), &'static str> {
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(header::CONTENT_LENGTH);
        return Ok(());
    }
    let mut values = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    if values.next().is_none()
        && first.as_bytes().iter().all(u8::is_ascii_digit)
        && fields::number(first.as_bytes()).is_some()
    {
        return Ok(());
    }
    let mut length = None;
    for value in head.headers.get_all(header::CONTENT_LENGTH) {
        for part in value.as_bytes().split(|b| *b == b',') {
            let n = fields::number(part.trim_ascii()).ok_or("a content length that is no number")?;
            if length.is_some_and(|known| known != n) {
                return Err("two different content lengths");
            }
            length = Some(n);
        }
    }
    if let Some(n) = length {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(n));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    /// A client and a cache behind us would see where the message ends differently.
    #[test]
    fn ambiguous_framing_is_refused() {
        for fields in [
            &[("content-length", "1"), ("content-length", "2")][..],
            &[("content-length", "1, 2")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999999")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert!(clean(&mut head(200, fields), &Method::GET).is_err(), "{fields:?}");
        }
        for status in [199, 101, 600, 999] {
            assert!(clean(&mut head(status, &[]), &Method::GET).is_err(), "{status}");
        }
        let mut both = head(200, &[("content-length", "5"), ("transfer-encoding", "chunked")]);
        clean(&mut both, &Method::GET).unwrap();
        assert!(!both.headers.contains_key("content-length") && !both.headers.contains_key("transfer-encoding"));
        let mut twice = head(200, &[("content-length", "5"), ("content-length", "5")]);
        clean(&mut twice, &Method::GET).unwrap();
        assert_eq!(
            twice.headers.get_all("content-length").iter().collect::<Vec<_>>(),
            ["5"]
        );
    }

    /// `Connection: close` of the origin would end the client's connection.
    #[test]
    fn hop_by_hop_stays_here() {
        let mut reply = head(
            200,
            &[
                ("connection", "close, x-secret"),
                ("x-secret", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authenticate", "Basic"),
                ("via", "1.1 other"),
                ("trailer", "x-sum"),
            ],
        );
        clean(&mut reply, &Method::GET).unwrap();
        let names: Vec<_> = reply.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["via", "trailer"]);
        assert_eq!(
            reply.headers.get_all("via").iter().collect::<Vec<_>>(),
            ["1.1 other", "1.1 edge"]
        );
    }

    /// HEAD tells the length that GET would have; 204 has none.
    #[test]
    fn bodiless_lengths() {
        let mut reply = head(200, &[("content-length", "500")]);
        clean(&mut reply, &Method::HEAD).unwrap();
        assert_eq!(reply.headers["content-length"], "500");
        let mut reply = head(204, &[("content-length", "0")]);
        clean(&mut reply, &Method::GET).unwrap();
        assert!(!reply.headers.contains_key("content-length"));
    }
}
