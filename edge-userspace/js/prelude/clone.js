// structuredClone (HTML standard, section 2.7) for what a worker has: primitives and their objects, Date, RegExp, buffers and views, Map, Set,
// arrays, plain objects, errors. ArrayBuffers can be transferred.

const uncloneable = what => new DOMException(`${what} cannot be cloned`, "DataCloneError");
const ERRORS = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
const brand = value => Object.prototype.toString.call(value).slice(8, -1);
const dateValue = Date.prototype.getTime, bufferLength = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength").get;
const isBrand = (test, value) => { try { test.call(value); return true; } catch { return false; } };
const mapSize = Object.getOwnPropertyDescriptor(Map.prototype, "size").get, setSize = Object.getOwnPropertyDescriptor(Set.prototype, "size").get;
const regexpSource = Object.getOwnPropertyDescriptor(RegExp.prototype, "source").get;
const copyOfBuffer = buffer => {
  const length = bufferLength.call(buffer), copy = buffer.resizable ? new ArrayBuffer(length, { maxByteLength: buffer.maxByteLength }) : new ArrayBuffer(length);
  new Bytes(copy).set(new Bytes(buffer));
  return copy;
};
const cloneValue = (value, seen, transfer) => {
  if (typeof value === "symbol") throw uncloneable("a symbol");
  if (typeof value === "function") throw uncloneable("a function");
  if (!isObject(value)) return value;
  if (seen.has(value)) return seen.get(value);
  let copy, deep = null;
  if (host.isBuffer(value)) copy = transfer.has(value) ? value.transfer() : copyOfBuffer(value);
  else if (host.isProxy(value)) throw uncloneable("a Proxy");
  else if (isView(value)) {
    const typed = host.view(value);
    if (typed) {
      const buffer = cloneValue(typed[0], seen, transfer), constructor = globalThis[typedName.call(value)];
      copy = new constructor(buffer, typed[1], typed[2] / constructor.BYTES_PER_ELEMENT);
    } else copy = new DataView(cloneValue(viewBuffer.call(value), seen, transfer), viewOffset.call(value), viewLength.call(value));
  } else if (isBrand(dateValue, value)) copy = new Date(dateValue.call(value));
  else if (value instanceof RegExp && isBrand(regexpSource, value)) copy = new RegExp(value.source, value.flags);
  else if (isBrand(mapSize, value)) {
    copy = new Map();
    deep = () => { for (const [key, item] of [...value]) copy.set(cloneValue(key, seen, transfer), cloneValue(item, seen, transfer)); };
  } else if (isBrand(setSize, value)) {
    copy = new Set();
    deep = () => { for (const item of [...value]) copy.add(cloneValue(item, seen, transfer)); };
  } else if (value instanceof File) copy = new File([value], value.name, { type: value.type, lastModified: value.lastModified });
  else if (value instanceof Blob) copy = value.slice(0, value.size, value.type);
  else if (value instanceof DOMException) copy = new DOMException(value.message, value.name);
  else if (value instanceof Error) {
    const name = `${value.name}`, constructor = Object.hasOwn(ERRORS, name) ? ERRORS[name] : Error;
    copy = new constructor();
    const own = Object.getOwnPropertyDescriptor(value, "message");
    if (own && "value" in own) Object.defineProperty(copy, "message", { value: `${own.value}`, writable: true, configurable: true });
    if (Object.hasOwn(value, "cause")) deep = () => Object.defineProperty(copy, "cause", { value: cloneValue(value.cause, seen, transfer), writable: true, configurable: true });
    Object.defineProperty(copy, "stack", { value: value.stack, writable: true, configurable: true });
  } else if (Array.isArray(value)) {
    copy = new Array(value.length);
  } else {
    const kind = brand(value), prototype = Object.getPrototypeOf(value);
    if (kind === "Boolean" || kind === "Number" || kind === "String" || kind === "BigInt") copy = Object(value.valueOf());
    else if (kind === "Symbol" || host.isPromise(value) || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) throw uncloneable(`a ${kind}`);
    else if (prototype && typeof prototype.constructor === "function" && PLATFORM.has(prototype.constructor)) throw uncloneable(`a ${kind}`);
    else copy = {};
  }
  seen.set(value, copy);
  if (deep) deep();
  else if (Array.isArray(copy) || (brand(copy) === "Object")) {
    for (const key of Object.keys(value)) {
      Object.defineProperty(copy, key, { value: cloneValue(value[key], seen, transfer), writable: true, enumerable: true, configurable: true });
    }
  }
  return copy;
};
const PLATFORM = new Set([Headers, Request, Response, FormData, URL, URLSearchParams, ReadableStream, WritableStream, TransformStream, AbortSignal, AbortController,
  Event, EventTarget, TextEncoder, TextDecoder, CryptoKey]);
expose("structuredClone", function structuredClone(value, options = undefined) {
  required(1, arguments.length, "structuredClone");
  const list = dictionary(options, "the options").transfer, listed = list === undefined ? [] : [...list], transfer = new Set(listed);
  if (transfer.size < listed.length) throw uncloneable("what is to be transferred twice");
  for (const item of transfer) {
    if (!host.isBuffer(item)) throw uncloneable("what is to be transferred");
    if (item.detached) throw uncloneable("a detached buffer");
  }
  const seen = new Map(), copy = cloneValue(value, seen, transfer);
  for (const item of transfer) if (!seen.has(item)) item.transfer();
  return copy;
});

// MessageChannel within one worker: a message is a task, and its data a clone.
let portOf;
class MessagePort extends EventTarget {
  #other = null; #started = false; #queue = []; #closed = false;
  static { portOf = (one, two) => { one.#other = two; two.#other = one; }; }
  constructor(token) { illegal(token); super(); }
  postMessage(message, options = undefined) {
    required(1, arguments.length, "postMessage");
    const data = structuredClone(message, Array.isArray(options) ? { transfer: options } : options), to = this.#other;
    if (!to || to.#closed) return;
    to.#queue.push(data);
    to.#deliver();
  }
  start() {
    this.#started = true;
    this.#deliver();
  }
  close() { this.#closed = true; }
  #deliver() {
    if (!this.#started) return;
    for (const data of this.#queue.splice(0)) setTimer(() => { if (!this.#closed) this.dispatchEvent(new MessageEvent("message", { data })); }, 0, false, [], "postMessage");
  }
}
handlers(MessagePort, "message", "messageerror");
const onmessage = Object.getOwnPropertyDescriptor(MessagePort.prototype, "onmessage");
Object.defineProperty(MessagePort.prototype, "onmessage", {
  ...onmessage,
  set(handler) {
    onmessage.set.call(this, handler);
    this.start();
  },
});
class MessageChannel {
  #ports = [new MessagePort(INTERNAL), new MessagePort(INTERNAL)];
  constructor() { portOf(...this.#ports); }
  get port1() { return this.#ports[0]; }
  get port2() { return this.#ports[1]; }
}
interfaces({ MessagePort, MessageChannel });
