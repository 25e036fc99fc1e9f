// TextEncoder and TextDecoder (Encoding standard). UTF-8 and UTF-16 are read here, the other encodings by the host (services.rs).

const UNICODE = { "utf-16le": ["csunicode", "iso-10646-ucs-2", "ucs-2", "unicode", "unicodefeff", "utf-16", "utf-16le"],
  "utf-16be": ["unicodefffe", "utf-16be"], "utf-8": ["unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "utf-8", "utf8", "x-unicode20utf8"] };
const encodings = new Map();
for (const [name, labels] of Object.entries(UNICODE)) for (const label of labels) encodings.set(label, name);
const NUMBERS = { "utf-8": 0, "utf-16le": 1, "utf-16be": 2 }, DECODE = 21, LABEL = 22;
// How long a character of an encoding can be: as much of a chunk's end may have to wait for the next chunk. One byte where it is not named.
const LONGEST_CHARACTER = { "big5": 2, "euc-jp": 3, "euc-kr": 2, "gb18030": 4, "gbk": 4, "iso-2022-jp": Infinity, "shift_jis": 2 };

class TextEncoder {
  get encoding() { return "utf-8"; }
  encode(input = "") { return host.encode(`${input}`); }
  encodeInto(source, destination) {
    required(2, arguments.length, "TextEncoder.encodeInto");
    source = usv(source);
    if (!(host.view(destination) && destination instanceof Bytes)) throw new TypeError("encodeInto: the destination is not a Uint8Array");
    const room = bytesOf(destination);
    let read = 0, written = 0;
    // As much as fits, by whole characters; the common case is that all does.
    const all = host.encode(source);
    if (all.length <= room.length) {
      room.set(all);
      return { read: source.length, written: all.length };
    }
    for (const character of source) {
      const code = character.codePointAt(0), size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      if (written + size > room.length) break;
      written += size;
      read += character.length;
    }
    room.set(all.subarray(0, written));
    return { read, written };
  }
}
class TextDecoder {
  #encoding; #number; #fatal; #ignoreBOM; #kept = NOTHING; #started = false;
  constructor(label = "utf-8", init = undefined) {
    const trimmed = `${label}`.replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, "").toLowerCase(), options = dictionary(init, "the options");
    let name = encodings.get(trimmed);
    if (!name) {
      const found = host.call(LABEL, 0, 0, trimmed);
      if (typeof found === "number") throw new RangeError(`TextDecoder: no such encoding: ${label}`);
      this.#number = found[0];
      name = host.text(found.subarray(1));
    }
    this.#encoding = name;
    this.#fatal = !!options.fatal;
    this.#ignoreBOM = !!options.ignoreBOM;
  }
  get encoding() { return this.#encoding; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#ignoreBOM; }
  // [text, bytes read], or null: malformed.
  #read(bytes, more) {
    if (this.#number === undefined) return host.decode(bytes, NUMBERS[this.#encoding], this.#fatal, more);
    const longest = LONGEST_CHARACTER[this.#encoding] ?? 1;
    // A character that is cut off at the end: with fewer bytes it can be read. With state across characters, only the whole can be.
    for (let cut = 0; cut < (more ? Math.min(longest, bytes.length + 1) : 1); cut++) {
      if (more && longest === Infinity) return ["", 0];
      const strict = more && cut < longest - 1, made = host.call(DECODE, this.#number, strict || this.#fatal ? 1 : 0, bytes.subarray(0, bytes.length - cut));
      if (typeof made !== "number") return [host.text(made, true), bytes.length - cut];
    }
    if (this.#fatal) return null;
    return [host.text(host.call(DECODE, this.#number, 0, bytes), true), bytes.length];
  }
  decode(input = undefined, options = undefined) {
    const more = !!dictionary(options, "the options").stream;
    let bytes = input === undefined ? NOTHING : bytesOf(input);
    if (this.#kept.length) {
      const joined = new Bytes(this.#kept.length + bytes.length);
      joined.set(this.#kept);
      joined.set(bytes, this.#kept.length);
      bytes = joined;
    }
    const result = this.#read(bytes, more);
    if (!result) {
      this.#kept = NOTHING;
      this.#started = false;
      throw new TypeError(`TextDecoder: the data is not ${this.#encoding}`);
    }
    let [text, used] = result;
    this.#kept = used < bytes.length ? bytes.slice(used) : NOTHING;
    if (!this.#started && text.length) {
      if (this.#number === undefined && !this.#ignoreBOM && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
      this.#started = true;
    }
    if (!more) this.#started = false;
    return text;
  }
}
interfaces({ TextEncoder, TextDecoder });
