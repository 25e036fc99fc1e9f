// TextEncoder, TextDecoder and their streams' transformers (Encoding standard): UTF-8 and UTF-16; other labels are a RangeError.

const LABELS = { "utf-16le": ["csunicode", "iso-10646-ucs-2", "ucs-2", "unicode", "unicodefeff", "utf-16", "utf-16le"],
  "utf-16be": ["unicodefffe", "utf-16be"], "utf-8": ["unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "utf-8", "utf8", "x-unicode20utf8"] };
const encodings = new Map();
for (const [name, labels] of Object.entries(LABELS)) for (const label of labels) encodings.set(label, name);
const NUMBERS = { "utf-8": 0, "utf-16le": 1, "utf-16be": 2 };

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
  #encoding; #fatal; #ignoreBOM; #kept = NOTHING; #started = false;
  constructor(label = "utf-8", init = undefined) {
    const name = encodings.get(`${label}`.replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, "").toLowerCase());
    const options = dictionary(init, "the options");
    if (!name) throw new RangeError(`TextDecoder: no such encoding here: ${label}`);
    this.#encoding = name;
    this.#fatal = !!options.fatal;
    this.#ignoreBOM = !!options.ignoreBOM;
  }
  get encoding() { return this.#encoding; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#ignoreBOM; }
  decode(input = undefined, options = undefined) {
    const more = !!dictionary(options, "the options").stream;
    let bytes = input === undefined ? NOTHING : bytesOf(input);
    if (this.#kept.length) {
      const joined = new Bytes(this.#kept.length + bytes.length);
      joined.set(this.#kept);
      joined.set(bytes, this.#kept.length);
      bytes = joined;
    }
    const result = host.decode(bytes, NUMBERS[this.#encoding], this.#fatal, more);
    if (!result) {
      this.#kept = NOTHING;
      this.#started = false;
      throw new TypeError(`TextDecoder: the data is not ${this.#encoding}`);
    }
    let [text, used] = result;
    this.#kept = used < bytes.length ? bytes.slice(used) : NOTHING;
    if (!this.#started && text.length) {
      if (!this.#ignoreBOM && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
      this.#started = true;
    }
    if (!more) this.#started = false;
    return text;
  }
}
interfaces({ TextEncoder, TextDecoder });
