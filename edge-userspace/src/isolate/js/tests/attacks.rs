//! What a hostile tenant tries. Each ends with an error of that request alone; the next request of
//! the same worker, and of its neighbour, is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::harness::{World, ask, bed, get, limits, load, run};
use crate::isolate::error::Ended;

/// What a worker does, and what may end it.
const ATTACKS: &[(&str, &[Ended])] = &[
    ("for (;;) {}", &[Ended::Cpu]),
    ("for (;;) await null;", &[Ended::Cpu]),
    (
        "const f = () => Promise.resolve().then(f); f(); await new Promise(() => {});",
        &[Ended::Cpu, Ended::Memory],
    ),
    (
        "for (;;) Promise.resolve().then(() => {});",
        &[Ended::Memory, Ended::Cpu, Ended::Exception],
    ),
    ("/^(a+)+$/.test('a'.repeat(60) + 'b');", &[Ended::Cpu]),
    ("/(x+x+)+y/.exec('x'.repeat(200));", &[Ended::Cpu]),
    ("const f = () => f() + 1; f();", &[Ended::Exception, Ended::Stack]),
    (
        "let o = {}; for (let i = 0; i < 1e6; i++) o = { o }; JSON.stringify(o);",
        &[Ended::Exception, Ended::Memory, Ended::Cpu],
    ),
    ("JSON.parse('['.repeat(1e6));", &[Ended::Exception, Ended::Stack]),
    ("new RegExp('('.repeat(1e5));", &[Ended::Exception]),
    ("eval('('.repeat(1e6));", &[Ended::Exception, Ended::Stack]),
    ("let s = 'x'; for (;;) s += s;", &[Ended::Exception, Ended::Memory]),
    (
        "let s = 'x'; for (;;) { s = s.padEnd(s.length * 2); s.charCodeAt(5) }",
        &[Ended::Exception, Ended::Memory],
    ),
    (
        "const a = []; for (;;) a.push(new ArrayBuffer(1 << 20));",
        &[Ended::Memory, Ended::Exception],
    ),
    (
        "new Array(2 ** 32 - 1).fill(0);",
        &[Ended::Memory, Ended::Exception, Ended::Cpu],
    ),
    ("'x'.repeat(2 ** 30);", &[Ended::Exception, Ended::Memory]),
    (
        "const m = new Map(); for (let i = 0; ; i++) m.set(i, {});",
        &[Ended::Memory, Ended::Cpu, Ended::Exception],
    ),
    ("10n ** (10n ** 9n);", &[Ended::Exception, Ended::Cpu, Ended::Memory]),
    ("for (;;) setTimeout(() => {}, 1e6);", &[Ended::Exception]),
    (
        "setInterval(() => {}, 0); await new Promise(() => {});",
        &[Ended::Wall, Ended::Cpu],
    ),
    (
        "return new Response(new ReadableStream({ pull() { return new Promise(() => {}) } }))",
        &[Ended::BadResponse, Ended::NoResponse],
    ),
    ("await new Promise(r => setTimeout(r, 1e9));", &[Ended::Wall]),
    ("await fetch('https://a.test/' + 'x'.repeat(1e6));", &[Ended::Exception]),
    (
        "return new Response('', { headers: Array.from({ length: 1e4 }, (_, i) => ['h' + i, 'v']) });",
        // On a slow processor the fields take longer to make than the request may.
        &[Ended::BadResponse, Ended::Cpu],
    ),
    (
        "await Promise.all(Array.from({ length: 500 }, () => fetch('https://nobody.test/')));",
        &[Ended::Exception],
    ),
    (
        "globalThis.Promise = null; Array.prototype.push = null; Object.defineProperty(Object.prototype, 'then', { get() { throw 1 } }); return new Response('x');",
        &[Ended::Exception],
    ),
    (
        "Response.prototype.constructor = null; Object.setPrototypeOf(Response.prototype, new Proxy({}, { get() { throw 2 } })); throw new Error('x');",
        &[Ended::Exception],
    ),
    (
        "const e = new Error('x'); Object.defineProperty(e, 'stack', { get() { for (;;) {} } }); throw e;",
        &[Ended::Cpu],
    ),
    (
        "crypto.getRandomValues(new Uint8Array(new SharedArrayBuffer(8))); new Uint8Array(8).set([1], 9);",
        &[Ended::Exception],
    ),
    (
        "const b = new ArrayBuffer(8, { maxByteLength: 16 }), v = new Uint8Array(b, 4, 4); b.resize(2); await crypto.subtle.digest('SHA-256', v); throw 1;",
        &[Ended::Exception],
    ),
    (
        "await crypto.subtle.digest({ get name() { for (;;) {} } }, new Uint8Array(1));",
        &[Ended::Cpu],
    ),
    (
        "const x = { toString() { x.b.transfer(); return 'SHA-256' }, b: new ArrayBuffer(64) }; await crypto.subtle.digest(x, x.b); throw 1;",
        &[Ended::Exception],
    ),
];

/// A tenant could take the processor, the memory or the log from others, or bring the daemon down.
#[test]
fn end_with_an_error_of_that_request_alone() {
    if bed().is_none() {
        return;
    }
    let good = load("export default { fetch() { return new Response('still here') } }").unwrap();
    for (attack, ends) in ATTACKS {
        let script = load(&format!(
            "export default {{ async fetch(request) {{ if (request.url.endsWith('good')) return new Response('good'); {attack} }} }}"
        ))
        .unwrap();
        let mut limits = limits();
        limits.cpu = Duration::from_millis(150);
        // Processor time goes more slowly than the clock where others compute, too.
        limits.wall = Duration::from_millis(if ends.contains(&Ended::Wall) { 400 } else { 20_000 });
        limits.memory = 32 << 20;
        let world = Arc::new(World::default());
        let began = Instant::now();
        let ended = run(ask(&script, &world, get("https://a.test/"), limits)).map(|(_, body)| body);
        let ended = ended.expect_err(attack);
        assert!(ends.contains(&ended), "{attack}: {ended:?}, {}", world.log());
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{attack}: {:?}",
            began.elapsed()
        );
        for (script, url, wanted) in [
            (&script, "https://a.test/good", "good"),
            (&good, "https://b.test/", "still here"),
        ] {
            let (_, body) = run(ask(script, &world, get(url), super::harness::limits())).unwrap();
            assert_eq!(body, wanted, "behind {attack}");
        }
    }
}

/// Recursion that ends by itself would be cut, or a worker not be able to catch its own.
#[test]
fn recursion_can_be_caught() {
    super::harness::check(
        r#"
let depth = 0; const f = () => { depth++; f(); }; throws("RangeError", f); eq(depth > 500, true, `only ${depth} deep`);
const g = n => n ? g(n - 1) + 1 : 0; eq(g(300), 300); const nested = []; let at = nested; for (let i = 0; i < 200; i++) at.push(at = []); eq(nested.flat(Infinity).length, 0);
throws("RangeError", () => { const h = () => [1].map(h); h(); }); throws("RangeError", () => { const h = () => "a".replace(/a/, h); h(); }); throws("RangeError", () => { const p = new Proxy({}, { get: (t, k, r) => r[k] }); p.x; });
throws("RangeError", () => { const h = { toString() { return `${h}`; } }; `${h}`; }); throws("RangeError", () => { const h = { get x() { return h.x; } }; h.x; });
// Input as deep as somebody likes: caught, or read.
const deep = (name, f) => { try { f(); } catch (e) { eq(e.name, name, e.message); } };
for (const text of ["[".repeat(2e4), "[".repeat(2e4) + "]".repeat(2e4), '{"a":'.repeat(2e4) + "1" + "}".repeat(2e4)]) {
  throws(text.endsWith("[") ? "RangeError" : "RangeError", () => JSON.parse(text)); await rejects("RangeError", () => new Response(text).json());
}
eq(JSON.parse("[".repeat(1500) + "]".repeat(1500)).length, 1);
for (const [open, close] of [["[", "]"], ["(", ")"], ["{a:[", "]}"], ["!", ""], ["-", ""], ["typeof ", ""], ["x=>", ""], ["a?0:", ""], ["new ", ""], ["{", "}"], ["if(1)", ""], ["`${", "}`"], ["x=", ""], ["()=>{", "}"], ["class extends ", "{}"], ["await ", ""], ["async x=>", ""], ["2**", ""], ["f(", ")"]])
  for (const count of [500, 3000, 5e4]) for (const front of ["", "return ", "x="]) { let e = null; try { new Function(front + open.repeat(count) + "1" + close.repeat(count)); } catch (error) { e = error; } if (e) eq(["RangeError", "SyntaxError"].includes(e.name), true, open); }
{ let a = []; for (let i = 0; i < 2e4; i++) a = [a]; deep("RangeError", () => a.flat(Infinity)); deep("RangeError", () => String(a)); deep("RangeError", () => JSON.stringify(a)); deep("RangeError", () => structuredClone(a)); }
{ let p = []; for (let i = 0; i < 2e4; i++) p = new Proxy(p, {}); deep("RangeError", () => Array.isArray(p)); deep("RangeError", () => p.length); deep("RangeError", () => Object.keys(p)); deep("RangeError", () => "x" in p); deep("RangeError", () => Object.getPrototypeOf(p)); deep("RangeError", () => JSON.stringify(p)); }
{ let f = function () {}; for (let i = 0; i < 3000; i++) { f = f.bind(null); Object.defineProperty(f, "name", { value: "" }); } deep("RangeError", () => ({}) instanceof f); deep("RangeError", () => f()); deep("RangeError", () => new f()); }
throws("RangeError", () => { class A { constructor() { new A(); } } new A(); }); throws("RangeError", () => { const h = () => JSON.stringify({ toJSON: h }); h(); }); throws("RangeError", () => { const h = () => [3, 1, 2].sort(h); h(); });
"#,
    );
}

/// Code made of text would get out of the isolate that plain code stays in, or not run, as the
/// documentation says it does.
#[test]
fn code_made_of_text_is_code_of_the_worker() {
    super::harness::check(
        r#"
eq(eval("1 + 1"), 2); eq(new Function("a", "return a * 2")(4), 8);
for (const name of ["host", "__h", "std", "os", "scriptArgs", "print", "gc", "process", "require", "Deno", "WebAssembly", "Worker", "importScripts"]) eq(typeof globalThis[name], "undefined", name);
await rejects("ReferenceError", () => import("os")); eq(new Function("return typeof host")(), "undefined");
"#,
    );
}
