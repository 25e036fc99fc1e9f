// URL and URLSearchParams (URL standard). The host parses and serializes; a record is [href, offsets…]: scheme's end, user name's start and
// end, password's start and end, host's start and end, port's start, path's start, query's start (where there is none: its end).

const SPECIAL = { "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21", "file:": "" };
const SETTERS = { href: 0, protocol: 1, username: 2, password: 3, host: 4, hostname: 5, port: 6, pathname: 7, search: 8, hash: 9 };
let urlStale, paramsOf, bindParams, urlHref;
class URL {
  #record; #params = null;
  // The parameters were changed, and the query was not written yet: many changes cost one.
  #stale = false;
  static {
    urlStale = url => { url.#stale = true; };
    urlHref = url => url.#href;
  }
  #fresh() {
    if (!this.#stale) return this.#record;
    this.#stale = false;
    this.#take(host.urlSet(this.#record[0], SETTERS.search, `${this.#params}`));
    return this.#record;
  }
  get #href() { return this.#fresh()[0]; }
  get #at() { return this.#fresh(); }
  constructor(url, base = undefined) {
    required(1, arguments.length, "URL");
    const record = host.urlParse(usv(url), base === undefined ? undefined : usv(base));
    if (!record) throw new TypeError(`Invalid URL: ${String(url).slice(0, 200)}`);
    this.#take(record);
  }
  static parse(url, base = undefined) {
    try { return new URL(url, base); } catch { return null; }
  }
  static canParse(url, base = undefined) {
    required(1, arguments.length, "URL.canParse");
    return host.urlParse(usv(url), base === undefined ? undefined : usv(base)) !== null;
  }
  #take(record) {
    if (record) this.#record = record;
  }
  #set(which, value) {
    this.#take(host.urlSet(this.#href, SETTERS[which], usv(value)));
    if (this.#params && (which === "search" || which === "href")) paramsOf(this.#params, this.search);
  }
  #part(from, to) { return this.#href.slice(this.#at[from], this.#at[to]); }
  get href() { return this.#href; }
  set href(value) {
    const record = host.urlParse(usv(value));
    if (!record) throw new TypeError("Invalid URL");
    this.#stale = false;
    this.#take(record);
    if (this.#params) paramsOf(this.#params, this.search);
  }
  get origin() {
    const scheme = this.protocol;
    if (scheme === "blob:") {
      const inner = URL.parse(this.pathname);
      return inner && (inner.protocol === "http:" || inner.protocol === "https:") ? inner.origin : "null";
    }
    return scheme in SPECIAL && scheme !== "file:" ? `${scheme}//${this.host}` : "null";
  }
  get protocol() { return this.#href.slice(0, this.#at[1] + 1); }
  set protocol(value) { this.#set("protocol", value); }
  get username() { return this.#part(2, 3); }
  set username(value) { this.#set("username", value); }
  get password() { return this.#part(4, 5); }
  set password(value) { this.#set("password", value); }
  get host() { return this.#href.slice(this.#at[6], this.#at[8]); }
  set host(value) { this.#set("host", value); }
  get hostname() { return this.#part(6, 7); }
  set hostname(value) { this.#set("hostname", value); }
  get port() { return this.#href.slice(this.#at[7] + 1, this.#at[8]); }
  set port(value) { this.#set("port", value); }
  get pathname() { return this.#part(9, 10); }
  set pathname(value) { this.#set("pathname", value); }
  get search() {
    const hash = this.#href.indexOf("#", this.#at[10]), query = this.#href.slice(this.#at[10], hash < 0 ? undefined : hash);
    return query === "?" ? "" : query;
  }
  set search(value) { this.#set("search", value); }
  get hash() {
    const hash = this.#href.indexOf("#", this.#at[10]);
    return hash < 0 || hash === this.#href.length - 1 ? "" : this.#href.slice(hash);
  }
  set hash(value) { this.#set("hash", value); }
  get searchParams() { return this.#params ??= bindParams(this, this.search); }
  toString() { return this.#href; }
  toJSON() { return this.#href; }
}

// application/x-www-form-urlencoded, both ways.
const PLUS = /\+/g, PERCENT = /%[0-9A-Fa-f]{2}/;
const formDecode = text => {
  text = text.replace(PLUS, " ");
  if (!PERCENT.test(text)) return text;
  const bytes = host.encode(text);
  let length = 0;
  for (let i = 0; i < bytes.length; i++, length++) {
    const high = bytes[i] === 0x25 && i + 2 < bytes.length ? hexDigit(bytes[i + 1]) : -1, low = high < 0 ? -1 : hexDigit(bytes[i + 2]);
    if (low < 0) bytes[length] = bytes[i];
    else bytes[length] = high * 16 + low, i += 2;
  }
  return host.decode(bytes.subarray(0, length), 0, false, false)[0];
};
const hexDigit = byte => (byte >= 48 && byte <= 57 ? byte - 48 : byte >= 65 && byte <= 70 ? byte - 55 : byte >= 97 && byte <= 102 ? byte - 87 : -1);
const FORM_PLAIN = /^[*\-.0-9A-Z_a-z]*$/;
const formEncode = text => {
  if (FORM_PLAIN.test(text)) return text;
  let out = "";
  for (const byte of host.encode(text)) {
    if (byte === 0x20) out += "+";
    else if (byte === 0x2a || byte === 0x2d || byte === 0x2e || byte === 0x5f || (byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122)) out += String.fromCharCode(byte);
    else out += `%${byte < 16 ? "0" : ""}${byte.toString(16).toUpperCase()}`;
  }
  return out;
};
const formParse = query => {
  const list = [];
  for (const piece of query.split("&")) {
    if (!piece) continue;
    const equals = piece.indexOf("=");
    list.push(equals < 0 ? [formDecode(piece), ""] : [formDecode(piece.slice(0, equals)), formDecode(piece.slice(equals + 1))]);
  }
  return list;
};

class URLSearchParams {
  // The same pairs in order, and by name.
  #list = []; #names = null; #url = null;
  static {
    paramsOf = (params, search) => {
      params.#list = formParse(search.startsWith("?") ? search.slice(1) : search);
      params.#names = null;
    };
    bindParams = (url, search) => {
      const params = new URLSearchParams();
      paramsOf(params, search);
      params.#url = url;
      return params;
    };
  }
  constructor(init = "") {
    if (isObject(init)) {
      const method = init[Symbol.iterator];
      if (method !== undefined && method !== null) {
        for (const entry of init) {
          if (!isObject(entry)) throw new TypeError("URLSearchParams: an entry is not a pair");
          const pair = [...entry];
          if (pair.length !== 2) throw new TypeError("URLSearchParams: an entry is not a pair");
          this.#list.push([usv(pair[0]), usv(pair[1])]);
        }
      } else {
        const record = new Map();
        for (const key of Reflect.ownKeys(init)) {
          if (!Reflect.getOwnPropertyDescriptor(init, key)?.enumerable) continue;
          record.set(usv(key), usv(init[key]));
        }
        this.#list = [...record];
      }
    } else {
      paramsOf(this, usv(init));
    }
  }
  #of(name) {
    if (!this.#names) {
      this.#names = new Map();
      for (const pair of this.#list) this.#index(pair);
    }
    return this.#names.get(name);
  }
  #index(pair) {
    const same = this.#names.get(pair[0]);
    if (same) same.push(pair);
    else this.#names.set(pair[0], [pair]);
  }
  #add(pair) {
    this.#list.push(pair);
    if (this.#names) this.#index(pair);
  }
  #without(gone) {
    this.#list = this.#list.filter(pair => !gone(pair));
    this.#names = null;
  }
  #update() { if (this.#url) urlStale(this.#url); }
  get size() { return this.#list.length; }
  append(name, value) {
    required(2, arguments.length, "URLSearchParams.append");
    this.#add([usv(name), usv(value)]);
    this.#update();
  }
  delete(name, value = undefined) {
    required(1, arguments.length, "URLSearchParams.delete");
    name = usv(name);
    if (value !== undefined) value = usv(value);
    if (this.#of(name)) this.#without(pair => pair[0] === name && (value === undefined || pair[1] === value));
    this.#update();
  }
  get(name) {
    required(1, arguments.length, "URLSearchParams.get");
    return this.#of(usv(name))?.[0][1] ?? null;
  }
  getAll(name) {
    required(1, arguments.length, "URLSearchParams.getAll");
    return this.#of(usv(name))?.map(pair => pair[1]) ?? [];
  }
  has(name, value = undefined) {
    required(1, arguments.length, "URLSearchParams.has");
    const same = this.#of(usv(name));
    if (value === undefined || !same) return !!same;
    value = usv(value);
    return same.some(pair => pair[1] === value);
  }
  set(name, value) {
    required(2, arguments.length, "URLSearchParams.set");
    name = usv(name), value = usv(value);
    const same = this.#of(name);
    if (!same) this.#add([name, value]);
    else {
      const [first] = same;
      first[1] = value;
      if (same.length > 1) this.#without(pair => pair !== first && pair[0] === name);
    }
    this.#update();
  }
  sort() {
    this.#list.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
    this.#update();
  }
  forEach(callback, self = undefined) {
    required(1, arguments.length, "URLSearchParams.forEach");
    if (typeof callback !== "function") throw new TypeError("URLSearchParams.forEach: the callback is not a function");
    for (let i = 0; i < this.#list.length; i++) callback.call(self, this.#list[i][1], this.#list[i][0], this);
  }
  static #iterate = pairIterator("URLSearchParams", params => params.#list);
  keys() { return this.#list && URLSearchParams.#iterate(this, 0); }
  values() { return this.#list && URLSearchParams.#iterate(this, 1); }
  entries() { return this.#list && URLSearchParams.#iterate(this, 2); }
  toString() { return this.#list.map(([name, value]) => `${formEncode(name)}=${formEncode(value)}`).join("&"); }
}
Object.defineProperty(URLSearchParams.prototype, Symbol.iterator, { value: URLSearchParams.prototype.entries, writable: true, configurable: true });
interfaces({ URL, URLSearchParams });
