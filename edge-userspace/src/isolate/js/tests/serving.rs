//! From a script to its answers: both ways to write a handler, what is kept between requests, what
//! is told when it goes wrong.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::harness::{World, answer, ask, bed, get, limits, load, run};
use crate::http::body::Body;
use crate::isolate::error::Ended;
use crate::isolate::js::modules::pack;
use crate::isolate::js::outside::Level;

/// A worker written for another platform would not answer here.
#[test]
fn modules_and_listeners_answer() {
    if bed().is_none() {
        return;
    }
    for script in [
        "export default { async fetch(request, env, ctx) { return new Response('hello'); } }",
        "export default { fetch: () => new Response('hello') }",
        "const handler = { fetch() { return new Response('hello'); } }; export { handler as default };",
        "addEventListener('fetch', event => event.respondWith(new Response('hello')));",
        "addEventListener('fetch', { handleEvent(e) { e.respondWith(Promise.resolve(new Response('hello'))); } });",
        "x = 'hello'; addEventListener('fetch', e => e.respondWith(new Response(x)));",
        "const text = await Promise.resolve('hello'); export default { fetch: () => new Response(text) };",
    ] {
        assert_eq!(answer(script).as_deref(), Ok("hello"), "{script}");
    }
}

/// Who deploys a script that cannot run would learn it from the zone's visitors.
#[test]
fn scripts_that_cannot_run_are_refused_with_the_reason() {
    if bed().is_none() {
        return;
    }
    for (script, words) in [
        ("export default { fetch( }", "SyntaxError"),
        ("const a = ;", "worker.js:1:11"),
        ("throw new Error('no key'); export default {}", "Error: no key"),
        ("export const x = 1;", "no handler"),
        (
            "await new Promise(() => {}); export default { fetch() {} }",
            "never comes",
        ),
        ("for (;;) {}", "longer than 1 s"),
        (
            "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1));",
            "memory than 64 MiB",
        ),
        (
            "import x from './x.js'; export default { fetch() {} }",
            "no such module here; bundle it",
        ),
        (
            "fetch('https://b.test/'); export default { fetch() {} }",
            "cannot be called while the script is loaded",
        ),
        (
            "setTimeout(() => {}, 1); export default { fetch() {} }",
            "cannot be called while the script is loaded",
        ),
        (
            "crypto.randomUUID(); export default { fetch() {} }",
            "cannot be called while the script is loaded",
        ),
        ("\0", "zero bytes"),
    ] {
        let why = load(script).unwrap_err();
        assert!(why.contains(words), "{script}: {why}");
    }
}

/// One visitor would see what another left behind, or all get the same random numbers.
#[test]
fn every_request_starts_from_the_same_heap_and_its_own_chance() {
    if bed().is_none() {
        return;
    }
    let script = load(
        "let n = 41; const first = Math.random(); const loaded = Date.now();
         export default { fetch() { n++; return Response.json({ n, first, random: Math.random(), uuid: crypto.randomUUID(),
           bytes: [...crypto.getRandomValues(new Uint8Array(8))], later: Date.now() - loaded }); } }",
    )
    .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    let world = Arc::new(World::default());
    let answers: Vec<serde_json::Value> = (0..2)
        .map(|_| {
            let (_, body) = run(ask(&script, &world, get("https://a.test/"), limits())).unwrap();
            serde_json::from_slice(&body).unwrap()
        })
        .collect();
    for key in ["random", "uuid", "bytes"] {
        assert_ne!(answers[0][key], answers[1][key], "{key}");
    }
    assert_eq!(answers[0]["first"], answers[1]["first"]);
    for answer in &answers {
        assert_eq!(answer["n"], 42);
        assert!(
            answer["later"].as_f64().unwrap() >= 30.0,
            "the clock stands still: {answer}"
        );
        assert_eq!(
            answer["later"].as_f64().unwrap().fract(),
            0.0,
            "finer than a millisecond"
        );
    }
}

/// A handler would not see the request that came, or the client not the response that it made.
#[test]
fn requests_and_responses_cross_whole() {
    if bed().is_none() {
        return;
    }
    let script = load(
        "export default { async fetch(request) {
           const body = await request.text();
           return new Response(body.toUpperCase(), { status: 201, statusText: 'Made', headers: [
             ['x-method', request.method], ['x-url', request.url], ['x-in', request.headers.get('X-In')],
             ['x-latin', request.headers.get('x-latin')], ['set-cookie', 'a=1'], ['set-cookie', 'b=2'] ] });
         } }",
    )
    .unwrap();
    let mut request = get("https://shop.test/päth?q=1%202");
    request.method = Method::PUT;
    request.fields = HeaderMap::new();
    request.fields.append("x-in", HeaderValue::from_static("one"));
    request.fields.append("x-in", HeaderValue::from_static("two"));
    request
        .fields
        .append("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    request.body = Bytes::from("grüße").into();
    let (head, body) = run(ask(&script, &Arc::default(), request, limits())).unwrap();
    assert_eq!((head.status.as_u16(), &body[..]), (201, "GRÜSSE".as_bytes()));
    let field = |name: &str| head.headers.get(name).unwrap().as_bytes();
    assert_eq!(field("x-method"), b"PUT");
    assert_eq!(field("x-in"), b"one, two");
    assert_eq!(field("x-latin"), b"caf\xe9");
    assert_eq!(field("content-type"), b"text/plain;charset=UTF-8");
    assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
}

/// What throws would look like an answer, or nobody learn why there was none.
#[test]
fn errors_end_the_request_and_are_told() {
    if bed().is_none() {
        return;
    }
    for (body, ended, words) in [
        ("throw new TypeError('of mine');", "exception", "TypeError: of mine"),
        ("null.x", "exception", "at fetch (worker.js:1:"),
        (
            "setTimeout(() => { throw new Error('timer') }, 1); await new Promise(() => {});",
            "exception",
            "Error: timer",
        ),
        ("return 'text';", "exception", "not a Response"),
        ("return undefined;", "exception", "not a Response"),
        (
            "const r = new Response('x'); await r.text(); return r;",
            "exception",
            "read already",
        ),
        ("await new Promise(() => {});", "no_response", ""),
        ("throw { toString() { throw 1 } };", "exception", "without text"),
        ("throw Symbol('s');", "exception", "Symbol(s)"),
    ] {
        let script = format!("export default {{ async fetch(request) {{ {body} }} }}");
        let told = answer(&script).unwrap_err();
        assert!(told.starts_with(ended) && told.contains(words), "{body}: {told}");
        assert!(!told.contains("<null>"), "{body}: {told}");
    }
}

/// What is done after the response would be cut off, or a failure there be silent.
#[test]
fn wait_until_goes_on_behind_the_response() {
    if bed().is_none() {
        return;
    }
    let script = load(
        "export default { fetch(request, env, ctx) {
           ctx.waitUntil(new Promise(r => setTimeout(r, 30)).then(() => console.log('done after')));
           ctx.waitUntil(Promise.reject(new Error('behind')));
           return new Response('at once'); } }",
    )
    .unwrap();
    let world = Arc::new(World::default());
    let (_, body) = run(ask(&script, &world, get("https://a.test/"), limits())).unwrap();
    assert_eq!(body, "at once");
    assert!(
        world.log().contains("done after") && world.log().contains("Error: behind"),
        "{}",
        world.log()
    );
}

/// The log would not say how grave a line is, or show objects as [object Object].
#[test]
fn console_writes_what_was_meant() {
    if bed().is_none() {
        return;
    }
    let script = load(
        "export default { fetch() { console.log('a %s b', 1, { x: [1, 'two', null], m: new Map([['k', 1]]) });
           console.error(new Error('bad')); console.debug('fine'); console.warn('careful');
           const loop = {}; loop.loop = loop; console.log(loop); console.log({ get x() { throw 1 } });
           return new Response('') } }",
    )
    .unwrap();
    let world = Arc::new(World::default());
    run(ask(&script, &world, get("https://a.test/"), limits())).unwrap();
    let said = world.said.lock().unwrap();
    assert_eq!(
        said[0],
        (
            Level::Info,
            "a 1 b {x: [1, \"two\", null], m: Map(1) {\"k\" => 1}}".to_owned()
        )
    );
    assert!(
        said[1].0 == Level::Error && said[1].1.starts_with("Error: bad\n    at fetch (worker.js:2:"),
        "{:?}",
        said[1]
    );
    assert_eq!((said[2].0, said[3].0), (Level::Debug, Level::Warn));
    assert!(said[4].1.contains("[circular]") && said[5].1.contains("threw"));
}

/// Traces of a bundle would name lines that nobody wrote.
#[test]
fn traces_name_the_source_of_a_bundle() {
    if bed().is_none() {
        return;
    }
    // Line 1 of the script is line 40 of app.ts, wherever the column.
    let map = r#"{"version":3,"sources":["app.ts"],"names":[],"mappings":"AAuCA"}"#;
    let map = data_encoding::BASE64.encode(map.as_bytes());
    let script = format!(
        "export default {{ async fetch() {{ throw new Error('deep') }} }}\n//# sourceMappingURL=data:application/json;base64,{map}\n"
    );
    let told = answer(&script).unwrap_err();
    assert!(told.contains("at fetch (app.ts:40:1)"), "{told}");
}

/// A worker would not reach its settings and store, or reach them while its heap is made.
#[test]
fn env_has_settings_and_the_store() {
    if bed().is_none() {
        return;
    }
    let script = load(
        "export default { async fetch(request, env) {
           await env.KV.put('b', 'zwei'); await env.KV.put('a', new Uint8Array([1, 2])); await env.KV.put('c', JSON.stringify({ x: 1 }));
           await env.KV.put('d', new Response('streamed').body); await env.KV.delete('d');
           const keys = await env.KV.list({ limit: 2 }), rest = await env.KV.list({ cursor: keys.cursor });
           return Response.json([env.GREETING, env.SECRET, await env.KV.get('b'), [...new Uint8Array(await env.KV.get('a', 'arrayBuffer'))],
             await env.KV.get('c', { type: 'json' }), await env.KV.get('d'), keys, rest, typeof env.OTHER]); } }",
    )
    .unwrap();
    let mut world = World::default();
    world.values.insert("GREETING".into(), "hej \"you\"".into());
    world.values.insert("SECRET".into(), "\u{1F511}".into());
    let (_, body) = run(ask(&script, &Arc::new(world), get("https://a.test/"), limits())).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let keys = serde_json::json!({"keys": [{"name": "a"}, {"name": "b"}], "list_complete": false, "cursor": "b"});
    let rest = serde_json::json!({"keys": [{"name": "c"}], "list_complete": true});
    let all = serde_json::json!(["hej \"you\"", "\u{1F511}", "zwei", [1, 2], {"x": 1}, null, keys, rest, "undefined"]);
    assert_eq!(told, all);
}

/// One zone could not be made of several, or a failing one take its caller along.
#[test]
fn workers_ask_workers_and_servers() {
    if bed().is_none() {
        return;
    }
    let mut world = World::default();
    let two = load(
        "export default { async fetch(r) { return new Response('two got ' + r.method + ' ' + await r.text(), { headers: { 'x-two': '2' } }) } }",
    );
    world.zones.insert("two.test".into(), two.unwrap());
    world.zones.insert(
        "broken.test".into(),
        load("export default { fetch() { throw 1 } }").unwrap(),
    );
    world.server = Some(Box::new(|request| {
        let (status, location) = match request.uri().path() {
            "/from" => (302, Some("/to?x")),
            "/loop" => (302, Some("/loop")),
            "/see" => (303, Some("/to")),
            _ => (200, None),
        };
        let text = format!("{} {} {}", request.method(), request.uri(), request.body().len());
        let mut response = http::Response::new(Body::from(text));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        if let Some(location) = location {
            response
                .headers_mut()
                .insert("location", HeaderValue::from_static(location));
        }
        response
    }));
    let script = load(
        "const text = async (...a) => { try { const r = await fetch(...a); return `${r.status} ${r.redirected} ${await r.text()}` } catch (e) { return String(e) } };
         export default { async fetch(request) {
           const both = await Promise.all([text('https://two.test/a', { method: 'POST', body: 'hi' }), text('https://two.test/b')]);
           const pipe = new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('streamed ')); c.enqueue(new TextEncoder().encode('up')); c.close() } });
           return Response.json([...both, await text('https://two.test/', { method: 'PUT', body: pipe, duplex: 'half' }),
             await text('https://broken.test/'), await text('https://origin.test/from'), await text('https://origin.test/from', { redirect: 'manual' }),
             await text('https://origin.test/from', { redirect: 'error' }), await text('https://origin.test/loop'),
             await text(new Request('https://origin.test/see', { method: 'POST', body: 'x' })),
             await text('https://origin.test/', { signal: AbortSignal.abort() }), await text('ftp://x/'), await text('/relative') ]) } }",
    )
    .unwrap();
    let (_, body) = run(ask(&script, &Arc::new(world), get("https://a.test/"), limits())).unwrap();
    let told: Vec<String> = serde_json::from_slice(&body).unwrap();
    let wanted = [
        "200 false two got POST hi",
        "200 false two got GET ",
        "200 false two got PUT streamed up",
        "TypeError: fetch: the other side broke off",
        "200 true GET https://origin.test/to?x 0",
        "302 false GET https://origin.test/from 0",
        "TypeError: fetch: a redirect, and the request forbids them",
        "TypeError: fetch: more than 20 redirects",
        "200 true GET https://origin.test/to 0",
        "AbortError: This operation was aborted",
        "TypeError: fetch: malformed",
        "TypeError: Request: not an absolute URL: /relative",
    ];
    assert_eq!(told, wanted);
}

/// Content would be copied through the script, or come in another order, or end where it broke off.
#[test]
fn content_streams_both_ways() {
    if bed().is_none() {
        return;
    }
    for (handler, wanted) in [
        ("return new Response(request.body)", Ok("one two three")),
        (
            "return new Response(request.body.pipeThrough(new TextDecoderStream()).pipeThrough(new TransformStream({ transform(c, k) { k.enqueue(c.toUpperCase()) } })).pipeThrough(new TextEncoderStream()))",
            Ok("ONE TWO THREE"),
        ),
        (
            "const r = request.body.getReader(); let n = 0; for (;;) { const { done, value } = await r.read(); if (done) break; n += value.length } return new Response('' + n)",
            Ok("13"),
        ),
        (
            "let t = ''; for await (const c of request.body) t += new TextDecoder().decode(c); return new Response(t)",
            Ok("one two three"),
        ),
        (
            "const [a, b] = request.body.tee(); return new Response(await new Response(a).text() + '|' + await new Response(b).text())",
            Ok("one two three|one two three"),
        ),
        (
            "const c = request.clone(); return new Response(await c.text() + '|' + await request.text())",
            Ok("one two three|one two three"),
        ),
        (
            "return new Response((async function* () { yield 'a'; await new Promise(r => setTimeout(r, 5)); yield new Uint8Array([98]); })())",
            Ok("ab"),
        ),
        (
            "let i = 0; return new Response(new ReadableStream({ pull(c) { if (i++ < 1000) c.enqueue(new Uint8Array([120])); else c.close() } }).pipeThrough(new TransformStream()))",
            Ok(""),
        ),
        (
            "return new Response((async function* () { yield 'a'; throw new Error('amid') })())",
            Err(Ended::BadResponse),
        ),
        (
            "return new Response(new ReadableStream({ start(c) { c.enqueue(5) } }))",
            Err(Ended::BadResponse),
        ),
        ("return new Response(new ReadableStream({}))", Err(Ended::BadResponse)),
    ] {
        let script = load(&format!("export default {{ async fetch(request) {{ {handler} }} }}")).unwrap();
        let chunks = ["one ", "two ", "three"]
            .map(|c| Ok::<_, crate::http::body::BodyError>(http_body::Frame::data(Bytes::from(c))));
        let mut request = get("https://a.test/");
        request.method = Method::POST;
        request.body = Body::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(chunks)));
        let world = Arc::new(World::default());
        let told = run(ask(&script, &world, request, limits()));
        let told = told.map(|(_, body)| String::from_utf8(body.to_vec()).unwrap());
        match wanted {
            Ok("") => assert_eq!(told.unwrap().len(), 1000, "{handler}"),
            Ok(text) => assert_eq!(told.as_deref(), Ok(text), "{handler}: {}", world.log()),
            Err(ended) => assert_eq!(told, Err(ended), "{handler}: {}", world.log()),
        }
    }
}

/// A library that looks at its promise a little later, as many do, would cost the response.
#[test]
fn a_rejection_that_nobody_handled_is_told_and_no_end() {
    if bed().is_none() {
        return;
    }
    let went = |script: &str| {
        let script = load(script).unwrap();
        let world = Arc::new(World::default());
        let (head, body) = run(ask(&script, &world, get("https://a.test/"), limits())).unwrap();
        let text = format!("{} {}", head.status.as_u16(), String::from_utf8_lossy(&body));
        (text, world.log())
    };
    let late = "const late = Promise.reject(new Error('lost')); await new Promise(r => setTimeout(r, 5));
        try { await late } catch (e) { return new Response('caught ' + e.message) }";
    let (text, log) = went(&format!("export default {{ async fetch() {{ {late} }} }}"));
    assert_eq!(text, "200 caught lost");
    assert!(log.contains("Unhandled rejection: Error: lost"), "{log}");
    let (text, log) = went(
        "let told; addEventListener('unhandledrejection', e => { told = e.reason.message + (e.promise instanceof Promise); e.preventDefault(); });
         export default { async fetch() { Promise.reject(new Error('mine')); await new Promise(r => setTimeout(r, 5)); return new Response(told); } }"
    );
    assert_eq!((text.as_str(), log.as_str()), ("200 minetrue", ""));
    let (text, _) = went(
        "addEventListener('error', e => { if (e.error.message === 'of a timer') e.preventDefault(); });
         export default { async fetch() { setTimeout(() => { throw new Error('of a timer') }, 1); await new Promise(r => setTimeout(r, 9)); return new Response('on') } }",
    );
    assert_eq!(text, "200 on");
}

/// Half a page would look whole, or the work behind a failed response be lost with it.
#[test]
fn an_exception_behind_the_head_breaks_the_response_off_and_no_more() {
    if bed().is_none() {
        return;
    }
    let script = load(
        "export default { fetch(request, env, ctx) {
           ctx.waitUntil(new Promise(r => setTimeout(r, 60)).then(() => console.log('done all the same')));
           if (request.url.endsWith('/at-once')) throw new Error('first');
           return new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array(4));
             setTimeout(() => { throw new Error('amid') }, 5); setTimeout(() => c.close(), 30); } })); } }",
    )
    .unwrap();
    for path in ["amid", "at-once"] {
        let world = Arc::new(World::default());
        let ended = run(ask(&script, &world, get(&format!("https://a.test/{path}")), limits())).unwrap_err();
        assert_eq!(ended, Ended::Exception, "{path}");
        assert!(world.log().contains("done all the same"), "{path}: {}", world.log());
    }
}

/// A list of a hundred keys read at once would fail, or a value outlive its time.
#[test]
fn the_store_has_what_other_platforms_have() {
    if bed().is_none() {
        return;
    }
    let script = load(
        r#"export default { async fetch(request, { KV }) {
           const eq = (a, b) => { if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(`${JSON.stringify(a)} is not ${JSON.stringify(b)}`) };
           const fails = async (name, f) => { try { await f() } catch (e) { return eq(e.name, name) } throw new Error(`no ${name}`) };
           await KV.put("a", "1", { metadata: { n: 1 }, expirationTtl: 3600 }); await KV.put("b", new Uint8Array([50])); await KV.put("e", "");
           eq(await KV.getWithMetadata("a"), { value: "1", metadata: { n: 1 } });
           eq((await KV.getWithMetadata("none")).value, null); eq(await KV.get("e"), "");
           eq([...await KV.get(["a", "b", "none"])], [["a", "1"], ["b", "2"], ["none", null]]);
           const { keys } = await KV.list(); eq(keys.map(key => key.name), ["a", "b", "e"]); eq(keys[0].metadata, { n: 1 });
           eq(Math.abs(keys[0].expiration - Date.now() / 1000 - 3600) < 5, true); eq("metadata" in keys[1], false);
           await fails("TypeError", () => KV.put("a", "1", { expire: 5 })); await fails("TypeError", () => KV.put("a", "1", { expirationTtl: -1 }));
           await fails("TypeError", () => KV.put("a", "1", { expiration: 5 })); await fails("TypeError", () => KV.put("a", "1", { metadata: "x".repeat(2000) }));
           await fails("RangeError", () => KV.get(Array.from({ length: 200 }, (_, n) => `k${n}`)));
           const all = await Promise.all(Array.from({ length: 300 }, (_, n) => KV.get("k" + n))); eq(all.length, 300);
           return new Response("fine"); } }"#,
    )
    .unwrap();
    let mut world = World::default();
    world.values.insert("A".to_owned(), "b".to_owned());
    let world = Arc::new(world);
    let (_, body) =
        run(ask(&script, &world, get("https://a.test/"), limits())).unwrap_or_else(|_| panic!("{}", world.log()));
    assert_eq!(body, "fine");
}

/// Who wrote the worker would look for the field that made a 500 of it.
#[test]
fn a_field_that_cannot_be_sent_is_named() {
    if bed().is_none() {
        return;
    }
    let told = answer(
        r#"export default { fetch: () => new Response("", { headers: { "x-fine": "1", "x-odd-one": "ab" } }) }"#,
    );
    assert!(told.as_ref().unwrap_err().contains("x-odd-one"), "{told:?}");
    let told =
        answer(r#"export default { fetch: () => fetch("https://b.test/", { headers: { "x-odd-two": "ab" } }) }"#);
    assert!(told.as_ref().unwrap_err().contains("x-odd-two"), "{told:?}");
}

/// A worker of several files would not find them, or find another's.
#[test]
fn modules_import_each_other_by_their_paths() {
    if bed().is_none() {
        return;
    }
    let module = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let all = [
        module(
            "src/worker.js",
            "import { b } from './lib/b.js'; import path from 'node:path'; export const a = 'a';\n\
             export default { async fetch() { const { later } = await import('../later.js'); return new Response(b() + path.sep + later); } }",
        ),
        module(
            "src/lib/b.js",
            "import { a } from '../worker.js'; import * as c from './../.././c.js'; export const b = () => a + c.default;",
        ),
        module("c.js", "export default new HTMLRewriter() && 'c';"),
        module("later.js", "export const later = 'late';"),
    ];
    assert_eq!(answer(&pack(&all)).unwrap(), "ac/late");
    let missing = answer(&pack(&[module("a.js", "import './b.js'")])).unwrap_err();
    assert!(missing.contains("'b.js'"), "{missing}");
    let broken = [
        module("a.js", "import './b/c.js'; export default {};"),
        module("b/c.js", "\n\nthrow new Error('mine')"),
    ];
    let thrown = answer(&pack(&broken)).unwrap_err();
    assert!(thrown.contains("mine") && thrown.contains("b/c.js:3"), "{thrown}");
}
