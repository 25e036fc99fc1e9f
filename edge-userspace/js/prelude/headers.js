// Headers (Fetch standard, section 5.1). What comes from the host is parsed when it is first looked at.

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FORBIDDEN_IN_VALUE = /[\0\r\n]/;
const AROUND = /^[\t\n\r ]+|[\t\n\r ]+$/g;
const headerName = name => {
  const text = byteString(name);
  if (!TOKEN.test(text)) throw new TypeError(`not a header name: ${JSON.stringify(text)}`);
  return text.toLowerCase();
};
const headerValue = value => {
  const text = byteString(value).replace(AROUND, "");
  if (FORBIDDEN_IN_VALUE.test(text)) throw new TypeError("a header value has a line break or a zero");
  return text;
};

let headersFrom, headersText, headersFreeze;
class Headers {
  // [name, value] in order of arrival; names are lower case.
  #list = null;
  #raw = "";
  #frozen = false;
  #sorted = null;
  static {
    // From "name:value\n" lines, or as a copy of another Headers.
    headersFrom = (raw, frozen) => {
      const headers = new Headers();
      headers.#list = null;
      headers.#raw = raw;
      headers.#frozen = frozen;
      return headers;
    };
    headersText = headers => {
      if (!headers.#list) return headers.#raw;
      let text = "";
      for (const [name, value] of headers.#list) text += `${name}:${value}\n`;
      return text;
    };
    headersFreeze = headers => { headers.#frozen = true; };
  }
  constructor(init = undefined) {
    if (init === undefined) {
      this.#list = [];
      return;
    }
    if (!isObject(init)) throw new TypeError("Headers: the first argument is neither a sequence nor a record");
    if (#raw in init && init[Symbol.iterator] === Headers.prototype[Symbol.iterator]) {
      this.#list = init.#all().map(pair => [pair[0], pair[1]]);
      return;
    }
    this.#list = [];
    const method = init[Symbol.iterator];
    if (method !== undefined && method !== null) {
      for (const entry of init) {
        if (!isObject(entry)) throw new TypeError("Headers: an entry is not a pair");
        const pair = [...entry];
        if (pair.length !== 2) throw new TypeError("Headers: an entry is not a pair");
        this.append(pair[0], pair[1]);
      }
    } else {
      const record = [];
      for (const key of Reflect.ownKeys(init)) {
        if (!Reflect.getOwnPropertyDescriptor(init, key)?.enumerable) continue;
        if (typeof key === "symbol") throw new TypeError("Headers: a symbol is no name");
        record.push([byteString(key), byteString(init[key])]);
      }
      for (const [name, value] of record) this.append(name, value);
    }
  }
  #all() {
    if (this.#list) return this.#list;
    const list = [], raw = this.#raw;
    let at = 0;
    for (let end; (end = raw.indexOf("\n", at)) >= 0; at = end + 1) {
      const colon = raw.indexOf(":", at);
      list.push([raw.slice(at, colon), raw.slice(colon + 1, end)]);
    }
    return this.#list = list;
  }
  #write() {
    if (this.#frozen) throw new TypeError("these headers are immutable");
    this.#sorted = null;
    return this.#all();
  }
  append(name, value) {
    required(2, arguments.length, "Headers.append");
    name = headerName(name), value = headerValue(value);
    this.#write().push([name, value]);
  }
  delete(name) {
    required(1, arguments.length, "Headers.delete");
    name = headerName(name);
    const list = this.#write();
    for (let i = list.length; i--;) if (list[i][0] === name) list.splice(i, 1);
  }
  get(name) {
    required(1, arguments.length, "Headers.get");
    name = headerName(name);
    let found = null;
    for (const pair of this.#all()) if (pair[0] === name) found = found === null ? pair[1] : `${found}, ${pair[1]}`;
    return found;
  }
  getSetCookie() {
    return this.#all().filter(pair => pair[0] === "set-cookie").map(pair => pair[1]);
  }
  has(name) {
    required(1, arguments.length, "Headers.has");
    name = headerName(name);
    for (const pair of this.#all()) if (pair[0] === name) return true;
    return false;
  }
  set(name, value) {
    required(2, arguments.length, "Headers.set");
    name = headerName(name), value = headerValue(value);
    const list = this.#write(), first = list.findIndex(pair => pair[0] === name);
    if (first < 0) return void list.push([name, value]);
    list[first] = [name, value];
    for (let i = list.length; --i > first;) if (list[i][0] === name) list.splice(i, 1);
  }
  forEach(callback, self = undefined) {
    required(1, arguments.length, "Headers.forEach");
    if (typeof callback !== "function") throw new TypeError("Headers.forEach: the callback is not a function");
    for (let i = 0, pairs; i < (pairs = Headers.#pairs(this)).length; i++) callback.call(self, pairs[i][1], pairs[i][0], this);
  }
  // Sorted and combined; each Set-Cookie by itself.
  static #pairs(headers) {
    if (headers.#sorted) return headers.#sorted;
    const combined = new Map(), cookies = [];
    for (const [name, value] of headers.#all()) {
      if (name === "set-cookie") cookies.push([name, value]);
      else combined.set(name, combined.has(name) ? `${combined.get(name)}, ${value}` : value);
    }
    const sorted = [...combined, ...cookies];
    return headers.#sorted = sorted.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  }
  static #iterate = pairIterator("Headers", headers => Headers.#pairs(headers));
  keys() { return this.#all() && Headers.#iterate(this, 0); }
  values() { return this.#all() && Headers.#iterate(this, 1); }
  entries() { return this.#all() && Headers.#iterate(this, 2); }
}
Object.defineProperty(Headers.prototype, Symbol.iterator, { value: Headers.prototype.entries, writable: true, configurable: true });
interfaces({ Headers });
