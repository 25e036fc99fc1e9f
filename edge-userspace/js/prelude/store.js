// A zone's key-value store, as `env.NAME`.

const ACTIONS = { get: 0, put: 1, delete: 2, list: 3 }, MOST_KEYS = 100, MOST_METADATA = 1024;
class Store {
  #name;
  constructor(token, name) { illegal(token); this.#name = name; }
  #names(...rest) {
    whileLive("the store");
    const parts = [this.#name, ...rest.map(usv)];
    if (parts.some(part => part.includes("\0"))) throw new TypeError("a key of the store has a zero");
    return parts.join("\0");
  }
  static #type(options) {
    const type = `${isObject(options) ? options.type ?? "text" : options ?? "text"}`;
    if (!["text", "json", "arrayBuffer", "stream"].includes(type)) throw new TypeError(`get: no such type: ${type}`);
    return type;
  }
  static #value(body, type) {
    if (type === "text") return host.text(body);
    if (type === "json") return JSON.parse(host.text(body));
    if (type === "arrayBuffer") return body.buffer;
    return streamOfBytes(body, false);
  }
  // Value and metadata: [null, null] if there is nothing.
  async #read(key, type, what) {
    const { status, head, body } = await operation(host.store(ACTIONS.get, this.#names(key), null), what);
    if (!status) return [null, null];
    return [Store.#value(body ?? NOTHING, type), head ? JSON.parse(head) : null];
  }
  // Many keys at once: at most as many as a batch, and no streams.
  async #many(keys, type, what) {
    if (keys.length > MOST_KEYS) throw new RangeError(`${what}: more than ${MOST_KEYS} keys at once`);
    if (type !== "text" && type !== "json") throw new TypeError(`${what}: many keys at once are read as text or json`);
    const list = [...new Set(keys.map(usv))], values = await Promise.all(list.map(key => this.#read(key, type, what)));
    return list.map((key, i) => [key, values[i]]);
  }
  async get(key, options = undefined) {
    required(1, arguments.length, "get");
    const type = Store.#type(options);
    if (Array.isArray(key)) return new Map((await this.#many(key, type, "get")).map(([name, [value]]) => [name, value]));
    return (await this.#read(key, type, "get"))[0];
  }
  async getWithMetadata(key, options = undefined) {
    required(1, arguments.length, "getWithMetadata");
    const type = Store.#type(options), pair = ([value, metadata]) => ({ value, metadata });
    if (Array.isArray(key)) return new Map((await this.#many(key, type, "getWithMetadata")).map(([name, found]) => [name, pair(found)]));
    return pair(await this.#read(key, type, "getWithMetadata"));
  }
  async put(key, value, options = undefined) {
    required(2, arguments.length, "put");
    const { expiration, expirationTtl, metadata, ...rest } = dictionary(options, "the options");
    for (const name of Object.keys(rest)) throw new TypeError(`put: no such option: ${name}`);
    const number = (of, name) => {
      const seconds = Math.trunc(+of);
      if (!(seconds >= 1 && seconds <= Number.MAX_SAFE_INTEGER / 1000)) throw new TypeError(`put: ${name} is not a number of seconds from 1`);
      return seconds;
    };
    // Milliseconds since 1970; 0: never.
    let until = 0;
    if (expirationTtl !== undefined && expirationTtl !== null) until = Math.trunc(host.now()) + number(expirationTtl, "expirationTtl") * 1000;
    else if (expiration !== undefined && expiration !== null) {
      until = number(expiration, "expiration") * 1000;
      if (until <= host.now()) throw new TypeError("put: expiration is over already");
    }
    const about = metadata === undefined || metadata === null ? "" : JSON.stringify(metadata);
    if (about === undefined || host.encode(about).length > MOST_METADATA) throw new TypeError(`put: the metadata has no JSON, or more than ${MOST_METADATA} bytes of it`);
    const names = this.#names(key, `${until}`, about);
    let data;
    if (typeof value === "string") data = value.toWellFormed();
    else if (isBufferSource(value)) data = copyOf(value);
    else if (isObject(value) && value instanceof Blob) data = blobBytes(value);
    else if (isObject(value) && value instanceof ReadableStream) data = await new Response(value).bytes();
    else throw new TypeError("put: the value is neither text nor bytes nor a stream");
    await operation(host.store(ACTIONS.put, names, data), "put");
  }
  async delete(key) {
    required(1, arguments.length, "delete");
    await operation(host.store(ACTIONS.delete, this.#names(key), null), "delete");
  }
  async list(options = undefined) {
    const { prefix, limit, cursor } = dictionary(options, "the options"), count = Math.trunc(+(limit ?? 1000));
    if (!(count >= 1 && count <= 1000)) throw new RangeError("list: the limit is not from 1 to 1000");
    const { body } = await operation(host.store(ACTIONS.list, this.#names(prefix ?? "", cursor ?? "", `${count}`), null), "list");
    const found = JSON.parse(host.text(body));
    const keys = found.keys.map(([name, until, about]) => ({ name, ...(until ? { expiration: Math.floor(until / 1000) } : {}), ...(about ? { metadata: JSON.parse(about) } : {}) }));
    return { keys, list_complete: found.cursor === null, ...(found.cursor === null ? {} : { cursor: found.cursor }) };
  }
}
