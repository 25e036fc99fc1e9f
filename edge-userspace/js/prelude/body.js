// Content of requests and responses (Fetch standard, section 2.2.4 and Body): one of nothing, a string, bytes, a stream of the host that nobody
// has looked at, or a ReadableStream.

const NONE = 0, TEXT = 1, BYTES = 2, FOREIGN = 3, STREAM = 4;
const contentOf = init => {
  if (init === null || init === undefined) return { kind: NONE, value: null, type: null };
  if (typeof init === "string") return { kind: TEXT, value: init.toWellFormed(), type: "text/plain;charset=UTF-8" };
  if (isObject(init) && init instanceof ReadableStream) {
    if (init.locked || streamDisturbed(init)) throw new TypeError("the stream is locked or was read from");
    return { kind: STREAM, value: init, type: null };
  }
  if (isBufferSource(init)) return { kind: BYTES, value: copyOf(init), type: null };
  if (isObject(init) && init instanceof Blob) return { kind: BYTES, value: blobBytes(init), shared: true, type: init.type || null };
  if (isObject(init) && init instanceof FormData) {
    const { bytes, type } = formBytes(init);
    return { kind: BYTES, value: bytes, type };
  }
  if (isObject(init) && init instanceof URLSearchParams) return { kind: TEXT, value: `${init}`, type: "application/x-www-form-urlencoded;charset=UTF-8" };
  if (isObject(init) && typeof init[Symbol.asyncIterator] === "function") return { kind: STREAM, value: ReadableStream.from(encoded(init)), type: null };
  return { kind: TEXT, value: usv(init), type: "text/plain;charset=UTF-8" };
};
// An iterable may give text, too.
const encoded = async function* (chunks) {
  for await (const chunk of chunks) yield typeof chunk === "string" ? host.encode(chunk) : chunk;
};
const chunkBytes = chunk => {
  if (!isBufferSource(chunk)) throw new TypeError("a chunk of content is not bytes");
  return bytesOf(chunk);
};

// All of a stream of the host's, until `signal` ends it.
const readHost = (id, signal) => {
  if (!signal) return operation(host.read(id, true), "reading the content");
  let drop = () => {};
  return new Promise((resolve, reject) => {
    let reading = -1;
    drop = signalFollow(signal, reason => {
      if (reading >= 0) forget(reading);
      host.close(id, true);
      reject(reason);
    });
    if (signal.aborted) return;
    reading = host.read(id, true);
    operation(reading, "reading the content").then(resolve, reject);
  }).finally(() => drop());
};

// Without a byte order mark.
const bodyText = all => (typeof all !== "string" ? host.text(all) : all.charCodeAt(0) === 0xfeff ? all.slice(1) : all);
const readJson = JSON.parse;

let contentKind, contentTake, contentMove;
class Body {
  #kind; #value; #stream = null; #used = false;
  // Whether another object has the same bytes (clone): then they are copied before they are given out.
  #shared; #signal;
  constructor(token, kind, value, signal = null, shared = false) {
    illegal(token);
    this.#kind = kind;
    this.#value = value;
    this.#signal = signal;
    this.#shared = shared;
  }
  static {
    contentKind = body => body.#kind;
    // What is to be sent: the kind and value, once.
    contentTake = body => {
      body.#claim();
      if (body.#kind === STREAM || body.#stream) {
        const stream = body.#stream ?? body.#value, id = streamHost(stream);
        return id >= 0 ? { kind: FOREIGN, value: id } : { kind: STREAM, value: stream };
      }
      return { kind: body.#kind, value: body.#value };
    };
    // The content for another object: shared (clone), or taken away.
    contentMove = (body, share) => {
      if (body.bodyUsed || (body.#stream ?? (body.#kind === STREAM ? body.#value : null))?.locked) throw new TypeError("the content was read already");
      if (body.#kind === NONE) return { kind: NONE, value: null };
      if (!share) {
        const taken = contentTake(body);
        return taken;
      }
      if (body.#kind === TEXT || (body.#kind === BYTES && !body.#stream)) {
        body.#shared = true;
        return { kind: body.#kind, value: body.#value, shared: true };
      }
      const [one, two] = streamTee(body.#open());
      body.#stream = one;
      body.#kind = STREAM;
      body.#value = one;
      return { kind: STREAM, value: two };
    };
  }
  #claim() {
    if (this.bodyUsed || this.#stream?.locked || (this.#kind === STREAM && this.#value.locked)) throw new TypeError("the content was read already");
    if (this.#kind !== NONE) this.#used = true;
  }
  #open() {
    if (this.#stream || this.#kind === NONE) return this.#stream;
    if (this.#kind === STREAM) return this.#stream = this.#value;
    if (this.#kind === FOREIGN) return this.#stream = streamFromHost(this.#value, this.#signal);
    return this.#stream = this.#kind === TEXT ? streamOfBytes(host.encode(this.#value), false) : streamOfBytes(this.#value, this.#shared);
  }
  get body() { return this.#open(); }
  get bodyUsed() { return this.#used || (this.#stream ? streamDisturbed(this.#stream) : this.#kind === STREAM && streamDisturbed(this.#value)); }
  // A string or bytes.
  async #all() {
    this.#claim();
    const stream = this.#stream ?? (this.#kind === STREAM ? this.#value : null);
    if (!stream) {
      if (this.#kind !== FOREIGN) return this.#value ?? "";
      return (await readHost(this.#value, this.#signal)).body ?? NOTHING;
    }
    const id = streamHost(stream);
    if (id >= 0) return (await readHost(id, this.#signal)).body ?? NOTHING;
    const reader = stream.getReader(), chunks = [];
    for (let step; !(step = await reader.read()).done;) chunks.push(chunkBytes(step.value));
    return chunks.length === 1 ? chunks[0].slice() : joined(chunks);
  }
  async #bytes() {
    const all = await this.#all();
    return typeof all === "string" ? host.encode(all) : this.#shared ? all.slice() : all;
  }
  async text() { return bodyText(await this.#all()); }
  async json() {
    const all = await this.#all();
    if (typeof all !== "string") {
      const value = host.json(all);
      if (value !== undefined) return value;
    }
    return readJson(bodyText(all));
  }
  async arrayBuffer() { return (await this.#bytes()).buffer; }
  async bytes() { return this.#bytes(); }
  async blob() {
    const mime = mimeOf(this.headers.get("content-type"));
    let type = "";
    if (mime) type = [mime.essence, ...Array.from(mime.parameters, ([name, value]) => `${name}=${TOKEN.test(value) ? value : JSON.stringify(value)}`)].join(";");
    return new Blob(INTERNAL, [await this.#bytes(), type.toLowerCase()]);
  }
  async formData() {
    const all = await this.#all();
    return formOf(typeof all === "string" ? host.encode(all) : all, this.headers.get("content-type"));
  }
}
