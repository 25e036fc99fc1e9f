// crypto (Web Cryptography API): keys, their formats and uses; the arithmetic is the host's (services.rs). Names of algorithms without an
// entry in ALGORITHMS are not supported, and so are hashes that an algorithm cannot use.

const HASHES = { "SHA-1": 1, "SHA-256": 2, "SHA-384": 3, "SHA-512": 4 };
const BLOCK = { "SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128 };
const CURVES = { "P-256": { number: 1, size: 32 }, "P-384": { number: 2, size: 48 }, "P-521": { number: 3, size: 66 } };
const DIGEST = 1, HMAC = 2, PBKDF2 = 3, HKDF = 4, GCM = 5, CBC = 6, CTR = 7, KW = 8, RSA_SIGN = 9, RSA_VERIFY = 10, OAEP = 11, EC_SIGN = 12, EC_VERIFY = 13,
  AGREE = 14, ED_SIGN = 15, ED_VERIFY = 16, GENERATE = 17, PUBLIC = 18, POINT = 19;
const unsupported = what => new DOMException(`${what} is not supported`, "NotSupportedError");
const operationFailed = what => new DOMException(`${what} failed`, "OperationError");
// Bytes, or the exception that the host's code stands for.
const compute = (what, ...rest) => {
  const made = host.call(...rest);
  if (typeof made !== "number") return made;
  if (made === -19) throw badKey(`${what}: the key is none`);
  if (made === -20) throw unsupported(`${what} with these parameters`);
  throw operationFailed(what);
};
const algorithmOf = algorithm => {
  if (typeof algorithm === "string" || !isObject(algorithm)) algorithm = { name: algorithm };
  const given = `${algorithm.name}`, known = NAMES.get(given.toUpperCase());
  if (!known) throw unsupported(`the algorithm ${given}`);
  return { of: algorithm, name: known, ...ALGORITHMS[known] };
};
const hashOf = algorithm => {
  if (algorithm === undefined) throw new TypeError("the algorithm has no hash");
  const name = `${isObject(algorithm) ? algorithm.name : algorithm}`.toUpperCase();
  if (!(name in HASHES)) throw unsupported(`the hash ${name}`);
  return name;
};
const curveOf = algorithm => {
  const name = `${algorithm.namedCurve}`;
  if (!(name in CURVES)) throw unsupported(`the curve ${name}`);
  return name;
};
const ORDER = ["encrypt", "decrypt", "sign", "verify", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"];
const usesOf = (usages, allowed) => {
  const list = new Set([...usages].map(use => `${use}`));
  for (const use of list) {
    if (!ORDER.includes(use)) throw new TypeError(`no such use: ${use}`);
    if (!allowed.includes(use)) throw new DOMException(`such a key cannot be used to ${use}`, "SyntaxError");
  }
  return ORDER.filter(use => list.has(use));
};
const BASE64URL = /^[A-Za-z0-9_-]*$/;
const fromBase64url = (text, what) => {
  if (typeof text !== "string" || !BASE64URL.test(text)) throw badKey(`the JWK's ${what} is not base64url`);
  try { return Bytes.fromBase64(text, { alphabet: "base64url" }); } catch { throw badKey(`the JWK's ${what} is not base64url`); }
};
const toBase64url = bytes => bytes.toBase64({ alphabet: "base64url", omitPadding: true });
const fixed = (bytes, size) => {
  if (bytes.length === size) return bytes;
  if (bytes.length > size) throw badKey("a number of the key is too long");
  const padded = new Bytes(size);
  padded.set(bytes, size - bytes.length);
  return padded;
};

let keyOf, makeKey;
class CryptoKey {
  #type; #algorithm; #extractable; #usages; #data;
  static {
    makeKey = (type, algorithm, extractable, usages, data) => {
      const key = new CryptoKey(INTERNAL);
      key.#type = type;
      key.#algorithm = algorithm;
      key.#extractable = extractable;
      key.#usages = usages;
      key.#data = data;
      return key;
    };
    keyOf = (key, name, use) => {
      if (!isObject(key) || !(#data in key)) throw new TypeError("not a CryptoKey");
      if (name && key.#algorithm.name !== name) throw new DOMException(`the key is for ${key.#algorithm.name}`, "InvalidAccessError");
      if (use && !key.#usages.includes(use)) throw new DOMException(`this key is not for ${use}`, "InvalidAccessError");
      return { type: key.#type, algorithm: key.#algorithm, extractable: key.#extractable, usages: key.#usages, data: key.#data };
    };
  }
  constructor(token) { illegal(token); }
  get type() { return this.#type; }
  get extractable() { return this.#extractable; }
  get algorithm() { return this.#algorithm; }
  get usages() { return this.#usages; }
}
const secret = (format, data, jwkAlg) => {
  if (format === "raw" || format === "raw-secret") return copyOf(data);
  if (format !== "jwk") throw unsupported(`the format ${format}`);
  if (data.kty !== "oct") throw badKey("not a JWK of an octet sequence");
  const key = fromBase64url(data.k, "k"), alg = jwkAlg(key);
  if (data.alg !== undefined && alg && data.alg !== alg) throw badKey("the JWK is for another algorithm");
  return key;
};
const exportSecret = (format, { data, usages, extractable }, alg) => {
  if (format === "raw" || format === "raw-secret") return data.slice().buffer;
  if (format === "jwk") return { key_ops: usages, ext: extractable, kty: "oct", k: toBase64url(data), ...(alg ? { alg } : {}) };
  throw unsupported(`the format ${format}`);
};
const aes = (name, alg, uses) => ({
  uses,
  generate(of) {
    const length = +of.length;
    if (![128, 192, 256].includes(length)) throw operationFailed(`a key of ${of.length} bits`);
    const key = new Bytes(length / 8);
    host.random(key);
    return { type: "secret", algorithm: { name, length }, data: key };
  },
  import(format, data) {
    const key = secret(format, data, bytes => `A${bytes.length * 8}${alg}`);
    if (![16, 24, 32].includes(key.length)) throw badKey("an AES key has 128, 192 or 256 bits");
    return { type: "secret", algorithm: { name, length: key.length * 8 }, data: key };
  },
  export: (format, key) => exportSecret(format, key, `A${key.data.length * 8}${alg}`),
  length: of => {
    if (![128, 192, 256].includes(+of.length)) throw operationFailed(`a key of ${of.length} bits`);
    return +of.length;
  },
});
const ENCRYPT = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];
const asymmetric = (forPublic, forPrivate) => ({ uses: [...forPublic, ...forPrivate], forPublic, forPrivate });
const rsaAlgorithm = (name, n, e, hash) => ({ name, modulusLength: (n.length - 1) * 8 + (32 - Math.clz32(n[0])), publicExponent: e.slice(), hash: { name: hash } });
const rsa = (name, uses, alg) => ({
  ...uses,
  async generate(of) {
    const hash = hashOf(of.hash), bits = +of.modulusLength, e = copyOf(of.publicExponent);
    if (!(e.length >= 3 && e.at(-1) === 1 && e.at(-2) === 0 && e.at(-3) === 1)) throw unsupported("a public exponent other than 65537");
    const parts = readRsaPrivate(readPkcs8("rsa", compute("generateKey", GENERATE, 6, bits)));
    const algorithm = rsaAlgorithm(name, parts.n, parts.e, hash);
    return [{ type: "public", algorithm, data: rsaPublicOf(parts) }, { type: "private", algorithm, data: rsaPrivateOf(parts) }];
  },
  import(format, data, of) {
    const hash = hashOf(of.hash);
    let key = null, parts;
    if (format === "spki") parts = readRsaPublic(readSpki("rsa", bytesOf(data)));
    else if (format === "pkcs8") parts = readRsaPrivate(readPkcs8("rsa", bytesOf(data)));
    else if (format === "jwk") {
      if (data.kty !== "RSA") throw badKey("not a JWK of an RSA key");
      if (data.alg !== undefined && data.alg !== alg(hash)) throw badKey("the JWK is for another algorithm");
      if (data.oth !== undefined) throw unsupported("an RSA key of more than two primes");
      parts = {};
      for (const part of data.d === undefined ? ["n", "e"] : RSA_PARTS) parts[part] = fromBase64url(data[part], part);
    } else throw unsupported(`the format ${format}`);
    if (parts.n.length > 1024) throw badKey("an RSA key of more than 8192 bits");
    key = parts.d ? rsaPrivateOf(parts) : rsaPublicOf(parts);
    return { type: parts.d ? "private" : "public", algorithm: rsaAlgorithm(name, readRsaPublic(rsaPublicOf(parts)).n, parts.e, hash), data: key };
  },
  export(format, { type, data, algorithm, usages, extractable }) {
    if (format === "spki" && type === "public") return spkiOf("rsa", data).buffer;
    if (format === "pkcs8" && type === "private") return pkcs8Of("rsa", data).buffer;
    if (format === "jwk") {
      const parts = type === "public" ? readRsaPublic(data) : readRsaPrivate(data);
      return { key_ops: usages, ext: extractable, kty: "RSA", ...Object.fromEntries(Object.entries(parts).map(([part, bytes]) => [part, toBase64url(bytes)])), alg: alg(algorithm.hash.name) };
    }
    throw format === "spki" || format === "pkcs8" ? new DOMException(`a ${type} key is not exported as ${format}`, "InvalidAccessError") : unsupported(`the format ${format}`);
  },
});
const rsaSigning = (padding, alg) => (name => ({
  ...rsa(name, asymmetric(["verify"], ["sign"]), alg),
  sign(of, { data, algorithm }, message) { return compute("sign", RSA_SIGN, salted(padding, of, algorithm), HASHES[algorithm.hash.name], data, message); },
  verify(of, { data, algorithm }, signature, message) { return compute("verify", RSA_VERIFY, salted(padding, of, algorithm), HASHES[algorithm.hash.name], data, signature, message)[0] === 1; },
}));
// AWS-LC signs with a salt as long as the hash, as nearly everybody does.
const salted = (padding, of, { hash }) => {
  if (padding === 2) {
    const length = +of.saltLength, own = { "SHA-1": 20, "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 }[hash.name];
    if (length !== own) throw unsupported(`a salt of ${of.saltLength} bytes with ${hash.name}`);
  }
  return padding;
};
const ec = (name, uses) => ({
  ...uses,
  generate(of) {
    const namedCurve = curveOf(of), { number, size } = CURVES[namedCurve], pair = compute("generateKey", GENERATE, number, 0), algorithm = { name, namedCurve };
    const point = pair.slice(size);
    return [{ type: "public", algorithm, data: point }, { type: "private", algorithm, data: { scalar: pair.slice(0, size), point } }];
  },
  import(format, data, of) {
    const namedCurve = curveOf(of), { number, size } = CURVES[namedCurve], algorithm = { name, namedCurve };
    let point = null, scalar = null;
    if (format === "raw" || format === "raw-public") point = copyOf(data);
    else if (format === "spki") point = readSpki(namedCurve, bytesOf(data));
    else if (format === "pkcs8") ({ scalar, point } = readEcPrivate(readPkcs8(namedCurve, bytesOf(data))));
    else if (format === "jwk") {
      if (data.kty !== "EC" || data.crv !== namedCurve) throw badKey("not a JWK of an EC key of this curve");
      if (name === "ECDSA" && data.alg !== undefined && data.alg !== `ES${{ "P-256": 256, "P-384": 384, "P-521": 512 }[namedCurve]}`) throw badKey("the JWK is for another algorithm");
      const x = fromBase64url(data.x, "x"), y = fromBase64url(data.y, "y");
      if (x.length !== size || y.length !== size) throw badKey("a coordinate of the JWK has the wrong length");
      point = joined([Bytes.of(4), x, y]);
      if (data.d !== undefined) scalar = fromBase64url(data.d, "d");
    } else throw unsupported(`the format ${format}`);
    if (scalar) {
      scalar = fixed(scalar, size);
      const own = compute("importKey", PUBLIC, number, 0, scalar);
      if (point && !host.equal(own, point)) throw badKey("the public key is not the private one's");
      return { type: "private", algorithm, data: { scalar, point: own } };
    }
    compute("importKey", POINT, number, 0, point);
    return { type: "public", algorithm, data: point };
  },
  export(format, { type, data, algorithm, usages, extractable }) {
    const { namedCurve } = algorithm, { size } = CURVES[namedCurve], point = type === "public" ? data : data.point;
    if ((format === "raw" || format === "raw-public") && type === "public") return point.slice().buffer;
    if (format === "spki" && type === "public") return spkiOf(namedCurve, point).buffer;
    if (format === "pkcs8" && type === "private") return pkcs8Of(namedCurve, ecPrivateOf(data.scalar, point)).buffer;
    if (format !== "jwk") throw ["raw", "spki", "pkcs8"].includes(format) ? new DOMException(`a ${type} key is not exported as ${format}`, "InvalidAccessError") : unsupported(`the format ${format}`);
    const jwk = { key_ops: usages, ext: extractable, kty: "EC", x: toBase64url(point.subarray(1, 1 + size)), y: toBase64url(point.subarray(1 + size)), crv: namedCurve };
    return type === "private" ? { ...jwk, d: toBase64url(data.scalar) } : jwk;
  },
});
const edwards = (name, number, uses) => ({
  ...uses,
  generate() {
    const pair = compute("generateKey", GENERATE, number, 0), algorithm = { name }, point = pair.slice(32);
    return [{ type: "public", algorithm, data: point }, { type: "private", algorithm, data: { scalar: pair.slice(0, 32), point } }];
  },
  import(format, data) {
    const algorithm = { name };
    let point = null, scalar = null;
    if (format === "raw" || format === "raw-public") point = copyOf(data);
    else if (format === "spki") point = readSpki(name, bytesOf(data));
    else if (format === "pkcs8") {
      const inner = new DerReader(readPkcs8(name, bytesOf(data)));
      scalar = inner.read(4).slice();
      inner.end();
    } else if (format === "jwk") {
      if (data.kty !== "OKP" || data.crv !== name) throw badKey(`not a JWK of ${name}`);
      if (data.alg !== undefined && name === "Ed25519" && data.alg !== "EdDSA" && data.alg !== "Ed25519") throw badKey("the JWK is for another algorithm");
      point = fromBase64url(data.x, "x");
      if (data.d !== undefined) scalar = fromBase64url(data.d, "d");
    } else throw unsupported(`the format ${format}`);
    if (scalar) {
      if (scalar.length !== 32) throw badKey("the private key has not 32 bytes");
      const own = compute("importKey", PUBLIC, number, 0, scalar);
      if (point && !host.equal(own, point)) throw badKey("the public key is not the private one's");
      return { type: "private", algorithm, data: { scalar, point: own } };
    }
    compute("importKey", POINT, number, 0, point);
    return { type: "public", algorithm, data: point };
  },
  export(format, { type, data, usages, extractable }) {
    const point = type === "public" ? data : data.point;
    if ((format === "raw" || format === "raw-public") && type === "public") return point.slice().buffer;
    if (format === "spki" && type === "public") return spkiOf(name, point).buffer;
    if (format === "pkcs8" && type === "private") return pkcs8Of(name, der(4, data.scalar)).buffer;
    if (format !== "jwk") throw ["raw", "spki", "pkcs8"].includes(format) ? new DOMException(`a ${type} key is not exported as ${format}`, "InvalidAccessError") : unsupported(`the format ${format}`);
    const jwk = { key_ops: usages, ext: extractable, crv: name, x: toBase64url(point), kty: "OKP", ...(name === "Ed25519" ? { alg: "Ed25519" } : {}) };
    return type === "private" ? { ...jwk, d: toBase64url(data.scalar) } : jwk;
  },
});
const deriving = name => ({
  uses: ["deriveKey", "deriveBits"],
  import(format, data, of, extractable) {
    if (format !== "raw" && format !== "raw-secret") throw unsupported(`the format ${format}`);
    if (extractable) throw new DOMException(`a key for ${name} is not extractable`, "SyntaxError");
    return { type: "secret", algorithm: { name }, data: copyOf(data) };
  },
  length: () => null,
});
const wholeBytes = length => {
  if (length === null || length === undefined || length % 8) throw operationFailed(`deriving ${length} bits`);
  return length / 8;
};
const agreed = (key, peer, bits, number) => {
  const shared = compute("deriveBits", AGREE, number, 0, key.data.scalar, peer);
  if (bits === null || bits === undefined) return shared;
  if (bits > shared.length * 8) throw operationFailed(`deriving ${bits} bits`);
  const cut = shared.slice(0, Math.ceil(bits / 8));
  if (bits % 8) cut[cut.length - 1] &= 0xff << (8 - (bits % 8));
  return cut;
};
const peerOf = (of, key) => {
  const peer = keyOf(of.public, key.algorithm.name);
  if (peer.type !== "public" || peer.algorithm.namedCurve !== key.algorithm.namedCurve) throw new DOMException("the other key is not a public one of the same kind", "InvalidAccessError");
  return peer.data;
};
// Bytes of the tag (SP 800-38D, section 5.2.1.2).
const tagOf = of => {
  const bits = of.tagLength === undefined ? 128 : +of.tagLength;
  if (![32, 64, 96, 104, 112, 120, 128].includes(bits)) throw operationFailed(`a tag of ${of.tagLength} bits`);
  return bits / 8;
};
const seal = (of, key, text) => compute("encrypt", GCM, 0, 0, key, part(of, "iv"), optional(of.additionalData), text);
// The host knows whole tags: of a shorter one the text is decrypted by itself, and sealed again to compare.
const openShort = (of, key, sealed, size) => {
  const length = sealed.length - size, iv = part(of, "iv");
  if (length < 0) throw operationFailed("a text without its tag");
  if (iv.length !== 12) throw unsupported(`an iv of ${iv.length} bytes`);
  const text = compute("decrypt", CTR, 0, 32, key, joined([iv, Bytes.of(0, 0, 0, 2)]), sealed.subarray(0, length));
  if (!host.equal(seal(of, key, text).subarray(length, length + size), sealed.subarray(length))) throw operationFailed("a text that was changed");
  return text;
};
const part = (of, name) => {
  if (of[name] === undefined) throw new TypeError(`the algorithm has no ${name}`);
  return bytesOf(of[name]);
};
const optional = of => (of === undefined || of === null ? NOTHING : bytesOf(of));
const rsAlg = prefix => hash => (hash === "SHA-1" ? `${prefix}1` : `${prefix}${hash.slice(4)}`);
const ALGORITHMS = {
  "HMAC": {
    uses: ["sign", "verify"],
    generate(of) {
      const hash = hashOf(of.hash), bits = of.length === undefined ? BLOCK[hash] * 8 : +of.length;
      if (!(bits > 0 && bits <= 65536)) throw operationFailed(`a key of ${of.length} bits`);
      const key = new Bytes(Math.ceil(bits / 8));
      host.random(key);
      return { type: "secret", algorithm: { name: "HMAC", hash: { name: hash }, length: bits }, data: key };
    },
    import(format, data, of) {
      const hash = hashOf(of.hash), key = secret(format, data, () => rsAlg("HS")(hash)), bits = of.length === undefined ? key.length * 8 : +of.length;
      if (!key.length) throw badKey("an empty key");
      if (!(bits > key.length * 8 - 8 && bits <= key.length * 8)) throw badKey("the key has another length");
      return { type: "secret", algorithm: { name: "HMAC", hash: { name: hash }, length: bits }, data: key };
    },
    export: (format, key) => exportSecret(format, key, rsAlg("HS")(key.algorithm.hash.name)),
    length: of => (of.length === undefined ? BLOCK[hashOf(of.hash)] * 8 : +of.length),
    sign: (of, { data, algorithm }, message) => compute("sign", HMAC, HASHES[algorithm.hash.name], 0, data, message),
    verify: (of, { data, algorithm }, signature, message) => host.equal(compute("verify", HMAC, HASHES[algorithm.hash.name], 0, data, message), signature),
  },
  "AES-GCM": {
    ...aes("AES-GCM", "GCM", ENCRYPT),
    encrypt(of, { data }, text) {
      const size = tagOf(of), sealed = seal(of, data, text);
      return size === 16 ? sealed : sealed.slice(0, text.length + size);
    },
    decrypt(of, { data }, text) {
      const size = tagOf(of);
      return size === 16 ? compute("decrypt", GCM, 1, 0, data, part(of, "iv"), optional(of.additionalData), text) : openShort(of, data, text, size);
    },
  },
  "AES-CBC": {
    ...aes("AES-CBC", "CBC", ENCRYPT),
    encrypt: (of, { data }, text) => compute("encrypt", CBC, 0, 0, data, part(of, "iv"), text),
    decrypt: (of, { data }, text) => compute("decrypt", CBC, 1, 0, data, part(of, "iv"), text),
  },
  "AES-CTR": {
    ...aes("AES-CTR", "CTR", ENCRYPT),
    encrypt: (of, { data }, text) => compute("encrypt", CTR, 0, +of.length, data, part(of, "counter"), text),
    decrypt: (of, { data }, text) => compute("decrypt", CTR, 0, +of.length, data, part(of, "counter"), text),
  },
  "AES-KW": {
    ...aes("AES-KW", "KW", ["wrapKey", "unwrapKey"]),
    wrap: (of, { data }, key) => compute("wrapKey", KW, 0, 0, data, key),
    unwrap: (of, { data }, key) => compute("unwrapKey", KW, 1, 0, data, key),
  },
  "RSASSA-PKCS1-v1_5": rsaSigning(1, rsAlg("RS"))("RSASSA-PKCS1-v1_5"),
  "RSA-PSS": rsaSigning(2, rsAlg("PS"))("RSA-PSS"),
  "RSA-OAEP": {
    ...rsa("RSA-OAEP", asymmetric(["encrypt", "wrapKey"], ["decrypt", "unwrapKey"]), hash => (hash === "SHA-1" ? "RSA-OAEP" : `RSA-OAEP-${hash.slice(4)}`)),
    encrypt: (of, { data, algorithm }, text) => compute("encrypt", OAEP, 0, HASHES[algorithm.hash.name], spkiOf("rsa", data), optional(of.label), text),
    decrypt: (of, { data, algorithm }, text) => compute("decrypt", OAEP, 1, HASHES[algorithm.hash.name], pkcs8Of("rsa", data), optional(of.label), text),
  },
  "ECDSA": {
    ...ec("ECDSA", asymmetric(["verify"], ["sign"])),
    sign: (of, { data, algorithm }, message) => compute("sign", EC_SIGN, CURVES[algorithm.namedCurve].number, HASHES[hashOf(of.hash)], data.scalar, data.point, message),
    verify: (of, { data, algorithm }, signature, message) => compute("verify", EC_VERIFY, CURVES[algorithm.namedCurve].number, HASHES[hashOf(of.hash)], data, signature, message)[0] === 1,
  },
  "ECDH": {
    ...ec("ECDH", asymmetric([], ["deriveKey", "deriveBits"])),
    derive: (of, key, bits) => agreed(key, peerOf(of, key), bits, CURVES[key.algorithm.namedCurve].number),
  },
  "Ed25519": {
    ...edwards("Ed25519", 5, asymmetric(["verify"], ["sign"])),
    sign: (of, { data }, message) => compute("sign", ED_SIGN, 0, 0, data.scalar, message),
    verify: (of, { data }, signature, message) => compute("verify", ED_VERIFY, 0, 0, data, signature, message)[0] === 1,
  },
  "X25519": {
    ...edwards("X25519", 4, asymmetric([], ["deriveKey", "deriveBits"])),
    derive: (of, key, bits) => agreed(key, peerOf(of, key), bits, 4),
  },
  "PBKDF2": {
    ...deriving("PBKDF2"),
    derive(of, { data }, bits) {
      const length = wholeBytes(bits), rounds = +of.iterations;
      if (!(rounds >= 1 && rounds <= 0x7fffffff)) throw operationFailed(`${of.iterations} iterations`);
      return compute("deriveBits", PBKDF2, HASHES[hashOf(of.hash)], rounds, data, part(of, "salt"), `${length}`);
    },
  },
  "HKDF": {
    ...deriving("HKDF"),
    derive: (of, { data }, bits) => compute("deriveBits", HKDF, HASHES[hashOf(of.hash)], wholeBytes(bits), data, part(of, "salt"), part(of, "info")),
  },
};
const NAMES = new Map(Object.keys(ALGORITHMS).map(name => [name.toUpperCase(), name]));
const finished = ({ type, algorithm, data }, extractable, usages) => makeKey(type, Object.freeze(algorithm), extractable, Object.freeze(usages), data);
const can = (algorithm, what) => {
  if (!algorithm[what]) throw unsupported(`${what} by ${algorithm.name}`);
  return algorithm;
};
const KEY_FORMATS = new Set(["raw", "spki", "pkcs8", "jwk", "raw-public", "raw-private", "raw-seed", "raw-secret"]);
const formatOf = value => {
  const format = `${value}`;
  if (!KEY_FORMATS.has(format)) throw new TypeError(`no such format of keys: ${format}`);
  return format;
};
class SubtleCrypto {
  constructor(token) { illegal(token); }
  async digest(algorithm, data) {
    required(2, arguments.length, "digest");
    const number = HASHES[hashOf(algorithm)];
    return compute("digest", DIGEST, number, 0, bytesOf(data)).buffer;
  }
  async importKey(format, data, algorithm, extractable, usages) {
    required(5, arguments.length, "importKey");
    format = formatOf(format);
    const known = can(algorithmOf(algorithm), "import");
    if (format === "jwk" ? !isObject(data) || isBufferSource(data) : !isBufferSource(data)) throw new TypeError("importKey: the key is not of this format");
    const made = known.import(format, data, known.of, !!extractable);
    const uses = usesOf(usages, made.type === "public" ? known.forPublic : made.type === "private" ? known.forPrivate : known.uses);
    if (made.type !== "public" && !uses.length) throw new DOMException("a key without uses", "SyntaxError");
    if (format === "jwk") {
      if (data.key_ops !== undefined && (!Array.isArray(data.key_ops) || uses.some(use => !data.key_ops.includes(use)))) throw badKey("the JWK is for other uses");
      if (data.ext === false && extractable) throw badKey("the JWK is not extractable");
      if (data.use !== undefined && uses.length && data.use !== (uses.some(use => use === "sign" || use === "verify") ? "sig" : "enc")) throw badKey("the JWK is for another use");
    }
    return finished(made, made.type === "public" || !!extractable, uses);
  }
  async exportKey(format, key) {
    required(2, arguments.length, "exportKey");
    format = formatOf(format);
    const held = keyOf(key), known = can({ name: held.algorithm.name, ...ALGORITHMS[held.algorithm.name] }, "export");
    if (!held.extractable) throw new DOMException("the key is not extractable", "InvalidAccessError");
    return known.export(format, held);
  }
  async generateKey(algorithm, extractable, usages) {
    required(3, arguments.length, "generateKey");
    const known = can(algorithmOf(algorithm), "generate"), uses = usesOf(usages, known.uses);
    whileLive("generateKey");
    const made = await known.generate(known.of);
    const of = allowed => uses.filter(use => allowed.includes(use));
    if (!Array.isArray(made)) {
      if (!uses.length) throw new DOMException("a key without uses", "SyntaxError");
      return finished(made, !!extractable, uses);
    }
    if (!of(known.forPrivate).length) throw new DOMException("a private key without uses", "SyntaxError");
    return { publicKey: finished(made[0], true, of(known.forPublic)), privateKey: finished(made[1], !!extractable, of(known.forPrivate)) };
  }
  async #with(what, use, algorithm, key, ...data) {
    const known = can(algorithmOf(algorithm), what), held = keyOf(key, known.name, use);
    if (known.forPublic && held.type !== (known.forPublic.includes(use) ? "public" : "private")) throw new DOMException(`a ${held.type} key cannot ${use}`, "InvalidAccessError");
    return known[what](known.of, held, ...data);
  }
  async sign(algorithm, key, data) {
    required(3, arguments.length, "sign");
    return (await this.#with("sign", "sign", algorithm, key, bytesOf(data))).buffer;
  }
  async verify(algorithm, key, signature, data) {
    required(4, arguments.length, "verify");
    return this.#with("verify", "verify", algorithm, key, bytesOf(signature), bytesOf(data));
  }
  async encrypt(algorithm, key, data) {
    required(3, arguments.length, "encrypt");
    return (await this.#with("encrypt", "encrypt", algorithm, key, bytesOf(data))).buffer;
  }
  async decrypt(algorithm, key, data) {
    required(3, arguments.length, "decrypt");
    return (await this.#with("decrypt", "decrypt", algorithm, key, bytesOf(data))).buffer;
  }
  async deriveBits(algorithm, key, length = null) {
    required(2, arguments.length, "deriveBits");
    return (await this.#with("derive", "deriveBits", algorithm, key, length === null ? null : +length)).buffer;
  }
  async deriveKey(algorithm, base, derived, extractable, usages) {
    required(5, arguments.length, "deriveKey");
    const known = algorithmOf(derived), length = can(known, "length").length(known.of);
    const bits = await this.#with("derive", "deriveKey", algorithm, base, length);
    return this.importKey("raw", bits, derived, extractable, usages);
  }
  async wrapKey(format, key, wrapping, algorithm) {
    required(4, arguments.length, "wrapKey");
    const known = algorithmOf(algorithm), exported = await this.exportKey(format, key);
    const bytes = format === "jwk" ? host.encode(JSON.stringify(exported)) : new Bytes(exported);
    return (await this.#with(known.wrap ? "wrap" : "encrypt", "wrapKey", algorithm, wrapping, bytes)).buffer;
  }
  async unwrapKey(format, wrapped, unwrapping, algorithm, of, extractable, usages) {
    required(7, arguments.length, "unwrapKey");
    format = formatOf(format);
    const known = algorithmOf(algorithm);
    const bytes = await this.#with(known.unwrap ? "unwrap" : "decrypt", "unwrapKey", algorithm, unwrapping, bytesOf(wrapped));
    let data = bytes;
    if (format === "jwk") try { data = JSON.parse(host.text(bytes)); } catch { throw badKey("what was unwrapped is no JWK"); }
    return this.importKey(format, data, of, extractable, usages);
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
