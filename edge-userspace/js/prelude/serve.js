// From a request to its response: the last file, which gives the engine its doors.

let handler = null;
// `then` on a promise of the worker's, without looking up what a worker may have put there.
const then = Promise.prototype.then;
const settle = (promise, fine, bad) => then.call(promise, fine, bad);

// Listeners of the whole worker: `fetch`, which are added while the script is loaded, and errors that reached nobody.
const everywhere = new EventTarget();
const GLOBAL_EVENTS = new Set(["fetch", "scheduled", "error", "unhandledrejection"]);
expose("addEventListener", function addEventListener(type, callback, options = undefined) {
  type = `${type}`;
  if (!GLOBAL_EVENTS.has(type)) return;
  if (live && (type === "fetch" || type === "scheduled")) throw new Error(`addEventListener: listeners of ${type} are added while the script is loaded`);
  everywhere.addEventListener(type, callback, options);
});
expose("removeEventListener", function removeEventListener(type, callback, options = undefined) { everywhere.removeEventListener(type, callback, options); });
expose("dispatchEvent", function dispatchEvent(event) { return everywhere.dispatchEvent(event); });
let telling = false;
// True unless a listener prevented the default. An error within a listener is only logged.
globalEvent = (type, error, promise) => {
  if (telling || !hasListeners(everywhere, type)) return true;
  telling = true;
  try {
    const event = promise === null ? new ErrorEvent(type, { cancelable: true, error, message: describe(error).split("\n")[0] })
      : new PromiseRejectionEvent(type, { cancelable: true, reason: error, promise });
    return everywhere.dispatchEvent(event);
  } finally {
    telling = false;
  }
};

const keep = promise => {
  if (!kept++) host.keep(true);
  const done = () => { if (!--kept) host.keep(false); };
  settle(Promise.resolve(promise), done, error => {
    done();
    host.log(REASON, `Uncaught (in waitUntil) ${describe(error)}`);
  });
};
// What it has is its own: routers spread it (`{ request, ...ctx }`), and take functions out of it.
class ExecutionContext {
  constructor(token) {
    illegal(token);
    this.waitUntil = function waitUntil(promise) {
      required(1, arguments.length, "waitUntil");
      keep(promise);
    };
    this.passThroughOnException = function passThroughOnException() { host.pass(); };
    this.props = {};
  }
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
  waitUntil(promise) {
    required(1, arguments.length, "waitUntil");
    keep(promise);
  }
  passThroughOnException() { host.pass(); }
}
const responded = FetchEvent.responded;
delete FetchEvent.responded;
interfaces({ FetchEvent });

class ScheduledEvent extends Event {
  #cron; #time;
  constructor(token, cron, time) {
    illegal(token);
    super("scheduled");
    this.#cron = cron;
    this.#time = time;
  }
  get cron() { return this.#cron; }
  get scheduledTime() { return this.#time; }
  noRetry() {}
  waitUntil(promise) {
    required(1, arguments.length, "waitUntil");
    keep(promise);
  }
}
class ScheduledController {
  #cron; #time;
  constructor(token, cron, time) {
    illegal(token);
    this.#cron = cron;
    this.#time = time;
  }
  get cron() { return this.#cron; }
  get scheduledTime() { return this.#time; }
  get type() { return "scheduled"; }
  noRetry() {}
}
interfaces({ ScheduledEvent, ScheduledController });
// What is due by the zone's schedule: there is no response, and a failure is the run's.
const runScheduled = (due, env) => {
  answered = true;
  const at = due.indexOf("\n"), time = +due.slice(0, at), cron = due.slice(at + 1);
  if (hasListeners(everywhere, "scheduled")) return void everywhere.dispatchEvent(new ScheduledEvent(INTERNAL, cron, time));
  if (typeof handler?.scheduled !== "function") return uncaught(new TypeError(`the schedule "${cron}" is due, and the script exports no \`scheduled\``));
  let result;
  try {
    result = handler.scheduled(new ScheduledController(INTERNAL, cron, time), env, new ExecutionContext(INTERNAL));
  } catch (error) {
    return uncaught(error);
  }
  if (!kept++) host.keep(true);
  const done = () => { if (!--kept) host.keep(false); };
  settle(Promise.resolve(result), done, error => {
    done();
    uncaught(error);
  });
};

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
  const head = responseHead(response), { status } = response, socket = responseSocket(response);
  if (socket) {
    if (!isFreeSocket(socket)) {
      answered = false;
      return uncaught(new TypeError("the response's WebSocket was given away before, or is not a half of a pair"));
    }
    const id = host.respond(status, head, null, 5);
    if (id < 0) {
      answered = false;
      return uncaught(new TypeError(`the response's WebSocket: ${refusal(id)}`));
    }
    joinSocket(socket, id);
    return;
  }
  if (content.kind === TEXT || content.kind === BYTES) host.respond(status, head, content.value, 1);
  else if (content.kind === FOREIGN) host.respond(status, head, null, 16 + content.value);
  else if (content.kind === NONE) host.respond(status, head, null, 0);
  else {
    const id = host.respond(status, head, null, 2);
    if (id < 0) return;
    pouring = id;
    const over = () => { if (pouring === id) pouring = -1; };
    settle(pour(content.value, id, "the response", CLIENT_GONE), over, error => {
      // Broken off by `fail`, which has told why; or the client has gone, which is no fault of the worker's.
      if (pouring !== id) return;
      over();
      if (error !== CLIENT_GONE) host.log(REASON, `Uncaught (in the response's stream) ${describe(error)}`);
    });
  }
};

const start = (method, url, headers, environment, body, stream) => {
  live = true;
  began = now();
  answered = false;
  currentUrl = method ? url : "https://localhost/";
  const request = !method ? null : new Request(INTERNAL, method, url, headers, body ? BYTES : stream >= 0 ? FOREIGN : NONE, body ?? (stream >= 0 ? stream : null), false, true);
  const env = {};
  if (environment) {
    for (const [name, value] of Object.entries(environment.values ?? {})) env[name] = value;
    for (const name of environment.stores ?? []) env[name] = new Store(INTERNAL, name);
    if (environment.assets) env[environment.assets] = new Assets(INTERNAL);
  }
  environmentOf(env);
  if (!request) return runScheduled(url, env);
  if (hasListeners(everywhere, "fetch")) {
    const event = new FetchEvent(INTERNAL, request);
    everywhere.dispatchEvent(event);
    if (!responded(event)) uncaught(new TypeError("no listener called respondWith"));
    return;
  }
  if (typeof handler?.fetch !== "function") return uncaught(new TypeError("the script exports no `fetch`"));
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
class Navigator {
  constructor(token) { illegal(token); }
  get userAgent() { return "edge"; }
  get language() { return "en"; }
  get languages() { return Object.freeze(["en"]); }
  get hardwareConcurrency() { return 1; }
}
interfaces({ Navigator });
expose("navigator", new Navigator(INTERNAL));
delete globalThis.gc;
return {
  start, complete, modules,
  timers: fireTimers,
  rejection: rejected,
  // -2: all is said; -1: only the host can bring more; else milliseconds to the next timer.
  idle: () => {
    if (answered && !kept && pouring < 0) return -2;
    if (!timers.length) return -1;
    return Math.max(timers[0].at - now(), 0);
  },
  // After the script: whether there is anything to call.
  ready: exported => {
    if (isObject(exported) && (typeof exported.fetch === "function" || typeof exported.scheduled === "function")) handler = exported;
    // Built once, so that the first request does not pay for it.
    return handler !== null || hasListeners(everywhere, "fetch") || hasListeners(everywhere, "scheduled");
  },
};
