// node:events. What an emitter holds is kept beside it, so that functions which call `EventEmitter` as their parent, and objects that borrow its
// methods, are emitters, too.

// An error of Node.js: packages tell them apart by `code`.
const nodeError = (Kind, code, message) => Object.assign(new Kind(message), { code });
const wrongType = (name, wanted, value) => nodeError(TypeError, "ERR_INVALID_ARG_TYPE", `The "${name}" argument must be ${wanted}. Received ${value === null ? "null" : typeof value}`);
const outOfRange = (name, range, value) => nodeError(RangeError, "ERR_OUT_OF_RANGE", `The value of "${name}" is out of range. It must be ${range}. Received ${typeof value === "bigint" ? `${value}n` : String(value)}`);
const abortError = reason => Object.assign(nodeError(Error, "ABORT_ERR", "The operation was aborted"), { name: "AbortError", cause: reason });
const mustBeFunction = (name, value) => { if (typeof value !== "function") throw wrongType(name, "of type function", value); };

const emitters = new WeakMap();
const emitterOf = emitter => {
  let held = emitters.get(emitter);
  if (!held) emitters.set(emitter, held = { events: new Map(), most: undefined });
  return held;
};
const listenersOf = (emitter, name) => emitterOf(emitter).events.get(name) ?? [];
const addListener = (emitter, name, listener, first, once) => {
  mustBeFunction("listener", listener);
  const { events } = emitterOf(emitter);
  if (events.has("newListener")) emitter.emit("newListener", name, listener);
  const list = events.get(name) ?? [], entry = { listener, call: listener };
  if (once) {
    entry.call = (...rest) => {
      emitter.removeListener(name, entry.call);
      return listener.apply(emitter, rest);
    };
    entry.call.listener = listener;
  }
  events.set(name, first ? [entry, ...list] : [...list, entry]);
  return emitter;
};
const mostListeners = value => {
  if (typeof value !== "number" || !(value >= 0)) throw outOfRange("n", "a non-negative number", value);
  return value;
};
function EventEmitter() { if (new.target === undefined && !isObject(this)) return new EventEmitter(); }
const errorMonitor = Symbol("events.errorMonitor");
const emitterMethods = {
  on(name, listener) { return addListener(this, name, listener, false, false); },
  addListener(name, listener) { return addListener(this, name, listener, false, false); },
  once(name, listener) { return addListener(this, name, listener, false, true); },
  prependListener(name, listener) { return addListener(this, name, listener, true, false); },
  prependOnceListener(name, listener) { return addListener(this, name, listener, true, true); },
  removeListener(name, listener) {
    mustBeFunction("listener", listener);
    const { events } = emitterOf(this), list = events.get(name) ?? [], at = list.findLastIndex(entry => entry.listener === listener || entry.call === listener);
    if (at < 0) return this;
    const gone = list[at].listener;
    if (list.length === 1) events.delete(name);
    else events.set(name, list.toSpliced(at, 1));
    if (events.has("removeListener")) this.emit("removeListener", name, gone);
    return this;
  },
  off(name, listener) { return this.removeListener(name, listener); },
  removeAllListeners(name = undefined) {
    const { events } = emitterOf(this);
    if (!events.has("removeListener")) {
      if (name === undefined) events.clear();
      else events.delete(name);
      return this;
    }
    const names = name === undefined ? [...events.keys()].filter(key => key !== "removeListener") : [name];
    for (const each of names) for (const { call } of listenersOf(this, each).toReversed()) this.removeListener(each, call);
    if (name === undefined) events.clear();
    return this;
  },
  emit(name, ...rest) {
    if (name === "error" && emitterOf(this).events.has(errorMonitor)) this.emit(errorMonitor, ...rest);
    const list = listenersOf(this, name);
    if (!list.length) {
      if (name !== "error") return false;
      if (rest[0] instanceof Error) throw rest[0];
      throw Object.assign(nodeError(Error, "ERR_UNHANDLED_ERROR", `Unhandled error. (${inspect(rest[0])})`), { context: rest[0] });
    }
    for (const { call } of list) call.apply(this, rest);
    return true;
  },
  listeners(name) { return listenersOf(this, name).map(entry => entry.listener); },
  rawListeners(name) { return listenersOf(this, name).map(entry => entry.call); },
  listenerCount(name, listener = undefined) {
    const list = listenersOf(this, name);
    return listener === undefined || listener === null ? list.length : list.filter(entry => entry.listener === listener).length;
  },
  eventNames() { return [...emitterOf(this).events.keys()]; },
  setMaxListeners(most) {
    emitterOf(this).most = mostListeners(most);
    return this;
  },
  getMaxListeners() { return emitterOf(this).most ?? EventEmitter.defaultMaxListeners; },
};
Object.assign(EventEmitter.prototype, emitterMethods);
// Adds a listener to an emitter or an EventTarget; what is returned removes it.
const listenTo = (emitter, name, listener) => {
  if (typeof emitter?.on === "function") {
    emitter.on(name, listener);
    return () => emitter.removeListener(name, listener);
  }
  if (typeof emitter?.addEventListener !== "function") throw wrongType("emitter", "an instance of EventEmitter or EventTarget", emitter);
  emitter.addEventListener(name, listener);
  return () => emitter.removeEventListener(name, listener);
};
// Calls `then` when `signal` is aborted, which it is not yet; what is returned takes that back.
const followSignal = (signal, then) => {
  if (signal === undefined || signal === null) return () => {};
  if (!(isObject(signal) && signal instanceof AbortSignal)) throw wrongType("options.signal", "an instance of AbortSignal", signal);
  return signalFollow(signal, then);
};
Object.assign(EventEmitter, {
  EventEmitter, defaultMaxListeners: 10, errorMonitor, captureRejectionSymbol: Symbol.for("nodejs.rejection"),
  async once(emitter, name, options = undefined) {
    const { signal } = dictionary(options, "the options");
    if (signal?.aborted) throw abortError(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers(), ends = [];
    try {
      ends.push(listenTo(emitter, name, (...rest) => resolve(rest)), followSignal(signal, reason => reject(abortError(reason))));
      if (name !== "error" && typeof emitter.on === "function") ends.push(listenTo(emitter, "error", reject));
      return await promise;
    } finally {
      for (const end of ends) end();
    }
  },
  on(emitter, name, options = undefined) {
    const { signal, close = [] } = dictionary(options, "the options");
    if (signal?.aborted) throw abortError(signal.reason);
    const come = [], waiting = [], ends = [];
    let failed = null, ended = false;
    const finish = () => {
      ended = true;
      for (const end of ends.splice(0)) end();
      for (const wait of waiting.splice(0)) wait.resolve({ value: undefined, done: true });
    };
    const fail = error => {
      const wait = waiting.shift();
      if (wait) wait.reject(error);
      else failed = { error };
      finish();
    };
    ends.push(listenTo(emitter, name, (...rest) => {
      const wait = waiting.shift();
      if (wait) wait.resolve({ value: rest, done: false });
      else come.push(rest);
    }), followSignal(signal, reason => fail(abortError(reason))));
    if (name !== "error" && typeof emitter.on === "function") ends.push(listenTo(emitter, "error", fail));
    for (const each of close) ends.push(listenTo(emitter, each, finish));
    return Object.assign(Object.create(Object.getPrototypeOf(Object.getPrototypeOf(async function* () {}).prototype)), {
      next() {
        if (come.length) return Promise.resolve({ value: come.shift(), done: false });
        if (failed) {
          const { error } = failed;
          failed = null;
          return Promise.reject(error);
        }
        if (ended) return Promise.resolve({ value: undefined, done: true });
        const wait = Promise.withResolvers();
        waiting.push(wait);
        return wait.promise;
      },
      return() {
        finish();
        return Promise.resolve({ value: undefined, done: true });
      },
      throw(error) {
        fail(error);
        return Promise.resolve({ value: undefined, done: true });
      },
      [Symbol.asyncIterator]() { return this; },
    });
  },
  listenerCount: (emitter, name) => emitter.listenerCount(name),
  getEventListeners(emitter, name) {
    if (typeof emitter?.listeners !== "function") throw wrongType("emitter", "an instance of EventEmitter", emitter);
    return emitter.listeners(name);
  },
  getMaxListeners: emitter => emitter.getMaxListeners(),
  setMaxListeners(most = 10, ...of) {
    mostListeners(most);
    if (!of.length) EventEmitter.defaultMaxListeners = most;
    // An EventTarget has no such number.
    for (const each of of) if (typeof each?.setMaxListeners === "function") each.setMaxListeners(most);
  },
});
