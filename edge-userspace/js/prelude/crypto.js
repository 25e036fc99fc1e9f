// crypto: random values, digests and HMAC (Web Cryptography API). Everything else of SubtleCrypto is absent, not half there.

const HASHES = { "SHA-1": 1, "SHA-256": 2, "SHA-384": 3, "SHA-512": 4 };
const BLOCK = { "SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128 };
const unsupported = what => new DOMException(`${what} is not supported`, "NotSupportedError");
const nameOf = algorithm => `${isObject(algorithm) ? algorithm.name : algorithm}`.toUpperCase();
const hashOf = algorithm => {
  const name = nameOf(algorithm);
  if (!(name in HASHES)) throw unsupported(`the hash ${name}`);
  return name;
};
const USES = ["sign", "verify"];
const usesOf = usages => {
  const list = [...new Set([...usages].map(use => `${use}`))];
  for (const use of list) if (!USES.includes(use)) throw new DOMException(`an HMAC key cannot be used to ${use}`, "SyntaxError");
  if (!list.length) throw new DOMException("a key without uses", "SyntaxError");
  return USES.filter(use => list.includes(use));
};
const fromBase64url = text => Bytes.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), character => character.charCodeAt(0));
const toBase64url = bytes => btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

let keyData;
class CryptoKey {
  #data; #hash; #extractable; #usages;
  static {
    keyData = (key, use) => {
      if (!isObject(key) || !(#data in key)) throw new TypeError("not a CryptoKey");
      if (use && !key.#usages.includes(use)) throw new DOMException(`this key is not for ${use}`, "InvalidAccessError");
      return { data: key.#data, hash: key.#hash };
    };
  }
  constructor(token, data, hash, extractable, usages) {
    illegal(token);
    this.#data = data;
    this.#hash = hash;
    this.#extractable = extractable;
    this.#usages = usages;
  }
  get type() { return "secret"; }
  get extractable() { return this.#extractable; }
  get algorithm() { return { name: "HMAC", hash: { name: this.#hash }, length: this.#data.length * 8 }; }
  get usages() { return [...this.#usages]; }
}
const hmacOnly = algorithm => { if (nameOf(algorithm) !== "HMAC") throw unsupported(nameOf(algorithm)); };
class SubtleCrypto {
  constructor(token) { illegal(token); }
  async digest(algorithm, data) {
    required(2, arguments.length, "digest");
    return host.digest(HASHES[hashOf(algorithm)], bytesOf(data));
  }
  async importKey(format, data, algorithm, extractable, usages) {
    required(5, arguments.length, "importKey");
    hmacOnly(algorithm);
    const hash = hashOf(algorithm.hash), uses = usesOf(usages);
    let key;
    if (format === "raw" || format === "raw-secret") key = copyOf(data);
    else if (format === "jwk") {
      if (!isObject(data) || data.kty !== "oct" || typeof data.k !== "string") throw new DOMException("not a JWK of an octet sequence", "DataError");
      if (data.alg !== undefined && data.alg !== `HS${hash.slice(4)}`) throw new DOMException("the JWK is for another hash", "DataError");
      try { key = fromBase64url(data.k); } catch { throw new DOMException("the JWK's k is not base64url", "DataError"); }
    } else throw unsupported(`the format ${format}`);
    if (!key.length) throw new DOMException("an empty key", "DataError");
    return new CryptoKey(INTERNAL, key, hash, !!extractable, uses);
  }
  async exportKey(format, key) {
    required(2, arguments.length, "exportKey");
    const { data, hash } = keyData(key);
    if (!key.extractable) throw new DOMException("the key is not extractable", "InvalidAccessError");
    if (format === "raw" || format === "raw-secret") return data.slice().buffer;
    if (format === "jwk") return { kty: "oct", k: toBase64url(data), alg: `HS${hash.slice(4)}`, ext: true, key_ops: key.usages };
    throw unsupported(`the format ${format}`);
  }
  async generateKey(algorithm, extractable, usages) {
    required(3, arguments.length, "generateKey");
    hmacOnly(algorithm);
    const hash = hashOf(algorithm.hash), uses = usesOf(usages);
    const bits = algorithm.length === undefined ? BLOCK[hash] * 8 : +algorithm.length;
    if (!(bits > 0 && bits <= 65536 && bits % 8 === 0)) throw new DOMException("the length is not a number of whole bytes", "OperationError");
    whileLive("generateKey");
    const key = new Bytes(bits / 8);
    host.random(key);
    return new CryptoKey(INTERNAL, key, hash, !!extractable, uses);
  }
  async sign(algorithm, key, data) {
    required(3, arguments.length, "sign");
    hmacOnly(algorithm);
    const { data: secret, hash } = keyData(key, "sign");
    return host.hmac(HASHES[hash], secret, bytesOf(data));
  }
  async verify(algorithm, key, signature, data) {
    required(4, arguments.length, "verify");
    hmacOnly(algorithm);
    const { data: secret, hash } = keyData(key, "verify");
    return host.equal(new Bytes(host.hmac(HASHES[hash], secret, bytesOf(data))), bytesOf(signature));
  }
}
const INTEGERS = /^(?:Big)?(?:Ui|I)nt(?:8|16|32|64)(?:Clamped)?Array$/;
const typedName = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get;
class Crypto {
  #subtle = new SubtleCrypto(INTERNAL);
  constructor(token) { illegal(token); }
  get subtle() { return this.#subtle; }
  getRandomValues(array) {
    if (!INTEGERS.test(typedName.call(array))) throw new DOMException("getRandomValues: not an array of integers", "TypeMismatchError");
    const bytes = bytesOf(array);
    if (bytes.length > 65536) throw new DOMException("getRandomValues: more than 65536 bytes", "QuotaExceededError");
    whileLive("getRandomValues");
    host.random(bytes);
    return array;
  }
  randomUUID() {
    whileLive("randomUUID");
    const bytes = new Bytes(16);
    host.random(bytes);
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    let text = "";
    for (let i = 0; i < 16; i++) text += (i === 4 || i === 6 || i === 8 || i === 10 ? "-" : "") + (bytes[i] < 16 ? "0" : "") + bytes[i].toString(16);
    return text;
  }
}
interfaces({ Crypto, SubtleCrypto, CryptoKey });
expose("crypto", new Crypto(INTERNAL));
