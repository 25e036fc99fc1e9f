//! WebSockets of scripts, against a client in memory; and what a script is told of its client.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::harness::{World, ask, bed, check, get, limits, load, run};

/// What a client gets for `messages`, with the end that the script gave.
fn talk(script: &str, messages: &[Message]) -> (Vec<Message>, Arc<World>) {
    let script = load(script).unwrap();
    let (client, worker) = tokio::io::duplex(4 << 10);
    let world = Arc::new(World {
        socket: Mutex::new(Some(worker)),
        ..World::default()
    });
    let told = run(async {
        let asked = ask(&script, &world, get("https://a.test/"), limits());
        let talks = async {
            let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            for message in messages {
                client.send(message.clone()).await.unwrap();
            }
            let mut told = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                told.push(message);
            }
            told
        };
        let (ended, told) = tokio::join!(asked, talks);
        let (head, _) = ended.unwrap_or_else(|ended| panic!("{ended:?}: {}", world.log()));
        assert_eq!(head.status, 101);
        told
    });
    (told, world)
}

/// A chat would get no answer, the wrong kind of message, or never end.
#[test]
fn a_worker_is_the_other_side_of_its_clients_socket() {
    if bed().is_none() {
        return;
    }
    let (told, world) = talk(
        r#"export default { fetch(request) {
          const [client, server] = Object.values(new WebSocketPair());
          server.accept();
          server.binaryType = "arraybuffer";
          server.send("before");
          server.addEventListener("message", ({ data }) => {
            if (data === "bye") return server.close(4001, "enough");
            server.send(typeof data === "string" ? data.toUpperCase() : new Uint8Array(data).reverse());
          });
          server.addEventListener("close", event => console.log("closed", event.code, event.reason, event.wasClean));
          return new Response(null, { status: 101, webSocket: client });
        } };"#,
        &["grüße".into(), Message::Binary(vec![1, 2, 3].into()), "bye".into()],
    );
    let texts: Vec<String> = told.iter().map(|message| format!("{message:?}")).collect();
    assert_eq!(told.len(), 4, "{texts:?}");
    assert_eq!(told[0], "before".into());
    assert_eq!(told[1], "GRÜSSE".into());
    assert_eq!(told[2], Message::Binary(vec![3, 2, 1].into()));
    let Message::Close(Some(frame)) = &told[3] else {
        panic!("{texts:?}")
    };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "enough"));
    assert_eq!(world.log(), "closed 4001 enough true");
}

/// A client that ends its socket would keep the worker until its limit.
#[test]
fn a_client_that_ends_its_socket_ends_the_worker() {
    if bed().is_none() {
        return;
    }
    let (told, world) = talk(
        r#"addEventListener("fetch", event => {
          const { 0: client, 1: server } = new WebSocketPair();
          server.accept();
          server.onclose = event => console.log("closed", event.code);
          event.respondWith(new Response(null, { status: 101, webSocket: client }));
        });"#,
        &[Message::Close(None)],
    );
    assert!(matches!(told[..], [Message::Close(_)]), "{told:?}");
    assert_eq!(world.log(), "closed 1005");
}

/// Programs that hand sockets around within the worker, or use them wrongly, would hang instead of
/// being told.
#[test]
fn a_pair_within_the_worker_and_what_is_refused() {
    check(
        r#"
        const [one, two] = Object.values(new WebSocketPair());
        const got = [];
        throws("TypeError", () => one.send("too early"));
        two.accept();
        two.addEventListener("message", ({ data }) => got.push(data));
        const closed = new Promise(resolve => two.addEventListener("close", event => resolve([event.code, event.reason, two.readyState])));
        one.accept();
        one.send("a");
        one.send(new Uint8Array([65]));
        await new Promise(resolve => setTimeout(resolve, 1));
        eq(got.length, 2); eq(got[0], "a"); eq(await got[1].text(), "A");
        throws("InvalidAccessError", () => one.close(1005));
        throws("SyntaxError", () => one.close(3000, "x".repeat(124)));
        throws("RangeError", () => one.send("x".repeat(2 ** 20 + 1)));
        one.close(3000, "over");
        same(await closed, [3000, "over", WebSocket.CLOSED]);
        one.send("ignored");
        throws("SyntaxError", () => new WebSocket("mailto:a"));
        throws("SyntaxError", () => new WebSocket("wss://a.test/#f"));
        throws("TypeError", () => new Response(null, { status: 101, webSocket: two }));
        throws("RangeError", () => new Response(null, { status: 101 }));
        const denied = new WebSocket("wss://nowhere.test/");
        eq(denied.readyState, 0);
        const events = [];
        await new Promise(resolve => { denied.onerror = () => events.push("error"); denied.onclose = event => { events.push(event.code); resolve(); }; });
        same(events, ["error", 1006]);
        eq(new Response("x").webSocket, null);"#,
    );
}

/// Work that waits for the client would go on for nobody; or a worker that asks for the signal hang
/// after its answer.
#[test]
fn a_worker_learns_that_its_client_has_gone_and_who_it_is() {
    if bed().is_none() {
        return;
    }
    let script = load(
        r#"export default { fetch(request, env, ctx) {
          if (request.edge.address !== "192.0.2.1" || new Request(request).edge !== undefined) return new Response("no", { status: 500 });
          const { signal } = request;
          ctx.waitUntil(new Promise(resolve => signal.addEventListener("abort", () => { console.log("left", signal.reason.name); resolve(); })));
          return new Response("fine");
        } };"#,
    )
    .unwrap();
    let world = Arc::new(World {
        leaves: Some(Duration::from_millis(20)),
        ..World::default()
    });
    run(ask(&script, &world, get("https://a.test/"), limits())).unwrap();
    assert_eq!(world.log(), "left AbortError");
    check(
        "if (request.signal.aborted) throw 1; setTimeout(() => {}, 1); await new Promise(resolve => setTimeout(resolve, 5));",
    );
}

/// An update of a page would be lost, or come twice, where a line or the stream is cut.
#[test]
fn events_of_a_server() {
    check(
        r#"
        const parts = ["data: o", "ne\r", "\ndata: more\r\nid: 7\r\n\r\nevent: tick\ndata:two\n\n: comment\nretry: 5\n\n", "data: lost"];
        let asked = 0;
        const source = new EventSource("https://b.test/events", { fetch: async (url, { headers }) => {
          asked++;
          if (asked === 2) { eq(headers.get("last-event-id"), "7"); return new Response(null, { status: 204 }); }
          return new Response(new ReadableStream({ start(c) { for (const part of parts) c.enqueue(new TextEncoder().encode(part)); c.close(); } }), { headers: { "content-type": "text/event-stream" } });
        } });
        const got = [];
        source.onmessage = event => got.push([event.data, event.lastEventId]);
        source.addEventListener("tick", event => got.push([event.data, event.origin]));
        await new Promise(resolve => { source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(); }; });
        same(got, [["one\nmore", "7"], ["two", "https://b.test"]]);
        eq(asked, 2);"#,
    );
}

/// Libraries that count in shared arrays would not load.
#[test]
fn atomics_of_one_thread() {
    check(
        r#"
        const numbers = new Int32Array(4);
        eq(Atomics.add(numbers, 0, 5), 0); eq(Atomics.sub(numbers, 0, 2), 5); eq(Atomics.load(numbers, 0), 3);
        eq(Atomics.compareExchange(numbers, 0, 3, 9), 3); eq(Atomics.exchange(numbers, 0, 1), 9); eq(Atomics.store(numbers, 1, 1.9), 1);
        eq(Atomics.or(new BigUint64Array([1n]), 0, 2n), 1n);
        const small = new Uint8Array([255]); eq(Atomics.add(small, 0, 2), 255); eq(small[0], 1);
        throws("RangeError", () => Atomics.load(numbers, 4)); throws("TypeError", () => Atomics.add(new Float64Array(1), 0, 1));
        throws("TypeError", () => Atomics.wait(numbers, 0, 0)); eq(Atomics.notify(numbers, 0), 0);
        eq(await Atomics.waitAsync(numbers, 0, 1, 5).value, "timed-out"); eq(Atomics.waitAsync(numbers, 0, 0).value, "not-equal");
        eq(Object.prototype.toString.call(Atomics), "[object Atomics]");"#,
    );
}

/// A nightly job would not run, not know which one it is, or fail without a word.
#[test]
fn what_is_due_runs_without_a_client() {
    if bed().is_none() {
        return;
    }
    let world = |script: &str| {
        let script = load(script).unwrap();
        let world = Arc::new(World {
            due: Some("1700000040000\n*/5 * * * *"),
            ..World::default()
        });
        let ended = run(ask(&script, &world, get("https://a.test/"), limits())).unwrap_err();
        (ended.label(), world.log())
    };
    let by_export = world(
        r#"export default { async scheduled(controller, env, ctx) {
          await new Promise(resolve => setTimeout(resolve, 5));
          ctx.waitUntil((async () => console.log(controller.cron, controller.scheduledTime))());
        } };"#,
    );
    // There is no response, and that is all that is said of it here.
    assert_eq!(by_export, ("no_response", "*/5 * * * * 1700000040000".to_owned()));
    let by_listener =
        world(r#"addEventListener("scheduled", event => event.waitUntil((async () => console.log(event.cron))()));"#);
    assert_eq!(by_listener.1, "*/5 * * * *");
    let (ended, log) = world(r#"export default { async scheduled() { await null; throw new Error("on purpose"); } };"#);
    assert_eq!(ended, "exception");
    assert!(log.contains("on purpose"), "{log}");
    let (ended, log) = world("export default { fetch: () => new Response() };");
    assert_eq!(ended, "exception");
    assert!(log.contains("scheduled"), "{log}");
}
