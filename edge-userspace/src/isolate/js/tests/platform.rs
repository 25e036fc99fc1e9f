//! What the platform's standards say, group by group; what breaks is a library that a worker brings
//! along.

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
throws("RangeError", () => new TextDecoder("latin-9000")); throws("RangeError", () => new TextDecoder("replacement"));
eq(new TextDecoder("ISO-8859-1").encoding, "windows-1252"); eq(decode(bytes(0xe9, 0x92), "latin1"), "é’"); eq(decode(bytes(0x83, 0x41, 0x83), "sjis"), "ア" + F);
const sjis = new TextDecoder("shift_jis"); eq(sjis.decode(bytes(0x83), { stream: true }) + sjis.decode(bytes(0x41), { stream: true }) + sjis.decode(), "ア");
const jis = new TextDecoder("iso-2022-jp"); eq(jis.decode(bytes(0x1b, 0x24, 0x42, 0x25), { stream: true }) + jis.decode(bytes(0x22, 0x1b, 0x28, 0x42)), "ア");
throws("TypeError", () => decode(bytes(0x83), "sjis", { fatal: true }));
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
await rejects("DataError", () => crypto.subtle.importKey("raw", enc("k"), { name: "AES-GCM" }, false, ["encrypt"]));
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
eq(JSON.stringify(structuredClone(new TypeError("x"))), "{}", "no property of an error can be enumerated");
const growing = structuredClone(new ArrayBuffer(2, { maxByteLength: 8 })); same([growing.resizable, growing.maxByteLength, growing.byteLength], [true, 8, 2]);
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
const source = new AbortController(), follows = AbortSignal.any([AbortSignal.any([source.signal]), source.signal]), calls = [];
follows.onabort = () => calls.push("follows"); source.signal.onabort = () => calls.push("source", follows.aborted); source.abort(7); same([calls, follows.reason], [["source", true, "follows"], 7]);
same([AbortSignal.any([AbortSignal.abort(1), AbortSignal.abort(2)]).reason, AbortSignal.any([]).aborted], [1, false]);
const target = new EventTarget(), said = []; const f = e => said.push(e.type); target.addEventListener("x", f); target.addEventListener("x", f); target.addEventListener("x", { handleEvent() { said.push("object"); } }, { once: true });
target.dispatchEvent(new Event("x")); target.dispatchEvent(new Event("x")); target.removeEventListener("x", f); target.dispatchEvent(new Event("x")); same(said, ["x", "object", "x"]);
const e = new Event("y", { cancelable: true }); target.addEventListener("y", e => e.preventDefault()); eq(target.dispatchEvent(e), false); eq(e.defaultPrevented, true);
"#,
    );
}

/// Our own reading and writing of JSON would differ from the language's: everything is compared
/// with the long way.
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

/// Forms and files would be read as nothing, or sent as what no server reads.
#[test]
fn forms_blobs_and_files() {
    check(
        r#"
const form = new FormData(); form.append("a", "1"); form.append("a", "zwei\nzeilen"); form.append('q"x', new File(["hi\r\n--"], 'n"ä.txt', { type: "text/plain" })); form.set("b", new Blob(["x"]));
same([form.get("a"), form.getAll("a").length, form.has("b"), form.get("b").name, [...form.keys()].length], ["1", 2, true, "blob", 4]);
const sent = new Request("https://a.test/", { method: "POST", body: form }), type = sent.headers.get("content-type");
eq(/^multipart\/form-data; boundary=/.test(type), true, type);
const back = await new Response(await sent.bytes(), { headers: { "content-type": type } }).formData();
same([back.getAll("a"), back.get('q"x').name, back.get('q"x').type, await back.get('q"x').text()], [["1", "zwei\r\nzeilen"], 'n"ä.txt', "text/plain", "hi\r\n--"]);
same([...await new Response("a=1&b=%C3%A9+c", { headers: { "content-type": "application/x-www-form-urlencoded" } }).formData()], [["a", "1"], ["b", "é c"]]);
const multipart = (body, boundary = "B") => new Response(body.replaceAll("\n", "\r\n"), { headers: { "content-type": `Multipart/Form-Data; charset=x; boundary="${boundary}"` } }).formData();
same([...await multipart('junk\n--B\nContent-Disposition: form-data; name="x"\n\n-Bogus\n--\n--B  \ncontent-disposition:form-data;name=y\n\n\n--B--\nepilogue')], [["x", "-Bogus\r\n--"], ["y", ""]]);
for (const bad of ["", "--B", '--B\ncontent-disposition: form-data; name="x"\n\n1', "--B\n\n1\n--B--", "--C--"]) await rejects("TypeError", () => multipart(bad));
await rejects("TypeError", () => new Response("x").formData());
const blob = new Blob(["a€", new Uint8Array([98]), new Blob(["c"])], { type: "Text/X" });
same([blob.size, blob.type, await blob.text(), await blob.slice(-2).text(), await blob.slice(1, 4, "y/z").text(), blob.slice(1, 4, "y/z").type], [6, "text/x", "a€bc", "bc", "€", "y/z"]);
same([...await blob.slice(4).bytes()], [98, 99]); eq((await new Response(blob.stream()).text()), "a€bc"); eq((await blob.arrayBuffer()).byteLength, 6);
eq(new Response(blob).headers.get("content-type"), "text/x"); const got = await new Response("x", { headers: { "content-type": "Text/Y; Charset=a" } }).blob(); same([got.type, got.size], ["text/y;charset=a", 1]);
const file = new File(["x"], "f", { lastModified: 5 }); same([file.name, file.lastModified, file instanceof Blob, structuredClone(file).name], ["f", 5, true, "f"]);
throws("TypeError", () => new Blob("text")); throws("TypeError", () => new File(["x"])); throws("TypeError", () => form.append("x", "text", "name"));
"#,
    );
}

/// A library that reads into its own buffers, or compresses, would not load.
#[test]
fn byte_streams_and_compression() {
    check(
        r#"
const text = new TextDecoder(), part = async (reader, view) => { const { value, done } = await reader.read(view); return [text.decode(value), done]; };
const reader = new Response("hello world").body.getReader({ mode: "byob" });
same([await part(reader, new Uint8Array(4)), await part(reader, new Uint8Array(20)), await part(reader, new Uint8Array(1))], [["hell", false], ["o world", false], ["", true]]);
const asked = []; const pulled = new ReadableStream({ type: "bytes", pull(c) { const { byobRequest } = c; asked.push(byobRequest?.view.byteLength ?? null); if (!byobRequest) return c.enqueue(new Uint8Array([9])); byobRequest.view[0] = 7; byobRequest.respond(1); } });
const own = pulled.getReader({ mode: "byob" }); same([...(await own.read(new Uint8Array(3))).value], [7]); own.releaseLock(); same([...(await pulled.getReader().read()).value], [9]); same(asked, [3, null]);
const words = new ReadableStream({ type: "bytes", start(c) { c.enqueue(new Uint8Array([1, 0, 2])); c.enqueue(new Uint8Array([0, 3, 0])); c.close(); } }).getReader({ mode: "byob" });
same([...(await words.read(new Uint16Array(2))).value], [1, 2]); same([...(await words.read(new Uint16Array(2))).value], [3]); eq((await words.read(new Uint16Array(1))).done, true);
const auto = new ReadableStream({ type: "bytes", autoAllocateChunkSize: 5, pull(c) { c.byobRequest.view.set([1, 2]); c.byobRequest.respond(2); c.close(); } }).getReader(); same([...(await auto.read()).value], [1, 2]); eq((await auto.read()).done, true);
await rejects("TypeError", () => reader.read(new Uint8Array(0))); throws("TypeError", () => new ReadableStream().getReader({ mode: "byob" }));
const broken = new ReadableStream({ type: "bytes", start(c) { c.error(new RangeError("x")); } }); await rejects("RangeError", () => broken.getReader({ mode: "byob" }).read(new Uint8Array(1)));
const [one, two] = new Response("abc").body.tee(); same([await new Response(one).text(), await new Response(two).text()], ["abc", "abc"]);
const gzipped = new Response("x".repeat(30000)).body.pipeThrough(new CompressionStream("gzip")), small = await new Response(gzipped).bytes(); eq(small.length < 300 && small[0] === 0x1f, true);
eq((await new Response(new Blob([small]).stream().pipeThrough(new DecompressionStream("gzip"))).text()).length, 30000);
for (const format of ["deflate", "deflate-raw"]) eq(await new Response(new Response("é").body.pipeThrough(new CompressionStream(format)).pipeThrough(new DecompressionStream(format))).text(), "é");
await rejects("TypeError", () => new Response(new Response("no gzip").body.pipeThrough(new DecompressionStream("gzip"))).text()); await rejects("TypeError", () => new Response(new Blob([small.slice(0, 20)]).stream().pipeThrough(new DecompressionStream("gzip"))).text());
throws("TypeError", () => new CompressionStream("zip")); throws("TypeError", () => new CompressionStream());
"#,
    );
}

/// A pipe or a transform would hang until the request's limit when its other end fails.
#[test]
fn streams_settle() {
    check(
        r#"
const soon = p => Promise.race([p, new Promise(r => setTimeout(r, 300, "hangs"))]), fails = async (name, p) => { try { eq(await soon(p), name); } catch (e) { eq(e.name, name, e.message); } };
const closed = new WritableStream(); await closed.close(); let why; await fails("TypeError", new ReadableStream({ cancel(r) { why = r.name; } }).pipeTo(closed)); eq(why, "TypeError");
let control; const to = new WritableStream({ start(c) { control = c; } }), pipe = new ReadableStream({ cancel(r) { why = r.message; } }).pipeTo(to); pipe.catch(() => {}); await new Promise(r => setTimeout(r, 2)); control.error(new RangeError("gone")); await fails("RangeError", pipe); eq(why, "gone");
const rejecting = new TransformStream({ start() { return Promise.reject(new RangeError("n")); } }); await fails("RangeError", rejecting.readable.getReader().read()); await fails("RangeError", rejecting.writable.getWriter().closed);
throws("RangeError", () => new TransformStream({ start() { throw new RangeError("n"); } }));
const sized = new TransformStream(undefined, new ByteLengthQueuingStrategy({ highWaterMark: 20 })).writable.getWriter(); sized.write(new Uint8Array(10)); eq(sized.desiredSize, 10); eq(new CountQueuingStrategy({ highWaterMark: 3 }).highWaterMark, 3);
const abort = new AbortController(); let ends = []; const aborted = new ReadableStream({ cancel(r) { ends.push(r.name); } }).pipeTo(new WritableStream({ abort(r) { ends.push(r.name); } }), { signal: abort.signal }); abort.abort(); await fails("AbortError", aborted); same(ends, ["AbortError", "AbortError"]);
const slow = []; await new ReadableStream({ start(c) { for (const x of "abc") c.enqueue(x); c.close(); } }).pipeTo(new WritableStream({ async write(x) { await null; slow.push(x); }, close() { slow.push("end"); } })); same(slow, ["a", "b", "c", "end"], "what was read is written");
const writer = new WritableStream({ write() { throw new RangeError("w"); } }).getWriter(); await fails("RangeError", writer.write(1)); await fails("RangeError", writer.closed); await fails("RangeError", writer.write(2));
let aborts; const stopping = new WritableStream({ write() { return new Promise(r => setTimeout(r, 5)); }, abort(r) { aborts = r; } }).getWriter(); await soon(null); const first = stopping.write(1), second = stopping.write(2); second.catch(() => {}); await stopping.abort("stop"); eq(await first, undefined); eq(aborts, "stop"); await rejects(undefined, () => second).catch(() => {});
let cancelled; const cancelling = new TransformStream({ cancel(r) { cancelled = r; } }); await cancelling.readable.cancel("enough"); eq(cancelled, "enough");
const through = new ReadableStream({ pull(c) { c.error(new RangeError("src")); } }).pipeThrough(new TransformStream()); await fails("RangeError", through.getReader().read());
"#,
    );
}

/// Code for other runtimes imports these, and would have to be rewritten.
#[test]
fn modules_of_node() {
    if super::harness::bed().is_none() {
        return;
    }
    let text = super::harness::answer(
        r#"import { AsyncLocalStorage } from "node:async_hooks"; import path, { join } from "path"; import { Buffer } from "node:buffer"; import EventEmitter, { once } from "events";
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"; import { promisify, inspect } from "util"; import assert from "node:assert"; import { env } from "cloudflare:workers"; import process from "node:process";
export default { async fetch(request, { A }) {
  const storage = new AsyncLocalStorage(), seen = [];
  await Promise.all([1, 2].map(n => storage.run(n, async () => { await null; seen.push(storage.getStore()); await new Promise(r => setTimeout(r, 3)); seen.push(storage.getStore()); setTimeout(() => seen.push(storage.getStore()), 1); })));
  await new Promise(r => setTimeout(r, 9)); assert.deepStrictEqual([...seen.toSorted(), storage.getStore()], [1, 1, 1, 2, 2, 2, undefined]);
  const emitter = new EventEmitter(); setTimeout(() => emitter.emit("x", 4), 1); assert.deepEqual(await once(emitter, "x"), [4]); assert.throws(() => emitter.emit("error", new Error("e")));
  assert.equal(join("/a", "../b/./c"), "/b/c"); assert.equal(path.extname("a.b.c"), ".c"); assert.equal(path.relative("/a/b", "/a/c/d"), "../c/d");
  assert.equal(Buffer.from("aGk_", "base64url").toString("latin1"), "hi?"); assert.equal(Buffer.concat([Buffer.from("é"), Buffer.from([0x41])]).toString("hex"), "c3a941"); assert.equal(Buffer.from([1, 2, 3, 4]).readUInt32LE(0), 0x04030201);
  assert.equal(createHmac("sha256", "k").update("m").update("n").digest("hex").length, 64); assert.equal(randomBytes(9).length, 9); assert.ok(timingSafeEqual(Buffer.from("a"), Buffer.from("a")));
  assert.equal(await promisify((x, done) => done(null, x + 1))(1), 2); assert.equal(inspect({ a: [1] }), "{ a: [ 1 ] }"); assert.equal(process.env.A, A); assert.equal(env.A, A); assert.equal(typeof globalThis.process, "undefined");
  return new Response("fine"); } };"#,
    );
    assert_eq!(text.as_deref(), Ok("fine"));
}

/// Routers that match by URLPattern would send a request to the wrong place.
#[test]
fn url_patterns() {
    check(
        r#"
const groups = (pattern, url) => new URLPattern(...[pattern].flat()).exec(url)?.pathname.groups ?? null;
same(groups({ pathname: "/books/:id(\\d+)/*" }, "https://a.test/books/12/x/y"), { 0: "x/y", id: "12" }); eq(groups({ pathname: "/books/:id(\\d+)" }, "https://a.test/books/x"), null);
same(groups({ pathname: "/a/:b?" }, "https://a.test/a"), {}); same(groups({ pathname: "/f/:p+" }, "https://a.test/f/1/2"), { p: "1/2" }); same(groups({ pathname: "/{x}?y" }, "https://a.test/y"), {});
same(groups([":lang/x", "https://a.test/base/"], "https://a.test/base/de/x"), { lang: "de" });
const whole = new URLPattern("https://*.example.com:8443/a/:b\\?q=*#h"); same([whole.protocol, whole.hostname, whole.port, whole.pathname, whole.search, whole.hash], ["https", "*.example.com", "8443", "/a/:b", "q=*", "h"]);
eq(whole.test("https://x.example.com:8443/a/1?q=2#h"), true); eq(whole.test("https://x.example.com/a/1?q=2#h"), false); eq(new URLPattern({ pathname: "/A" }, { ignoreCase: true }).test("https://a.test/a"), true);
eq(new URLPattern({ pathname: "/é" }).test("https://a.test/%C3%A9"), true); eq(new URLPattern({ hostname: "a.test" }).test({ hostname: "A.TEST" }), true);
throws("TypeError", () => new URLPattern("/relative")); throws("TypeError", () => new URLPattern({ pathname: "/(" })); throws("TypeError", () => new URLPattern({ pathname: "/:a/:a" }));
"#,
    );
}

/// Tokens could not be verified, or would be taken when they are not good.
#[test]
fn keys_signatures_and_ciphers() {
    check(
        r#"
const { subtle } = crypto, bytes = text => new TextEncoder().encode(text), hex = b => new Uint8Array(b).toHex(), unhex = text => Uint8Array.fromHex(text), message = bytes("message");
// Each kind of key: made, used, written in each format, read back, and used again.
const signing = [[{ name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" }], [{ name: "ECDSA", namedCurve: "P-256" }, { name: "ECDSA", hash: "SHA-256" }], [{ name: "ECDSA", namedCurve: "P-384" }, { name: "ECDSA", hash: "SHA-384" }], [{ name: "Ed25519" }]];
for (const [how, by = how] of signing) {
  const { publicKey, privateKey } = await subtle.generateKey(how, true, ["sign", "verify"]), signature = await subtle.sign(by, privateKey, message);
  eq(await subtle.verify(by, publicKey, signature, message), true, how.name); eq(await subtle.verify(by, publicKey, signature, bytes("another")), false, how.name);
  for (const format of ["spki", "jwk"]) { const again = await subtle.importKey(format, await subtle.exportKey(format, publicKey), how, true, ["verify"]); eq(await subtle.verify(by, again, signature, message), true, `${how.name} ${format}`); }
  for (const format of ["pkcs8", "jwk"]) { const again = await subtle.importKey(format, await subtle.exportKey(format, privateKey), how, false, ["sign"]); eq(await subtle.verify(by, publicKey, await subtle.sign(by, again, message), message), true, `${how.name} ${format}`); await rejects("InvalidAccessError", () => subtle.exportKey(format, again)); }
  await rejects("InvalidAccessError", () => subtle.sign(by, publicKey, message)); await rejects("DataError", () => subtle.importKey("spki", new Uint8Array([48, 3, 1, 2]), how, true, ["verify"]));
}
for (const [how, size] of [[{ name: "ECDH", namedCurve: "P-256" }, 256], [{ name: "ECDH", namedCurve: "P-384" }, 384], [{ name: "X25519" }, 256]]) {
  const a = await subtle.generateKey(how, true, ["deriveBits"]), b = await subtle.generateKey(how, true, ["deriveBits", "deriveKey"]);
  eq(hex(await subtle.deriveBits({ name: how.name, public: b.publicKey }, a.privateKey, size)), hex(await subtle.deriveBits({ name: how.name, public: a.publicKey }, b.privateKey, size)), how.name);
  eq((await subtle.deriveKey({ name: how.name, public: a.publicKey }, b.privateKey, { name: "AES-GCM", length: 256 }, true, ["encrypt"])).algorithm.length, 256);
  await rejects("OperationError", () => subtle.deriveBits({ name: how.name, public: b.publicKey }, a.privateKey, size + 8));
}
const oaep = await subtle.generateKey({ name: "RSA-OAEP", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" }, true, ["encrypt", "decrypt", "wrapKey", "unwrapKey"]), label = bytes("l");
eq(hex(await subtle.decrypt({ name: "RSA-OAEP", label }, oaep.privateKey, await subtle.encrypt({ name: "RSA-OAEP", label }, oaep.publicKey, message))), hex(message)); await rejects("OperationError", async () => subtle.decrypt({ name: "RSA-OAEP" }, oaep.privateKey, await subtle.encrypt({ name: "RSA-OAEP", label }, oaep.publicKey, message)));
// NIST: AESAVS and SP 800-38A, F.5.1; RFC 3394, 4.1; RFC 5869, A.1; RFC 6070 by SHA-1; RFC 8032,
// 7.1.
const key = (name, raw, ...uses) => subtle.importKey("raw", raw, name, true, uses);
const gcm = await key("AES-GCM", new Uint8Array(32), "encrypt", "decrypt"), iv = new Uint8Array(12); eq(hex(await subtle.encrypt({ name: "AES-GCM", iv }, gcm, new Uint8Array(16))), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
const sealed = new Uint8Array(await subtle.encrypt({ name: "AES-GCM", iv, additionalData: label }, gcm, message)); eq(hex(await subtle.decrypt({ name: "AES-GCM", iv, additionalData: label }, gcm, sealed)), hex(message)); sealed[0] ^= 1; await rejects("OperationError", () => subtle.decrypt({ name: "AES-GCM", iv, additionalData: label }, gcm, sealed));
const ctr = await key("AES-CTR", unhex("2b7e151628aed2a6abf7158809cf4f3c"), "encrypt"), counter = unhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"); eq(hex(await subtle.encrypt({ name: "AES-CTR", counter, length: 64 }, ctr, unhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"))), "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff");
const near = new Uint8Array(16).fill(255), split = await subtle.encrypt({ name: "AES-CTR", counter: near, length: 8 }, ctr, new Uint8Array(32)), after = new Uint8Array(16).fill(255); after[15] = 0; eq(hex(split).slice(32), hex(await subtle.encrypt({ name: "AES-CTR", counter: after, length: 8 }, ctr, new Uint8Array(16))), "wraps"); await rejects("OperationError", () => subtle.encrypt({ name: "AES-CTR", counter: near, length: 1 }, ctr, new Uint8Array(48)));
const cbc = await key("AES-CBC", new Uint8Array(16), "encrypt", "decrypt"), boxed = await subtle.encrypt({ name: "AES-CBC", iv: new Uint8Array(16) }, cbc, message); eq(hex(await subtle.decrypt({ name: "AES-CBC", iv: new Uint8Array(16) }, cbc, boxed)), hex(message)); await rejects("OperationError", () => subtle.decrypt({ name: "AES-CBC", iv: new Uint8Array(16) }, cbc, boxed.slice(0, 8)));
const kek = await key("AES-KW", unhex("000102030405060708090a0b0c0d0e0f"), "wrapKey", "unwrapKey"), inner = await key("AES-CBC", unhex("00112233445566778899aabbccddeeff"), "encrypt"), wrapped = await subtle.wrapKey("raw", inner, kek, "AES-KW"); eq(hex(wrapped), "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"); eq(hex(await subtle.exportKey("raw", await subtle.unwrapKey("raw", wrapped, kek, "AES-KW", "AES-CBC", true, ["encrypt"]))), "00112233445566778899aabbccddeeff");
const derive = async (name, raw, params, bits) => hex(await subtle.deriveBits({ name, ...params }, await subtle.importKey("raw", raw, name, false, ["deriveBits"]), bits));
eq(await derive("HKDF", new Uint8Array(22).fill(11), { hash: "SHA-256", salt: unhex("000102030405060708090a0b0c"), info: unhex("f0f1f2f3f4f5f6f7f8f9") }, 336), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"); eq(await derive("PBKDF2", bytes("passwordPASSWORDpassword"), { hash: "SHA-1", salt: bytes("saltSALTsaltSALTsaltSALTsaltSALTsalt"), iterations: 4096 }, 200), "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038");
const seed = unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"), jwk = { kty: "OKP", crv: "Ed25519", d: seed.toBase64({ alphabet: "base64url", omitPadding: true }), x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }; eq(hex(await subtle.sign("Ed25519", await subtle.importKey("jwk", jwk, "Ed25519", false, ["sign"]), new Uint8Array())), "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
await rejects("DataError", () => subtle.importKey("jwk", { ...jwk, x: jwk.d }, "Ed25519", false, ["sign"])); await rejects("NotSupportedError", () => subtle.digest("MD5", message)); await rejects("SyntaxError", () => subtle.importKey("raw", new Uint8Array(16), "AES-CBC", true, [])); await rejects("SyntaxError", () => subtle.importKey("raw", new Uint8Array(16), "AES-CBC", true, ["sign"])); await rejects("DataError", () => subtle.importKey("raw", new Uint8Array(5), "AES-CBC", true, ["encrypt"]));
"#,
    );
}

/// Prices, dates and lists would come out wrong, and nothing say so.
#[test]
fn locales_and_time_zones() {
    check(
        r#"
same([(1234567.891).toLocaleString(), (1234567.891).toLocaleString("de-DE"), (0.256).toLocaleString("en-US", { style: "percent" }), (1.005).toLocaleString("en", { maximumFractionDigits: 2 }), (10n ** 20n).toLocaleString()], ["1,234,567.891", "1.234.567,891", "26%", "1.01", "100,000,000,000,000,000,000"]);
const money = (l, c, n) => new Intl.NumberFormat(l, { style: "currency", currency: c }).format(n).replaceAll("\u00a0", " "); same([money("en-US", "USD", -1234.5), money("de", "EUR", 9.999), money("en", "JPY", 5.5), money("en-GB", "USD", 1)], ["-$1,234.50", "10,00 €", "¥6", "US$1.00"]);
const day = new Date(Date.UTC(2020, 1, 29, 13, 5, 7)), at = (l, o) => day.toLocaleString(l, o);
same([day.toLocaleDateString("en-US"), day.toLocaleTimeString("en-US"), at(), day.toLocaleDateString("de-DE"), day.toLocaleDateString("en-GB"), at("en-US", { dateStyle: "full", timeStyle: "short" })], ["2/29/2020", "1:05:07 PM", "2/29/2020, 1:05:07 PM", "29.2.2020", "29/02/2020", "Saturday, February 29, 2020 at 1:05 PM"]);
same([at("en-US", { timeZone: "America/New_York", timeZoneName: "short" }), at("en-US", { timeZone: "asia/kolkata", timeStyle: "long" }), new Date(Date.UTC(2020, 6, 1)).toLocaleString("en-US", { timeZone: "Europe/Berlin" }), at("en", { timeZone: "+05:30", timeStyle: "short" })], ["2/29/2020, 8:05:07 AM EST", "6:35:07 PM GMT+5:30", "7/1/2020, 2:00:00 AM", "6:35 PM"]);
const parts = Object.fromEntries(new Intl.DateTimeFormat("en-US", { hour12: false, timeZone: "America/New_York", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" }).formatToParts(day).map(p => [p.type, p.value])); same([parts.year, parts.month, parts.day, parts.hour, parts.minute], ["2020", "02", "29", "08", "05"]);
eq(["b", "a", "C", "ä", "é", "e", "f", "Z", "z", "10", "9"].sort((x, y) => x.localeCompare(y)).join(""), "109aäbCeéfzZ"); eq("a".localeCompare("A", undefined, { sensitivity: "base" }), 0); same(["a10", "a9"].sort(new Intl.Collator("en", { numeric: true }).compare), ["a9", "a10"]);
same(["I".toLocaleLowerCase("tr"), "i".toLocaleUpperCase("tr"), "I".toLocaleLowerCase()], ["ı", "İ", "i"]); same([1, 2, 21].map(n => new Intl.PluralRules("en", { type: "ordinal" }).select(n)), ["one", "two", "one"]);
eq(new Intl.ListFormat("en").format(["a", "b", "c"]), "a, b, and c"); eq(new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-1, "day"), "yesterday"); eq(Intl.DateTimeFormat().resolvedOptions().timeZone, "UTC"); eq(new Intl.NumberFormat("en", { notation: "compact" }).format(12345), "12K");
for (const wrong of [() => (1).toLocaleString("fr"), () => day.toLocaleString("ja-JP"), () => day.toLocaleString("en", { timeZone: "Mars/Base" }), () => day.toLocaleString("en", { calendar: "hebrew" }), () => (1).toLocaleString("en", { style: "unit", unit: "meter" }), () => "a".localeCompare("b", "sv"), () => new Intl.NumberFormat("no_such")]) throws("RangeError", wrong);
same(Intl.NumberFormat.supportedLocalesOf(["fr", "de-AT", "en"]), ["de-AT", "en"]);
"#,
    );
}

/// A page's files could not be had by the worker that stands in front of them, or what it says of
/// them by their host.
#[test]
fn a_worker_reads_its_files() {
    check(
        r#"
    const text = async (...asked) => (await env.ASSETS.fetch(...asked)).text();
    eq(await text("https://anything.test/a.css"), "GET /a.css");
    eq(await text("/b.css?c"), "GET /b.css");
    eq(await text(new URL("https://a.test/x/../c.css")), "GET /c.css");
    eq(await text(request), "GET /");
    eq(await text("/docs"), "GET /docs/", "redirects are followed");
    eq((await env.ASSETS.fetch("/docs", { redirect: "manual" })).status, 308);
    eq(await text("/d", { method: "POST", body: "x" }), "POST /d");
    await rejects("TypeError", () => env.ASSETS.fetch());
    await rejects("TypeError", () => env.ASSETS.fetch("data:,x"));
    throws("TypeError", () => new env.ASSETS.constructor());
"#,
    );
}

/// A worker would keep what it must not, get another URL's response, or lose a part of it.
#[test]
fn caches_keep_what_they_are_given() {
    check(
        r#"
    const page = caches.default, named = await caches.open("v1"), url = "https://a.test/page?x=1";
    eq(await page.match(url), undefined);
    eq(await page.put(url, new Response("text", { status: 203, headers: { "cache-control": "max-age=60", "x-a": "caf\u00e9" } })), undefined);
    const found = await page.match(new Request(url));
    same([found.status, found.headers.get("x-a"), await found.text(), found.url], [203, "caf\u00e9", "text", url]);
    eq(await (await page.match("/page?x=1#part")).text(), "text", "of the request in hand, without its fragment");
    eq(await page.match("https://a.test/page?x=2"), undefined);
    eq(await named.match(url), undefined, "another cache");
    eq(await (await caches.open("default")).match(url), undefined, "not the default one");
    eq(await page.match(new Request(url, { method: "POST" })), undefined);
    eq((await page.match(new Request(url, { method: "POST" }), { ignoreMethod: true })).status, 203);
    // Streams, and copies of what goes to the client.
    let n = 0;
    const stream = new ReadableStream({ pull(c) { n < 3 ? c.enqueue(new TextEncoder().encode(`${n++};`)) : c.close(); } });
    const answer = new Response(stream, { headers: { "cache-control": "max-age=60" } }), copy = answer.clone();
    await Promise.all([named.put(url, copy), answer.text().then(text => eq(text, "0;1;2;"))]);
    eq(await (await named.match(url)).text(), "0;1;2;");
    eq(copy.bodyUsed, true);
    await rejects("TypeError", () => named.put(url, copy));
    const broken = new ReadableStream({ pull(c) { c.error(new RangeError("broken")); } });
    await rejects("RangeError", () => named.put("https://a.test/broken", new Response(broken)).catch(error => { throw error.name === "RangeError" ? error : new RangeError(error.name); }));
    eq(await named.delete(url), true);
    eq(await named.delete(url), false);
    eq(await named.match(url), undefined);
    for (const bad of [() => page.match(), () => page.put(url), () => page.put(url, "x"), () => page.put(new Request(url, { method: "POST" }), new Response()),
      () => page.put(url, new Response("x", { headers: { vary: "accept, *" } })), () => page.put("data:,x", new Response()), () => caches.open(""),
      () => caches.open("a\nb"), () => page.put(url, Response.error())]) await rejects("TypeError", bad);
    throws("TypeError", () => new Cache());
"#,
    );
}

/// A library that asks what kind of event it has, or hands a bad argument over, would go another
/// way than in a browser.
#[test]
fn corners_are_as_the_standards_have_them() {
    check(
        r#"
    const target = new EventTarget(), seen = [];
    target.addEventListener("x", event => { event.stopPropagation(); seen.push(event.cancelBubble); event.returnValue = false; });
    const event = new Event("x", { cancelable: true });
    eq(target.dispatchEvent(event), false);
    same([seen, event.cancelBubble, event.returnValue, event.isTrusted], [[true], false, false, false]);
    const controller = new AbortController();
    controller.signal.onabort = event => seen.push(event.isTrusted);
    controller.abort();
    eq(seen[1], true);
    for (const Class of [CustomEvent, ErrorEvent, MessageEvent, CloseEvent]) throws("TypeError", () => new Class());
    const buffer = new ArrayBuffer(4);
    throws("DataCloneError", () => structuredClone(buffer, { transfer: [buffer, buffer] }));
    eq(buffer.byteLength, 4);
    await rejects("TypeError", () => crypto.subtle.importKey("foo", new Uint8Array(1), { name: "HMAC", hash: "SHA-1" }, true, ["sign"]));
    for (const bad of [{ mode: "navigate" }, { credentials: "some" }, { cache: "x" }, { referrerPolicy: "x" }]) throws("TypeError", () => new Request("https://a.test", bad));
    eq(new Request("https://a.test", { mode: "no-cors", credentials: "include", cache: "no-store" }).mode, "cors");
    // Tags of AES-GCM, with what Node.js 24 gives.
    const key = await crypto.subtle.importKey("raw", new Uint8Array(16).fill(1), "AES-GCM", true, ["encrypt", "decrypt"]);
    const iv = new Uint8Array(12), text = new TextEncoder().encode("text"), whole = "87512a07f68bc302df5f43d04f1205bac7feed62";
    for (const tagLength of [32, 64, 96, 104, 112, 120, 128]) {
      const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv, tagLength }, key, text));
      eq(Array.from(sealed, b => b.toString(16).padStart(2, "0")).join(""), whole.slice(0, 8 + tagLength / 4));
      eq(new TextDecoder().decode(await crypto.subtle.decrypt({ name: "AES-GCM", iv, tagLength }, key, sealed)), "text");
      for (const at of [0, 4, sealed.length - 1]) {
        const changed = sealed.slice();
        changed[at] ^= 1;
        await rejects("OperationError", () => crypto.subtle.decrypt({ name: "AES-GCM", iv, tagLength }, key, changed));
      }
    }
    await rejects("OperationError", () => crypto.subtle.encrypt({ name: "AES-GCM", iv, tagLength: 100 }, key, text));
    await rejects("OperationError", () => crypto.subtle.decrypt({ name: "AES-GCM", iv, tagLength: 96 }, key, new Uint8Array(3)));
    // Eras, which some libraries ask each date for.
    const era = (locale, era, time) => new Intl.DateTimeFormat(locale, { year: "numeric", month: "2-digit", day: "2-digit", era }).format(time);
    same([era("en", "short", 0), era("en-GB", "long", -8e13), era("de", "narrow", -8e13), era("en", "narrow", 0)],
      ["01/01/1970 AD", "26/11/567 Before Christ", "26.11.567 v. Chr.", "01/01/1970 A"]);
    const heard = [];
    addEventListener("error", event => { event.preventDefault(); heard.push(event.error.message, event.type); });
    reportError(new Error("told"));
    same(heard, ["told", "error"]);
    throws("TypeError", () => reportError());
"#,
    );
}

/// A package for Node.js would take another error for the one it expects, lose its context, or name
/// a file otherwise than elsewhere.
#[test]
fn modules_of_node_are_as_there() {
    if super::harness::bed().is_none() {
        return;
    }
    let script = r#"
import assert from "node:assert"; import { AsyncLocalStorage } from "node:async_hooks"; import { Buffer } from "node:buffer"; import { createHash, createHmac } from "node:crypto"; import url from "node:url";
export default { async fetch() {
  const fails = f => { try { f(); } catch (error) { return error.name; } return "nothing"; };
  const thrower = () => { throw new RangeError("out of range"); };
  assert.throws(thrower, RangeError); assert.throws(thrower, /out of/); assert.throws(thrower, { message: "out of range" }); assert.throws(thrower, error => error.name === "RangeError");
  assert.match("abc", /b/); assert.doesNotMatch("abc", /x/); assert.ifError(null);
  await assert.rejects(async () => thrower(), RangeError);
  const names = [() => assert.throws(thrower, TypeError), () => assert.throws(thrower, /other/), () => assert.throws(() => {}), () => assert.match("abc", /x/), () => assert.throws(thrower, { message: "x" })].map(fails);
  const storage = new AsyncLocalStorage(), seen = [];
  await storage.run(5, async () => { queueMicrotask(() => seen.push(storage.getStore())); await null; });
  queueMicrotask(() => seen.push(storage.getStore() ?? "none")); await null; await null;
  const b = Buffer.from("test this test");
  return Response.json([names, seen, [b.lastIndexOf("t"), b.lastIndexOf("test"), b.lastIndexOf("test", 5), b.lastIndexOf("zz"), b.lastIndexOf(116, 3), b.lastIndexOf("te", -5)],
    createHash("md5").update("x".repeat(1000)).digest("hex"), createHmac("md5", "k".repeat(70)).update("m").digest("hex"), createHash("md5").digest("hex"),
    url.resolve("http://a/b/c?x#y", "../d"), url.resolve("/one/two/three", "four"), url.format({ protocol: "http", host: "a.test", pathname: "x", query: { a: 1, b: [2, 3] }, hash: "h" }),
    url.parse("http://u:p@h.test:8/p?q=1#h"), url.parse("/x?y=1", true).query.y, new Intl.RelativeTimeFormat("de", { numeric: "auto" }).format(-2, "days"), new Intl.RelativeTimeFormat("de").format(1.5, "week")]);
} };"#;
    let said: serde_json::Value = serde_json::from_str(&super::harness::answer(script).unwrap()).unwrap();
    let wanted = serde_json::json!([
        ["AssertionError", "AssertionError", "AssertionError", "AssertionError", "AssertionError"],
        [5, "none"],
        [13, 10, 0, -1, 3, 0],
        "398533d48111e9f664b1f64cb10c4b63", "8d22cd345a8908f077a72cb7268448c4", "d41d8cd98f00b204e9800998ecf8427e",
        "http://a/d", "/one/two/four", "http://a.test/x?a=1&b=2&b=3#h",
        {
            "protocol": "http:", "slashes": true, "auth": "u:p", "host": "h.test:8", "port": "8", "hostname": "h.test", "hash": "#h",
            "search": "?q=1", "pathname": "/p", "href": "http://u:p@h.test:8/p?q=1#h", "query": "q=1", "path": "/p?q=1"
        },
        "1", "vorgestern", "in 1,5 Wochen"
    ]);
    assert_eq!(said, wanted);
}
