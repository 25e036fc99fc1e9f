// What the other files share: conversions of Web IDL, and how an interface is made a global.

const usv = value => `${value}`.toWellFormed();
const WIDE = /[^\x00-\xff]/;
const byteString = value => {
  const text = `${value}`;
  if (WIDE.test(text)) throw new TypeError("a header's name or value has a character beyond U+00FF");
  return text;
};
const isObject = value => (typeof value === "object" && value !== null) || typeof value === "function";
const dictionary = (value, what) => {
  if (value === undefined || value === null) return {};
  if (!isObject(value)) throw new TypeError(`${what} is not an object`);
  return value;
};
const required = (count, given, what) => {
  if (given < count) throw new TypeError(`${what} needs ${count} argument${count === 1 ? "" : "s"}, and got ${given}`);
};

const dataViewOf = name => Object.getOwnPropertyDescriptor(DataView.prototype, name).get;
const [viewBuffer, viewOffset, viewLength] = ["buffer", "byteOffset", "byteLength"].map(dataViewOf);
const Bytes = Uint8Array;
const isView = ArrayBuffer.isView;
const isBufferSource = value => isObject(value) && (isView(value) || host.isBuffer(value));
// The bytes of a buffer or a view of one, not copied. What is detached or out of bounds has none.
const bytesOf = source => {
  const buffer = host.isBuffer(source);
  if (!buffer && !(isObject(source) && isView(source))) throw new TypeError("not an ArrayBuffer nor a view of one");
  try {
    if (buffer) return new Bytes(source);
    const typed = host.view(source);
    return typed ? new Bytes(typed[0], typed[1], typed[2])
      : new Bytes(viewBuffer.call(source), viewOffset.call(source), viewLength.call(source));
  } catch {
    return NOTHING;
  }
};
const NOTHING = new Bytes(0);
const copyOf = source => {
  const bytes = bytesOf(source), copy = new Bytes(bytes.length);
  copy.set(bytes);
  return copy;
};
// Marks calls of a constructor that come from in here.
const INTERNAL = Symbol("internal");

const expose = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
// Interfaces: named, enumerable members, a tag.
const interfaces = list => {
  for (const [name, value] of Object.entries(list)) {
    for (const key of Reflect.ownKeys(value.prototype)) {
      if (key === "constructor" || typeof key === "symbol") continue;
      const member = Object.getOwnPropertyDescriptor(value.prototype, key);
      Object.defineProperty(value.prototype, key, { ...member, enumerable: true });
    }
    Object.defineProperty(value.prototype, Symbol.toStringTag, { value: name, configurable: true });
    expose(name, value);
  }
};
const illegal = token => {
  if (token !== INTERNAL) throw new TypeError("Illegal constructor");
};

// A live iterator over pairs, as Web IDL's iterable declarations have them.
const IteratorPrototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
const pairIterator = (name, pairs) => {
  const states = new WeakMap();
  const prototype = Object.create(IteratorPrototype, {
    next: {
      writable: true, configurable: true, enumerable: true,
      value: function next() {
        const state = states.get(this);
        if (!state) throw new TypeError(`not an iterator of ${name}`);
        const list = pairs(state.target);
        if (state.index >= list.length) return { value: undefined, done: true };
        const pair = list[state.index++];
        return { value: state.kind === 2 ? [pair[0], pair[1]] : pair[state.kind], done: false };
      },
    },
    [Symbol.toStringTag]: { value: `${name} Iterator`, configurable: true },
  });
  return (target, kind) => {
    const iterator = Object.create(prototype);
    states.set(iterator, { target, kind, index: 0 });
    return iterator;
  };
};
