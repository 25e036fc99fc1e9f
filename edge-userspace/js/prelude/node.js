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
const promisify = callback => {
  mustBeFunction("original", callback);
  if (callback[promisify.custom]) {
    mustBeFunction("util.promisify.custom", callback[promisify.custom]);
    return callback[promisify.custom];
  }
  const promised = function (...rest) {
    return new Promise((resolve, reject) => { callback.call(this, ...rest, (error, value) => (error ? reject(error) : resolve(value))); });
  };
  Object.setPrototypeOf(promised, Object.getPrototypeOf(callback));
  return Object.defineProperties(promised, Object.getOwnPropertyDescriptors(callback));
};
promisify.custom = Symbol.for("nodejs.util.promisify.custom");
const typedArrays = Object.fromEntries([Int8Array, Bytes, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array]
  .map(Kind => [`is${Kind.name}`, value => isView(value) && typedName.call(value) === Kind.name]));
const tagged = tag => value => isObject(value) && Object.prototype.toString.call(value) === `[object ${tag}]`;
const styles = (format, text) => {
  let before = "", after = "";
  for (const each of [format].flat()) {
    if (!Object.hasOwn(inspect.colors, each)) throw nodeError(TypeError, "ERR_INVALID_ARG_VALUE", `The argument 'format' must be one of the styles of util.inspect.colors. Received ${inspect(each)}`);
    const [on, off] = inspect.colors[each];
    before += `\x1b[${on}m`;
    after = `\x1b[${off}m${after}`;
  }
  return before + text + after;
};
const util = {
  promisify, inspect, format: (...values) => formatWith({}, values), formatWithOptions: (options, ...values) => formatWith(options, values), TextEncoder, TextDecoder,
  callbackify: callback => {
    mustBeFunction("original", callback);
    return function (...rest) {
      const done = rest.pop();
      mustBeFunction("last argument", done);
      const failed = error => done(error ? error : Object.assign(nodeError(Error, "ERR_FALSY_VALUE_REJECTION", "Promise was rejected with falsy value"), { reason: error }));
      callback.apply(this, rest).then(value => queueMicrotask(() => done(null, value)), error => queueMicrotask(() => failed(error)));
    };
  },
  inherits(child, parent) {
    mustBeFunction("ctor", child);
    mustBeFunction("superCtor", parent);
    Object.defineProperty(child, "super_", { value: parent, writable: true, configurable: true });
    Object.setPrototypeOf(child.prototype, parent.prototype);
  },
  deprecate: callback => callback, debuglog: () => Object.assign(() => {}, { enabled: false }), debug: () => Object.assign(() => {}, { enabled: false }),
  stripVTControlCharacters: text => `${text}`.replace(/\x1b\[[0-9;]*[A-Za-z]/g, ""), styleText: styles, isArray: Array.isArray,
  isDeepStrictEqual: (a, b) => sameDeep(a, b, true), toUSVString: usv,
  async aborted(signal, resource) {
    if (!isObject(resource)) throw wrongType("resource", "of type object", resource);
    if (signal.aborted) return;
    await new Promise(resolve => signal.addEventListener("abort", () => resolve(), { once: true }));
  },
  types: {
    ...typedArrays, isPromise: value => host.isPromise(value), isDate: value => isBrand(dateValue, value), isRegExp: value => isBrand(regexpSource, value) && value !== RegExp.prototype,
    isMap: value => isBrand(mapSize, value), isSet: value => isBrand(setSize, value), isWeakMap: value => value instanceof WeakMap, isWeakSet: value => value instanceof WeakSet,
    isTypedArray: value => isView(value) && !(value instanceof DataView), isDataView: value => isView(value) && typedName.call(value) === undefined,
    isArrayBuffer: value => host.isBuffer(value) && brand(value) === "ArrayBuffer", isAnyArrayBuffer: value => host.isBuffer(value), isSharedArrayBuffer: tagged("SharedArrayBuffer"),
    isArrayBufferView: isView, isNativeError: value => value instanceof Error, isProxy: value => isObject(value) && host.isProxy(value),
    isAsyncFunction: value => typeof value === "function" && /^\[object Async/.test(Object.prototype.toString.call(value)),
    isGeneratorFunction: value => typeof value === "function" && /GeneratorFunction\]$/.test(Object.prototype.toString.call(value)), isGeneratorObject: tagged("Generator"),
    isMapIterator: tagged("Map Iterator"), isSetIterator: tagged("Set Iterator"), isArgumentsObject: tagged("Arguments"), isModuleNamespaceObject: tagged("Module"),
    isBoxedPrimitive: value => isObject(value) && BOXES.includes(brandOf(value)), ...Object.fromEntries(BOXES.map(kind => [`is${kind}Object`, value => isObject(value) && brandOf(value) === kind])),
    isCryptoKey: value => isObject(value) && value instanceof CryptoKey, isKeyObject: () => false, isExternal: () => false,
  },
};

// ---- node:querystring, node:url
const lenient = (text, decode = decodeURIComponent) => { try { return decode(text); } catch { return formDecode(text.replace(PLUS, "%2B")); } };
const querystring = {
  parse(text, separator = undefined, equals = undefined, options = undefined) {
    const found = { __proto__: null }, by = separator || "&", is = equals || "=", { maxKeys = 1000, decodeURIComponent: decode } = dictionary(options, "the options");
    if (typeof text !== "string" || !text) return found;
    let left = maxKeys > 0 ? maxKeys : Infinity;
    const plain = part => lenient(part.replace(PLUS, "%20"), decode);
    for (const piece of text.split(`${by}`)) {
      if (!piece) continue;
      if (left-- <= 0) break;
      const at = piece.indexOf(is), name = plain(at < 0 ? piece : piece.slice(0, at)), value = at < 0 ? "" : plain(piece.slice(at + is.length)), old = found[name];
      if (old === undefined) found[name] = value;
      else if (Array.isArray(old)) old.push(value);
      else found[name] = [old, value];
    }
    return found;
  },
  stringify(of, separator = undefined, equals = undefined, options = undefined) {
    if (!isObject(of)) return "";
    const by = separator || "&", is = equals || "=", { encodeURIComponent: encode = querystring.escape } = dictionary(options, "the options");
    const text = value => (typeof value === "string" ? value : (typeof value === "number" && isFinite(value)) || typeof value === "bigint" || typeof value === "boolean" ? `${value}` : "");
    return Object.entries(of).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map(item => `${encode(name)}${is}${encode(text(item))}`)).join(by);
  },
  escape(text) {
    try { return encodeURIComponent(text); } catch { throw nodeError(URIError, "ERR_INVALID_URI", "URI malformed"); }
  },
  unescape: text => lenient(`${text}`),
};
querystring.decode = querystring.parse;
querystring.encode = querystring.stringify;
const nodeUrl = {
  URL, URLSearchParams, 
  fileURLToPath(url) {
    const file = new URL(url);
    if (file.protocol !== "file:") throw nodeError(TypeError, "ERR_INVALID_URL_SCHEME", "The URL must be of scheme file");
    if (/%2f/i.test(file.pathname)) throw nodeError(TypeError, "ERR_INVALID_FILE_URL_PATH", "File URL path must not include encoded / characters");
    return decodeURIComponent(file.pathname);
  },
  pathToFileURL: text => new URL(`file://${path.resolve(text).replace(/[%\\\n\r\t?#]/g, encodeURIComponent)}${text.endsWith("/") && path.resolve(text) !== "/" ? "/" : ""}`),
  urlToHttpOptions(url) {
    const { protocol, hostname, hash, search, pathname, href, port, username, password } = url;
    return {
      protocol, hostname: hostname.startsWith("[") ? hostname.slice(1, -1) : hostname, hash, search, pathname, path: `${pathname}${search}`, href,
      ...(port === "" ? {} : { port: Number(port) }), ...(username || password ? { auth: `${decodeURIComponent(username)}:${decodeURIComponent(password)}` } : {}),
    };
  },
  format(url, options = undefined) {
    if (isObject(url) && url instanceof URL) {
      const { fragment = true, search = true, auth = true } = dictionary(options, "the options"), made = new URL(url.href);
      if (!fragment) made.hash = "";
      if (!search) made.search = "";
      if (!auth) made.username = made.password = "";
      return made.href;
    }
    if (!isObject(url)) return `${url}`;
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
const nodeBytes = (name, data, encoding) => {
  if (typeof data === "string") return Buffer.from(data, encoding);
  if (!isBufferSource(data)) throw wrongType(name, "of type string or an instance of Buffer, TypedArray, or DataView", data);
  return copyOf(data);
};
const nodeHash = (name, key, pieces = []) => {
  const known = `${name}`.toLowerCase().replace("-", ""), number = known === "md5" ? -1 : nodeHashes[known];
  if (!number) {
    const why = `node:crypto: no such hash here: ${name}`;
    throw key ? nodeError(Error, "ERR_CRYPTO_INVALID_DIGEST", why) : new Error(why);
  }
  let done = false;
  const open = what => { if (done) throw nodeError(Error, "ERR_CRYPTO_HASH_FINALIZED", `${what}: the digest was made already`); };
  return {
    update(data, encoding) {
      open("update");
      pieces.push(nodeBytes("data", data, encoding));
      return this;
    },
    digest(encoding) {
      open("digest");
      done = true;
      const all = joined(pieces), made = number < 0 ? Buffer.from(key ? md5Mac(key, all) : md5(all)) : Buffer.from((key ? compute("hmac", HMAC, number, 0, key, all) : compute("digest", DIGEST, number, 0, all)).buffer);
      return encoding && encoding !== "buffer" ? made.toString(encoding) : made;
    },
    copy() {
      open("copy");
      return nodeHash(name, key, [...pieces]);
    },
  };
};
// With a callback the result comes by it, as elsewhere.
const called = (callback, make) => {
  if (callback === undefined) return make();
  mustBeFunction("callback", callback);
  const made = make();
  queueMicrotask(() => callback(null, made));
};
const nodeCrypto = {
  webcrypto: crypto, subtle: crypto.subtle, getRandomValues: array => crypto.getRandomValues(array), randomUUID: () => crypto.randomUUID(),
  randomFillSync(buffer, offset = 0, size = undefined) {
    const bytes = bytesOf(buffer), to = size === undefined ? bytes.length : offset + size;
    if (!(offset >= 0 && to <= bytes.length && offset <= to)) throw outOfRange("offset", `>= 0 && <= ${bytes.length}`, offset);
    for (let at = offset; at < to; at += 65536) crypto.getRandomValues(bytes.subarray(at, Math.min(at + 65536, to)));
    return buffer;
  },
  randomBytes(size, callback = undefined) {
    if (typeof size !== "number") throw wrongType("size", "of type number", size);
    if (!(size >= 0 && size <= 2 ** 31 - 1)) throw outOfRange("size", ">= 0 && <= 2147483647", size);
    return called(callback, () => nodeCrypto.randomFillSync(Buffer.alloc(size)));
  },
  randomInt(low, high = undefined, callback = undefined) {
    if (high === undefined || typeof high === "function") [low, high, callback] = [0, low, high];
    for (const [name, value] of [["min", low], ["max", high]]) if (!Number.isSafeInteger(value)) throw wrongType(name, "a safe integer", value);
    const range = high - low;
    if (range < 1) throw outOfRange("max", `greater than the value of "min" (${low})`, high);
    if (range > 2 ** 48 - 1) throw outOfRange("max - min", "<= 281474976710655", range);
    const limit = 2 ** 48 - (2 ** 48 % range);
    return called(callback, () => {
      for (;;) {
        const value = nodeCrypto.randomBytes(6).readUIntBE(0, 6);
        if (value < limit) return low + (value % range);
      }
    });
  },
  createHash: name => nodeHash(name, null), createHmac: (name, key) => nodeHash(name, nodeBytes("key", key)),
  hash: (name, data, encoding = "hex") => nodeHash(name, null).update(data).digest(encoding),
  timingSafeEqual(a, b) {
    for (const [name, value] of [["buf1", a], ["buf2", b]]) if (!isBufferSource(value)) throw wrongType(name, "an instance of ArrayBuffer, Buffer, TypedArray, or DataView", value);
    const one = bytesOf(a), two = bytesOf(b);
    if (one.length !== two.length) throw nodeError(RangeError, "ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH", "Input buffers must have the same byte length");
    return host.equal(one, two);
  },
  getHashes: () => ["md5", ...Object.keys(nodeHashes)],
};
const nodeTimers = {
  setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout, setInterval: globalThis.setInterval, clearInterval: globalThis.clearInterval,
  setImmediate: (callback, ...rest) => setTimeout(callback, 0, ...rest), clearImmediate: id => clearTimeout(id),
};
const waited = async (delay, value, options) => {
  const { signal } = dictionary(options, "the options");
  if (signal?.aborted) throw abortError(signal.reason);
  const { promise, resolve, reject } = Promise.withResolvers(), id = setTimeout(resolve, delay, value), end = followSignal(signal, reason => reject(abortError(reason)));
  try { return await promise; } finally {
    clearTimeout(id);
    end();
  }
};
const timersPromises = {
  setTimeout: (delay, value, options) => waited(delay, value, options), setImmediate: (value, options) => waited(0, value, options),
  async *setInterval(delay, value, options) {
    for (;;) yield await waited(delay, value, options);
  },
  scheduler: { wait: (delay, options) => waited(delay, undefined, options), yield: () => waited(0) },
};
Object.defineProperty(globalThis.setTimeout, promisify.custom, { value: timersPromises.setTimeout, configurable: true });
Object.defineProperty(nodeTimers.setImmediate, promisify.custom, { value: timersPromises.setImmediate, configurable: true });
class StringDecoder {
  #decoder = null; #kept = NOTHING;
  constructor(encoding = "utf8") {
    this.encoding = bufferEncoding(encoding);
    if (this.encoding === "utf8") this.#decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }
  write(input) {
    const bytes = typeof input === "string" ? null : bytesOf(input);
    if (!bytes) return input;
    if (this.#decoder) return this.#decoder.decode(bytes, { stream: true });
    const unit = { utf16le: 2, base64: 3, base64url: 3 }[this.encoding] ?? 1, all = joined([this.#kept, bytes]);
    let whole = all.length - (all.length % unit);
    // Half of a pair waits for the other.
    if (unit === 2 && whole && (all[whole - 1] & 0xfc) === 0xd8) whole -= 2;
    this.#kept = all.subarray(whole);
    return bufferText(all.subarray(0, whole), this.encoding);
  }
  end(input = undefined) {
    const text = input === undefined ? "" : this.write(input), kept = this.#kept;
    this.#kept = NOTHING;
    return text + (this.#decoder ? this.#decoder.decode() : bufferText(kept, this.encoding));
  }
}

const MODULES = {
  async_hooks: () => ({ AsyncLocalStorage, AsyncResource, executionAsyncId: () => 0, triggerAsyncId: () => 0, createHook: () => ({ enable() {}, disable() {} }) }),
  assert: () => assert, "assert/strict": () => assert.strict, buffer: () => ({ Buffer, Blob, File, atob, btoa, kMaxLength: 2 ** 29, constants: { MAX_LENGTH: 2 ** 29, MAX_STRING_LENGTH: 2 ** 29 }, isAscii: bytes => bytesOf(bytes).every(byte => byte < 0x80), isUtf8: bytes => { try { new TextDecoder("utf-8", { fatal: true }).decode(bytes); return true; } catch { return false; } } }),
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
