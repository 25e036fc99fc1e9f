// Blob, File and FormData (File API; XMLHttpRequest standard, section 5), and forms as content: application/x-www-form-urlencoded and
// multipart/form-data, both ways (HTML standard, section 4.10.21.8; RFC 7578).

// A MIME type's essence and parameters (MIME Sniffing standard, section 4.4); null for what is none.
const MIME = /^[\t\n\r ]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+\/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[\t\n\r ]*(?:;|$)/;
const PARAMETER = /[\t\n\r ]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:"((?:[^"\\]|\\[^])*)"?[^;]*|([^;]*))(?:;|$)|[^;]*(?:;|$)/y;
const mimeOf = text => {
  const found = MIME.exec(text ?? "");
  if (!found) return null;
  const parameters = new Map();
  PARAMETER.lastIndex = found[0].length;
  while (PARAMETER.lastIndex < text.length) {
    const [, name, quoted, plain] = PARAMETER.exec(text) ?? [];
    if (name === undefined) continue;
    const key = name.toLowerCase(), value = quoted !== undefined ? quoted.replace(/\\([^])/g, "$1") : plain.replace(/[\t\n\r ]+$/, "");
    if (!parameters.has(key) && (value || quoted !== undefined)) parameters.set(key, value);
  }
  return { essence: found[1].toLowerCase(), parameters };
};
const joined = list => {
  let length = 0;
  for (const bytes of list) length += bytes.length;
  const all = new Bytes(length);
  let at = 0;
  for (const bytes of list) all.set(bytes, at), at += bytes.length;
  return all;
};
const PRINTABLE = /^[\x20-\x7e]*$/;
let blobBytes;
class Blob {
  #bytes; #type;
  static { blobBytes = blob => blob.#bytes; }
  constructor(parts = undefined, options = undefined) {
    if (parts === INTERNAL) {
      [this.#bytes, this.#type] = options;
      return;
    }
    const list = [];
    if (parts !== undefined) {
      if (!isObject(parts) || typeof parts[Symbol.iterator] !== "function") throw new TypeError("Blob: the first argument is not a sequence");
      const { endings = "transparent" } = dictionary(options, "the options");
      if (endings !== "transparent" && endings !== "native") throw new TypeError(`Blob: no such endings: ${endings}`);
      for (const part of parts) {
        if (isObject(part) && #bytes in part) list.push(part.#bytes);
        else if (isBufferSource(part)) list.push(copyOf(part));
        else list.push(host.encode(endings === "native" ? usv(part).replace(/\r\n?/g, "\n") : usv(part)));
      }
    }
    this.#bytes = list.length === 1 ? list[0] : joined(list);
    const { type = "" } = dictionary(options, "the options");
    this.#type = PRINTABLE.test(`${type}`) ? `${type}`.toLowerCase() : "";
  }
  get size() { return this.#bytes.length; }
  get type() { return this.#type; }
  slice(start = 0, end = this.size, type = "") {
    const within = (n, none) => {
      n = Math.trunc(+n) || (n === undefined ? none : 0);
      return n < 0 ? Math.max(this.size + n, 0) : Math.min(n, this.size);
    };
    const from = within(start, 0), to = Math.max(within(end, this.size), from);
    return new Blob(INTERNAL, [this.#bytes.subarray(from, to), PRINTABLE.test(`${type}`) ? `${type}`.toLowerCase() : ""]);
  }
  async text() { return host.text(this.#bytes, true); }
  async arrayBuffer() { return this.#bytes.slice().buffer; }
  async bytes() { return this.#bytes.slice(); }
  stream() { return streamOfBytes(this.#bytes, true); }
}
class File extends Blob {
  #name; #modified;
  constructor(parts, name, options = undefined) {
    required(2, arguments.length, "File");
    super(parts, options);
    this.#name = usv(name);
    const { lastModified } = dictionary(options, "the options");
    this.#modified = lastModified === undefined ? Math.trunc(host.now()) : Math.trunc(+lastModified) || 0;
  }
  get name() { return this.#name; }
  get lastModified() { return this.#modified; }
  get webkitRelativePath() { return ""; }
}
// A stream of bytes that are there; `keep`: somebody else has them, too.
const streamOfBytes = (bytes, keep) => {
  const stream = new ReadableStream({
    type: "bytes",
    pull(controller) {
      if (bytes.length) streamCore(stream).push(keep ? bytes.slice() : bytes);
      controller.close();
      controller.byobRequest?.respond(0);
    },
  }, { highWaterMark: 0 });
  return stream;
};

const MOST_ENTRIES = 10_000;
let formEntries;
class FormData {
  #list = [];
  static { formEntries = form => form.#list; }
  constructor(form = undefined) {
    if (form !== undefined) throw new TypeError("FormData: there are no forms here");
  }
  static #value(value, given, name) {
    if (!(isObject(value) && value instanceof Blob)) {
      if (given) throw new TypeError("FormData: only a Blob has a file name");
      return usv(value);
    }
    if (value instanceof File && !given) return value;
    return new File([value], given ? usv(name) : value instanceof File ? value.name : "blob", { type: value.type, lastModified: value.lastModified });
  }
  append(name, value, filename = undefined) {
    required(2, arguments.length, "FormData.append");
    this.#list.push([usv(name), FormData.#value(value, filename !== undefined, filename)]);
  }
  set(name, value, filename = undefined) {
    required(2, arguments.length, "FormData.set");
    name = usv(name);
    const entry = [name, FormData.#value(value, filename !== undefined, filename)], first = this.#list.findIndex(pair => pair[0] === name);
    if (first < 0) return void this.#list.push(entry);
    this.#list = this.#list.filter((pair, index) => index <= first || pair[0] !== name);
    this.#list[first] = entry;
  }
  delete(name) {
    required(1, arguments.length, "FormData.delete");
    name = usv(name);
    this.#list = this.#list.filter(pair => pair[0] !== name);
  }
  get(name) {
    required(1, arguments.length, "FormData.get");
    name = usv(name);
    return this.#list.find(pair => pair[0] === name)?.[1] ?? null;
  }
  getAll(name) {
    required(1, arguments.length, "FormData.getAll");
    name = usv(name);
    return this.#list.filter(pair => pair[0] === name).map(pair => pair[1]);
  }
  has(name) {
    required(1, arguments.length, "FormData.has");
    name = usv(name);
    return this.#list.some(pair => pair[0] === name);
  }
  forEach(callback, self = undefined) {
    required(1, arguments.length, "FormData.forEach");
    if (typeof callback !== "function") throw new TypeError("FormData.forEach: the callback is not a function");
    for (let i = 0; i < this.#list.length; i++) callback.call(self, this.#list[i][1], this.#list[i][0], this);
  }
  static #iterate = pairIterator("FormData", form => form.#list);
  keys() { return this.#list && FormData.#iterate(this, 0); }
  values() { return this.#list && FormData.#iterate(this, 1); }
  entries() { return this.#list && FormData.#iterate(this, 2); }
}
Object.defineProperty(FormData.prototype, Symbol.iterator, { value: FormData.prototype.entries, writable: true, configurable: true });
interfaces({ Blob, File, FormData });

// Chance where there is a request; before, what cannot be foreseen matters to nobody.
let boundaries = 0;
const boundary = () => {
  const random = new Bytes(16);
  if (live) host.random(random);
  else random[0] = ++boundaries;
  return `----edge-form-${Array.from(random, byte => byte.toString(16).padStart(2, "0")).join("")}`;
};
const formBytes = form => {
  const edge = boundary(), escaped = text => text.replace(/\r\n?|\n/g, "%0D%0A").replace(/"/g, "%22"), list = [];
  for (const [name, value] of formEntries(form)) {
    const head = `--${edge}\r\nContent-Disposition: form-data; name="${escaped(name)}"`;
    if (typeof value === "string") list.push(host.encode(`${head}\r\n\r\n${value.replace(/\r\n?|\n/g, "\r\n")}\r\n`));
    else list.push(host.encode(`${head}; filename="${value.name.replace(/\n/g, "%0A").replace(/\r/g, "%0D").replace(/"/g, "%22")}"\r\nContent-Type: ${value.type || "application/octet-stream"}\r\n\r\n`), blobBytes(value), host.encode("\r\n"));
  }
  list.push(host.encode(`--${edge}--\r\n`));
  return { bytes: joined(list), type: `multipart/form-data; boundary=${edge}` };
};
const DISPOSITION = /^form-data(?=[\t ]*(?:;|$))/i;
const dispositionOf = text => {
  if (!DISPOSITION.test(text)) return null;
  const of = {};
  for (const [, name, value] of text.matchAll(/;[\t ]*([^\t =;]+)[\t ]*=[\t ]*("(?:[^"\\]|\\[^])*"|[^;]*)/g)) {
    const plain = value.startsWith('"') ? value.slice(1, -1).replace(/\\(["\\])/g, "$1") : value.trim();
    const decoded = plain.replace(/%0D%0A/gi, "\r\n").replace(/%0A/gi, "\n").replace(/%0D/gi, "\r").replace(/%22/g, '"');
    of[name.toLowerCase()] ??= decoded;
  }
  return of;
};
const malformedForm = why => new TypeError(`formData: ${why}`);
const multipart = (bytes, edge) => {
  const form = new FormData(), mark = host.encode(`--${edge}`), next = host.encode(`\r\n--${edge}`), gap = host.encode("\r\n\r\n");
  let at = host.find(bytes, mark, 0);
  if (at < 0) throw malformedForm("the boundary is not in the content");
  at += mark.length;
  for (;;) {
    if (bytes[at] === 0x2d && bytes[at + 1] === 0x2d) return form;
    while (bytes[at] === 0x20 || bytes[at] === 0x09) at++;
    if (bytes[at] !== 0x0d || bytes[at + 1] !== 0x0a) throw malformedForm("a part does not begin on a line of its own");
    // A part without fields has its empty line at once.
    const head = host.find(bytes, gap, at), end = host.find(bytes, next, at + 2);
    if (end < 0 || head < 0 || head + 4 > end + 2) throw malformedForm("a part has no end, or no empty line");
    const fields = new Map();
    for (const line of host.text(bytes.subarray(at + 2, Math.max(head, at + 2))).split("\r\n")) {
      const colon = line.indexOf(":");
      if (colon > 0) fields.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    }
    const disposition = dispositionOf(fields.get("content-disposition") ?? "");
    if (disposition?.name === undefined) throw malformedForm("a part has no name");
    const content = bytes.slice(head + 4, end), entries = formEntries(form);
    if (entries.length >= MOST_ENTRIES) throw malformedForm(`more than ${MOST_ENTRIES} parts`);
    if (disposition.filename === undefined) entries.push([usv(disposition.name), host.text(content, true)]);
    else entries.push([usv(disposition.name), new File([content], disposition.filename, { type: fields.get("content-type") ?? "text/plain" })]);
    at = end + next.length;
  }
};
const formOf = (bytes, type) => {
  const mime = mimeOf(type);
  if (mime?.essence === "multipart/form-data") {
    const edge = mime.parameters.get("boundary");
    if (!edge) throw malformedForm("the content's type has no boundary");
    return multipart(bytes, edge);
  }
  if (mime?.essence !== "application/x-www-form-urlencoded") throw malformedForm(`the content's type is ${type ?? "missing"}`);
  const form = new FormData();
  formEntries(form).push(...formParse(host.text(bytes)));
  return form;
};
