// From a request to its response: the last file, which gives the engine its doors.

let handler = null, listener = null;
// `then` on a promise of the worker's, without looking up what a worker may have put there.
const then = Promise.prototype.then;
const settle = (promise, fine, bad) => then.call(promise, fine, bad);

expose("addEventListener", function addEventListener(type, callback) {
  if (`${type}` !== "fetch") return;
  if (typeof callback !== "function" && !isObject(callback)) throw new TypeError("addEventListener: the listener is neither a function nor an object");
  if (live) throw new Error("addEventListener: listeners are added while the script is loaded");
  listener = callback;
});
expose("removeEventListener", function removeEventListener(type, callback) { if (`${type}` === "fetch" && listener === callback) listener = null; });

const keep = promise => {
  held++;
  const done = () => { held--; };
  settle(Promise.resolve(promise), done, error => {
    done();
    host.log(4, `Uncaught (in waitUntil) ${describe(error)}`);
  });
};
class ExecutionContext {
  constructor(token) { illegal(token); }
  waitUntil(promise) { keep(promise); }
}
class FetchEvent extends Event {
  #request; #responded = false;
  constructor(token, request) {
    illegal(token);
    super("fetch", { cancelable: true });
    this.#request = request;
  }
  static responded = event => event.#responded;
  get request() { return this.#request; }
  respondWith(response) {
    if (this.#responded) throw new DOMException("respondWith was called already", "InvalidStateError");
    this.#responded = true;
    settle(Promise.resolve(response), answer, broke);
  }
  waitUntil(promise) { keep(promise); }
}
const responded = FetchEvent.responded;
delete FetchEvent.responded;
interfaces({ FetchEvent });

const broke = error => uncaught(error);
// Kinds of content that `respond` knows: 0 none, 1 complete, 2 streamed by `write`, 4 none because the script threw, 16 and more a stream of
// the host.
const answer = response => {
  if (answered) return;
  let content;
  try {
    if (!isObject(response) || !(response instanceof Response)) throw new TypeError("what the handler returned is not a Response");
    if (response.type === "error") throw new TypeError("the handler returned a network error");
    content = contentTake(response);
  } catch (error) {
    return uncaught(error);
  }
  answered = true;
  const head = responseHead(response), { status } = response;
  if (content.kind === TEXT || content.kind === BYTES) host.respond(status, head, content.value, 1);
  else if (content.kind === FOREIGN) host.respond(status, head, null, 16 + content.value);
  else if (content.kind === NONE) host.respond(status, head, null, 0);
  else {
    const id = host.respond(status, head, null, 2);
    if (id < 0) return;
    held++;
    settle(pour(content.value, id, "the response"), () => { held--; }, error => {
      held--;
      host.log(4, `Uncaught (in the response's stream) ${describe(error)}`);
    });
  }
};

const start = (method, url, headers, environment, body, stream) => {
  live = true;
  began = now();
  answered = failed = false;
  currentUrl = url;
  const request = new Request(INTERNAL, method, url, headers, body ? BYTES : stream >= 0 ? FOREIGN : NONE, body ?? (stream >= 0 ? stream : null));
  if (listener) {
    const event = new FetchEvent(INTERNAL, request);
    try {
      if (typeof listener === "function") listener.call(globalThis, event);
      else listener.handleEvent(event);
    } catch (error) {
      return uncaught(error);
    }
    if (!responded(event)) uncaught(new TypeError("the listener did not call respondWith"));
    return;
  }
  const env = {};
  if (environment) {
    for (const [name, value] of Object.entries(environment.values ?? {})) env[name] = value;
    for (const name of environment.stores ?? []) env[name] = new Store(INTERNAL, name);
  }
  let result;
  try {
    result = handler.fetch(request, env, new ExecutionContext(INTERNAL));
  } catch (error) {
    return uncaught(error);
  }
  if (host.isPromise(result)) settle(result, answer, broke);
  else if (isObject(result) && !(result instanceof Response)) settle(Promise.resolve(result), answer, broke);
  else answer(result);
};

expose("self", globalThis);
expose("navigator", Object.freeze({ userAgent: "edge" }));
delete globalThis.gc;
return {
  start, complete,
  timers: fireTimers,
  rejection: error => uncaught(error),
  // -2: all is said; -1: only the host can bring more; else milliseconds to the next timer.
  idle: () => {
    if (answered && (failed || !held)) return -2;
    if (!timers.length) return -1;
    return Math.max(timers[0].at - now(), 0);
  },
  // After the script: whether there is anything to call.
  ready: exported => {
    if (isObject(exported) && typeof exported.fetch === "function") handler = exported;
    // Built once, so that the first request does not pay for it.
    return handler !== null || listener !== null;
  },
};
