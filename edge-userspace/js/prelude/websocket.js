// WebSocket (WebSockets standard), and WebSocketPair, by which a worker is the other side of its client's: `new Response(null, { status: 101,
// webSocket })`. The host frames; a socket is a stream of the host that is read message by message.

const SEND = 30, MESSAGE_TEXT = 1, MESSAGE_BYTES = 2, MESSAGE_END = 4, MOST_MESSAGE = 1 << 20, END_WAIT = 5000;
const SOCKET_STATES = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };
// `joinSocket(client, id)`: the socket's other half goes on with the host's stream. `openSocket(id, protocol)`: a socket that a server agreed to.
let joinSocket, openSocket, isFreeSocket;
class WebSocket extends EventTarget {
  #url = ""; #protocol = ""; #state = 0; #id = -1; #peer = null; #inbox = []; #accepted = false; #joined = false; #kept = false; #type = "blob"; #linger = 0;
  constructor(url, protocols = undefined) {
    super();
    if (url === INTERNAL) {
      this.#state = 1;
      return;
    }
    required(1, arguments.length, "WebSocket");
    const bad = why => { throw new DOMException(`WebSocket: ${why}`, "SyntaxError"); };
    const record = host.urlParse(usv(url), currentUrl);
    if (!record) bad("not a URL");
    const address = new URL(record[0].replace(/^http/, "ws"));
    if (address.protocol !== "ws:" && address.protocol !== "wss:") bad("not a ws or wss URL");
    if (address.href.includes("#")) bad("the URL has a fragment");
    const names = protocols === undefined ? [] : typeof protocols === "string" ? [protocols] : Array.from(protocols, name => `${name}`);
    if (names.some(name => !TOKEN.test(name)) || new Set(names.map(name => name.toLowerCase())).size !== names.length) bad("a protocol is no token, or named twice");
    whileLive("WebSocket");
    this.#url = address.href;
    this.#accepted = true;
    this.#open(names);
  }
  static {
    isFreeSocket = socket => isObject(socket) && #peer in socket && !!socket.#peer && !socket.#accepted && !socket.#joined;
    joinSocket = (socket, id) => {
      const other = socket.#peer;
      socket.#joined = true;
      other.#id = id;
      for (const [kind, data] of socket.#inbox.splice(0)) if (kind === MESSAGE_END) other.#end(data.code, data.reason); else other.#give(kind, data);
      if (other.#accepted) other.#run();
    };
    openSocket = (id, protocol) => {
      const socket = new WebSocket(INTERNAL);
      socket.#id = id;
      socket.#protocol = protocol;
      return socket;
    };
  }
  static pair() {
    const one = new WebSocket(INTERNAL), two = new WebSocket(INTERNAL);
    one.#peer = two;
    two.#peer = one;
    return [one, two];
  }
  async #open(names) {
    const headers = { upgrade: "websocket" };
    if (names.length) headers["sec-websocket-protocol"] = names.join(", ");
    let response = null;
    try { response = await send(new Request(this.#url.replace(/^ws/, "http"), { headers, redirect: "manual" })); } catch { /* told by the events */ }
    const { id = -1, protocol = "" } = response?.webSocket ? response.webSocket.#taken() : {};
    if (this.#state !== 0 || id < 0 || (protocol && !names.includes(protocol))) {
      if (id >= 0) host.close(id, true);
      return this.#over(1006, "", false);
    }
    this.#id = id;
    this.#protocol = protocol;
    this.#state = 1;
    this.dispatchEvent(new Event("open"));
    this.#run();
  }
  #taken() {
    const id = this.#id;
    this.#id = -1;
    this.#state = 3;
    return { id, protocol: this.#protocol };
  }
  // Events come from here on. A worker that accepts one is kept until the socket's end.
  accept() {
    if (this.#joined) throw new TypeError("WebSocket: the socket was given away in a response");
    if (this.#accepted) return;
    this.#accepted = true;
    if (this.#id >= 0) this.#run();
    else if (this.#peer && this.#inbox.length) queueMicrotask(() => this.#drain());
  }
  #run() {
    // A client's; those that the worker opened end with the request.
    if (this.#peer && !this.#kept) {
      this.#kept = true;
      if (!kept++) host.keep(true);
    }
    this.#next();
  }
  #next() {
    operation(host.read(this.#id, false), "WebSocket").then(({ status, head, body }) => {
      if (status === 3) {
        const [code, clean, reason] = head.split("\n", 3);
        return this.#over(+code, reason, clean === "1");
      }
      this.#deliver(status, status === MESSAGE_TEXT ? host.text(body ?? NOTHING, true) : body ?? NOTHING);
      if (this.#id >= 0) this.#next();
    }, () => this.#over(1006, "", false));
  }
  #deliver(kind, data) {
    if (this.#state === 3) return;
    const value = kind === MESSAGE_TEXT ? data : this.#type === "arraybuffer" ? (data.byteLength === data.buffer.byteLength ? data.buffer : data.slice().buffer) : new Blob([data]);
    this.dispatchEvent(new MessageEvent("message", { data: value, origin: this.#url ? new URL(this.#url).origin : "" }));
  }
  #drain() {
    for (const [kind, data] of this.#inbox.splice(0)) {
      if (kind !== MESSAGE_END) this.#deliver(kind, data);
      else this.#over(data.code || 1005, data.reason, true);
    }
  }
  #over(code, reason, clean) {
    if (this.#state === 3) return;
    this.#state = 3;
    if (this.#linger) clearTimer(this.#linger);
    if (this.#id >= 0) host.close(this.#id, true);
    this.#id = -1;
    if (!clean) this.dispatchEvent(new Event("error"));
    this.dispatchEvent(new CloseEvent("close", { code, reason, wasClean: clean }));
    if (!this.#kept) return;
    this.#kept = false;
    if (!--kept) host.keep(false);
  }
  // To the host, to the other half, or, until one of them is there, into the other half's inbox.
  #give(kind, data) {
    if (this.#id >= 0) return host.call(SEND, this.#id, kind, data);
    if (!this.#peer) return 0;
    this.#peer.#inbox.push([kind, data]);
    if (this.#peer.#accepted) queueMicrotask(() => this.#peer.#drain());
    return 0;
  }
  #end(code, reason) {
    if (this.#id >= 0) {
      const sent = host.call(SEND, this.#id, MESSAGE_END + code, reason);
      if (typeof sent === "number" && sent < 0) return this.#over(1006, "", false);
      if (!this.#accepted) {
        this.#accepted = true;
        this.#run();
      }
      // The other side has to agree.
      this.#linger = setTimer(() => this.#over(1006, "", false), END_WAIT, false, [], "WebSocket");
      return;
    }
    this.#give(MESSAGE_END, { code, reason });
    queueMicrotask(() => this.#over(code || 1005, reason, true));
  }
  send(data) {
    required(1, arguments.length, "send");
    if (this.#state === 0) throw new DOMException("WebSocket: it is not open yet", "InvalidStateError");
    if (this.#joined) throw new TypeError("WebSocket: the socket was given away in a response");
    if (this.#peer && !this.#accepted) throw new TypeError("WebSocket: accept() it before you send");
    const kind = isBufferSource(data) || (isObject(data) && data instanceof Blob) ? MESSAGE_BYTES : MESSAGE_TEXT;
    const given = kind === MESSAGE_TEXT ? usv(data) : isBufferSource(data) ? copyOf(data) : blobBytes(data);
    if (this.#state !== 1) return;
    if (given.length > MOST_MESSAGE) throw new RangeError(`WebSocket: a message has more than ${MOST_MESSAGE} bytes`);
    const sent = this.#give(kind, given);
    if (typeof sent === "number" && sent < 0) throw new TypeError(`WebSocket: ${refusal(sent)}`);
  }
  close(code = undefined, reason = undefined) {
    const number = code === undefined ? 0 : Math.min(Math.max(Math.trunc(+code) || 0, 0), 0xffff), words = reason === undefined ? "" : usv(reason);
    if (code !== undefined && number !== 1000 && !(number >= 3000 && number <= 4999)) throw new DOMException(`WebSocket: the code ${number} is neither 1000 nor from 3000 to 4999`, "InvalidAccessError");
    if (host.encode(words).length > 123) throw new DOMException("WebSocket: the reason has more than 123 bytes", "SyntaxError");
    if (this.#state >= 2) return;
    const opening = this.#state === 0;
    this.#state = 2;
    if (!opening) this.#end(number || (words ? 1000 : 0), words);
  }
  get url() { return this.#url; }
  get protocol() { return this.#protocol; }
  get extensions() { return ""; }
  get readyState() { return this.#state; }
  get bufferedAmount() { return 0; }
  get binaryType() { return this.#type; }
  set binaryType(type) { if (type === "blob" || type === "arraybuffer") this.#type = type; }
}
const socketPair = WebSocket.pair;
delete WebSocket.pair;
for (const [name, value] of Object.entries(SOCKET_STATES)) for (const place of [WebSocket, WebSocket.prototype]) Object.defineProperty(place, name, { value, enumerable: true });
handlers(WebSocket, "open", "message", "error", "close");
class WebSocketPair {
  constructor() {
    const [client, server] = socketPair();
    this[0] = client;
    this[1] = server;
  }
}
interfaces({ WebSocket, WebSocketPair });
