// What the request in hand waits for: operations of the host, timers, promises given to waitUntil. The engine's loop asks `idle` what is
// left after each round of jobs.

// False while the script's top-level code runs: then there is no request, and what it did would be frozen into every later one.
let live = false;
const whileLive = what => {
  if (!live) throw new Error(`${what} needs a request: it cannot be called while the script is loaded`);
};
const REFUSALS = {
  "-1": "refused: the zone does not declare this host", "-2": "the other side could not be reached", "-3": "it took longer than the limit",
  "-4": "too many sub-requests, or too deep", "-5": "aborted", "-6": "more bytes than the limit", "-7": "the other side broke off",
  "-8": "malformed", "-9": "too many operations at once", "-10": "not available in this zone", "-11": "the store failed",
  "-12": "the zone's quota of bytes is used up", "-13": "the zone's quota of keys is used up", "-14": "the value is longer than the zone may store",
  "-15": "a key is empty, or longer than 1024 bytes", "-16": "a coding that cannot be decoded", "-17": "the log names the field that cannot be sent",
};
const refusal = code => REFUSALS[code] ?? "failed";

const waiting = new Map();
// The promise of an operation that the host has begun, or refused by a negative number.
const operation = (id, what) => {
  if (id < 0) return Promise.reject(new TypeError(`${what}: ${refusal(id)}`));
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject, what }));
};
// Ends an operation before its time; its promise stays as it is.
const forget = id => {
  host.cancel(id);
  waiting.delete(id);
};
const complete = (id, status, head, body, stream) => {
  const entry = waiting.get(id);
  if (!entry) return;
  waiting.delete(id);
  if (status < 0) entry.reject(new TypeError(`${entry.what}: ${refusal(status)}`));
  else entry.resolve({ status, head, body, stream });
};

// Timers, soonest first; equal times in the order in which they were set.
let timers = [], timerId = 0, firing = false;
const place = timer => {
  let low = 0, high = timers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timers[middle].at <= timer.at) low = middle + 1;
    else high = middle;
  }
  timers.splice(low, 0, timer);
};
const MOST_TIMERS = 1000;
const setTimer = (callback, delay, repeat, rest, name) => {
  whileLive(name);
  if (typeof callback !== "function") throw new TypeError(`${name}: the callback is not a function`);
  if (timers.length >= MOST_TIMERS) throw new RangeError(`${name}: more than ${MOST_TIMERS} timers`);
  const wait = Math.min(Math.max(Math.trunc(+delay) || 0, 1), 0x7fffffff);
  const timer = { id: ++timerId, at: host.now() + wait, wait, repeat, callback, rest, frame: host.context() };
  place(timer);
  return timer.id;
};
const clearTimer = id => {
  const index = timers.findIndex(timer => timer.id === +id);
  if (index >= 0) timers.splice(index, 1);
};
const fireTimers = () => {
  const now = host.now();
  // One at a time: jobs run between two timers, as between any two tasks.
  if (!timers.length || timers[0].at > now) return;
  const timer = timers.shift();
  if (timer.repeat) {
    timer.at = now + timer.wait;
    place(timer);
  }
  host.enter(timer.frame);
  try {
    timer.callback(...timer.rest);
  } catch (error) {
    uncaught(error);
  } finally {
    host.enter(undefined);
  }
};
expose("setTimeout", function setTimeout(callback, delay = 0, ...rest) { return setTimer(callback, delay, false, rest, "setTimeout"); });
expose("setInterval", function setInterval(callback, delay = 0, ...rest) { return setTimer(callback, delay, true, rest, "setInterval"); });
expose("clearTimeout", function clearTimeout(id) { clearTimer(id); });
expose("clearInterval", function clearInterval(id) { clearTimer(id); });

// As the engine's own, within what AsyncLocalStorage holds when it is called.
const enqueue = globalThis.queueMicrotask;
expose("queueMicrotask", function queueMicrotask(callback) {
  required(1, arguments.length, "queueMicrotask");
  if (typeof callback !== "function") throw new TypeError("queueMicrotask: the callback is not a function");
  const frame = host.context();
  enqueue(frame === undefined ? () => { callback(); } : () => {
    host.enter(frame);
    try { callback(); } finally { host.enter(undefined); }
  });
});

// What tells why a request fails is not counted among the lines of `console`.
const REASON = 5;
// Errors that reached nobody: logged; while the response is still owed, the request has failed.
const describe = error => {
  try {
    if (isObject(error) && typeof error.stack === "string") return `${error}\n${error.stack}`;
    return `${typeof error === "symbol" ? String(error) : error}`;
  } catch {
    return "(an error without text)";
  }
};
// `kept`: promises given to waitUntil. `pouring`: the stream of the host that the response is being written to, or -1.
let answered = false, kept = 0, pouring = -1, globalEvent = null;
const uncaught = error => {
  // Who deploys is told.
  if (!live) throw error;
  if (globalEvent !== null && !globalEvent("error", error, null)) return;
  host.log(REASON, `Uncaught ${describe(error)}`);
  fail();
};
// Kind 4: there is no response, or what has been sent of it is not all of it.
const fail = () => {
  answered = true;
  host.respond(500, "", null, 4);
  if (pouring < 0) return;
  host.close(pouring, true);
  pouring = -1;
};
// A rejection that nobody handled by the end of the jobs (HTML standard, section 8.1.4.7): somebody still may, so the request goes on.
const rejected = (error, promise) => {
  if (!live) throw error;
  if (globalEvent !== null && !globalEvent("unhandledrejection", error, promise)) return;
  host.log(REASON, `Unhandled rejection: ${describe(error)}`);
};

const now = host.now;
let began = 0;
class Performance {
  constructor(token) { illegal(token); }
  now() { return live ? now() - began : 0; }
  get timeOrigin() { return began; }
  toJSON() { return { timeOrigin: began }; }
}
interfaces({ Performance });
expose("performance", new Performance(INTERNAL));
