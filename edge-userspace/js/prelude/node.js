// Modules of Node.js that packages for edge runtimes import, under `node:` and by their bare names: what they use of them, in terms of the web
// platform. The engine asks `modules` for a name when a script imports it.

// ---- node:async_hooks: maps from storages to what they hold; the engine hands them on with promises, and timers do.
const within = (frame, callback, ...rest) => {
  const before = host.context();
  host.enter(frame);
  try { return callback(...rest); } finally { host.enter(before); }
};
class AsyncLocalStorage {
  #initial;
  constructor(options = undefined) { this.#initial = dictionary(options, "the options").defaultValue; }
  getStore() {
    const frame = host.context();
    return frame?.has(this) ? frame.get(this) : this.#initial;
  }
  run(store, callback, ...rest) { return within(new Map(host.context() ?? []).set(this, store), callback, ...rest); }
  exit(callback, ...rest) { return this.run(undefined, callback, ...rest); }
  enterWith(store) { host.enter(new Map(host.context() ?? []).set(this, store)); }
  disable() {
    const frame = new Map(host.context() ?? []);
    frame.delete(this);
    host.enter(frame);
  }
  static bind(callback) {
    const frame = host.context();
    return function (...rest) { return within(frame, () => callback.apply(this, rest)); };
  }
  static snapshot() {
    const frame = host.context();
    return (callback, ...rest) => within(frame, callback, ...rest);
  }
}
class AsyncResource {
  #frame = host.context();
  constructor(type) { this.type = `${type}`; }
  runInAsyncScope(callback, self, ...rest) { return within(this.#frame, () => callback.apply(self, rest)); }
  bind(callback) { return (...rest) => this.runInAsyncScope(callback, undefined, ...rest); }
  static bind(callback, type) { return new AsyncResource(type ?? "bound").bind(callback); }
  emitDestroy() { return this; }
  asyncId() { return 0; }
  triggerAsyncId() { return 0; }
}

// ---- node:events
class EventEmitter {
  #events = new Map();
  #list(name) { return this.#events.get(name) ?? []; }
  #add(name, listener, first, once) {
    if (typeof listener !== "function") throw new TypeError("the listener is not a function");
    if (this.#events.has("newListener")) this.emit("newListener", name, listener);
    const entry = { listener, once }, list = this.#list(name);
    this.#events.set(name, first ? [entry, ...list] : [...list, entry]);
    return this;
  }
  on(name, listener) { return this.#add(name, listener, false, false); }
  addListener(name, listener) { return this.on(name, listener); }
  once(name, listener) { return this.#add(name, listener, false, true); }
  prependListener(name, listener) { return this.#add(name, listener, true, false); }
  prependOnceListener(name, listener) { return this.#add(name, listener, true, true); }
  off(name, listener) {
    const list = this.#list(name), at = list.findLastIndex(entry => entry.listener === listener);
    if (at >= 0) this.#events.set(name, list.toSpliced(at, 1));
    if (at >= 0 && list.length === 1) this.#events.delete(name);
    return this;
  }
  removeListener(name, listener) { return this.off(name, listener); }
  removeAllListeners(name = undefined) {
    if (name === undefined) this.#events.clear();
    else this.#events.delete(name);
    return this;
  }
  emit(name, ...rest) {
    const list = this.#list(name);
    if (!list.length) {
      if (name === "error") throw rest[0] instanceof Error ? rest[0] : new Error(`Unhandled error. (${rest[0]})`);
      return false;
    }
    for (const { listener, once } of list) {
      if (once) this.off(name, listener);
      listener.apply(this, rest);
    }
    return true;
  }
  listeners(name) { return this.#list(name).map(entry => entry.listener); }
  rawListeners(name) { return this.listeners(name); }
  listenerCount(name) { return this.#list(name).length; }
  eventNames() { return [...this.#events.keys()]; }
  setMaxListeners() { return this; }
  getMaxListeners() { return 10; }
  static once(emitter, name) {
    return new Promise((resolve, reject) => {
      const fails = error => { emitter.off(name, comes); reject(error); };
      const comes = (...rest) => { emitter.off("error", fails); resolve(rest); };
      emitter.once(name, comes);
      if (name !== "error") emitter.once("error", fails);
    });
  }
}
EventEmitter.EventEmitter = EventEmitter;
EventEmitter.defaultMaxListeners = 10;

// ---- node:process
const process = {
  env: {}, argv: [], execArgv: [], platform: "linux", arch: "wasm32", pid: 1, ppid: 0, title: "edge", version: "v22.0.0", exitCode: undefined,
  versions: { node: "22.0.0" }, release: { name: "node" }, browser: false,
  cwd: () => "/",
  nextTick(callback, ...rest) { queueMicrotask(() => callback(...rest)); },
  hrtime: Object.assign(before => {
    const time = now(), seconds = Math.floor(time / 1000), nanos = Math.round((time % 1000) * 1e6);
    if (!before) return [seconds, nanos];
    const difference = [seconds - before[0], nanos - before[1]];
    return difference[1] < 0 ? [difference[0] - 1, difference[1] + 1e9] : difference;
  }, { bigint: () => BigInt(Math.round(now() * 1000)) * 1000n }),
  uptime: () => (live ? (now() - began) / 1000 : 0),
  memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }),
  emitWarning(warning) { console.warn(warning); },
  exit(code) { throw new Error(`process.exit(${code ?? ""}) does not end a worker`); },
  on() { return process; }, once() { return process; }, off() { return process; }, emit: () => false, listeners: () => [], listenerCount: () => 0,
  addListener() { return process; }, removeListener() { return process; },
};
// Settings and secrets, as `env` has them; made anew for each request.
const environmentOf = env => {
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const [name, value] of Object.entries(env)) if (typeof value === "string") process.env[name] = value;
  Object.assign(moduleEnv, env);
};
const moduleEnv = {};

// ---- node:util
const inspect = (value, options) => show(value, isObject(options) && options.depth === 0 ? DEPTH : 0, []);
const promisify = callback => {
  if (callback[promisify.custom]) return callback[promisify.custom];
  return function (...rest) {
    return new Promise((resolve, reject) => callback.call(this, ...rest, (error, value) => (error ? reject(error) : resolve(value))));
  };
};
promisify.custom = Symbol.for("nodejs.util.promisify.custom");
inspect.custom = Symbol.for("nodejs.util.inspect.custom");
const util = {
  promisify, inspect, format: (...values) => format(values), TextEncoder, TextDecoder,
  callbackify: callback => (...rest) => {
    const done = rest.pop();
    callback(...rest).then(value => queueMicrotask(() => done(null, value)), error => queueMicrotask(() => done(error)));
  },
  inherits(child, parent) {
    Object.defineProperty(child, "super_", { value: parent, writable: true, configurable: true });
    Object.setPrototypeOf(child.prototype, parent.prototype);
  },
  deprecate: callback => callback, debuglog: () => () => {}, stripVTControlCharacters: text => `${text}`.replace(/\x1b\[[0-9;]*[A-Za-z]/g, ""),
  isDeepStrictEqual: (a, b) => same(a, b), toUSVString: usv,
  types: {
    isPromise: value => host.isPromise(value), isDate: value => isBrand(dateValue, value), isRegExp: value => value instanceof RegExp,
    isMap: value => isBrand(mapSize, value), isSet: value => isBrand(setSize, value), isUint8Array: value => value instanceof Bytes,
    isTypedArray: value => isView(value) && !(value instanceof DataView), isArrayBuffer: value => host.isBuffer(value), isAnyArrayBuffer: value => host.isBuffer(value),
    isArrayBufferView: isView, isNativeError: value => value instanceof Error, isProxy: () => false,
    isAsyncFunction: value => Object.prototype.toString.call(value) === "[object AsyncFunction]",
    isGeneratorFunction: value => Object.prototype.toString.call(value) === "[object GeneratorFunction]",
  },
};
const same = (a, b) => {
  if (Object.is(a, b)) return true;
  if (!isObject(a) || !isObject(b) || Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  if (a instanceof Date) return +a === +b;
  if (a instanceof RegExp) return String(a) === String(b);
  if (isView(a)) return host.equal(bytesOf(a), bytesOf(b));
  if (a instanceof Map || a instanceof Set) {
    if (a.size !== b.size) return false;
    for (const [key, item] of a.entries()) if (!b.has(key) || (a instanceof Map && !same(item, b.get(key)))) return false;
    return true;
  }
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every(key => Object.hasOwn(b, key) && same(a[key], b[key]));
};
class AssertionError extends Error {
  constructor({ message, actual, expected, operator }) {
    super(message ?? `${inspect(actual)} ${operator} ${inspect(expected)}`);
    Object.assign(this, { name: "AssertionError", code: "ERR_ASSERTION", actual, expected, operator });
  }
}
// Whether an error is the one that is expected: of a class, with a text, with these properties, or as a function says.
const isExpected = (error, expected) => {
  if (expected instanceof RegExp) return expected.test(`${error}`);
  if (typeof expected === "function") return expected.prototype !== undefined && error instanceof expected ? true : !Error.isPrototypeOf(expected) && expected.call({}, error) === true;
  return Object.keys(expected).every(key => (expected[key] instanceof RegExp && typeof error?.[key] === "string" ? expected[key].test(error[key]) : same(error?.[key], expected[key])));
};
const caught = (error, expected, message, operator) => {
  if (!isObject(expected) || isExpected(error, expected)) return;
  if (typeof expected === "function" && Error.isPrototypeOf(expected)) throw error;
  assertThat(false, { actual: error, expected, message, operator });
};
const assertThat = (good, details) => { if (!good) throw details.message instanceof Error ? details.message : new AssertionError(details); };
const assert = Object.assign((value, message) => assertThat(value, { message, actual: value, expected: true, operator: "==" }), {
  AssertionError,
  ok: (value, message) => assert(value, message),
  equal: (actual, expected, message) => assertThat(actual == expected || (actual !== actual && expected !== expected), { actual, expected, message, operator: "==" }),
  notEqual: (actual, expected, message) => assertThat(actual != expected, { actual, expected, message, operator: "!=" }),
  strictEqual: (actual, expected, message) => assertThat(Object.is(actual, expected), { actual, expected, message, operator: "===" }),
  notStrictEqual: (actual, expected, message) => assertThat(!Object.is(actual, expected), { actual, expected, message, operator: "!==" }),
  deepEqual: (actual, expected, message) => assertThat(same(actual, expected), { actual, expected, message, operator: "deepEqual" }),
  deepStrictEqual: (actual, expected, message) => assertThat(same(actual, expected), { actual, expected, message, operator: "deepStrictEqual" }),
  notDeepStrictEqual: (actual, expected, message) => assertThat(!same(actual, expected), { actual, expected, message, operator: "notDeepStrictEqual" }),
  notDeepEqual: (actual, expected, message) => assertThat(!same(actual, expected), { actual, expected, message, operator: "notDeepEqual" }),
  match: (text, pattern, message) => assertThat(typeof text === "string" && pattern.test(text), { actual: text, expected: pattern, message, operator: "match" }),
  doesNotMatch: (text, pattern, message) => assertThat(typeof text !== "string" || !pattern.test(text), { actual: text, expected: pattern, message, operator: "doesNotMatch" }),
  ifError(value) { if (value !== null && value !== undefined) throw value; },
  throws(callback, expected, message = typeof expected === "string" ? expected : undefined) {
    try { callback(); } catch (error) { return caught(error, expected, message, "throws"); }
    assertThat(false, { message: message ?? "Missing expected exception.", expected, operator: "throws" });
  },
  async rejects(promise, expected, message = typeof expected === "string" ? expected : undefined) {
    try { await (typeof promise === "function" ? promise() : promise); } catch (error) { return caught(error, expected, message, "rejects"); }
    assertThat(false, { message: message ?? "Missing expected rejection.", expected, operator: "rejects" });
  },
  doesNotThrow(callback) { callback(); },
  async doesNotReject(promise) { await (typeof promise === "function" ? promise() : promise); },
  fail(message) { throw new AssertionError({ message: message ?? "failed", operator: "fail" }); },
});
assert.strict = assert;

// ---- node:path, as on Linux
const normalParts = (path, absolute) => {
  const parts = [];
  for (const part of path.split("/")) {
    if (!part || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.length && parts.at(-1) !== "..") parts.pop();
    else if (!absolute) parts.push("..");
  }
  return parts;
};
const path = {
  sep: "/", delimiter: ":",
  isAbsolute: text => text.startsWith("/"),
  normalize(text) {
    if (!text) return ".";
    const absolute = text.startsWith("/"), whole = normalParts(text, absolute).join("/") || (absolute ? "" : ".");
    return (absolute ? "/" : "") + whole + (text.endsWith("/") && whole && whole !== "." ? "/" : "");
  },
  join: (...parts) => path.normalize(parts.filter(part => part).join("/")),
  resolve(...parts) {
    let text = "";
    for (const part of ["/", ...parts].toReversed()) {
      if (part) text = text ? `${part}/${text}` : part;
      if (part?.startsWith("/")) break;
    }
    return `/${normalParts(text, true).join("/")}`;
  },
  dirname(text) {
    const trimmed = text.replace(/\/+$/, ""), at = trimmed.lastIndexOf("/");
    return at < 0 ? (text.startsWith("/") ? "/" : ".") : at === 0 ? "/" : trimmed.slice(0, at);
  },
  basename(text, suffix = "") {
    const name = text.replace(/\/+$/, "").split("/").at(-1);
    return suffix && name !== suffix && name.endsWith(suffix) ? name.slice(0, -suffix.length) : name;
  },
  extname(text) {
    const name = path.basename(text), at = name.lastIndexOf(".");
    return at <= 0 ? "" : name.slice(at);
  },
  relative(from, to) {
    const a = normalParts(path.resolve(from), true), b = normalParts(path.resolve(to), true);
    let i = 0;
    while (i < a.length && i < b.length && a[i] === b[i]) i++;
    return [...a.slice(i).map(() => ".."), ...b.slice(i)].join("/");
  },
  parse(text) {
    const base = path.basename(text), ext = path.extname(text), root = text.startsWith("/") ? "/" : "";
    const directory = text.includes("/") ? path.dirname(text) : "";
    return { root, dir: directory, base, ext, name: ext ? base.slice(0, -ext.length) : base };
  },
  format: ({ dir, root = "", base, name = "", ext = "" }) => (dir ? `${dir}${dir === root ? "" : "/"}` : root) + (base ?? name + ext),
};
path.posix = path;

// ---- node:querystring, node:url
const querystring = {
  parse(text, separator = "&", equals = "=") {
    const found = { __proto__: null };
    for (const piece of `${text}`.split(separator)) {
      if (!piece) continue;
      const at = piece.indexOf(equals), decode = part => { try { return decodeURIComponent(part.replace(/\+/g, " ")); } catch { return part; } };
      const name = decode(at < 0 ? piece : piece.slice(0, at)), value = at < 0 ? "" : decode(piece.slice(at + equals.length));
      found[name] = name in found ? [found[name], value].flat() : value;
    }
    return found;
  },
  stringify: (of, separator = "&", equals = "=") => Object.entries(of ?? {}).flatMap(([name, value]) => [value].flat().map(item => `${encodeURIComponent(name)}${equals}${encodeURIComponent(item ?? "")}`)).join(separator),
  escape: encodeURIComponent, unescape: decodeURIComponent,
};
querystring.decode = querystring.parse;
querystring.encode = querystring.stringify;
const nodeUrl = {
  URL, URLSearchParams, fileURLToPath: url => decodeURIComponent(new URL(url).pathname), pathToFileURL: text => new URL(`file://${path.resolve(text)}`),
  format(url) {
    if (!isObject(url) || url instanceof URL) return `${url}`;
    const { protocol = "", auth, host: authority, hostname = "", port, pathname = "", query, hash = "" } = url;
    const scheme = protocol && !protocol.endsWith(":") ? `${protocol}:` : protocol, named = authority ?? (hostname ? `${hostname.includes(":") && !hostname.startsWith("[") ? `[${hostname}]` : hostname}${port ? `:${port}` : ""}` : "");
    const asked = url.search ?? (isObject(query) ? querystring.stringify(query) : query ?? ""), search = asked && !`${asked}`.startsWith("?") ? `?${asked}` : asked;
    const slashes = url.slashes || (named && /^(?:https?|ftp|file|wss?):$/.test(scheme)), path = slashes && pathname && !pathname.startsWith("/") ? `/${pathname}` : pathname;
    return `${scheme}${slashes ? "//" : ""}${auth && named ? `${encodeURIComponent(auth).replace(/%3A/i, ":")}@` : ""}${named}${path.replace(/[?#]/g, encodeURIComponent)}${`${search}`.replace(/#/g, "%23")}${hash && !hash.startsWith("#") ? `#${hash}` : hash}`;
  },
  parse(text, parseQuery = false) {
    const found = URL.parse(text), [, rest = "", search = "", hash = ""] = found ? [] : /^([^?#]*)(\?[^#]*)?(#.*)?$/s.exec(`${text}`.trim()) ?? [];
    const parts = found ? { protocol: found.protocol, slashes: /^[a-z]+:\/\//i.test(text) || null, auth: found.username ? decodeURIComponent(found.username) + (found.password ? `:${decodeURIComponent(found.password)}` : "") : null, host: found.host, port: found.port || null, hostname: found.hostname,
      hash: found.hash || null, search: found.search || null, pathname: found.pathname, href: found.href }
      : { protocol: null, slashes: null, auth: null, host: null, port: null, hostname: null, hash: hash || null, search: search || null, pathname: rest || null, href: `${rest}${search}${hash}` };
    const query = parts.search === null ? (parseQuery ? "" : null) : parts.search.slice(1);
    return { ...parts, query: parseQuery ? querystring.parse(query) : query, path: parts.pathname === null && parts.search === null ? null : `${parts.pathname ?? ""}${parts.search ?? ""}` };
  },
  resolve(from, to) {
    const made = new URL(to, new URL(from, "resolve://"));
    return made.protocol === "resolve:" ? `${made.pathname}${made.search}${made.hash}` : made.href;
  },
  domainToASCII: domain => URL.parse(`http://${domain}`)?.hostname ?? "", domainToUnicode: domain => domain,
};

// ---- node:crypto, as far as it can be had at once
const nodeHashes = { sha1: 1, sha256: 2, sha384: 3, sha512: 4 };
// MD5 (RFC 1321), which names things and protects nothing: `crypto.subtle` has none, so it is computed here.
const MD5_SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21], MD5_SINES = Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32) | 0);
const md5 = text => {
  const padded = new Bytes(((text.length + 8) >> 6) * 64 + 64), view = new DataView(padded.buffer), state = [0x67452301, 0xefcdab89 | 0, 0x98badcfe | 0, 0x10325476];
  padded.set(text);
  padded[text.length] = 0x80;
  view.setUint32(padded.length - 8, text.length * 8, true);
  view.setUint32(padded.length - 4, Math.floor(text.length / 2 ** 29), true);
  for (let at = 0; at < padded.length; at += 64) {
    let [a, b, c, d] = state;
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      const [mixed, word] = round === 0 ? [(b & c) | (~b & d), i] : round === 1 ? [(d & b) | (~d & c), (5 * i + 1) & 15] : round === 2 ? [b ^ c ^ d, (3 * i + 5) & 15] : [c ^ (b | ~d), (7 * i) & 15];
      const sum = (a + mixed + MD5_SINES[i] + view.getInt32(at + 4 * word, true)) | 0, shift = MD5_SHIFTS[round * 4 + (i & 3)];
      [a, d, c, b] = [d, c, b, (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0];
    }
    [a, b, c, d].forEach((word, i) => { state[i] = (state[i] + word) | 0; });
  }
  const digest = new Bytes(16);
  state.forEach((word, i) => new DataView(digest.buffer).setInt32(4 * i, word, true));
  return digest;
};
// HMAC (RFC 2104) over it.
const md5Mac = (key, text) => {
  const block = new Bytes(64);
  block.set(key.length > 64 ? md5(key) : key);
  return md5(joined([block.map(byte => byte ^ 0x5c), md5(joined([block.map(byte => byte ^ 0x36), text]))]));
};
const nodeHash = (name, key) => {
  const known = `${name}`.toLowerCase().replace("-", ""), number = known === "md5" ? -1 : nodeHashes[known];
  if (!number) throw new Error(`node:crypto: no such hash here: ${name}`);
  const pieces = [];
  return {
    update(data, encoding) {
      pieces.push(typeof data === "string" ? Buffer.from(data, encoding) : copyOf(data));
      return this;
    },
    digest(encoding) {
      const all = joined(pieces), made = number < 0 ? Buffer.from(key ? md5Mac(key, all) : md5(all)) : Buffer.from((key ? compute("hmac", HMAC, number, 0, key, all) : compute("digest", DIGEST, number, 0, all)).buffer);
      return encoding ? made.toString(encoding) : made;
    },
  };
};
const nodeCrypto = {
  webcrypto: crypto, subtle: crypto.subtle, getRandomValues: array => crypto.getRandomValues(array), randomUUID: () => crypto.randomUUID(),
  randomBytes(size) {
    const bytes = Buffer.alloc(size);
    for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
    return bytes;
  },
  randomInt(low, high = undefined) {
    if (high === undefined) [low, high] = [0, low];
    const range = high - low, limit = 2 ** 48 - (2 ** 48 % range);
    for (;;) {
      const value = nodeCrypto.randomBytes(6).readUIntBE(0, 6);
      if (value < limit) return low + (value % range);
    }
  },
  createHash: name => nodeHash(name, null), createHmac: (name, key) => nodeHash(name, typeof key === "string" ? host.encode(key) : copyOf(key)),
  timingSafeEqual(a, b) {
    const one = bytesOf(a), two = bytesOf(b);
    if (one.length !== two.length) throw new RangeError("Input buffers must have the same byte length");
    return host.equal(one, two);
  },
  getHashes: () => ["md5", ...Object.keys(nodeHashes)],
};
const nodeTimers = {
  setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout, setInterval: globalThis.setInterval, clearInterval: globalThis.clearInterval,
  setImmediate: (callback, ...rest) => setTimeout(callback, 0, ...rest), clearImmediate: id => clearTimeout(id),
};
const timersPromises = {
  setTimeout: (delay, value) => new Promise(resolve => setTimeout(resolve, delay, value)), setImmediate: value => new Promise(resolve => setTimeout(resolve, 0, value)),
  scheduler: { wait: delay => new Promise(resolve => setTimeout(resolve, delay)), yield: () => new Promise(resolve => setTimeout(resolve, 0)) },
};
class StringDecoder {
  #encoding; #decoder = null; #kept = [];
  constructor(encoding = "utf8") {
    this.#encoding = encoding;
    if (/^utf-?8$/i.test(encoding)) this.#decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }
  write(bytes) { return this.#decoder ? this.#decoder.decode(bytes, { stream: true }) : Buffer.from(bytes).toString(this.#encoding); }
  end(bytes = undefined) { return (bytes ? this.write(bytes) : "") + (this.#decoder ? this.#decoder.decode() : ""); }
}

const MODULES = {
  async_hooks: () => ({ AsyncLocalStorage, AsyncResource, executionAsyncId: () => 0, triggerAsyncId: () => 0, createHook: () => ({ enable() {}, disable() {} }) }),
  assert: () => assert, "assert/strict": () => assert, buffer: () => ({ Buffer, Blob, File, atob, btoa, kMaxLength: 2 ** 29, constants: { MAX_LENGTH: 2 ** 29 }, isUtf8: bytes => { try { new TextDecoder("utf-8", { fatal: true }).decode(bytes); return true; } catch { return false; } } }),
  crypto: () => nodeCrypto, events: () => EventEmitter, path: () => path, "path/posix": () => path, process: () => process, querystring: () => querystring,
  string_decoder: () => ({ StringDecoder }), timers: () => nodeTimers, "timers/promises": () => timersPromises, url: () => nodeUrl, util: () => util, "util/types": () => util.types,
  "stream/web": () => ({ ReadableStream, WritableStream, TransformStream, CompressionStream, DecompressionStream, TextEncoderStream, TextDecoderStream, CountQueuingStrategy, ByteLengthQueuingStrategy }),
  perf_hooks: () => ({ performance }), console: () => console,
};
const madeModules = new Map();
// What a module's name stands for: an object of its exports, the default among them; undefined for what is not here.
const modules = specifier => {
  if (specifier === "cloudflare:workers") return { env: moduleEnv, waitUntil: keep, default: undefined };
  const name = specifier.startsWith("node:") ? specifier.slice(5) : specifier;
  if (!Object.hasOwn(MODULES, name)) return undefined;
  if (!madeModules.has(name)) {
    const value = MODULES[name](), exported = {};
    for (const key of Object.getOwnPropertyNames(value)) if (/^[A-Za-z_$][\w$]*$/.test(key) && !["prototype", "length", "name", "arguments", "caller", "default"].includes(key)) exported[key] = value[key];
    exported.default = value;
    madeModules.set(name, exported);
  }
  return madeModules.get(name);
};
