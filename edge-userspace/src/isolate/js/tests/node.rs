//! Modules of Node.js that packages import, group by group, with what Node.js answers; what breaks
//! is a package that runs elsewhere, or a test that passes although it should fail.

use super::harness::{answer, bed};

/// Runs statements with these modules at hand; fails with what they say.
fn check(statements: &str) {
    if bed().is_none() {
        return;
    }
    let script = format!(
        r#"
import assert from "node:assert"; import strict from "node:assert/strict"; import {{ Buffer }} from "node:buffer"; import EventEmitter, {{ on, once }} from "node:events";
import path from "node:path"; import querystring from "node:querystring"; import util from "node:util"; import url from "node:url"; import crypto from "node:crypto";
import {{ StringDecoder }} from "node:string_decoder"; import timers from "node:timers/promises";
const same = (a, b, what = "") => {{ const [one, two] = [a, b].map(x => JSON.stringify(x)); if (one !== two) throw new Error(`${{what}} got ${{one}}, not ${{two}}`); }};
const code = f => {{ try {{ f(); }} catch (error) {{ return error.code ?? error.name; }} return "none"; }};
const later = async f => {{ try {{ await f(); }} catch (error) {{ return error.code ?? error.name; }} return "none"; }};
export default {{ async fetch() {{ {statements}
return new Response("fine"); }} }};"#
    );
    assert_eq!(answer(&script).as_deref(), Ok("fine"));
}

/// Packages that inherit by `EventEmitter.call(this)` would throw at once, and those that wait for
/// events by `on` would not load.
#[test]
fn emitters() {
    check(
        r#"
function Old() { EventEmitter.call(this); } util.inherits(Old, EventEmitter);
const old = new Old(), mixed = Object.assign({}, EventEmitter.prototype), seen = [];
for (const each of [old, mixed, Object.create(EventEmitter.prototype), new (class extends EventEmitter {})()]) { each.on("x", n => seen.push(n)); each.emit("x", 1); }
same(seen, [1, 1, 1, 1]);
const e = new EventEmitter(), told = [], listener = () => {};
e.on("removeListener", (name, gone) => told.push(name, gone === listener)); e.on("a", listener); e.off("a", listener); e.once("b", listener);
const [raw] = e.rawListeners("b"); same([raw !== listener, raw.listener === listener, e.listeners("b")[0] === listener], [true, true, true]); e.emit("b"); same(told, ["a", true, "b", true]);
e.setMaxListeners(3); same([e.getMaxListeners(), code(() => e.setMaxListeners(-1)), code(() => e.on("x", 3))], [3, "ERR_OUT_OF_RANGE", "ERR_INVALID_ARG_TYPE"]);
try { e.emit("error", "boom"); } catch (error) { same([error.code, error.message, error.context], ["ERR_UNHANDLED_ERROR", "Unhandled error. ('boom')", "boom"]); }
const watched = []; e.on(EventEmitter.errorMonitor, error => watched.push(error.message)); same([code(() => e.emit("error", new Error("q"))), watched], ["Error", ["q"]]);
setTimeout(() => { e.emit("n", 1); e.emit("n", 2); e.emit("n", 3); }, 1); const got = []; for await (const [n] of on(e, "n")) { got.push(n); if (n === 2) break; } same([got, e.listenerCount("n")], [[1, 2], 0]);
const abort = new AbortController(); setTimeout(() => abort.abort(), 1); same(await later(async () => { for await (const _ of on(e, "n", { signal: abort.signal })); }), "ABORT_ERR");
same(await later(() => once(e, "n", { signal: AbortSignal.abort() })), "ABORT_ERR");
const target = new EventTarget(); setTimeout(() => target.dispatchEvent(new Event("t")), 1); same((await once(target, "t"))[0].type, "t");
"#,
    );
}

/// A test would pass although what it compares differs: errors by their text, buffers by their
/// bytes.
#[test]
fn deep_equality() {
    check(
        r#"
const bytes = (...b) => new Uint8Array(b), cycle = () => { const of = {}; of.self = of; return of; };
for (const [a, b, exact, about] of [[new Error("a"), new Error("b"), false, false], [new Error("a", { cause: 1 }), new Error("a", { cause: 2 }), false, false], [new Number(1), new Number(2), false, false],
  [bytes(1).buffer, bytes(2).buffer, false, false], [() => 1, () => 1, false, false], [new URL("http://a/"), new URL("http://b/"), false, false], [new Headers({ a: "1" }), new Headers({ a: "2" }), false, false],
  [new Set([{ a: 1 }]), new Set([{ a: 1 }]), true, true], [new Set([{ a: 1 }]), new Set([{ a: 2 }]), false, false], [new Map([[{ k: 1 }, 1]]), new Map([[{ k: 1 }, 1]]), true, true],
  [{ [Symbol.for("x")]: 1 }, { [Symbol.for("x")]: 2 }, false, true], [Object.create(null), {}, false, true], [0, -0, false, true], [[1], ["1"], false, true], [new Set([1]), new Set(["1"]), false, true], [null, undefined, false, true],
  [NaN, NaN, true, true], [[, 1], [undefined, 1], false, false], [{ a: undefined }, {}, false, false], [cycle(), cycle(), true, true], [cycle(), { self: { self: 1 } }, false, false], [new Date(1), new Date(2), false, false],
  [/a/g, /a/i, false, false], [Promise.resolve(1), Promise.resolve(1), false, false], [Buffer.from("a"), Buffer.from("a"), true, true], [{ a: [new Map([["k", bytes(1)]])] }, { a: [new Map([["k", bytes(1)]])] }, true, true]]) {
  const what = `${util.inspect(a)} and ${util.inspect(b)}`;
  same([util.isDeepStrictEqual(a, b), code(() => assert.deepStrictEqual(a, b)), code(() => strict.deepEqual(a, b)), code(() => assert.notDeepStrictEqual(a, b))], exact ? [true, "none", "none", "ERR_ASSERTION"] : [false, "ERR_ASSERTION", "ERR_ASSERTION", "none"], what);
  same(code(() => assert.deepEqual(a, b)), about ? "none" : "ERR_ASSERTION", what);
}
same([code(() => assert.strict.equal(1, "1")), code(() => strict.equal(1, "1")), code(() => assert.equal(1, "1")), code(() => assert.notEqual(NaN, NaN))], ["ERR_ASSERTION", "ERR_ASSERTION", "none", "ERR_ASSERTION"]);
same([code(() => assert.throws(() => { throw new TypeError("bad"); }, new TypeError("good"))), code(() => assert.throws(() => { throw new TypeError("bad"); }, RangeError)), code(() => assert.doesNotThrow(() => { throw new Error("x"); }))], ["ERR_ASSERTION", "ERR_ASSERTION", "ERR_ASSERTION"]);
same([await later(() => assert.rejects(() => 1)), await later(() => assert.doesNotReject(async () => { throw new Error("x"); })), code(() => assert()), code(() => assert.ifError(new Error("q")))], ["ERR_INVALID_RETURN_VALUE", "ERR_ASSERTION", "ERR_ASSERTION", "ERR_ASSERTION"]);
try { assert.strictEqual(1, 2); } catch (e) { same([e.name, e.code, e.actual, e.expected, e.operator, e.generatedMessage], ["AssertionError", "ERR_ASSERTION", 1, 2, "strictEqual", true]); }
"#,
    );
}

/// What packages print and log would read otherwise than everywhere else.
#[test]
fn inspection() {
    check(
        r#"
const circular = { b: 1 }; circular.a = circular;
for (const [value, text] of [[{ a: { b: { c: { d: 1 } } } }, "{ a: { b: { c: [Object] } } }"], [new Map([[1, { a: 2 }]]), "Map(1) { 1 => { a: 2 } }"], [new Set(["a"]), "Set(1) { 'a' }"], [[, 1], "[ <1 empty item>, 1 ]"],
  [() => {}, "[Function (anonymous)]"], [class A {}, "[class A]"], [new (class Foo { x = 1; })(), "Foo { x: 1 }"], [Object.create(null), "[Object: null prototype] {}"], [{ get a() { return 1; }, "b-c": 2 }, "{ a: [Getter], 'b-c': 2 }"],
  [new Number(3), "[Number: 3]"], [circular, "<ref *1> { b: 1, a: [Circular *1] }"], [Buffer.from("hi"), "<Buffer 68 69>"], ["it's\n", "\"it's\\n\""], [new Uint8Array([1, 2]), "Uint8Array(2) [ 1, 2 ]"],
  [{ a: "x".repeat(50), b: "y".repeat(50) }, `{\n  a: '${"x".repeat(50)}',\n  b: '${"y".repeat(50)}'\n}`]]) same(util.inspect(value), text);
same(util.inspect(Array.from({ length: 8 }, (_, i) => 10 ** i)), "[\n        1,       10,\n      100,     1000,\n    10000,   100000,\n  1000000, 10000000\n]");
same(util.inspect({ [util.inspect.custom]: (depth, options) => `custom ${depth} ${options.compact}` }), "custom 2 3");
same(util.inspect({ b: 1, a: [1, "x"] }, { sorted: true, colors: true }), "{ a: [ \x1b[33m1\x1b[39m, \x1b[32m'x'\x1b[39m ], b: \x1b[33m1\x1b[39m }");
const looped = {}; looped.a = looped;
for (const [given, text] of [[["%s %d %j", "a", 4.5, { x: 1 }, "more"], "a 4.5 {\"x\":1} more"], [["%j", looped], "[Circular]"], [["%s", { toString: () => "hey" }], "hey"], [["%s", -0], "-0"], [["%i", "4.9x"], "4"], [["100%", 1], "100% 1"], [[{ a: 1 }, "x"], "{ a: 1 } x"], [["%s", [1, [2]]], "[ 1, [Array] ]"]]) same(util.format(...given), text);
same([util.types.isBoxedPrimitive(Object(1)), util.types.isFloat32Array(new Float32Array(1)), util.types.isProxy(new Proxy({}, {})), util.types.isMapIterator(new Map().values())], [true, true, true, true]);
same([await util.promisify(setTimeout)(1, "v"), await later(() => util.promisify(done => done(new RangeError("x")))()), code(() => util.promisify(3))], ["v", "RangeError", "ERR_INVALID_ARG_TYPE"]);
"#,
    );
}

/// Bytes would be read or written elsewhere than meant, or a number cut off in silence.
#[test]
fn buffers() {
    check(
        r#"
const b = Buffer.from("this is a buffer"), four = () => Buffer.alloc(4), hex = x => x.toString("hex");
same([b.indexOf("is", 3), b.indexOf(""), b.indexOf("", 99), b.lastIndexOf("is", 4), b.toString("utf8", -3, 4), b.compare(Buffer.from("xthis"), 1, 5, 0, 4)], [5, 0, 16, 2, "this", 0]);
same([hex(four().fill(Buffer.from([1, 2]))), hex(four().fill("a", 1, 3)), code(() => four().fill("a", 0, 9)), Buffer.from("YQ==YQ==", "base64").toString(), new Buffer("abc").toString()], ["01020102", "00616100", "ERR_OUT_OF_RANGE", "a", "abc"]);
const into = four(); same([Buffer.from("abcdef").copy(into, 1, 4), into.toString("latin1"), Buffer.from("ab").copy(into, 9), code(() => b.copy(into, -1)), into.write("é", 3)], [2, "\0ef\0", 0, "ERR_OUT_OF_RANGE", 0]);
for (const f of [() => four().writeUInt8(256), () => four().writeInt8(-129), () => four().readUInt32LE(1), () => four().readUInt8(1.5), () => four().writeBigUInt64LE(2n ** 64n), () => four().writeUIntBE(2 ** 24, 0, 3), () => four().readUIntBE(0, 7), () => Buffer.alloc(-1)]) same(code(f), "ERR_OUT_OF_RANGE", `${f}`);
for (const f of [() => Buffer.from(5), () => Buffer.from({}), () => Buffer.alloc("3"), () => Buffer.concat("x"), () => b.equals("a"), () => Buffer.byteLength(3), () => four().readInt8("0")]) same(code(f), "ERR_INVALID_ARG_TYPE", `${f}`);
same([hex(Buffer.from("0102030405060708", "hex").swap32()), code(() => Buffer.alloc(3).swap16()), code(() => Buffer.from("a", "nope")), hex(Buffer.copyBytesFrom(new Uint16Array([1, 2, 3]), 1, 1))], ["0403020108070605", "ERR_INVALID_BUFFER_SIZE", "ERR_UNKNOWN_ENCODING", "0200"]);
const wide = new StringDecoder("utf16le"), code64 = new StringDecoder("base64");
same([wide.write(Buffer.from([0x61])), wide.write(Buffer.from([0, 0x3d, 0xd8])), wide.end(Buffer.from([0x4d, 0xdc]))], ["", "a", "👍"]); same([code64.write(Buffer.from("ab")), code64.write(Buffer.from("cd")), code64.end()], ["", "YWJj", "ZA=="]);
"#,
    );
}

/// A path, a query or a file's URL would name something else than on other platforms.
#[test]
fn paths_queries_and_the_rest() {
    check(
        r#"
same([path.extname("a/.."), path.dirname("//a"), path.parse("a.b/").dir, path.format({ root: "/", name: "f", ext: "t" }), path.basename(".js", ".js"), path.relative("/a/b", "/a/c"), code(() => path.join(1)), code(() => path.resolve(null))],
  ["", "//", "", "/f.t", "", "../c", "ERR_INVALID_ARG_TYPE", "ERR_INVALID_ARG_TYPE"]);
same([querystring.parse("a=%ff&b=1&b=2&c=+%2B", null, null), querystring.parse("a=1&b=2&c=3", "&", "=", { maxKeys: 2 }), Object.keys(querystring.parse(Array.from({ length: 1500 }, (_, i) => `k${i}`).join("&"))).length], [{ a: "\ufffd", b: ["1", "2"], c: " +" }, { a: "1", b: "2" }, 1000]);
same([querystring.stringify({ a: {}, b: NaN, c: [1, "x y"], d: true }), querystring.stringify("x"), querystring.unescape("a%20b%zz"), code(() => querystring.stringify({ a: "\ud800" }))], ["a=&b=&c=1&c=x%20y&d=true", "", "a b%zz", "ERR_INVALID_URI"]);
same([`${url.pathToFileURL("/a b#c?d")}`, code(() => url.fileURLToPath("http://a")), url.format(new URL("https://a.test/x?y#z"), { fragment: false, search: false })], ["file:///a%20b%23c%3Fd", "ERR_INVALID_URL_SCHEME", "https://a.test/x"]);
const hash = crypto.createHash("sha256").update("a"), copy = hash.copy(); hash.update("b").digest(); same([copy.digest("hex").slice(0, 8), code(() => hash.digest()), code(() => crypto.createHash("none")), code(() => crypto.createHmac("none", "k")), code(() => crypto.randomInt(5, 5))], ["ca978112", "ERR_CRYPTO_HASH_FINALIZED", "Error", "ERR_CRYPTO_INVALID_DIGEST", "ERR_OUT_OF_RANGE"]);
same([await new Promise(done => crypto.randomBytes(4, (error, bytes) => done([error, bytes.length]))), crypto.randomFillSync(Buffer.alloc(3)).length, code(() => crypto.timingSafeEqual(Buffer.from("a"), Buffer.from("ab")))], [[null, 4], 3, "ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH"]);
let ticks = 0; for await (const _ of timers.setInterval(1)) if (++ticks === 3) break; same([ticks, await later(() => timers.setTimeout(5, 0, { signal: AbortSignal.abort() }))], [3, "ABORT_ERR"]);
"#,
    );
}
