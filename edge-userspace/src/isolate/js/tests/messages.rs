//! Headers, Request and Response as the Fetch standard has them; the cases follow those of the
//! public web-platform-tests.

use super::harness::check;

/// Fields would be joined, ordered or refused otherwise than in every other runtime.
#[test]
fn headers() {
    check(
        r#"
const h = new Headers([["X-B", "1"], ["a", " 2\t"], ["x-b", "3"], ["Set-Cookie", "c=1"], ["set-cookie", "d=2"]]);
same([...h], [["a", "2"], ["set-cookie", "c=1"], ["set-cookie", "d=2"], ["x-b", "1, 3"]]); same(h.getSetCookie(), ["c=1", "d=2"]); eq(h.get("SET-COOKIE"), "c=1, d=2"); eq(h.get("none"), null);
same([...h.keys()], ["a", "set-cookie", "set-cookie", "x-b"]); same([...h.values()], ["2", "c=1", "d=2", "1, 3"]); const each = []; h.forEach(function (v, k, o) { each.push(k); eq(o, h); eq(this, each); }, each); eq(each.length, 4);
h.set("X-b", "4"); eq(h.get("x-b"), "4"); h.append("x-b", "5"); eq(h.get("x-b"), "4, 5"); h.delete("X-B"); eq(h.has("x-b"), false);
same([...new Headers({ b: "1", A: 2, c: null })], [["a", "2"], ["b", "1"], ["c", "null"]]); same([...new Headers(new Headers({ x: "y" }))], [["x", "y"]]); same([...new Headers(new Map([["m", "1"]]))], [["m", "1"]]); same([...new Headers()], []); same([...new Headers(undefined)], []);
for (const bad of [null, 1, "text", [["a"]], [["a", "b", "c"]], [1], { "a b": "1" }, { "": "1" }, { "é": "1" }, { a: "\u0141" }, { a: "x\ny" }, { a: "x\0" }, { "a:": "1" }]) throws("TypeError", () => new Headers(bad));
for (const bad of ["", "a b", "é", "\u0141", "a\n"]) { throws("TypeError", () => h.get(bad)); throws("TypeError", () => h.has(bad)); throws("TypeError", () => h.delete(bad)); throws("TypeError", () => h.set(bad, "1")); throws("TypeError", () => h.append(bad, "1")); }
throws("TypeError", () => h.append("a")); throws("TypeError", () => h.get()); throws("TypeError", () => Headers.prototype.get.call({}, "a"));
const n = new Headers(); for (const [raw, value] of [[" x ", "x"], ["\r\n\tx\n", "x"], ["", ""], [" ", ""], ["é", "é"]]) { n.set("v", raw); eq(n.get("v"), value); }
const live = new Headers({ a: "1", c: "3" }), seen = []; for (const [k] of live) { seen.push(k); if (k === "a") live.append("b", "2"); } same(seen, ["a", "b", "c"]);
eq(new Headers({ a: "1" })[Symbol.toStringTag], "Headers"); eq(Headers.prototype.entries, Headers.prototype[Symbol.iterator]);
// What a record's getters do is done once, in order, and what they throw comes out.
const log = []; const trap = new Proxy({ b: "2", a: "1" }, { ownKeys(t) { log.push("keys"); return Reflect.ownKeys(t); }, getOwnPropertyDescriptor(t, k) { log.push("own " + String(k)); return Reflect.getOwnPropertyDescriptor(t, k); }, get(t, k) { log.push("get " + String(k)); return t[k]; } });
same([...new Headers(trap)], [["a", "1"], ["b", "2"]]); eq(log.filter(l => l === "get a").length, 1); throws("RangeError", () => new Headers({ get a() { throw new RangeError("x"); } }));
throws("TypeError", () => new Headers({ [Symbol()]: "1" }));
throws("TypeError", () => request.headers.set("a", "1")); throws("TypeError", () => request.headers.delete("a"));
"#,
    );
}

/// A library would build requests that this runtime reads otherwise.
#[test]
fn requests() {
    check(
        r#"
const r = new Request("https://a.test/p?q#f", { method: "post", headers: { "X-A": "1" }, body: "text" });
same([r.method, r.url, r.headers.get("x-a"), r.headers.get("content-type"), r.redirect, r.bodyUsed], ["POST", "https://a.test/p?q#f", "1", "text/plain;charset=UTF-8", "follow", false]);
eq(new Request("https://a.test", { method: "patch" }).method, "patch"); eq(new Request("https://a.test").url, "https://a.test/"); eq(new Request(new URL("https://a.test/x")).url, "https://a.test/x");
for (const bad of [["/relative"], ["https://u:p@a.test/"], ["https://a.test", { method: "CONNECT" }], ["https://a.test", { method: "a b" }], ["https://a.test", { body: "x" }], ["https://a.test", { method: "HEAD", body: "x" }], ["https://a.test", { redirect: "x" }], ["https://a.test", { signal: {} }], ["https://a.test", 5]]) throws("TypeError", () => new Request(...bad));
throws("TypeError", () => new Request()); throws("TypeError", () => Request("https://a.test"));
const c = r.clone(); same([await c.text(), await r.text(), r.bodyUsed, c.headers.get("x-a"), c.method], ["text", "text", true, "1", "POST"]); throws("TypeError", () => r.clone()); throws("TypeError", () => new Request(r)); await rejects("TypeError", () => r.text());
const from = new Request("https://a.test", { method: "PUT", body: "moved" }), to = new Request(from, { headers: { b: "2" } }); eq(from.bodyUsed, true); same([to.method, await to.text(), to.headers.get("b"), to.headers.get("content-type")], ["PUT", "moved", "2", null]);
eq(new Request(new Request("https://a.test", { headers: { a: "1" } })).headers.get("a"), "1"); eq(new Request("https://a.test", { method: "POST", body: new URLSearchParams({ a: "b c" }) }).headers.get("content-type"), "application/x-www-form-urlencoded;charset=UTF-8");
const s = AbortSignal.abort(); eq(new Request("https://a.test", { signal: s }).signal.aborted, true); eq(new Request("https://a.test").signal.aborted, false); eq(r.body === null, false); eq(new Request("https://a.test").body, null);
eq(Object.prototype.toString.call(r), "[object Request]"); eq(r instanceof Request, true);
"#,
    );
}

/// A response would say another status, or its content be read twice.
#[test]
fn responses() {
    check(
        r#"
const r = new Response("é", { status: 202, statusText: "Ok", headers: { a: "1" } }); same([r.status, r.statusText, r.ok, r.type, r.url, r.redirected, r.headers.get("content-type")], [202, "Ok", true, "default", "", false, "text/plain;charset=UTF-8"]);
for (const status of [199, 600, 0, 99, "x"]) throws("RangeError", () => new Response("", { status })); for (const status of [204, 205, 304]) { throws("TypeError", () => new Response("x", { status })); eq(new Response(null, { status }).body, null); }
throws("TypeError", () => new Response("", { statusText: "a\n" })); eq(new Response("", { headers: { "content-type": "x" } }).headers.get("content-type"), "x");
const j = Response.json({ a: 1 }, { status: 201, headers: { b: "2" } }); same([j.status, j.headers.get("content-type"), j.headers.get("b"), await j.json()], [201, "application/json", "2", { a: 1 }]); throws("TypeError", () => Response.json(Symbol())); throws("TypeError", () => Response.json(undefined)); eq(Response.json(null).headers.get("content-type"), "application/json");
eq(Response.redirect("/x", 301).headers.get("location"), "https://a.test/x"); throws("RangeError", () => Response.redirect("/", 200)); throws("TypeError", () => Response.redirect("http://:bad")); throws("TypeError", () => Response.redirect("/").headers.set("a", "1") ?? (() => { throw new TypeError("x"); })());
same([Response.error().type, Response.error().status], ["error", 0]);
const b = new Uint8Array([1, 2, 3]), body = new Response(b); b[0] = 9; same([...await body.bytes()], [1, 2, 3], "copied when given");
same([...new Uint8Array(await new Response(new Uint8Array([0, 1, 2, 3]).subarray(1, 3)).arrayBuffer())], [1, 2]); eq(await new Response(new DataView(new Uint8Array([65, 66]).buffer, 1)).text(), "B"); eq(await new Response(5).text(), "5"); eq(await new Response({}).text(), "[object Object]"); eq(await new Response().text(), ""); eq(await new Response("\ufeffx").text(), "x"); eq((await new Response("\ud800").bytes()).length, 3);
const one = new Response("twice"), two = one.clone(); const stream = one.body; eq(stream, one.body); eq(stream.locked, false); same([await two.text(), await one.text()], ["twice", "twice"]); eq(one.bodyUsed, true); await rejects("TypeError", () => one.text()); eq(stream.locked, true);
const locked = new Response("x"); locked.body.getReader(); await rejects("TypeError", () => locked.text()); throws("TypeError", () => locked.clone()); throws("TypeError", () => new Response(locked.body));
const shared = new Response(new Uint8Array([1])), other = shared.clone(); (await shared.bytes())[0] = 7; same([...await other.bytes()], [1], "clones do not share");
const empty = new Response(null); eq(empty.bodyUsed, false); await empty.text(); eq(empty.bodyUsed, false);
eq("json" in Response.prototype && typeof globalThis.Body, "undefined"); eq(Object.getPrototypeOf(Response.prototype), Object.prototype);
const detached = new Uint8Array(4); detached.buffer.transfer(); eq((await new Response(detached).bytes()).length, 0);
// Traps in what is handed over run before anything is read, and what they throw comes out.
const evil = { get status() { throw new RangeError("trap"); } }; throws("RangeError", () => new Response("", evil)); const view = new Uint8Array([1, 2]); Object.defineProperty(view, "buffer", { get() { throw new Error("trap"); } }); Object.defineProperty(view, "byteLength", { value: 1 << 30 }); same([...await new Response(view).bytes()], [1, 2]);
eq((await crypto.subtle.digest("SHA-256", view)).byteLength, 32);
"#,
    );
}

/// Streams would lose chunks, overrun their readers, or hang when one end goes.
#[test]
fn streams() {
    check(
        r#"
const all = async s => { const out = []; for await (const x of s) out.push(x); return out; };
same(await all(ReadableStream.from([1, 2, 3])), [1, 2, 3]); same(await all(ReadableStream.from((async function* () { yield "a"; yield "b"; })())), ["a", "b"]);
let pulls = 0; const lazy = new ReadableStream({ pull(c) { c.enqueue(pulls++); } }, { highWaterMark: 2 }); await new Promise(r => setTimeout(r, 1)); eq(pulls, 2, "no more than asked"); const reader = lazy.getReader(); eq((await reader.read()).value, 0); throws("TypeError", () => lazy.getReader()); reader.releaseLock(); await rejects("TypeError", () => reader.read()); let why; const c2 = new ReadableStream({ cancel(r) { why = r; } }); await c2.cancel("gone"); eq(why, "gone");
const failing = new ReadableStream({ start(c) { c.enqueue(1); c.error(new RangeError("x")); } }); await rejects("RangeError", () => all(failing)); await rejects("RangeError", () => all(new ReadableStream({ pull() { throw new RangeError("p"); } })));
const closed = new ReadableStream({ start(c) { c.close(); throws("TypeError", () => c.enqueue(1)); throws("TypeError", () => c.close()); } }); same(await closed.getReader().read(), { done: true });
const [a, b] = ReadableStream.from(["x", "y"]).tee(); same([await all(a), await all(b)], [["x", "y"], ["x", "y"]]);
const got = []; await ReadableStream.from([1, 2]).pipeTo(new WritableStream({ async write(x) { await 0; got.push(x); }, close() { got.push("end"); } })); same(got, [1, 2, "end"]);
const up = new TransformStream({ transform(x, c) { c.enqueue(x * 2); c.enqueue(x); }, flush(c) { c.enqueue("f"); } }); same(await all(ReadableStream.from([1, 2]).pipeThrough(up)), [2, 1, 4, 2, "f"]);
same(await all(ReadableStream.from(["a\ud83d", "\ude00b"]).pipeThrough(new TextEncoderStream()).pipeThrough(new TextDecoderStream())), ["a", "😀b"]);
await rejects("RangeError", () => all(ReadableStream.from([1]).pipeThrough(new TransformStream({ transform() { throw new RangeError("t"); } })))); let aborted; await rejects("RangeError", () => new ReadableStream({ pull() { throw new RangeError("src"); } }).pipeTo(new WritableStream({ abort(r) { aborted = r.message; } }))); eq(aborted, "src");
const stop = new AbortController(), endless = new ReadableStream({ pull(c) { c.enqueue(0); } }).pipeTo(new WritableStream({ write() { return new Promise(r => setTimeout(r, 1)); } }), { signal: stop.signal }); setTimeout(() => stop.abort(), 5); await rejects("AbortError", () => endless);
let left = false; for await (const x of new ReadableStream({ pull(c) { c.enqueue(1); }, cancel() { left = true; } })) break; eq(left, true);
const w = new WritableStream({}, { highWaterMark: 1 }).getWriter(); eq(w.desiredSize, 1); const first = w.write(1); eq(w.desiredSize, 0); await first; await w.ready; await w.close(); await w.closed; await rejects("TypeError", () => w.write(2));
throws("TypeError", () => new ReadableStream({ type: "other" })); throws("TypeError", () => new ReadableStream({ pull: 1 })); throws("RangeError", () => new ReadableStream({}, { highWaterMark: -1 })); throws("TypeError", () => new ReadableStream().getReader({ mode: "byob" }));
const weights = []; const sized = new ReadableStream({ start(c) { c.enqueue("abc"); weights.push(c.desiredSize); } }, { highWaterMark: 5, size: x => x.length }); same(weights, [2]);
"#,
    );
}
