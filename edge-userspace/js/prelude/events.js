// Events, AbortController and AbortSignal (DOM standard, sections 2 and 3), without a tree: an event has one target.

let stopped, dispatch;
class Event {
  #type; #target = null; #cancelable; #prevented = false; #stop = false; #bubbles; #composed; #time = live ? now() - began : 0;
  constructor(type, init = undefined) {
    required(1, arguments.length, "Event");
    const options = dictionary(init, "the options");
    this.#type = `${type}`;
    this.#bubbles = !!options.bubbles;
    this.#cancelable = !!options.cancelable;
    this.#composed = !!options.composed;
  }
  static {
    stopped = event => event.#stop;
    dispatch = (event, target, listeners) => {
      event.#target = target;
      for (const listener of listeners) {
        if (listener.removed) continue;
        if (listener.once) target.removeEventListener(event.#type, listener.callback);
        try {
          if (typeof listener.callback === "function") listener.callback.call(target, event);
          else listener.callback.handleEvent(event);
        } catch (error) {
          uncaught(error);
        }
        if (event.#stop) break;
      }
      return !event.#prevented;
    };
  }
  get type() { return this.#type; }
  get target() { return this.#target; }
  get currentTarget() { return this.#target; }
  get bubbles() { return this.#bubbles; }
  get cancelable() { return this.#cancelable; }
  get composed() { return this.#composed; }
  get defaultPrevented() { return this.#prevented; }
  get timeStamp() { return this.#time; }
  get isTrusted() { return false; }
  preventDefault() { if (this.#cancelable) this.#prevented = true; }
  stopPropagation() {}
  stopImmediatePropagation() { this.#stop = true; }
}
class EventTarget {
  #listeners = null;
  addEventListener(type, callback, options = undefined) {
    required(2, arguments.length, "addEventListener");
    if (callback === null || callback === undefined) return;
    if (!isObject(callback)) throw new TypeError("addEventListener: the listener is neither a function nor an object");
    const map = this.#listeners ??= new Map(), list = map.get(`${type}`) ?? [];
    if (list.some(listener => listener.callback === callback)) return;
    const settings = isObject(options) ? options : {};
    if (settings.signal?.aborted) return;
    list.push({ callback, once: !!settings.once, removed: false });
    map.set(`${type}`, list);
    if (settings.signal) settings.signal.addEventListener("abort", () => this.removeEventListener(type, callback), { once: true });
  }
  removeEventListener(type, callback) {
    const list = this.#listeners?.get(`${type}`), index = list ? list.findIndex(listener => listener.callback === callback) : -1;
    if (index < 0) return;
    list[index].removed = true;
    list.splice(index, 1);
  }
  dispatchEvent(event) {
    if (!(event instanceof Event)) throw new TypeError("dispatchEvent: not an Event");
    return dispatch(event, this, [...(this.#listeners?.get(event.type) ?? [])]);
  }
}

let signalAbort, signalFollow;
class AbortSignal extends EventTarget {
  #aborted = false; #reason = undefined; #handler = null; #followers = new Set();
  static {
    signalAbort = (signal, reason = new DOMException("This operation was aborted", "AbortError")) => {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason;
      const followers = signal.#followers;
      signal.#followers = new Set();
      for (const follower of followers) follower(reason);
      signal.dispatchEvent(new Event("abort"));
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
    const result = new AbortSignal(INTERNAL), all = [...signals];
    for (const signal of all) if (!(signal instanceof AbortSignal)) throw new TypeError("AbortSignal.any: not an AbortSignal");
    for (const signal of all) signalFollow(signal, reason => signalAbort(result, reason));
    return result;
  }
  get aborted() { return this.#aborted; }
  get reason() { return this.#reason; }
  throwIfAborted() { if (this.#aborted) throw this.#reason; }
  get onabort() { return this.#handler; }
  set onabort(handler) {
    if (this.#handler) this.removeEventListener("abort", this.#handler);
    this.#handler = typeof handler === "function" ? handler : null;
    if (this.#handler) this.addEventListener("abort", this.#handler);
  }
}
class AbortController {
  #signal = new AbortSignal(INTERNAL);
  get signal() { return this.#signal; }
  abort(reason = undefined) { signalAbort(this.#signal, reason); }
}
interfaces({ Event, EventTarget, AbortSignal, AbortController });
