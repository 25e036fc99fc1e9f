// Buffer, as Node.js has it: a Uint8Array with encodings. Not a global of ours unless a script imports node:buffer.

const BUFFER_ENCODINGS = { utf8: "utf8", "utf-8": "utf8", hex: "hex", base64: "base64", base64url: "base64url", latin1: "latin1", binary: "latin1", ascii: "ascii", ucs2: "utf16le", "ucs-2": "utf16le", utf16le: "utf16le", "utf-16le": "utf16le" };
const bufferEncoding = name => {
  const known = BUFFER_ENCODINGS[`${name ?? "utf8"}`.toLowerCase()];
  if (!known) throw new TypeError(`Unknown encoding: ${name}`);
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
      const plain = text.replace(/[^A-Za-z0-9+/_-]/g, "").replace(/-/g, "+").replace(/_/g, "/");
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
class Buffer extends Uint8Array {
  static get poolSize() { return 0; }
  static #over(bytes) { return new Buffer(bytes.buffer, bytes.byteOffset, bytes.length); }
  static from(value, encodingOrOffset = undefined, length = undefined) {
    if (typeof value === "string") return Buffer.#over(bufferBytes(value, encodingOrOffset));
    if (host.isBuffer(value)) return new Buffer(value, encodingOrOffset, length);
    if (isObject(value) && isView(value)) return Buffer.#over(value instanceof Bytes ? copyOf(value) : Bytes.from(value));
    if (isObject(value) && value.type === "Buffer" && Array.isArray(value.data)) return Buffer.#over(Bytes.from(value.data));
    if (isObject(value)) {
      const primitive = value.valueOf?.();
      if (primitive !== value && primitive !== null && primitive !== undefined) return Buffer.from(primitive, encodingOrOffset, length);
      return Buffer.#over(Bytes.from(value));
    }
    throw new TypeError("Buffer.from: neither text, nor bytes, nor a list");
  }
  static alloc(size, fill = undefined, encoding = undefined) {
    const buffer = new Buffer(size);
    return fill === undefined ? buffer : buffer.fill(fill, encoding);
  }
  static allocUnsafe(size) { return new Buffer(size); }
  static allocUnsafeSlow(size) { return new Buffer(size); }
  static of(...items) { return Buffer.#over(Bytes.from(items)); }
  static isBuffer(value) { return value instanceof Buffer; }
  static isEncoding(name) { return Object.hasOwn(BUFFER_ENCODINGS, `${name}`.toLowerCase()); }
  static byteLength(value, encoding = undefined) { return typeof value === "string" ? bufferBytes(value, encoding).length : value.byteLength; }
  static compare(a, b) {
    const length = Math.min(a.length, b.length);
    for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
    return Math.sign(a.length - b.length);
  }
  static concat(list, total = undefined) {
    const all = joined(list);
    if (total === undefined || total === all.length) return Buffer.#over(all);
    const cut = new Buffer(total);
    cut.set(all.subarray(0, total));
    return cut;
  }
  toString(encoding = undefined, start = 0, end = this.length) { return bufferText(new Bytes(this.buffer, this.byteOffset, this.length).subarray(start, end), encoding); }
  toLocaleString(encoding = undefined) { return this.toString(encoding); }
  toJSON() { return { type: "Buffer", data: Array.from(this) }; }
  equals(other) { return host.equal(bytesOf(this), bytesOf(other)); }
  compare(other) { return Buffer.compare(this, other); }
  slice(start = undefined, end = undefined) { return this.subarray(start, end); }
  subarray(start = undefined, end = undefined) { return Buffer.#over(new Bytes(this.buffer, this.byteOffset, this.length).subarray(start, end)); }
  copy(to, at = 0, start = 0, end = this.length) {
    const piece = new Bytes(this.buffer, this.byteOffset, this.length).subarray(start, Math.min(end, start + to.length - at));
    to.set(piece, at);
    return piece.length;
  }
  write(text, offset = 0, length = undefined, encoding = undefined) {
    if (typeof offset === "string") [offset, encoding] = [0, offset];
    if (typeof length === "string") [length, encoding] = [undefined, length];
    const bytes = bufferBytes(text, encoding).subarray(0, Math.min(length ?? Infinity, this.length - offset));
    this.set(bytes, offset);
    return bytes.length;
  }
  fill(value, start = undefined, end = undefined, encoding = undefined) {
    if (typeof value !== "string") return super.fill(value, start, end);
    if (typeof start === "string") [start, encoding] = [0, start];
    const bytes = bufferBytes(value, encoding), to = end ?? this.length;
    for (let i = start ?? 0; i < to; i++) this[i] = bytes.length ? bytes[(i - (start ?? 0)) % bytes.length] : 0;
    return this;
  }
  indexOf(value, from = 0, encoding = undefined) {
    if (typeof value === "number") return super.indexOf(value & 255, from);
    return host.find(bytesOf(this), typeof value === "string" ? bufferBytes(value, encoding) : bytesOf(value), from < 0 ? Math.max(this.length + from, 0) : from);
  }
  lastIndexOf(value, from = undefined, encoding = undefined) {
    if (typeof value === "number") return super.lastIndexOf(value & 255, from ?? this.length - 1);
    if (typeof from === "string") [from, encoding] = [undefined, from];
    const sought = typeof value === "string" ? bufferBytes(value, encoding) : bytesOf(value), own = bytesOf(this);
    let at = Math.min(from === undefined ? own.length : from < 0 ? own.length + from : from, own.length - sought.length);
    for (; at >= 0; at--) if (host.equal(own.subarray(at, at + sought.length), sought)) return at;
    return -1;
  }
  includes(value, from = 0, encoding = undefined) { return this.indexOf(value, from, encoding) >= 0; }
  swap16() {
    for (let i = 0; i + 1 < this.length; i += 2) [this[i], this[i + 1]] = [this[i + 1], this[i]];
    return this;
  }
  readUIntBE(at, size) { let n = 0; for (let i = 0; i < size; i++) n = n * 256 + this[at + i]; return n; }
  readUIntLE(at, size) { let n = 0; for (let i = size; i--;) n = n * 256 + this[at + i]; return n; }
  readIntBE(at, size) { const n = this.readUIntBE(at, size); return n >= 2 ** (8 * size - 1) ? n - 2 ** (8 * size) : n; }
  readIntLE(at, size) { const n = this.readUIntLE(at, size); return n >= 2 ** (8 * size - 1) ? n - 2 ** (8 * size) : n; }
  writeUIntBE(value, at, size) { for (let i = size; i--;) this[at + i] = value & 255, value = Math.floor(value / 256); return at + size; }
  writeUIntLE(value, at, size) { for (let i = 0; i < size; i++) this[at + i] = value & 255, value = Math.floor(value / 256); return at + size; }
  writeIntBE(value, at, size) { return this.writeUIntBE(value < 0 ? value + 2 ** (8 * size) : value, at, size); }
  writeIntLE(value, at, size) { return this.writeUIntLE(value < 0 ? value + 2 ** (8 * size) : value, at, size); }
}
// readUInt16BE and the like, by DataView.
for (const [name, view, size] of [["UInt8", "Uint8", 1], ["Int8", "Int8", 1], ["UInt16", "Uint16", 2], ["Int16", "Int16", 2], ["UInt32", "Uint32", 4], ["Int32", "Int32", 4],
  ["Float", "Float32", 4], ["Double", "Float64", 8], ["BigUInt64", "BigUint64", 8], ["BigInt64", "BigInt64", 8]]) {
  for (const [end, little] of size === 1 ? [["", false]] : [["BE", false], ["LE", true]]) {
    const methods = {
      [`read${name}${end}`](at = 0) { return new DataView(this.buffer, this.byteOffset, this.length)[`get${view}`](at, little); },
      [`write${name}${end}`](value, at = 0) {
        new DataView(this.buffer, this.byteOffset, this.length)[`set${view}`](at, value, little);
        return at + size;
      },
    };
    for (const [method, value] of Object.entries(methods)) {
      for (const alias of [method, method.replace("UInt", "Uint")]) Object.defineProperty(Buffer.prototype, alias, { value, writable: true, configurable: true });
    }
  }
}
