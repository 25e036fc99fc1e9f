// Keys as bytes: DER (X.690) of SubjectPublicKeyInfo (RFC 5280), PKCS#8 (RFC 5958), PKCS#1 (RFC 8017) and SEC 1 (RFC 5915), as far as keys of
// SubtleCrypto need it.

const badKey = why => new DOMException(why, "DataError");
const derLength = n => (n < 0x80 ? [n] : n < 0x100 ? [0x81, n] : n < 0x10000 ? [0x82, n >> 8, n & 255] : [0x83, n >> 16, (n >> 8) & 255, n & 255]);
const der = (tag, ...parts) => {
  const list = parts.map(part => (part instanceof Bytes ? part : Bytes.from(part)));
  let length = 0;
  for (const part of list) length += part.length;
  return joined([Bytes.from([tag, ...derLength(length)]), ...list]);
};
const derInteger = bytes => {
  let from = 0;
  while (from < bytes.length - 1 && !bytes[from]) from++;
  const digits = bytes.subarray(from);
  return der(2, digits[0] & 0x80 ? [0] : [], digits);
};
// Reads what is expected, in order; what is not there or not of its tag is no key.
class DerReader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }
  get more() { return this.at < this.bytes.length; }
  get tag() { return this.bytes[this.at]; }
  read(tag) {
    const { bytes } = this;
    if (bytes[this.at] !== tag) throw badKey("the key is not DER as expected");
    let at = this.at + 1, length = bytes[at++];
    if (length & 0x80) {
      let count = length & 0x7f;
      if (count < 1 || count > 3) throw badKey("the key is not DER as expected");
      for (length = 0; count--;) length = length * 256 + (bytes[at++] ?? NaN);
    }
    if (!(at + length <= bytes.length)) throw badKey("the key is cut off");
    this.at = at + length;
    return bytes.subarray(at, this.at);
  }
  into(tag) { return new DerReader(this.read(tag)); }
  integer() {
    const bytes = this.read(2);
    if (!bytes.length || bytes[0] & 0x80) throw badKey("a number of the key is none");
    let from = 0;
    while (from < bytes.length - 1 && !bytes[from]) from++;
    return bytes.slice(from);
  }
  end() { if (this.more) throw badKey("something follows the key"); }
}
const OIDS = {
  rsa: [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], ec: [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], "P-256": [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
  "P-384": [0x2b, 0x81, 4, 0, 0x22], "P-521": [0x2b, 0x81, 4, 0, 0x23], Ed25519: [0x2b, 0x65, 0x70], X25519: [0x2b, 0x65, 0x6e],
};
const derAlgorithm = kind => (kind === "rsa" ? der(0x30, der(6, OIDS.rsa), [5, 0]) : kind.startsWith("P-") ? der(0x30, der(6, OIDS.ec), der(6, OIDS[kind])) : der(0x30, der(6, OIDS[kind])));
const isOid = (bytes, oid) => bytes.length === oid.length && bytes.every((byte, i) => byte === oid[i]);
const readAlgorithm = (reader, kind) => {
  const algorithm = reader.into(0x30), oid = algorithm.read(6);
  if (!isOid(oid, kind === "rsa" ? OIDS.rsa : kind.startsWith("P-") ? OIDS.ec : OIDS[kind])) throw badKey("the key is of another algorithm");
  if (kind.startsWith("P-") && !isOid(algorithm.read(6), OIDS[kind])) throw badKey("the key is of another curve");
};
const spkiOf = (kind, key) => der(0x30, derAlgorithm(kind), der(3, [0], key));
const readSpki = (kind, bytes) => {
  const all = new DerReader(bytes), info = all.into(0x30);
  all.end();
  readAlgorithm(info, kind);
  const key = info.read(3);
  info.end();
  if (key[0] !== 0) throw badKey("the key has bits of no byte");
  return key.slice(1);
};
const pkcs8Of = (kind, key) => der(0x30, [2, 1, 0], derAlgorithm(kind), der(4, key));
const readPkcs8 = (kind, bytes) => {
  const all = new DerReader(bytes), info = all.into(0x30);
  all.end();
  if (info.integer()[0] > 1) throw badKey("PKCS#8 of another version");
  readAlgorithm(info, kind);
  return info.read(4).slice();
};
const rsaPublicOf = ({ n, e }) => der(0x30, derInteger(n), derInteger(e));
const readRsaPublic = bytes => {
  const all = new DerReader(bytes), key = all.into(0x30), n = key.integer(), e = key.integer();
  all.end();
  return { n, e };
};
const RSA_PARTS = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
const rsaPrivateOf = parts => der(0x30, [2, 1, 0], ...RSA_PARTS.map(name => derInteger(parts[name])));
const readRsaPrivate = bytes => {
  const all = new DerReader(bytes), key = all.into(0x30), parts = {};
  all.end();
  if (key.integer()[0] !== 0) throw badKey("an RSA key of more than two primes");
  for (const name of RSA_PARTS) parts[name] = key.integer();
  return parts;
};
const ecPrivateOf = (scalar, point) => der(0x30, [2, 1, 1], der(4, scalar), der(0xa1, der(3, [0], point)));
const readEcPrivate = bytes => {
  const all = new DerReader(bytes), key = all.into(0x30);
  if (key.integer()[0] !== 1) throw badKey("an EC key of another version");
  const scalar = key.read(4).slice();
  let point = null;
  if (key.tag === 0xa0) key.read(0xa0);
  if (key.tag === 0xa1) point = key.into(0xa1).read(3).slice(1);
  return { scalar, point };
};
