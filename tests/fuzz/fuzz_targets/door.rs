//! Requests at the door, in the versions of HTTP: a head comes out in normal form, and the same
//! one, or none does.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use edge::base::peer::Peer;
use edge::config::Config;
use edge::http::door::{self, Recent};
use edge::http::fields::HOP_BY_HOP;
use edge::zones::Zones;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use libfuzzer_sys::fuzz_target;

/// A zone for every host, with a route by path.
static ZONES: LazyLock<Arc<Zones>> = LazyLock::new(|| {
    let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"z.example\"]\ndefault = true\n\
                [zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n\
                [[zone.route]]\npath = \"/guarded/\"\nto = \"origin\"\n";
    Arc::new(Zones::new(&Config::parse(Path::new("t.toml"), text).unwrap().zones))
});

/// `METHOD\nTARGET\nHOST\n`, and `name:value` lines.
fn read(data: &[u8]) -> Option<(Method, Uri, HeaderValue, HeaderMap)> {
    let mut lines = data.split(|b| *b == b'\n');
    let method = Method::from_bytes(lines.next()?).ok()?;
    let target = Uri::from_maybe_shared(lines.next()?.to_vec()).ok()?;
    let host = HeaderValue::from_bytes(lines.next()?).ok()?;
    let mut fields = HeaderMap::new();
    for line in lines {
        let at = line.iter().position(|b| *b == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        fields.append(name, HeaderValue::from_bytes(&line[at + 1..]).ok()?);
    }
    fields.insert(http::header::HOST, host);
    Some((method, target, HeaderValue::from_static(""), fields))
}

fuzz_target!(|data: &[u8]| {
    let Some((method, target, _, fields)) = read(data) else {
        return;
    };
    let peer = Peer {
        client: ([192, 0, 2, 1], 1).into(),
        local: ([192, 0, 2, 2], 80).into(),
        accepted: Instant::now(),
        handshake: None,
        early: None,
        via: None,
    };
    let enter = |version| {
        let mut request = Request::builder()
            .method(&method)
            .uri(target.clone())
            .version(version)
            .body(())
            .unwrap();
        *request.headers_mut() = fields.clone();
        let parts = request.into_parts().0;
        door::client(parts, 1_000, &peer, &ZONES, &mut Recent::default())
    };
    let [two, three] = [Version::HTTP_2, Version::HTTP_3].map(enter);
    match (&two, &three) {
        (Ok((two, _)), Ok((three, _))) => assert!(two.uri == three.uri && two.headers == three.headers),
        (Err(two), Err(three)) => assert_eq!(two.reason, three.reason),
        _ => panic!("HTTP/2 and HTTP/3 differ"),
    }
    for (head, host) in [Ok(two), enter(Version::HTTP_11)].into_iter().flatten().flatten() {
        assert!(HOP_BY_HOP.iter().all(|name| !head.headers.contains_key(name)));
        assert!(head.headers.keys().all(|name| !host.zone.requests.drops(name.as_str())));
        assert!(head.headers.get_all("cookie").iter().count() <= 1);
        assert!(head.uri.authority().is_none() && head.uri.scheme().is_none());
        assert!(!head.path().is_ambiguous());
        assert!(!host.authority.contains(['@', '/', ' ']) && !host.authority.ends_with('.'));
        let told = head.headers.get("host").map(|host| host.as_bytes());
        assert!(told.is_none_or(|told| told == host.authority.as_bytes()));
    }
});
