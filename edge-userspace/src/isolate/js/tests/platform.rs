//! What the platform's standards say, group by group; what breaks is a library that a worker brings along.

use super::harness::check;

/// Text would come out garbled: the Encoding standard's cases.
#[test]
fn encoding() {
    check(
        r#"
const bytes = (...b) => new Uint8Array(b), decode = (b, label, o) => new TextDecoder(label, o).decode(b);
same([...new TextEncoder().encode("aé€😀")], [97, 195, 169, 226, 130, 172, 240, 159, 152, 128]);
same([...new TextEncoder().encode("\ud800x\udc00")], [239, 191, 189, 120, 239, 191, 189], "lone surrogates");
eq(new TextEncoder().encode().length, 0);
const into = new Uint8Array(4), done = new TextEncoder().encodeInto("é€x", into);
same([done.read, done.written, ...into], [1, 2, 195, 169, 0, 0]);
same(new TextEncoder().encodeInto("ab", new Uint8Array(8)), { read: 2, written: 2 });
// Maximal parts (Unicode, table 3-8), one U+FFFD each.
const F = "\ufffd";
for (const [input, text] of [[[0xff], F], [[0xc0, 0x80], F + F], [[0xe2, 0x82], F], [[0xf0, 0x9f, 0x98], F], [[0xed, 0xa0, 0x80], F + F + F],
  [[0xf4, 0x90, 0x80, 0x80], F.repeat(4)], [[0xe2, 0x82, 0x41], F + "A"], [[0x61, 0xf1, 0x80, 0x80, 0xe1, 0x80, 0xc2, 0x62], "a" + F.repeat(3) + "b"],
  [[0xc3, 0xa9], "é"]]) {
  eq(decode(bytes(...input)), text, input.map(b => b.toString(16)).join(" "));
  if (text.includes(F)) throws("TypeError", () => decode(bytes(...input), "utf-8", { fatal: true }));
}
const bom = bytes(0xef, 0xbb, 0xbf, 0x61);
eq(decode(bom), "a"); eq(decode(bom, "utf-8", { ignoreBOM: true }), "\ufeffa");
eq(decode(bytes(0xef, 0xbb, 0xbf, 0xef, 0xbb, 0xbf)), "\ufeff", "only the first");
const stream = new TextDecoder(); let text = "";
for (const b of new TextEncoder().encode("\ufeffaé€😀z")) text += stream.decode(bytes(b), { stream: true });
eq(text + stream.decode(), "aé€😀z");
stream.decode(bytes(0xe2), { stream: true }); eq(stream.decode(), F, "cut off at the end");
const strict = new TextDecoder("utf-8", { fatal: true });
strict.decode(bytes(0xe2), { stream: true }); throws("TypeError", () => strict.decode()); eq(strict.decode(bytes(0x61)), "a", "starts anew");
eq(decode(bytes(0x61, 0, 0x3d, 0xd8, 0, 0xde), "utf-16"), "a😀"); eq(decode(bytes(0, 0x61, 0xd8, 0x3d), "utf-16be"), "a" + F);
eq(decode(bytes(0xff, 0xfe, 0x61, 0), "utf-16le"), "a"); eq(decode(bytes(0x61), "utf-16le"), F);
throws("TypeError", () => decode(bytes(0, 0xdc), "utf-16le", { fatal: true }));
const wide = new TextDecoder("utf-16le"); eq(wide.decode(bytes(0x3d), { stream: true }) + wide.decode(bytes(0xd8, 0), { stream: true }) + wide.decode(bytes(0xde)), "😀");
same([new TextDecoder(" UTF8\n").encoding, new TextDecoder("unicode").encoding, new TextDecoder("UTF-16BE").encoding], ["utf-8", "utf-16le", "utf-16be"]);
throws("RangeError", () => new TextDecoder("latin-9000")); throws("RangeError", () => new TextDecoder("iso-8859-1"));
eq(decode(new Uint8Array([1, 97, 98, 2]).subarray(1, 3)), "ab"); eq(decode(new DataView(bytes(97, 98).buffer, 1)), "b"); eq(decode(bytes(99).buffer), "c");
eq(decode(new Uint16Array([0x6161])), "aa"); throws("TypeError", () => decode("text"));
eq(btoa("aé"), "Yek="); eq(atob(" Yek= "), "aé"); throws("InvalidCharacterError", () => btoa("€")); throws("InvalidCharacterError", () => atob("a"));
"#,
    );
}

/// Query strings would be read or written as another than the client meant.
#[test]
fn search_params() {
    check(
        r#"
const p = new URLSearchParams("?a=1&a=2&b=%C3%A9+x&c&=d&%zz=%&e=%F0%9F%98%80");
same([...p], [["a", "1"], ["a", "2"], ["b", "é x"], ["c", ""], ["", "d"], ["%zz", "%"], ["e", "😀"]]);
eq(`${p}`, "a=1&a=2&b=%C3%A9+x&c=&=d&%25zz=%25&e=%F0%9F%98%80");
same([p.get("a"), p.get("none"), p.getAll("a"), p.has("c"), p.has("a", "3"), p.size], ["1", null, ["1", "2"], true, false, 7]);
p.set("a", "9"); p.delete("b"); p.append("z", "&=+"); eq(`${p}`, "a=9&c=&=d&%25zz=%25&e=%F0%9F%98%80&z=%26%3D%2B");
same([...new URLSearchParams({ x: 1, y: "ü" })], [["x", "1"], ["y", "ü"]]); same([...new URLSearchParams([["k", "v"]])], [["k", "v"]]);
throws("TypeError", () => new URLSearchParams([["one"]]));
eq(`${new URLSearchParams("z=1&\ufb03=2&🌈=3&a=4&a=3")}`.length > 0, true);
const s = new URLSearchParams("\ufffd=a&\ufb03=b&🌈=c&a=d"); s.sort(); same([...s.keys()], ["a", "🌈", "\ufb03", "\ufffd"], "by code units");
eq(`${new URLSearchParams("*-._~ !")}`, "*-._%7E+%21="); eq(`${new URLSearchParams({ "\ud800": "x" })}`, "%EF%BF%BD=x");
const live = new URLSearchParams("a=1&b=2&c=3"), seen = []; for (const [k] of live) { seen.push(k); if (k === "a") live.delete("b"); } same(seen, ["a", "c"], "live");
const u = new URL("https://h/?q=1#f"); u.searchParams.append("r", "é"); eq(u.href, "https://h/?q=1&r=%C3%A9#f"); u.search = "?new"; eq(u.searchParams.get("new"), "");
u.searchParams.delete("new"); eq(u.href, "https://h/#f"); eq(u.searchParams, u.searchParams); u.href = "https://i/?k=v"; eq(u.searchParams.get("k"), "v");
eq(Object.prototype.toString.call(p[Symbol.iterator]()), "[object URLSearchParams Iterator]");
"#,
    );
}

/// Signatures of others would not verify, or forged ones would.
#[test]
fn cryptography() {
    check(
        r#"
const hex = b => [...new Uint8Array(b)].map(x => x.toString(16).padStart(2, "0")).join(""), enc = t => new TextEncoder().encode(t);
for (const [name, wanted] of [["SHA-1", "a9993e364706816aba3e25717850c26c9cd0d89d"], ["sha-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
  ["SHA-384", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"], [{ name: "SHA-512" }, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"]])
  eq(hex(await crypto.subtle.digest(name, enc("abc"))), wanted);
eq(hex(await crypto.subtle.digest("SHA-256", new ArrayBuffer(0))).slice(0, 8), "e3b0c442");
await rejects("NotSupportedError", () => crypto.subtle.digest("MD5", enc("")));
// RFC 4231, case 2.
const key = await crypto.subtle.importKey("raw", enc("Jefe"), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
const mac = await crypto.subtle.sign("HMAC", key, enc("what do ya want for nothing?"));
eq(hex(mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
eq(await crypto.subtle.verify("HMAC", key, mac, enc("what do ya want for nothing?")), true);
const bad = new Uint8Array(mac.slice()); bad[31] ^= 1;
eq(await crypto.subtle.verify("HMAC", key, bad, enc("what do ya want for nothing?")), false);
eq(await crypto.subtle.verify("HMAC", key, mac.slice(0, 16), enc("what do ya want for nothing?")), false);
same([key.type, key.extractable, key.algorithm, key.usages], ["secret", false, { name: "HMAC", hash: { name: "SHA-256" }, length: 32 }, ["sign", "verify"]]);
await rejects("InvalidAccessError", () => crypto.subtle.exportKey("raw", key));
const jwk = { kty: "oct", k: "SmVmZQ", alg: "HS256" };
const other = await crypto.subtle.importKey("jwk", jwk, { name: "HMAC", hash: "SHA-256" }, true, ["verify"]);
eq(await crypto.subtle.verify("HMAC", other, mac, enc("what do ya want for nothing?")), true);
eq((await crypto.subtle.exportKey("jwk", other)).k, "SmVmZQ"); eq(hex(await crypto.subtle.exportKey("raw", other)), "4a656665");
await rejects("InvalidAccessError", () => crypto.subtle.sign("HMAC", other, enc("x")));
await rejects("NotSupportedError", () => crypto.subtle.importKey("raw", enc("k"), { name: "AES-GCM" }, false, ["encrypt"]));
await rejects("SyntaxError", () => crypto.subtle.importKey("raw", enc("k"), { name: "HMAC", hash: "SHA-1" }, false, []));
const made = await crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-512" }, true, ["sign"]); eq((await crypto.subtle.exportKey("raw", made)).byteLength, 128);
eq(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()), true);
const array = new Uint32Array(4); eq(crypto.getRandomValues(array), array); eq(array.some(x => x), true);
throws("TypeMismatchError", () => crypto.getRandomValues(new Float32Array(1))); throws("QuotaExceededError", () => crypto.getRandomValues(new Uint8Array(65537)));
throws("TypeError", () => new CryptoKey());
"#,
    );
}

/// Copies would share what they must not, or lose what they had.
#[test]
fn structured_clone() {
    check(
        r#"
const date = new Date(5), inner = { x: 1 }, all = { date, re: /a+/gi, map: new Map([[inner, [inner]]]), set: new Set([1, "a"]), big: 10n, nan: NaN, u: undefined,
  bytes: new Uint8Array([1, 2, 3]).subarray(1), view: new DataView(new ArrayBuffer(2)), error: new RangeError("far", { cause: inner }), boxed: Object("s") };
all.self = all;
const copy = structuredClone(all);
eq(copy.self, copy); eq(copy.date.getTime(), 5); eq(copy.date === date, false); eq(`${copy.re}`, "/a+/gi"); const [k] = copy.map.keys(); eq(copy.map.get(k)[0], k, "identity");
eq(copy.set.has("a"), true); eq(copy.big, 10n); eq(Object.is(copy.nan, NaN), true); eq("u" in copy, true); same([...copy.bytes], [2, 3]); eq(copy.bytes.byteOffset, 1);
eq(copy.error instanceof RangeError && copy.error.message === "far" && copy.error.cause.x === 1, true); eq(typeof copy.boxed, "object");
const holes = structuredClone([1, , 3]); eq(1 in holes, false); eq(holes.length, 3);
class Mine { constructor() { this.a = 1; } get b() { return 2; } } const plain = structuredClone(new Mine()); eq(plain.constructor, Object); eq("b" in plain, false);
const buffer = new ArrayBuffer(4), moved = structuredClone({ buffer }, { transfer: [buffer] }); eq(buffer.detached, true); eq(moved.buffer.byteLength, 4);
for (const bad of [() => {}, Symbol(), new WeakMap(), Promise.resolve(), new Headers(), { f() {} }]) throws("DataCloneError", () => structuredClone(bad));
throws("DataCloneError", () => structuredClone(1, { transfer: [{}] }));
eq(structuredClone(new DOMException("m", "AbortError")).name, "AbortError");
"#,
    );
}

/// Timers would fire out of order, never, or for ever.
#[test]
fn timers_and_clocks() {
    check(
        r#"
const order = [];
setTimeout(() => order.push("b"), 10); setTimeout(x => order.push(x), 5, "a"); const gone = setTimeout(() => order.push("never"), 7); clearTimeout(gone);
setTimeout(() => order.push("c"), 10); queueMicrotask(() => order.push("first"));
await new Promise(r => setTimeout(r, 30)); same(order, ["first", "a", "b", "c"]);
let n = 0; await new Promise(r => { const id = setInterval(() => { if (++n === 3) { clearInterval(id); r(); } }, 1); }); eq(n, 3);
throws("TypeError", () => setTimeout("code", 1)); clearTimeout(undefined); clearTimeout(12345);
const before = performance.now(); await new Promise(r => setTimeout(r, 20)); const took = performance.now() - before;
eq(took >= 19 && took < 5000, true, `took ${took}`); eq(Number.isInteger(performance.now()), true, "coarse"); eq(Math.abs(performance.timeOrigin - Date.now()) < 10000, true);
"#,
    );
}

/// What was aborted would go on, or its reason be lost.
#[test]
fn aborting() {
    check(
        r#"
const c = new AbortController(); let heard = 0; c.signal.addEventListener("abort", e => { heard++; eq(e.type, "abort"); eq(e.target, c.signal); }); c.signal.onabort = () => heard++;
c.abort(); c.abort(); eq(heard, 2); eq(c.signal.aborted, true); eq(c.signal.reason.name, "AbortError"); throws("AbortError", () => c.signal.throwIfAborted());
const own = new AbortController(); own.abort("why"); eq(own.signal.reason, "why"); eq(AbortSignal.abort(5).reason, 5);
const t = AbortSignal.timeout(5), any = AbortSignal.any([new AbortController().signal, t]); await new Promise(r => any.addEventListener("abort", r)); eq(any.reason.name, "TimeoutError"); eq(t.aborted, true);
throws("TypeError", () => new AbortSignal()); throws("TypeError", () => AbortSignal.any([1]));
const target = new EventTarget(), said = []; const f = e => said.push(e.type); target.addEventListener("x", f); target.addEventListener("x", f); target.addEventListener("x", { handleEvent() { said.push("object"); } }, { once: true });
target.dispatchEvent(new Event("x")); target.dispatchEvent(new Event("x")); target.removeEventListener("x", f); target.dispatchEvent(new Event("x")); same(said, ["x", "object", "x"]);
const e = new Event("y", { cancelable: true }); target.addEventListener("y", e => e.preventDefault()); eq(target.dispatchEvent(e), false); eq(e.defaultPrevented, true);
"#,
    );
}

/// Our own reading and writing of JSON would differ from the language's: everything is compared with the long way.
#[test]
fn json() {
    check(
        r#"
const slow = v => JSON.stringify(v, (k, x) => x), read = t => JSON.parse(t, (k, x) => x);
class C { constructor() { this.x = 1; } } class T { toJSON(k) { return "t" + k; } }
const values = [{}, [], { a: [1, -0, 1.5, 1e21, 1e-7, 0.1, 123456789.25, -2147483648, 4294967296, 2 ** 53, 1.005, 0.07, NaN, Infinity, 1/3] }, [undefined, () => 1, Symbol(), null, true],
  { u: undefined, f() {}, s: Symbol(), n: null }, { 2: "b", 1: "a", z: 0, [Symbol()]: 1 }, { "": 1, "é": "ü", "\ud800": "\udc00x", "😀": "😀\u2028\u0000\u001f\"\\\b\f\n\r\t/" }, [[[[1]]]], new C(), [new C()], new T(), { t: new T() },
  { get a() { return 5; } }, Object.create({ inherited: 1 }), Object.create(null), Object.assign(Object.create(null), { a: 1 }), new Date(0), new Map([[1, 2]]), Object(1), Object("s"), Object(false), [, 1], "a" + "b".repeat(500), { k: "x".repeat(300) + "y".repeat(300) },
  Object.defineProperty({ a: 1 }, "hidden", { value: 2 }), new Uint8Array(3), new Proxy({ a: 1 }, {}), new Proxy([1], {}), { toJSON: 1 }, { a: { toJSON() { return 7; } } }, (function () { return arguments; })(1, 2), { "0x": 1, "9": 2 }, Object.assign([1], { extra: 1 })];
for (const v of values) { eq(JSON.stringify(v), slow(v), slow(v)); const t = slow(v); if (t !== undefined) { eq(slow(JSON.parse(t)), slow(read(t)), t); eq(JSON.stringify(JSON.parse(t)), slow(read(t))); } }
eq(JSON.stringify(undefined), undefined); eq(JSON.stringify(() => 1), undefined); eq(JSON.stringify("é"), '"é"'); eq(JSON.stringify({ a: [1] }, null, 2), '{\n  "a": [\n    1\n  ]\n}'); eq(JSON.stringify({ a: 1, b: 2 }, ["b"]), '{"b":2}');
throws("TypeError", () => { const c = {}; c.c = c; JSON.stringify(c); }); throws("TypeError", () => JSON.stringify({ b: 1n }));
Object.prototype.toJSON = () => "patched"; eq(JSON.stringify({ a: 1 }), '"patched"'); delete Object.prototype.toJSON; Array.prototype.toJSON = () => 1; eq(JSON.stringify([5]), "1"); delete Array.prototype.toJSON;
const rows = JSON.parse('[{"id":1,"n":"a"},{"id":2,"n":"b"},{"id":3},{"n":"c","id":4},{"id":5,"n":"d","m":1},{"id":6,"id":7},{"id":8,"n":"e","m":2},{"__proto__":1},{"i\\u0064":9}]');
eq(slow(rows), '[{"id":1,"n":"a"},{"id":2,"n":"b"},{"id":3},{"n":"c","id":4},{"id":5,"n":"d","m":1},{"id":7},{"id":8,"n":"e","m":2},{"__proto__":1},{"id":9}]');
rows[0].id = 99; rows[1].extra = 1; eq(rows[2].id, 3); delete rows[4].n; eq(rows[6].n, "e", "rows do not share what they hold");
eq(Object.is(JSON.parse("-0"), -0), true); eq(JSON.parse("1E3"), 1000); eq(JSON.parse("0.1"), 0.1); eq(JSON.parse("9007199254740993"), 9007199254740992); eq(JSON.parse("123456789012345678901234567890"), 123456789012345678901234567890); eq(JSON.parse("-1.7976931348623157e308"), -Number.MAX_VALUE);
for (let i = 0; i < 2000; i++) { const x = (Math.random() - 0.5) * 10 ** Math.floor(Math.random() * 16 - 3), y = Math.round(x * 100) / 100; for (const z of [x, y, Math.round(x)]) { eq(JSON.stringify([z]), `[${Object.is(z, -0) ? 0 : z}]`); eq(JSON.parse(`[${z}]`)[0], +`${z}`); } }
for (const bad of ["", " ", "{", "[", "[1,]", "{\"a\":1,}", "{a:1}", "01", "1.", ".5", "+1", "-", "\"\n\"", "\"\\x\"", "\"\\u12\"", "\"a", "tru", "nul", "1 2", "[1 2]", "{\"a\" 1}", "'a'", "\u00a01", "NaN", "[1e]", "{\"a\":}", "\ufeff1"]) throws("SyntaxError", () => JSON.parse(bad));
let deep = "[".repeat(400) + "]".repeat(400); eq(slow(JSON.parse(deep)), deep); eq(JSON.stringify(JSON.parse(deep)), deep);
eq(JSON.parse("\"\\ud83d\\ude00\\n\\u00e9\"").length, 4); eq(JSON.parse("\"\\ud800\""), "\ud800"); eq(JSON.parse("\"\ud800\""), "\ud800"); eq(JSON.parse(" [ 1 , { \"a\" : null } ] ")[1].a, null);
eq(JSON.parse(123), 123); eq(JSON.parse(["1"]), 1); eq(JSON.parse.length, 2); eq(JSON.stringify.name, "stringify");
same(await new Response('\ufeff{"a":"é"}').json(), { a: "é" }); await rejects("SyntaxError", () => new Response("{").json());
same(await new Response(new Uint8Array([0x22, 0xff, 0x22])).json(), "\ufffd");
"#,
    );
}
