// A zone's key-value store, as `env.NAME`.

const ACTIONS = { get: 0, put: 1, delete: 2, list: 3 };
class Store {
  #name;
  constructor(token, name) { illegal(token); this.#name = name; }
  #names(...rest) {
    whileLive("the store");
    const parts = [this.#name, ...rest.map(usv)];
    if (parts.some(part => part.includes("\0"))) throw new TypeError("a key of the store has a zero");
    return parts.join("\0");
  }
  async get(key, options = undefined) {
    required(1, arguments.length, "get");
    const type = `${isObject(options) ? options.type ?? "text" : options ?? "text"}`;
    if (!["text", "json", "arrayBuffer", "stream"].includes(type)) throw new TypeError(`get: no such type: ${type}`);
    const { status, body } = await operation(host.store(ACTIONS.get, this.#names(key), null), "get");
    if (!status) return null;
    if (type === "text") return host.text(body);
    if (type === "json") return JSON.parse(host.text(body));
    if (type === "arrayBuffer") return body.buffer;
    return new Response(body).body;
  }
  async put(key, value) {
    required(2, arguments.length, "put");
    const names = this.#names(key);
    let data;
    if (typeof value === "string") data = value.toWellFormed();
    else if (isBufferSource(value)) data = copyOf(value);
    else if (value instanceof ReadableStream) data = await new Response(value).bytes();
    else throw new TypeError("put: the value is neither text nor bytes nor a stream");
    await operation(host.store(ACTIONS.put, names, data), "put");
  }
  async delete(key) {
    required(1, arguments.length, "delete");
    await operation(host.store(ACTIONS.delete, this.#names(key), null), "delete");
  }
  async list(options = undefined) {
    const { prefix = "", limit = 1000, cursor = "" } = dictionary(options, "the options");
    const count = Math.trunc(+limit);
    if (!(count >= 1 && count <= 1000)) throw new RangeError("list: the limit is not from 1 to 1000");
    const { body } = await operation(host.store(ACTIONS.list, this.#names(prefix, cursor, `${count}`), null), "list");
    const found = JSON.parse(host.text(body));
    return { keys: found.keys.map(name => ({ name })), list_complete: found.cursor === null, ...(found.cursor === null ? {} : { cursor: found.cursor }) };
  }
}
