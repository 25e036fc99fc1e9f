//! Responses as clients get them, of an origin in memory.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::request;

use super::*;
use crate::base::id::RequestId;
use crate::base::peer::Peer;
use crate::config::Config;
use crate::zones::Zones;

/// Answers `/app.N.js` with version N of a script, as the cache would from its store.
struct Origin {
    seen: Mutex<Vec<request::Parts>>,
    cc: &'static str,
}

fn script(version: u64) -> Bytes {
    let lines = (0..2_000).map(|n| format!("function f{n}() {{ return {} }}\n", n * n % 7_919));
    let text: String = lines.chain([format!("var version = {version};\n")]).collect();
    text.into()
}

impl Handler for Origin {
    fn handle(&self, request: Request) -> Answer<'_> {
        self.seen.lock().unwrap().push(request.head.clone().into_parts().0);
        let path = request.head.uri.path().to_owned();
        let version: u64 = path.split('.').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        let kind = if path.ends_with(".js") {
            "text/javascript"
        } else {
            "text/html"
        };
        let mut response = Response::new(StatusCode::OK, script(version));
        let fields = &mut response.head.headers;
        fields.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        fields.insert(header::CACHE_CONTROL, self.cc.parse().unwrap());
        fields.insert(header::ETAG, format!("\"{version}\"").parse().unwrap());
        if self.cc.contains("public") {
            response.head.extensions.insert(ContentName(u128::from(version)));
        }
        if request.head.headers.contains_key(header::RANGE) {
            response.head.status = StatusCode::PARTIAL_CONTENT;
        }
        Box::pin(async move { Ok(response) })
    }
}

struct Bed {
    browsers: Browsers,
    origin: Arc<Origin>,
    zones: Zones,
}

const RULE: &str =
    "[zone.coding]\n[[zone.dictionary]]\npath = \"/app.*.js\"\ndestinations = [\"script\"]\nid = \"app\"\n";

fn bed(coding: &str, cc: &'static str) -> Bed {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"z.example\"]\n{coding}\
         [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n"
    );
    let config = Config::parse(Path::new("edge.toml"), &text).unwrap();
    let origin = Arc::new(Origin {
        seen: Mutex::default(),
        cc,
    });
    Bed {
        browsers: Browsers::new(Shared::new(&config.coding, &mut Registry::default()), origin.clone()),
        origin,
        zones: Zones::new(&config.zones),
    }
}

impl Bed {
    async fn ask(
        &self,
        method: &str,
        host: &str,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> (http::response::Parts, Bytes) {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let exchange = Exchange {
            id: RequestId::next(),
            peer: Arc::new(Peer {
                client: "203.0.113.7:1234".parse().unwrap(),
                local: "192.0.2.1:443".parse().unwrap(),
                accepted: Instant::now(),
                handshake: None,
                early: None,
                via: None,
            }),
            zone: self.zones.all()[0].clone(),
            host: host.into(),
            started: Instant::now(),
        };
        let request = Request {
            head: head.into(),
            body: Body::Empty,
            exchange,
        };
        let response = self.browsers.handle(request).await.unwrap();
        (response.head, response.body.collect().await.unwrap().to_bytes())
    }

    async fn get(&self, path: &str, fields: &[(&'static str, &str)]) -> (http::response::Parts, Bytes) {
        self.ask("GET", "z.example", path, fields).await
    }
}

fn coding(head: &http::response::Parts) -> &str {
    let field = head.headers.get(header::CONTENT_ENCODING);
    field.map_or("", |coding| coding.to_str().unwrap())
}

fn varies(head: &http::response::Parts) -> String {
    let lines = head.headers.get_all(header::VARY).iter();
    lines.map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join(",")
}

/// Each client gets what it can read, and caches behind us keep the variants apart.
#[tokio::test]
async fn ordinary_codings() {
    let bed = bed("[zone.coding]\n", "public, max-age=60");
    for accepted in ["", "gzip", "br, gzip;q=0.5", "zstd"] {
        let (head, body) = bed.get("/page.1", &[("accept-encoding", accepted)]).await;
        assert_eq!(varies(&head), "accept-encoding");
        let wanted = accepted.split(',').next().unwrap();
        assert_eq!(coding(&head), wanted);
        let weak = head.headers[header::ETAG].as_bytes().starts_with(b"W/");
        assert_eq!(
            (weak, body.len() < script(1).len()),
            (!wanted.is_empty(), !wanted.is_empty())
        );
    }
    // The background has made it once by now, and a length can be told.
    let mut known = false;
    for _ in 0..200 {
        let (head, body) = bed.get("/page.1", &[("accept-encoding", "gzip")]).await;
        known = head
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|n| n == &body.len().to_string());
        if known {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(known, "nothing was coded ahead");
    let (head, body) = bed
        .ask("HEAD", "z.example", "/page.1", &[("accept-encoding", "br")])
        .await;
    assert!(coding(&head) == "br" && !head.headers.contains_key(header::CONTENT_LENGTH) && !body.is_empty());
    let (head, _) = bed
        .get("/page.1", &[("accept-encoding", "br"), ("range", "bytes=0-9")])
        .await;
    assert_eq!((coding(&head), head.status.as_u16()), ("", 206));
    assert!(
        bed.origin
            .seen
            .lock()
            .unwrap()
            .iter()
            .all(|head| !head.headers.contains_key(ACCEPT_ENCODING))
    );
    let strict = super::tests::bed("[zone.coding]\n", "public, max-age=60, no-transform");
    let (head, _) = strict.get("/page.1", &[("accept-encoding", "br")]).await;
    assert_eq!(coding(&head), "", "RFC 9110 section 7.7");
}

/// RFC 9842: version two of a script is what changed against version one, for who has that.
#[tokio::test]
async fn differences() {
    let bed = bed(RULE, "public, max-age=60");
    let (head, _) = bed.get("/app.1.js", &[]).await;
    assert_eq!(
        head.headers[rules::USE_AS_DICTIONARY],
        "match=\"/app.*.js\", match-dest=(\"script\"), id=\"app\""
    );
    let dictionary = Dictionary::new(script(1));
    let offer = dictionary.digest().available_dictionary();
    let offer = ("available-dictionary", offer.to_str().unwrap());
    let id = ("dictionary-id", "\"app\"");
    let all = ("accept-encoding", "gzip, br, zstd, dcb, dcz");
    // What decides once a dictionary is offered: a cache in front must not give one reader's answer
    // to another.
    let decided = "accept-encoding,available-dictionary,dictionary-id,sec-fetch-site,sec-fetch-mode";
    for _ in 0..3 {
        let (head, body) = bed.get("/app.2.js", &[offer, id, all]).await;
        assert_eq!((coding(&head), varies(&head).as_str()), ("dcz", decided));
        assert!(body.len() < 300, "{} bytes", body.len());
        let mut decoder = codec::Decoder::dcz(&dictionary, 1 << 20).unwrap();
        decoder.feed(body);
        let mut whole = Vec::new();
        while let Some(piece) = decoder.piece().unwrap() {
            whole.extend_from_slice(&piece);
        }
        assert_eq!(whole, script(2));
    }
    let (head, body) = bed.get("/app.2.js", &[offer, ("accept-encoding", "dcb")]).await;
    assert_eq!(coding(&head), "dcb");
    assert_eq!(codec::dcb::decode(&dictionary, &body, 1 << 20).unwrap(), script(2));

    // Who has something else, or may not read it, gets what everybody gets.
    let cross = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    let other = Digest::of(b"other").available_dictionary();
    for fields in [
        &[("available-dictionary", other.to_str().unwrap()), all][..],
        &[offer, all, cross[0], cross[1]],
        &[offer, all, ("dictionary-id", "\"other\"")],
        &[all],
    ] {
        let (head, _) = bed.get("/app.2.js", fields).await;
        let offered = fields.iter().any(|(name, _)| *name == "available-dictionary");
        let named = if offered {
            decided
        } else {
            "accept-encoding,available-dictionary"
        };
        assert_eq!((coding(&head), varies(&head).as_str()), ("zstd", named));
    }
    let (head, _) = bed.ask("GET", "other.example", "/app.2.js", &[offer, all]).await;
    assert_eq!(coding(&head), "zstd", "another origin's dictionary");
}

/// One client's content is neither a dictionary nor measured against one, unless the zone says so.
#[tokio::test]
async fn private_content() {
    for (cc, rule, coded) in [
        ("private, max-age=60", "", "zstd"),
        ("private, max-age=60", "private = true\n", "dcz"),
    ] {
        let bed = bed(&format!("{RULE}{rule}"), cc);
        let (head, _) = bed.get("/app.1.js", &[]).await;
        assert_eq!(head.headers.contains_key(rules::USE_AS_DICTIONARY), coded == "dcz");
        let offer = Digest::of(&script(1)).available_dictionary();
        let fields = [
            ("available-dictionary", offer.to_str().unwrap()),
            ("accept-encoding", "zstd, dcz"),
        ];
        assert_eq!(coding(&bed.get("/app.2.js", &fields).await.0), coded);
    }
}

/// Pages lead browsers to a dictionary that is a resource of its own.
#[tokio::test]
async fn links() {
    let bed = bed(
        "[[zone.dictionary]]\npath = \"/dict.1.js\"\nmatch = \"/*\"\nlink_from = \"/pages/*\"\n",
        "public, max-age=60",
    );
    let (head, _) = bed.get("/pages/a", &[]).await;
    assert_eq!(
        head.headers[header::LINK],
        "</dict.1.js>; rel=\"compression-dictionary\""
    );
    let (head, _) = bed.get("/pages/a.js", &[]).await;
    assert!(!head.headers.contains_key(header::LINK));
    assert_eq!(varies(&head), "accept-encoding,available-dictionary");
}
