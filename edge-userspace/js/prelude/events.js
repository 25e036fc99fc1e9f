// Events, AbortController and AbortSignal (DOM standard, sections 2 and 3), without a tree: an event has one target.

let dispatch, hasListeners, trusted;
class Event {
  #type; #target = null; #cancelable; #prevented = false; #stop = false; #bubbles; #composed; #time = live ? now() - began : 0; #passive = false; #phase = 0; #quenched = false; #trusted = false;
  constructor(type, init = undefined) {
    required(1, arguments.length, "Event");
    const options = dictionary(init, "the options");
    this.#type = `${type}`;
    this.#bubbles = !!options.bubbles;
    this.#cancelable = !!options.cancelable;
    this.#composed = !!options.composed;
  }
  static {
    trusted = event => {
      event.#trusted = true;
      return event;
    };
    dispatch = (event, target, listeners) => {
      event.#target = target;
      event.#phase = 2;
      event.#stop = false;
      for (const listener of listeners) {
        if (listener.removed) continue;
        if (listener.once) target.removeEventListener(event.#type, listener.callback, listener.capture);
        event.#passive = listener.passive;
        try {
          if (typeof listener.callback === "function") listener.callback.call(target, event);
          else listener.callback.handleEvent(event);
        } catch (error) {
          uncaught(error);
        }
        event.#passive = false;
        if (event.#stop) break;
      }
      event.#phase = 0;
      event.#quenched = event.#stop = false;
      return !event.#prevented;
    };
  }
  get type() { return this.#type; }
  get target() { return this.#target; }
  get srcElement() { return this.#target; }
  get currentTarget() { return this.#phase ? this.#target : null; }
  get eventPhase() { return this.#phase; }
  get bubbles() { return this.#bubbles; }
  get cancelable() { return this.#cancelable; }
  get composed() { return this.#composed; }
  get defaultPrevented() { return this.#prevented; }
  get returnValue() { return !this.#prevented; }
  get timeStamp() { return this.#time; }
  get isTrusted() { return this.#trusted; }
  composedPath() { return this.#phase ? [this.#target] : []; }
  preventDefault() { if (this.#cancelable && !this.#passive) this.#prevented = true; }
  get cancelBubble() { return this.#quenched; }
  set cancelBubble(value) { if (value) this.#quenched = true; }
  set returnValue(value) { if (!value) this.preventDefault(); }
  stopPropagation() { this.#quenched = true; }
  stopImmediatePropagation() { this.#quenched = this.#stop = true; }
}
for (const [name, value] of Object.entries({ NONE: 0, CAPTURING_PHASE: 1, AT_TARGET: 2, BUBBLING_PHASE: 3 })) {
  for (const place of [Event, Event.prototype]) Object.defineProperty(place, name, { value, enumerable: true });
}
class CustomEvent extends Event {
  #detail;
  constructor(type, init = undefined) {
    required(1, arguments.length, "CustomEvent");
    super(type, init);
    this.#detail = dictionary(init, "the options").detail ?? null;
  }
  get detail() { return this.#detail; }
}
class ErrorEvent extends Event {
  #of;
  constructor(type, init = undefined) {
    required(1, arguments.length, "ErrorEvent");
    super(type, init);
    const { message = "", filename = "", lineno = 0, colno = 0, error } = dictionary(init, "the options");
    this.#of = { message: `${message}`, filename: `${filename}`, lineno: lineno >>> 0, colno: colno >>> 0, error };
  }
  get message() { return this.#of.message; }
  get filename() { return this.#of.filename; }
  get lineno() { return this.#of.lineno; }
  get colno() { return this.#of.colno; }
  get error() { return this.#of.error; }
}
class PromiseRejectionEvent extends Event {
  #promise; #reason;
  constructor(type, init = undefined) {
    required(2, arguments.length, "PromiseRejectionEvent");
    super(type, init);
    this.#promise = init.promise;
    this.#reason = init.reason;
  }
  get promise() { return this.#promise; }
  get reason() { return this.#reason; }
}
class MessageEvent extends Event {
  #of;
  constructor(type, init = undefined) {
    required(1, arguments.length, "MessageEvent");
    super(type, init);
    const { data = null, origin = "", lastEventId = "", source = null, ports = [] } = dictionary(init, "the options");
    this.#of = { data, origin: `${origin}`, lastEventId: `${lastEventId}`, source, ports: Object.freeze([...ports]) };
  }
  get data() { return this.#of.data; }
  get origin() { return this.#of.origin; }
  get lastEventId() { return this.#of.lastEventId; }
  get source() { return this.#of.source; }
  get ports() { return this.#of.ports; }
}
class CloseEvent extends Event {
  #of;
  constructor(type, init = undefined) {
    required(1, arguments.length, "CloseEvent");
    super(type, init);
    const { wasClean = false, code = 0, reason = "" } = dictionary(init, "the options");
    this.#of = { wasClean: !!wasClean, code: code & 0xffff, reason: `${reason}` };
  }
  get wasClean() { return this.#of.wasClean; }
  get code() { return this.#of.code; }
  get reason() { return this.#of.reason; }
}
class EventTarget {
  // By type, for capturing listeners and others: callback -> listener, in the order in which they were added.
  #listeners = null;
  static {
    hasListeners = (target, type) => {
      const lists = target.#listeners?.get(type);
      return !!lists && lists[0].size + lists[1].size > 0;
    };
  }
  addEventListener(type, callback, options = undefined) {
    required(2, arguments.length, "addEventListener");
    const settings = isObject(options) ? options : {}, capture = !!(isObject(options) ? options.capture : options);
    const { signal } = settings;
    if (signal !== undefined && !(isObject(signal) && signal instanceof AbortSignal)) throw new TypeError("addEventListener: the signal is not an AbortSignal");
    if (callback === null || callback === undefined) return;
    if (!isObject(callback)) throw new TypeError("addEventListener: the listener is neither a function nor an object");
    if (signal?.aborted) return;
    const map = this.#listeners ??= new Map(), key = `${type}`;
    let lists = map.get(key);
    if (!lists) map.set(key, lists = [new Map(), new Map()]);
    const list = lists[+!capture];
    if (list.has(callback)) return;
    list.set(callback, { callback, capture, once: !!settings.once, passive: !!settings.passive, removed: false });
    if (signal) signalFollow(signal, () => this.removeEventListener(key, callback, capture));
  }
  removeEventListener(type, callback, options = undefined) {
    required(2, arguments.length, "removeEventListener");
    const capture = !!(isObject(options) ? options.capture : options), list = this.#listeners?.get(`${type}`)?.[+!capture], listener = list?.get(callback);
    if (!listener) return;
    listener.removed = true;
    list.delete(callback);
  }
  dispatchEvent(event) {
    if (!(isObject(event) && event instanceof Event)) throw new TypeError("dispatchEvent: not an Event");
    if (event.eventPhase) throw new DOMException("the event is being dispatched", "InvalidStateError");
    const lists = this.#listeners?.get(event.type);
    return dispatch(event, this, lists ? [...lists[0].values(), ...lists[1].values()] : []);
  }
}
// `onabort` and the like: a listener in the place where it was first set.
const handlers = (Class, ...types) => {
  for (const type of types) {
    const set = new WeakMap();
    Object.defineProperty(Class.prototype, `on${type}`, {
      configurable: true,
      get() { return set.get(this)?.handler ?? null; },
      set(handler) {
        const holder = set.get(this);
        handler = isObject(handler) ? handler : null;
        if (holder) return void (holder.handler = handler);
        if (!handler) return;
        const fresh = { handler };
        set.set(this, fresh);
        this.addEventListener(type, event => {
          if (typeof fresh.handler === "function") fresh.handler.call(this, event);
        });
      },
    });
  }
};

let signalAbort, signalFollow;
class AbortSignal extends EventTarget {
  #aborted = false; #reason = undefined; #followers = new Set(); #dependents = [];
  static {
    // Those that depend on it are aborted before anybody hears of it, and are heard of after it (DOM standard, "signal abort").
    signalAbort = (signal, reason = new DOMException("This operation was aborted", "AbortError")) => {
      if (signal.#aborted) return;
      const all = new Set([signal]);
      for (const each of all) {
        each.#aborted = true;
        each.#reason = reason;
        for (const dependent of each.#dependents) if (!dependent.#aborted) all.add(dependent);
        each.#dependents = [];
      }
      for (const each of all) {
        const followers = each.#followers;
        each.#followers = new Set();
        for (const follower of followers) follower(reason);
        each.dispatchEvent(trusted(new Event("abort")));
      }
    };
    // Calls `then` with the reason, now or when it comes; the result takes that back.
    signalFollow = (signal, then) => {
      if (signal.#aborted) return then(signal.#reason), () => {};
      signal.#followers.add(then);
      return () => signal.#followers.delete(then);
    };
  }
  constructor(token) { illegal(token); super(); }
  static abort(reason = undefined) {
    const signal = new AbortSignal(INTERNAL);
    signalAbort(signal, reason);
    return signal;
  }
  static timeout(milliseconds) {
    required(1, arguments.length, "AbortSignal.timeout");
    const wait = +milliseconds;
    if (!(wait >= 0 && wait <= Number.MAX_SAFE_INTEGER)) throw new TypeError("AbortSignal.timeout: not a number of milliseconds");
    const signal = new AbortSignal(INTERNAL);
    setTimer(() => signalAbort(signal, new DOMException("The operation timed out", "TimeoutError")), wait, false, [], "AbortSignal.timeout");
    return signal;
  }
  static any(signals) {
    required(1, arguments.length, "AbortSignal.any");
    const result = new AbortSignal(INTERNAL), all = [...signals];
    for (const signal of all) if (!(signal instanceof AbortSignal)) throw new TypeError("AbortSignal.any: not an AbortSignal");
    const first = all.find(signal => signal.#aborted);
    if (first) signalAbort(result, first.#reason);
    else for (const signal of all) signal.#dependents.push(result);
    return result;
  }
  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }
}
handlers(AbortSignal, "abort");
class AbortController {
  #signal = new AbortSignal(INTERNAL);
  get signal() { return this.#signal; }
  abort(reason = undefined) { signalAbort(this.#signal, reason); }
}
interfaces({ Event, CustomEvent, ErrorEvent, PromiseRejectionEvent, MessageEvent, CloseEvent, EventTarget, AbortSignal, AbortController });
