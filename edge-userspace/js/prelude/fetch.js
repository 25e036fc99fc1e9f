// Request, Response and fetch (Fetch standard, section 5). There is no page: modes, credentials, caches and referrers are accepted and
// mean nothing.

const METHODS = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]);
const methodOf = value => {
  const method = byteString(value);
  if (!TOKEN.test(method)) throw new TypeError(`not a method: ${JSON.stringify(method)}`);
  const upper = method.toUpperCase();
  if (upper === "CONNECT" || upper === "TRACE" || upper === "TRACK") throw new TypeError(`the method ${upper} is not allowed`);
  return METHODS.has(upper) ? upper : method;
};
const REDIRECTS = new Set(["follow", "error", "manual"]);
// What means nothing here is one of its words all the same.
const WORDS = {
  mode: ["same-origin", "no-cors", "cors"], credentials: ["omit", "same-origin", "include"], cache: ["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"],
  referrerPolicy: ["", "no-referrer", "no-referrer-when-downgrade", "same-origin", "origin", "strict-origin", "origin-when-cross-origin", "strict-origin-when-cross-origin", "unsafe-url"],
};

// The client's: aborted when it has gone before it had all of the response, while what is kept (waitUntil) goes on.
let leaving = null, facts = null;
const LEFT = 32, FACTS = 31;
const clientSignal = () => {
  if (leaving) return leaving.signal;
  leaving = new AbortController();
  const id = host.call(LEFT, 0, 0);
  if (typeof id !== "number") quiet(operation(new DataView(id.buffer).getInt32(0, true), "signal").then(({ status }) => { if (status) leaving.abort(new DOMException("the client has gone", "AbortError")); }));
  return leaving.signal;
};
const requestFacts = () => (facts ??= JSON.parse(host.text(host.call(FACTS, 0, 0))));
let requestParts;
class Request extends Body {
  #method = "GET"; #url; #headers = null; #raw = ""; #signal = null; #redirect = "follow"; #arrived = false;
  static { requestParts = request => ({ headers: request.#headers ? headersText(request.#headers) : request.#raw, signal: request.#signal }); }
  constructor(input, init = undefined, ...inner) {
    if (input === INTERNAL) {
      // (INTERNAL, method, url, headers, kind, value): what arrived.
      super(INTERNAL, inner[2], inner[3], null, !!inner[4]);
      this.#method = init;
      this.#url = inner[0];
      this.#raw = inner[1];
      this.#arrived = inner[5] === true;
      return;
    }
    required(1, arguments.length, "Request");
    const options = dictionary(init, "the options"), from = isObject(input) && #url in input ? input : null;
    let method = from ? from.#method : "GET";
    if (options.method !== undefined) method = methodOf(options.method);
    const headers = options.headers !== undefined ? new Headers(options.headers)
      : from ? new Headers(from.headers) : new Headers();
    let url;
    if (from) url = from.#url;
    else {
      const record = host.urlParse(usv(input), undefined);
      if (!record) throw new TypeError(`Request: not an absolute URL: ${String(input).slice(0, 200)}`);
      if (record[3] !== record[4] || record[5] !== record[6]) {
        if (record[0].slice(record[2], record[3]) || record[0].slice(record[4], record[5])) throw new TypeError("Request: the URL has a user name or password");
      }
      url = record[0];
    }
    let content;
    if (options.body !== undefined && options.body !== null) {
      if (method === "GET" || method === "HEAD") throw new TypeError(`Request: ${method} has no content`);
      content = contentOf(options.body);
      if (content.type && !headers.has("content-type")) headers.append("content-type", content.type);
    } else if (from && options.body === undefined) {
      content = contentMove(from, false);
      if (content.kind !== NONE && (method === "GET" || method === "HEAD")) throw new TypeError(`Request: ${method} has no content`);
    } else content = { kind: NONE, value: null };
    super(INTERNAL, content.kind, content.value, content.signal, content.shared);
    this.#method = method;
    this.#url = url;
    this.#headers = headers;
    this.#redirect = options.redirect !== undefined ? `${options.redirect}` : from ? from.#redirect : "follow";
    if (!REDIRECTS.has(this.#redirect)) throw new TypeError(`Request: no such redirect mode: ${this.#redirect}`);
    for (const name in WORDS) {
      if (options[name] !== undefined && options[name] !== null && !WORDS[name].includes(`${options[name]}`)) throw new TypeError(`Request: no such ${name}: ${options[name]}`);
    }
    const signal = options.signal !== undefined ? options.signal : from ? from.#signal : null;
    if (signal !== null && !(isObject(signal) && signal instanceof AbortSignal)) throw new TypeError("Request: the signal is not an AbortSignal");
    this.#signal = signal && AbortSignal.any([signal]);
  }
  get method() { return this.#method; }
  get url() { return this.#url; }
  get headers() { return this.#headers ??= headersFrom(this.#raw, true); }
  get redirect() { return this.#redirect; }
  get signal() { return this.#signal ??= this.#arrived ? clientSignal() : new AbortController().signal; }
  // What is known of a request that came beside its message: address, TLS, zone.
  get edge() { return this.#arrived ? requestFacts() : undefined; }
  get cache() { return "default"; }
  get credentials() { return "same-origin"; }
  get mode() { return "cors"; }
  get referrer() { return "about:client"; }
  get referrerPolicy() { return ""; }
  get integrity() { return ""; }
  get keepalive() { return false; }
  get destination() { return ""; }
  get duplex() { return "half"; }
  clone() {
    const content = contentMove(this, true);
    const copy = new Request(INTERNAL, this.#method, this.#url, headersText(this.headers), content.kind, content.value, content.shared);
    copy.#headers = new Headers(this.headers);
    copy.#redirect = this.#redirect;
    copy.#arrived = this.#arrived;
    copy.#signal = this.#signal ? AbortSignal.any([this.#signal]) : null;
    return copy;
  }
}

const NULL_BODY = new Set([101, 204, 205, 304]), REDIRECT_STATUS = new Set([301, 302, 303, 307, 308]);
const PHRASE = /^[\t \x21-\x7e\x80-\xff]*$/;
let responseHead, responseSocket;
class Response extends Body {
  #status = 200; #statusText = ""; #headers = null; #raw = ""; #type = "default"; #url = ""; #redirected = false; #frozen = false; #socket = null;
  static {
    responseHead = response => (response.#headers ? headersText(response.#headers) : response.#raw);
    responseSocket = (response, socket) => (socket ? response.#socket = socket : response.#socket);
  }
  constructor(body = undefined, init = undefined, ...inner) {
    if (body === INTERNAL) {
      // (INTERNAL, status, headers, kind, value, url, redirected, type, signal, shared): what arrived.
      super(INTERNAL, inner[1], inner[2], inner[6] ?? null, !!inner[7]);
      this.#status = init;
      this.#raw = inner[0];
      this.#url = inner[3];
      this.#redirected = inner[4];
      this.#type = inner[5];
      return;
    }
    let status = 200, statusText = "", headers = null, socket = null;
    if (init !== undefined && init !== null) {
      const options = dictionary(init, "the options");
      socket = options.webSocket ?? null;
      if (socket !== null && !isFreeSocket(socket)) throw new TypeError("Response: webSocket is not a half of a pair that nobody has taken");
      if (options.status !== undefined) {
        status = +options.status & 0xffff;
        if ((status < 200 || status > 599) && !(status === 101 && socket)) throw new RangeError(`Response: the status ${options.status} is not from 200 to 599`);
      }
      if (options.statusText !== undefined) {
        statusText = byteString(options.statusText);
        if (!PHRASE.test(statusText)) throw new TypeError("Response: not a reason phrase");
      }
      if (options.headers !== undefined) headers = new Headers(options.headers);
    }
    if (socket && status !== 101) throw new TypeError("Response: a WebSocket wants status 101");
    const content = contentOf(body);
    if (content.kind !== NONE && NULL_BODY.has(status)) throw new TypeError(`Response: a ${status} has no content`);
    super(INTERNAL, content.kind, content.value, null, content.shared);
    this.#status = status;
    this.#statusText = statusText;
    this.#socket = socket;
    if (content.type) {
      if (!headers) this.#raw = `content-type:${content.type}\n`;
      else if (!headers.has("content-type")) headers.append("content-type", content.type);
    }
    this.#headers = headers;
  }
  static error() { return new Response(INTERNAL, 0, "", NONE, null, "", false, "error"); }
  static json(data, init = undefined) {
    required(1, arguments.length, "Response.json");
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Response.json: the value has no JSON");
    if (init === undefined) return new Response(INTERNAL, 200, "content-type:application/json\n", TEXT, text, "", false, "default");
    const headers = new Headers(dictionary(init, "the options").headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(text, { status: init.status, statusText: init.statusText, headers });
  }
  static redirect(url, status = 302) {
    required(1, arguments.length, "Response.redirect");
    const record = host.urlParse(usv(url), currentUrl);
    if (!record) throw new TypeError("Response.redirect: not a URL");
    if (!REDIRECT_STATUS.has(status)) throw new RangeError(`Response.redirect: ${status} is no redirect`);
    const response = new Response(INTERNAL, status, `location:${record[0]}\n`, NONE, null, "", false, "default");
    response.#frozen = true;
    return response;
  }
  get type() { return this.#type; }
  get url() { return this.#url; }
  get redirected() { return this.#redirected; }
  get status() { return this.#status; }
  get ok() { return this.#status >= 200 && this.#status <= 299; }
  get statusText() { return this.#statusText; }
  get webSocket() { return this.#socket; }
  get headers() { return this.#headers ??= headersFrom(this.#raw, this.#frozen || this.#type === "basic" || this.#type === "error"); }
  clone() {
    const content = contentMove(this, true);
    const copy = new Response(INTERNAL, this.#status, headersText(this.headers), content.kind, content.value, this.#url, this.#redirected, this.#type, null, content.shared);
    copy.#statusText = this.#statusText;
    return copy;
  }
}
for (const name of ["body", "bodyUsed", "text", "json", "arrayBuffer", "bytes", "blob", "formData"]) {
  const member = Object.getOwnPropertyDescriptor(Body.prototype, name);
  for (const mixed of [Request, Response]) Object.defineProperty(mixed.prototype, name, member);
}
interfaces({ Request, Response });
// Body is a mixin: no global, and not in the chain that a worker sees.
for (const mixed of [Request, Response]) Object.setPrototypeOf(mixed.prototype, Object.prototype);

let currentUrl;
// Bytes that the host takes at once.
const PIECE = 128 << 10;
// What a stream of a response is cancelled with when nobody reads it any more.
const CLIENT_GONE = new DOMException("the client has gone", "AbortError");
// Pours a stream of the worker's into one of the host's, chunk by chunk, as fast as it is taken. `gone` is what it fails with when that
// is not read to its end.
const pour = async (stream, id, what, gone) => {
  const reader = stream.getReader();
  try {
    for (let step; !(step = await reader.read()).done;) {
      const bytes = chunkBytes(step.value);
      for (let at = 0; at < bytes.length; at += PIECE) {
        try { await operation(host.write(id, bytes.subarray(at, at + PIECE)), what); } catch (error) { throw gone ?? error; }
      }
    }
    host.close(id, false);
  } catch (error) {
    host.close(id, true);
    quiet(reader.cancel(error));
    throw error;
  }
};
// A response of the host's.
const responseOf = (result, method, url, redirected, signal = null) => {
  const empty = NULL_BODY.has(result.status) || method === "HEAD";
  if (empty && result.stream >= 0) host.close(result.stream, true);
  return new Response(INTERNAL, result.status, result.head, empty ? NONE : result.stream >= 0 ? FOREIGN : BYTES,
    empty ? null : result.stream >= 0 ? result.stream : result.body ?? NOTHING, url, redirected, "basic", signal);
};
const LONGEST_CHAIN = 20;
// data: URLs (Fetch standard, section 6).
const DATA_URL = /^data:([^,]*?)[\t\n\f\r ]*(;[ ]*base64)?[\t\n\f\r ]*,([^#]*)/i;
const dataUrl = url => {
  const found = DATA_URL.exec(url);
  if (!found) throw new TypeError("fetch: not a data: URL");
  const bytes = [], text = host.encode(found[3]);
  for (let i = 0; i < text.length; i++) {
    const high = text[i] === 0x25 && i + 2 < text.length ? hexDigit(text[i + 1]) : -1, low = high < 0 ? -1 : hexDigit(text[i + 2]);
    if (low < 0) bytes.push(text[i]);
    else bytes.push(high * 16 + low), i += 2;
  }
  let body = Bytes.from(bytes);
  if (found[2]) try { body = Bytes.from(atob(host.text(body)), character => character.charCodeAt(0)); } catch { throw new TypeError("fetch: the data is not base64"); }
  const type = found[1].startsWith(";") ? `text/plain${found[1]}` : found[1];
  return new Response(INTERNAL, 200, `content-type:${mimeOf(type) ? type : "text/plain;charset=US-ASCII"}\n`, BYTES, body, url, false, "basic");
};
// `assets`: a file of the worker's own is asked for, which takes no content.
const send = async (request, assets = false) => {
  const { signal } = requestParts(request);
  signal?.throwIfAborted();
  if (request.url.startsWith("data:") && !assets) return dataUrl(request.url);
  let { method, url } = request, { headers } = requestParts(request), redirected = false;
  let content = assets ? { kind: NONE, value: null } : contentTake(request);
  for (let hops = 0; ; hops++) {
    const head = `${method}\n${url}\n${headers}`;
    const stream = content.kind === STREAM;
    const id = assets ? host.fetch(head, null, 3)
      : content.kind === TEXT || content.kind === BYTES ? host.fetch(head, content.value, 1)
      : content.kind === FOREIGN ? host.fetch(head, null, 16 + content.value) : host.fetch(head, null, stream ? 2 : 0);
    const answer = operation(id, "fetch");
    // What the worker streams goes to a stream that has the operation's number.
    if (stream && id >= 0) quiet(pour(content.value, -1 - id, "fetch"));
    let result;
    if (!signal) result = await answer;
    else {
      let drop = () => {};
      try {
        result = await new Promise((resolve, reject) => {
          drop = signalFollow(signal, reason => {
            if (id >= 0) forget(id);
            if (stream) quiet(streamCancel(content.value, reason));
            reject(reason);
          });
          answer.then(resolve, reject);
        });
      } finally {
        drop();
      }
    }
    if (result.status === 101 && result.stream >= 0) {
      const response = new Response(INTERNAL, 101, result.head, NONE, null, url, redirected, "basic");
      responseSocket(response, openSocket(result.stream, response.headers.get("sec-websocket-protocol") ?? ""));
      return response;
    }
    const response = responseOf(result, method, url, redirected, signal);
    const location = REDIRECT_STATUS.has(result.status) ? response.headers.get("location") : null;
    if (location === null || request.redirect === "manual") return response;
    if (request.redirect === "error") throw new TypeError("fetch: a redirect, and the request forbids them");
    if (hops >= LONGEST_CHAIN) throw new TypeError(`fetch: more than ${LONGEST_CHAIN} redirects`);
    const next = host.urlParse(location, url);
    if (!next || !/^https?:/.test(next[0])) throw new TypeError("fetch: redirected to what is no http URL");
    if (result.stream >= 0) host.close(result.stream, true);
    if (result.status === 303 ? method !== "GET" && method !== "HEAD" : (result.status === 301 || result.status === 302) && method === "POST") {
      method = "GET";
      content = { kind: NONE, value: null };
      headers = headers.replace(/^content-(?:encoding|language|location|type|length):.*\n/gm, "");
    } else if (content.kind === STREAM || content.kind === FOREIGN) throw new TypeError("fetch: a redirect, and the content is spent");
    // Credentials stay with the origin they were meant for.
    if (new URL(next[0]).origin !== new URL(url).origin) headers = headers.replace(/^(?:authorization|cookie|proxy-authorization):.*\n/gm, "");
    url = next[0];
    redirected = true;
  }
};
expose("fetch", function fetch(input, init = undefined) {
  try {
    whileLive("fetch");
    return send(isObject(input) && input instanceof Request && init === undefined ? input : new Request(input, init));
  } catch (error) {
    return Promise.reject(error);
  }
});
// The worker's files, as `env.ASSETS`: by path alone, whatever the host. A relative URL is one of the request in hand.
class Assets {
  constructor(token) { illegal(token); }
  fetch(input, init = undefined) {
    try {
      whileLive("fetch");
      required(1, arguments.length, "fetch");
      const from = isObject(input) && input instanceof Request ? input : new URL(usv(input), currentUrl);
      return send(from instanceof Request && init === undefined ? from : new Request(from, init), true);
    } catch (error) {
      return Promise.reject(error);
    }
  }
}
