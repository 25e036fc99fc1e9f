// node:assert, and what it means that two values are the same (`util.isDeepStrictEqual`).

const BOXES = ["Number", "String", "Boolean", "BigInt", "Symbol"];
const ownEnumerable = Object.prototype.propertyIsEnumerable;
const INDEX = /^(?:0|[1-9]\d*)$/;
// What objects hold beside their properties: undefined if nothing, else values that are compared in turn.
const heldBy = value => {
  if (value instanceof URL) return [value.href];
  if (value instanceof Headers || value instanceof URLSearchParams || value instanceof FormData) return [[...value]];
  if (isBrand(regexpSource, value)) return [String(value), value.lastIndex];
  if (value instanceof Error || value instanceof DOMException) return [value.message, value.name, Object.hasOwn(value, "cause"), value.cause, Object.hasOwn(value, "errors"), value.errors];
  return undefined;
};
const sameBytes = (a, b) => a.length === b.length && host.equal(a, b);
const sameViews = (a, b, strict) => {
  // Numbers that are not the same bytes may be equal: 0 and -0.
  if (!strict && (a instanceof Float32Array || a instanceof Float64Array)) return a.length === b.length && a.every((item, i) => item === b[i]);
  return sameBytes(bytesOf(a), bytesOf(b));
};
// Members that are primitives are looked up; those that are objects, or loosely equal, are sought among what is left of the other.
const sameSets = (a, b, strict, seen) => {
  const left = [];
  for (const item of a) if (isObject(item) || !b.has(item)) left.push(item);
  if (!left.length) return true;
  const others = [...b].filter(item => isObject(item) || !a.has(item));
  return left.every(item => {
    if (strict && !isObject(item)) return false;
    const at = others.findIndex(other => sameDeep(item, other, strict, seen));
    if (at >= 0) others.splice(at, 1);
    return at >= 0;
  });
};
const sameMaps = (a, b, strict, seen) => {
  const left = [];
  for (const [key, item] of a) {
    if (isObject(key) || !b.has(key)) left.push([key, item]);
    else if (!sameDeep(item, b.get(key), strict, seen)) return false;
  }
  if (!left.length) return true;
  const others = [...b].filter(([key]) => isObject(key) || !a.has(key));
  return left.every(([key, item]) => {
    if (strict && !isObject(key)) return false;
    const at = others.findIndex(([other, value]) => sameDeep(key, other, strict, seen) && sameDeep(item, value, strict, seen));
    if (at >= 0) others.splice(at, 1);
    return at >= 0;
  });
};
const keysOf = (value, strict, indexed) => {
  const keys = Object.keys(value), own = indexed ? keys.filter(key => !INDEX.test(key)) : keys;
  return strict ? [...own, ...Object.getOwnPropertySymbols(value).filter(symbol => ownEnumerable.call(value, symbol))] : own;
};
// As `assert.deepStrictEqual`, or not `strict`: as `assert.deepEqual`. `seen` has the pairs that are being compared.
const sameDeep = (a, b, strict, seen = []) => {
  if (a === b) return !strict || a !== 0 || Object.is(a, b);
  const plain = [a, b].some(value => typeof value !== "object" || value === null);
  if (plain) return strict ? Object.is(a, b) : !isObject(a) && !isObject(b) && (a == b || (a !== a && b !== b));
  if (strict && Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  if (Object.prototype.toString.call(a) !== Object.prototype.toString.call(b) || brandOf(a) !== brandOf(b)) return false;
  const indexed = Array.isArray(a) || (isView(a) && !(a instanceof DataView));
  if (Array.isArray(a) !== Array.isArray(b) || isView(a) !== isView(b) || host.isBuffer(a) !== host.isBuffer(b)) return false;
  if (host.isPromise(a) || a instanceof WeakMap || a instanceof WeakSet || a instanceof CryptoKey) return false;
  if (Array.isArray(a) && a.length !== b.length) return false;
  if (isBrand(dateValue, a) && !(isBrand(dateValue, b) && dateValue.call(a) === dateValue.call(b))) return false;
  if (isView(a) && !sameViews(a, b, strict)) return false;
  if (host.isBuffer(a) && !sameBytes(bytesOf(a), bytesOf(b))) return false;
  if (BOXES.includes(brandOf(a)) && !Object.is(a.valueOf(), b.valueOf())) return false;
  const maps = isBrand(mapSize, a), sets = isBrand(setSize, a);
  if (maps !== isBrand(mapSize, b) || sets !== isBrand(setSize, b) || ((maps || sets) && a.size !== b.size)) return false;
  const [keys, others] = [a, b].map(value => keysOf(value, strict, indexed));
  if (keys.length !== others.length || !keys.every(key => ownEnumerable.call(b, key))) return false;
  // A cycle is the same as one that closes in the same place.
  const at = seen.findIndex(pair => pair[0] === a || pair[1] === b);
  if (at >= 0 && seen[at][0] === a && seen[at][1] === b) return true;
  if (at >= 0 && seen.some(pair => pair[0] === a) && seen.some(pair => pair[1] === b)) return false;
  seen.push([a, b]);
  try {
    const [one, two] = [heldBy(a), heldBy(b)];
    if ((one === undefined) !== (two === undefined) || (one && !one.every((part, i) => sameDeep(part, two[i], strict, seen)))) return false;
    if (Array.isArray(a)) {
      for (let i = 0; i < a.length; i++) {
        if (Object.hasOwn(a, i) !== Object.hasOwn(b, i)) return false;
        if (!sameDeep(a[i], b[i], strict, seen)) return false;
      }
    }
    if (maps && !sameMaps(a, b, strict, seen)) return false;
    if (sets && !sameSets(a, b, strict, seen)) return false;
    return keys.every(key => sameDeep(a[key], b[key], strict, seen));
  } finally {
    seen.pop();
  }
};

const SAID = { strictEqual: "Expected values to be strictly equal:", notStrictEqual: 'Expected "actual" to be strictly unequal to:', "==": "Expected values to be loosely equal:", "!=": 'Expected "actual" to be loosely unequal to:',
  deepEqual: "Expected values to be loosely deep-equal:", deepStrictEqual: "Expected values to be strictly deep-equal:", notDeepEqual: 'Expected "actual" not to be loosely deep-equal to:', notDeepStrictEqual: 'Expected "actual" not to be strictly deep-equal to:' };
class AssertionError extends Error {
  constructor(options) {
    const { message, actual, expected, operator } = dictionary(options, "the options"), one = inspect(actual, { depth: 5 }), two = inspect(expected, { depth: 5 });
    super(message ?? (operator?.startsWith("not") || operator === "!=" ? `${SAID[operator]}\n\n${two}\n` : SAID[operator] ? `${SAID[operator]}\n\n${one} !== ${two}\n` : `${one} ${operator} ${two}`));
    Object.defineProperty(this, "name", { value: "AssertionError", writable: true, configurable: true });
    Object.assign(this, { code: "ERR_ASSERTION", generatedMessage: message === undefined || message === null, actual, expected, operator });
  }
}
const assertThat = (good, details) => {
  if (!good) throw details.message instanceof Error ? details.message : new AssertionError(details);
};
// Whether an error is the one that is expected: of a class, with a text, with these properties, or as a function says.
const isExpected = (error, expected) => {
  if (expected instanceof RegExp) return expected.test(`${error}`);
  if (typeof expected === "function") return expected.prototype !== undefined && error instanceof expected ? true : !Error.isPrototypeOf(expected) && expected.call({}, error) === true;
  if (!isObject(error)) return false;
  const keys = Object.keys(expected);
  if (expected instanceof Error) keys.push("name", "message");
  if (!keys.length) throw nodeError(TypeError, "ERR_INVALID_ARG_VALUE", "The argument 'error' may not be an empty object.");
  return keys.every(key => (expected[key] instanceof RegExp && typeof error[key] === "string" ? expected[key].test(error[key]) : key in error && sameDeep(error[key], expected[key], true)));
};
const caught = (error, expected, message, operator) => {
  if (!isObject(expected) || isExpected(error, expected)) return;
  const generated = typeof expected === "function" ? (Error.isPrototypeOf(expected) ? `The error is expected to be an instance of "${expected.name}". Received ${inspect(error?.constructor?.name ?? error)}\n\nError message:\n\n${error?.message}`
    : `The ${expected.name ? `"${expected.name}" ` : ""}validation function is expected to return "true".`) : expected instanceof RegExp ? `The input did not match the regular expression ${inspect(expected)}. Input:\n\n${inspect(`${error}`)}\n` : undefined;
  assertThat(false, { actual: error, expected, message: message ?? generated, operator });
};
const missing = (what, expected, message, operator) => assertThat(false, { message: message ?? `Missing expected ${what}${typeof expected === "function" && expected.name ? ` (${expected.name})` : ""}.`, expected, operator });
const unwanted = (error, what, message) => { throw new AssertionError({ message: `Got unwanted ${what}${typeof message === "string" ? `: ${message}` : "."}\nActual message: "${error?.message}"`, actual: error, operator: "doesNotThrow" }); };
const promiseOf = async promise => {
  if (typeof promise !== "function") {
    if (typeof promise?.then !== "function") throw wrongType("promiseFn", "of type function or an instance of Promise", promise);
    return { made: promise };
  }
  const made = promise();
  if (typeof made?.then !== "function") throw nodeError(TypeError, "ERR_INVALID_RETURN_VALUE", 'Expected instance of Promise to be returned from the "promiseFn" function.');
  return { made };
};
const mustBePattern = pattern => { if (!isBrand(regexpSource, pattern)) throw wrongType("regexp", "an instance of RegExp", pattern); };
// `deepEqual(value, other, message)` and the like.
const compares = (operator, test) => (...given) => {
  if (given.length < 2) throw nodeError(TypeError, "ERR_MISSING_ARGS", 'The "actual" and "expected" arguments must be specified');
  const [actual, expected, message] = given;
  assertThat(test(actual, expected), { actual, expected, message, operator });
};
const asserted = (...given) => {
  const [value, message] = given;
  assertThat(value, { message: given.length ? message : "No value argument passed to `assert.ok()`", actual: value, expected: true, operator: "==" });
};
const loose = (a, b) => a == b || (a !== a && b !== b);
const assertMethods = {
  AssertionError, ok: (...given) => asserted(...given),
  equal: compares("==", loose), notEqual: compares("!=", (a, b) => !loose(a, b)),
  strictEqual: compares("strictEqual", Object.is), notStrictEqual: compares("notStrictEqual", (a, b) => !Object.is(a, b)),
  deepEqual: compares("deepEqual", (a, b) => sameDeep(a, b, false)), notDeepEqual: compares("notDeepEqual", (a, b) => !sameDeep(a, b, false)),
  deepStrictEqual: compares("deepStrictEqual", (a, b) => sameDeep(a, b, true)), notDeepStrictEqual: compares("notDeepStrictEqual", (a, b) => !sameDeep(a, b, true)),
  match(text, pattern, message) {
    mustBePattern(pattern);
    assertThat(typeof text === "string" && pattern.test(text), { actual: text, expected: pattern, message: message ?? `The input did not match the regular expression ${inspect(pattern)}. Input:\n\n${inspect(text)}\n`, operator: "match" });
  },
  doesNotMatch(text, pattern, message) {
    mustBePattern(pattern);
    assertThat(typeof text !== "string" || !pattern.test(text), { actual: text, expected: pattern, message: message ?? `The input was expected to not match the regular expression ${inspect(pattern)}. Input:\n\n${inspect(text)}\n`, operator: "doesNotMatch" });
  },
  ifError(value) {
    if (value !== null && value !== undefined) throw new AssertionError({ message: `ifError got unwanted exception: ${value instanceof Error ? value.message || value.name : inspect(value)}`, actual: value, expected: null, operator: "ifError" });
  },
  throws(callback, expected, message = typeof expected === "string" ? expected : undefined) {
    mustBeFunction("fn", callback);
    try { callback(); } catch (error) { return caught(error, expected, message, "throws"); }
    missing("exception", expected, message, "throws");
  },
  async rejects(promise, expected, message = typeof expected === "string" ? expected : undefined) {
    const { made } = await promiseOf(promise);
    try { await made; } catch (error) { return caught(error, expected, message, "rejects"); }
    missing("rejection", expected, message, "rejects");
  },
  doesNotThrow(callback, expected, message = typeof expected === "string" ? expected : undefined) {
    mustBeFunction("fn", callback);
    try { callback(); } catch (error) {
      if (!isObject(expected) || isExpected(error, expected)) unwanted(error, "exception", message);
      throw error;
    }
  },
  async doesNotReject(promise, expected, message = typeof expected === "string" ? expected : undefined) {
    const { made } = await promiseOf(promise);
    try { await made; } catch (error) {
      if (!isObject(expected) || isExpected(error, expected)) unwanted(error, "rejection", message);
      throw error;
    }
  },
  fail(message = undefined) {
    if (message instanceof Error) throw message;
    throw Object.assign(new AssertionError({ message: message ?? "Failed", operator: "fail" }), { generatedMessage: message === undefined });
  },
};
const assert = Object.assign((...given) => asserted(...given), assertMethods);
assert.strict = Object.assign((...given) => asserted(...given), assertMethods, { equal: assert.strictEqual, notEqual: assert.notStrictEqual, deepEqual: assert.deepStrictEqual, notDeepEqual: assert.notDeepStrictEqual });
assert.strict.strict = assert.strict;
