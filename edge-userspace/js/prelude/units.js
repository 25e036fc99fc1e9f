// What is large and seldom used is a unit of its own, beside the prelude, and is compiled when a script names it: when it is deployed, if its
// source does, else within the request that asks. Whoever does without it has none of it in the heap.

const unit = (name, needs) => Object.defineProperty(globalThis, name, {
  configurable: true, enumerable: false,
  get() {
    const made = host.unit(name)(needs());
    interfaces({ [name]: made });
    return made;
  },
  set(value) { expose(name, value); },
});
unit("HTMLRewriter", () => ({
  host, usv, isObject, required, dictionary, illegal, INTERNAL, Bytes, NOTHING, chunkBytes, quiet, Response, ReadableStream,
}));
