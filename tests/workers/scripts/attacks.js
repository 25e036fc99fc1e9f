// Whatever a hostile tenant can do to its neighbours with a script, one way a path: memory, processor time, the host's threads, slots, logs.

const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const ways = {
  // All the memory that there is, touched, and held.
  async memory() {
    const held = [];
    try { for (;;) held.push(new Uint8Array(1 << 20).fill(1)); } catch { /* that is all */ }
    await sleep(2000);
    return held.length;
  },
  // What the host keeps: messages that nobody reads, codecs, results of long calls.
  async host() {
    const held = [];
    for (let i = 0; i < 200; i++) {
      const { writable } = new CompressionStream("gzip"), writer = writable.getWriter();
      writer.write(new Uint8Array(64 << 10)).catch(() => {});
      held.push(writer);
    }
    await sleep(2000);
    return held.length;
  },
  hang: () => sleep(20_000),
  spin() { for (;;); },
  recursion() { const down = n => down(n + 1) + 1; return down(0); },
  regexp: () => /^(a+)+$/.test("a".repeat(40) + "b"),
  json: () => JSON.parse("[".repeat(1 << 20)),
  sort: () => Array.from({ length: 1 << 20 }, Math.random).sort((a, b) => a - b).length,
  async digest() { return (await crypto.subtle.digest("SHA-512", new Uint8Array(30 << 20))).byteLength; },
  async derive() {
    const key = await crypto.subtle.importKey("raw", new Uint8Array(16), "PBKDF2", false, ["deriveBits"]);
    return (await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-512", salt: new Uint8Array(16), iterations: 1e7 }, key, 512)).byteLength;
  },
  async sign() {
    const algorithm = { name: "RSA-PSS", modulusLength: 4096, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" };
    const { privateKey } = await crypto.subtle.generateKey(algorithm, false, ["sign", "verify"]);
    return (await crypto.subtle.sign({ name: "RSA-PSS", saltLength: 32 }, privateKey, new Uint8Array(1))).byteLength;
  },
  async encrypt() {
    const key = await crypto.subtle.generateKey({ name: "AES-CBC", length: 256 }, false, ["encrypt"]);
    return (await crypto.subtle.encrypt({ name: "AES-CBC", iv: new Uint8Array(16) }, key, new Uint8Array(15 << 20))).byteLength;
  },
  async legacy() { return new TextDecoder("gb18030").decode(new Uint8Array(12 << 20)).length; },
  async timers() { for (let i = 0; i < 999; i++) setInterval(() => {}, 1); await sleep(2000); },
  log() { for (let i = 0; i < 1e5; i++) console.log("x".repeat(1000)); },
  answer: () => "x".repeat(20 << 20),
  async promises() { for (;;) await null; },
  async fetches() { return (await Promise.allSettled(Array.from({ length: 2000 }, () => fetch("https://links.example/none")))).length; },
  async behind(ctx) { ctx.waitUntil(sleep(20_000)); },
  url: () => { for (;;) new URL(`https://a.example/${"é".repeat(60_000)}`); },
};

export default {
  async fetch(request, env, ctx) {
    const way = new URL(request.url).pathname.slice(1);
    return new Response(`${await ways[way](ctx)}`);
  },
};
