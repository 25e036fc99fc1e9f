// Buffer, as Node.js has it: a Uint8Array with encodings. Not a global of ours unless a script imports node:buffer.

const BUFFER_ENCODINGS = { utf8: "utf8", "utf-8": "utf8", hex: "hex", base64: "base64", base64url: "base64url", latin1: "latin1", binary: "latin1", ascii: "ascii", ucs2: "utf16le", "ucs-2": "utf16le", utf16le: "utf16le", "utf-16le": "utf16le" };
const bufferEncoding = name => {
  const known = BUFFER_ENCODINGS[`${name ?? "utf8"}`.toLowerCase()];
  if (!known) throw nodeError(TypeError, "ERR_UNKNOWN_ENCODING", `Unknown encoding: ${name}`);
  return known;
};
const bufferBytes = (text, encoding) => {
  switch (bufferEncoding(encoding)) {
    case "utf8": return host.encode(text);
    case "hex": {
      const sound = /^(?:[0-9a-fA-F]{2})*/.exec(text)[0];
      return Bytes.fromHex(sound);
    }
    case "base64": case "base64url": {
      // What comes after the padding is none of it.
      const plain = text.replace(/=[^]*$/, "").replace(/[^A-Za-z0-9+/_-]/g, "").replace(/-/g, "+").replace(/_/g, "/");
      return Bytes.fromBase64(plain.length % 4 === 1 ? plain.slice(0, -1) : plain);
    }
    case "utf16le": {
      const bytes = new Bytes(text.length * 2);
      for (let i = 0; i < text.length; i++) {
        const unit = text.charCodeAt(i);
        bytes[2 * i] = unit & 255;
        bytes[2 * i + 1] = unit >> 8;
      }
      return bytes;
    }
    default: {
      const bytes = new Bytes(text.length);
      for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
      return bytes;
    }
  }
};
const bufferText = (bytes, encoding) => {
  switch (bufferEncoding(encoding)) {
    case "utf8": return host.text(bytes, true);
    case "hex": return bytes.toHex();
    case "base64": return bytes.toBase64();
    case "base64url": return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
    case "utf16le": return host.decode(bytes.subarray(0, bytes.length & ~1), 1, false, false)[0];
    default: {
      let text = "";
      const mask = bufferEncoding(encoding) === "ascii" ? 0x7f : 0xff;
      for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096).map(byte => byte & mask));
      return text;
    }
  }
};
const bufferSize = size => {
  if (typeof size !== "number") throw wrongType("size", "of type number", size);
  if (!(size >= 0 && size <= 2 ** 32)) throw outOfRange("size", ">= 0 && <= 4294967296", size);
  return size;
};
// A whole number from `least` to `most`: an offset, where nothing else is said.
const whole = (name, value, least, most) => {
  if (typeof value !== "number") throw wrongType(name, "of type number", value);
  if (!Number.isInteger(value)) throw outOfRange(name, "an integer", value);
  if (value < least || value > most) throw outOfRange(name, `>= ${least} && <= ${most}`, value);
  return value;
};
const bounded = (view, at, size) => {
  if (typeof at === "number" && view.length < size) throw nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", "Attempt to access memory outside buffer bounds");
  return whole("offset", at, 0, view.length - size);
};
// A place as slices take it: from the end if it is negative, and within the length.
const placeIn = (length, at) => {
  const place = Math.trunc(+at) || 0;
  return place < 0 ? Math.max(length + place, 0) : Math.min(place, length);
};
class Buffer extends Uint8Array {
  constructor(value, offset = undefined, length = undefined) {
    if (typeof value === "string") {
      const bytes = bufferBytes(value, offset);
      super(bytes.buffer, bytes.byteOffset, bytes.length);
    } else super(value, offset, length);
  }
  static get poolSize() { return 0; }
  static #over(bytes) { return new Buffer(bytes.buffer, bytes.byteOffset, bytes.length); }
  static from(value, encodingOrOffset = undefined, length = undefined) {
    if (typeof value === "string") return Buffer.#over(bufferBytes(value, encodingOrOffset));
    if (host.isBuffer(value)) {
      const from = Math.trunc(+encodingOrOffset) || 0, room = value.byteLength - from;
      if (from < 0 || room < 0) throw nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", '"offset" is outside of buffer bounds');
      const wanted = length === undefined ? room : Math.max(Math.trunc(+length) || 0, 0);
      if (wanted > room) throw nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", '"length" is outside of buffer bounds');
      return new Buffer(value, from, wanted);
    }
    if (isObject(value) && isView(value)) return Buffer.#over(value instanceof Bytes ? copyOf(value) : Bytes.from(value));
    if (isObject(value) && value.type === "Buffer" && Array.isArray(value.data)) return Buffer.#over(Bytes.from(value.data));
    if (isObject(value)) {
      const primitive = value.valueOf?.();
      if (primitive !== value && primitive !== null && primitive !== undefined) return Buffer.from(primitive, encodingOrOffset, length);
      if (typeof value[Symbol.toPrimitive] === "function") return Buffer.from(value[Symbol.toPrimitive]("string"), encodingOrOffset);
      if (value.length !== undefined || typeof value[Symbol.iterator] === "function") return Buffer.#over(Bytes.from(value));
    }
    throw wrongType("first argument", "of type string or an instance of Buffer, ArrayBuffer, or Array or an Array-like Object", value);
  }
  static alloc(size, fill = undefined, encoding = undefined) {
    const buffer = new Buffer(bufferSize(size));
    return fill === undefined ? buffer : buffer.fill(fill, encoding);
  }
  static allocUnsafe(size) { return new Buffer(bufferSize(size)); }
  static allocUnsafeSlow(size) { return new Buffer(bufferSize(size)); }
  static of(...items) { return Buffer.#over(Bytes.from(items)); }
  static isBuffer(value) { return value instanceof Buffer; }
  static isEncoding(name) { return Object.hasOwn(BUFFER_ENCODINGS, `${name}`.toLowerCase()); }
  static byteLength(value, encoding = undefined) {
    if (typeof value === "string") return encoding !== undefined && Buffer.isEncoding(encoding) ? bufferBytes(value, encoding).length : host.encode(value).length;
    if (!isBufferSource(value)) throw wrongType("string", "of type string or an instance of Buffer or ArrayBuffer", value);
    return value.byteLength;
  }
  static copyBytesFrom(view, offset = 0, length = undefined) {
    if (!isView(view) || view instanceof DataView) throw wrongType("view", "an instance of TypedArray", view);
    const from = whole("offset", offset, 0, 2 ** 53 - 1), to = length === undefined ? view.length : from + whole("length", length, 0, 2 ** 53 - 1);
    return Buffer.#over(copyOf(view.subarray(from, to)));
  }
  static compare(a, b) {
    const length = Math.min(a.length, b.length);
    for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
    return Math.sign(a.length - b.length);
  }
  static concat(list, total = undefined) {
    if (!Array.isArray(list)) throw wrongType("list", "an instance of Array", list);
    list.forEach((item, i) => { if (!(isObject(item) && item instanceof Bytes)) throw wrongType(`list[${i}]`, "an instance of Buffer or Uint8Array", item); });
    const all = joined(list);
    if (total === undefined || total === all.length) return Buffer.#over(all);
    const cut = new Buffer(total);
    cut.set(all.subarray(0, total));
    return cut;
  }
  toString(encoding = undefined, start = 0, end = this.length) {
    const from = Math.max(Math.trunc(+start) || 0, 0), to = Math.max(Math.trunc(+end) || 0, 0);
    return bufferText(new Bytes(this.buffer, this.byteOffset, this.length).subarray(from, Math.max(from, to)), encoding);
  }
  toLocaleString(encoding = undefined) { return this.toString(encoding); }
  toJSON() { return { type: "Buffer", data: Array.from(this) }; }
  [INSPECT_CUSTOM](depth, options) {
    const shown = Math.min(50, this.length), rest = this.length - shown;
    return `<${this.constructor.name} ${[...this.subarray(0, shown)].map(byte => byte.toString(16).padStart(2, "0")).join(" ")}${rest > 0 ? ` ... ${rest} more byte${rest === 1 ? "" : "s"}` : ""}>`;
  }
  get parent() { return this.buffer; }
  get offset() { return this.byteOffset; }
  equals(other) {
    if (!(isObject(other) && other instanceof Bytes)) throw wrongType("otherBuffer", "an instance of Buffer or Uint8Array", other);
    return this.length === other.length && host.equal(bytesOf(this), bytesOf(other));
  }
  compare(other, otherStart = 0, otherEnd = other?.length, start = 0, end = this.length) {
    if (!(isObject(other) && other instanceof Bytes)) throw wrongType("target", "an instance of Buffer or Uint8Array", other);
    whole("targetStart", otherStart, 0, 2 ** 53 - 1);
    whole("targetEnd", otherEnd, 0, other.length);
    whole("sourceStart", start, 0, 2 ** 53 - 1);
    whole("sourceEnd", end, 0, this.length);
    return Buffer.compare(bytesOf(this).subarray(start, Math.max(start, end)), bytesOf(other).subarray(otherStart, Math.max(otherStart, otherEnd)));
  }
  slice(start = undefined, end = undefined) { return this.subarray(start, end); }
  subarray(start = undefined, end = undefined) { return Buffer.#over(new Bytes(this.buffer, this.byteOffset, this.length).subarray(start, end)); }
  copy(to, at = 0, start = 0, end = this.length) {
    if (!(isObject(to) && to instanceof Bytes)) throw wrongType("target", "an instance of Buffer or Uint8Array", to);
    const [into, from, until] = [at, start, end].map(place => Math.trunc(+place) || 0);
    if (into < 0) throw outOfRange("targetStart", ">= 0", at);
    if (from < 0 || from > this.length) throw outOfRange("sourceStart", `>= 0 && <= ${this.length}`, start);
    if (until < 0) throw outOfRange("sourceEnd", ">= 0", end);
    if (into >= to.length || from >= until) return 0;
    const piece = bytesOf(this).subarray(from, Math.min(until, from + to.length - into));
    bytesOf(to).set(piece, into);
    return piece.length;
  }
  write(text, offset = undefined, length = undefined, encoding = undefined) {
    if (typeof text !== "string") throw wrongType("argument", "of type string", text);
    if (typeof offset === "string") [offset, encoding] = [undefined, offset];
    else if (typeof length === "string") [length, encoding] = [undefined, length];
    const at = offset === undefined ? 0 : whole("offset", offset, 0, this.length), known = bufferEncoding(encoding);
    const room = length === undefined ? this.length - at : Math.min(whole("length", length, 0, this.length), this.length - at), bytes = bufferBytes(text, known);
    let most = Math.min(room, bytes.length);
    // No character is written in part.
    if (known === "utf8") while (most > 0 && most < bytes.length && (bytes[most] & 0xc0) === 0x80) most--;
    else if (known === "utf16le") most -= most % 2;
    this.set(bytes.subarray(0, most), at);
    return most;
  }
  fill(value, start = undefined, end = undefined, encoding = undefined) {
    if (typeof start === "string") [start, end, encoding] = [undefined, undefined, start];
    else if (typeof end === "string") [end, encoding] = [undefined, end];
    const from = start === undefined ? 0 : whole("offset", start, 0, 2 ** 53 - 1), to = end === undefined ? this.length : whole("end", end, 0, this.length);
    const bytes = typeof value === "string" ? bufferBytes(value, encoding) : isBufferSource(value) ? copyOf(value) : null;
    if (bytes === null) return super.fill(value & 255, from, to);
    if (!bytes.length && typeof value !== "string" || (!bytes.length && value !== "")) throw nodeError(TypeError, "ERR_INVALID_ARG_VALUE", "The argument 'value' is invalid");
    for (let i = from; i < to; i++) this[i] = bytes.length ? bytes[(i - from) % bytes.length] : 0;
    return this;
  }
  #sought(value, encoding) {
    if (typeof value === "string") return bufferBytes(value, encoding);
    if (!(isObject(value) && value instanceof Bytes)) throw wrongType("value", "one of type number or string or an instance of Buffer or Uint8Array", value);
    return bytesOf(value);
  }
  indexOf(value, from = undefined, encoding = undefined) {
    if (typeof from === "string") [from, encoding] = [undefined, from];
    const at = placeIn(this.length, from);
    if (typeof value === "number") return super.indexOf(value & 255, at);
    const sought = this.#sought(value, encoding);
    return sought.length ? host.find(bytesOf(this), sought, at) : at;
  }
  lastIndexOf(value, from = undefined, encoding = undefined) {
    if (typeof from === "string") [from, encoding] = [undefined, from];
    const own = bytesOf(this), last = from === undefined || Number.isNaN(+from) ? own.length : Math.trunc(+from), end = last < 0 ? own.length + last : last;
    if (typeof value === "number") return end < 0 ? -1 : super.lastIndexOf(value & 255, Math.min(end, own.length - 1));
    const sought = this.#sought(value, encoding);
    for (let at = Math.min(end, own.length - sought.length); at >= 0; at--) if (host.equal(own.subarray(at, at + sought.length), sought)) return at;
    return -1;
  }
  includes(value, from = 0, encoding = undefined) { return this.indexOf(value, from, encoding) >= 0; }
  #swap(size) {
    if (this.length % size) throw nodeError(RangeError, "ERR_INVALID_BUFFER_SIZE", `Buffer size must be a multiple of ${size * 8}-bits`);
    for (let at = 0; at < this.length; at += size) bytesOf(this).subarray(at, at + size).reverse();
    return this;
  }
  swap16() { return this.#swap(2); }
  swap32() { return this.#swap(4); }
  swap64() { return this.#swap(8); }
  readUIntBE(at, size) {
    bounded(this, at, whole("byteLength", size, 1, 6));
    let n = 0;
    for (let i = 0; i < size; i++) n = n * 256 + this[at + i];
    return n;
  }
  readUIntLE(at, size) {
    bounded(this, at, whole("byteLength", size, 1, 6));
    let n = 0;
    for (let i = size; i--;) n = n * 256 + this[at + i];
    return n;
  }
  readIntBE(at, size) { const n = this.readUIntBE(at, size); return n >= 2 ** (8 * size - 1) ? n - 2 ** (8 * size) : n; }
  readIntLE(at, size) { const n = this.readUIntLE(at, size); return n >= 2 ** (8 * size - 1) ? n - 2 ** (8 * size) : n; }
  #write(value, at, size, little, least, most) {
    value = +value;
    whole("byteLength", size, 1, 6);
    if (value < least || value > most) throw outOfRange("value", `>= ${least} && <= ${most}`, value);
    bounded(this, at, size);
    let rest = Math.trunc(value) || 0;
    for (let i = 0; i < size; i++) {
      this[at + (little ? i : size - 1 - i)] = rest;
      rest = Math.floor(rest / 256);
    }
    return at + size;
  }
  writeUIntBE(value, at, size) { return this.#write(value, at, size, false, 0, 2 ** (8 * size) - 1); }
  writeUIntLE(value, at, size) { return this.#write(value, at, size, true, 0, 2 ** (8 * size) - 1); }
  writeIntBE(value, at, size) { return this.#write(value, at, size, false, -(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1); }
  writeIntLE(value, at, size) { return this.#write(value, at, size, true, -(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1); }
}
// readUInt16BE and the like, by DataView; what has bounds has its values checked.
for (const [name, view, size, least, most] of [["UInt8", "Uint8", 1, 0, 0xff], ["Int8", "Int8", 1, -0x80, 0x7f], ["UInt16", "Uint16", 2, 0, 0xffff], ["Int16", "Int16", 2, -0x8000, 0x7fff],
  ["UInt32", "Uint32", 4, 0, 0xffff_ffff], ["Int32", "Int32", 4, -0x8000_0000, 0x7fff_ffff], ["Float", "Float32", 4], ["Double", "Float64", 8],
  ["BigUInt64", "BigUint64", 8, 0n, 2n ** 64n - 1n], ["BigInt64", "BigInt64", 8, -(2n ** 63n), 2n ** 63n - 1n]]) {
  for (const [end, little] of size === 1 ? [["", false]] : [["BE", false], ["LE", true]]) {
    const over = buffer => new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    const methods = {
      [`read${name}${end}`](at = 0) { return over(this)[`get${view}`](bounded(this, at, size), little); },
      [`write${name}${end}`](value, at = 0) {
        if (typeof least === "bigint" && typeof value !== "bigint") throw wrongType("value", "of type bigint", value);
        if (typeof least !== "bigint") value = +value;
        if (value < least || value > most) throw outOfRange("value", `>= ${least} && <= ${most}`, value);
        over(this)[`set${view}`](bounded(this, at, size), value, little);
        return at + size;
      },
    };
    for (const [method, value] of Object.entries(methods)) {
      for (const alias of [method, method.replace("UInt", "Uint")]) Object.defineProperty(Buffer.prototype, alias, { value, writable: true, configurable: true });
    }
  }
}
for (const end of ["BE", "LE"]) {
  for (const deed of ["read", "write"]) Object.defineProperty(Buffer.prototype, `${deed}Uint${end}`, { value: Buffer.prototype[`${deed}UInt${end}`], writable: true, configurable: true });
}
