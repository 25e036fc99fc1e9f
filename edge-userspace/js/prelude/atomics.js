// Atomics (ECMAScript, section 25.4): a worker has one thread, so that what is done at once is atomic. The engine has none without threads.

{
  const ATOMIC_ARRAYS = new Set(["Int8Array", "Uint8Array", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array"]);
  const typedName = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get;
  const typedLength = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), "length").get;
  const atomicPlace = (array, index) => {
    if (!isObject(array) || !ATOMIC_ARRAYS.has(typedName.call(array))) throw new TypeError("Atomics: not an array of integers");
    const at = index === undefined ? 0 : Math.trunc(+index) || 0;
    if (at < 0 || at >= typedLength.call(array)) throw new RangeError("Atomics: the index is out of bounds");
    return at;
  };
  const atomicValue = (array, value) => (typedName.call(array).startsWith("Big") ? BigInt(value) : Math.trunc(+value) || 0);
  const atomic = change => function (array, index, value) {
    const at = atomicPlace(array, index), given = atomicValue(array, value), before = array[at];
    array[at] = change(before, given);
    return before;
  };
  const waitable = (array, index) => {
    const name = isObject(array) ? typedName.call(array) : "";
    if (name !== "Int32Array" && name !== "BigInt64Array") throw new TypeError("Atomics: not an Int32Array or a BigInt64Array");
    return atomicPlace(array, index);
  };
  const Atomics = Object.create(Object.prototype, { [Symbol.toStringTag]: { value: "Atomics", configurable: true } });
  const atomics = {
    add: atomic((a, b) => a + b), sub: atomic((a, b) => a - b), and: atomic((a, b) => a & b), or: atomic((a, b) => a | b), xor: atomic((a, b) => a ^ b), exchange: atomic((_, b) => b),
    load: (array, index) => array[atomicPlace(array, index)],
    store(array, index, value) {
      const at = atomicPlace(array, index), given = atomicValue(array, value);
      array[at] = given;
      return given;
    },
    compareExchange(array, index, expected, replacement) {
      const at = atomicPlace(array, index), before = array[at];
      const one = new array.constructor([atomicValue(array, expected)]), given = atomicValue(array, replacement);
      if (before === one[0]) array[at] = given;
      return before;
    },
    isLockFree: size => [1, 2, 4, 8].includes(Math.trunc(+size)),
    notify(array, index) { waitable(array, index); return 0; },
    wait() { throw new TypeError("Atomics.wait: the only thread of a worker cannot wait"); },
    waitAsync(array, index, value, timeout = undefined) {
      const at = waitable(array, index);
      if (array[at] !== atomicValue(array, value)) return { async: false, value: "not-equal" };
      if (timeout !== undefined && !(+timeout > 0)) return { async: false, value: "timed-out" };
      return { async: true, value: new Promise(resolve => { if (timeout !== undefined && +timeout < 2 ** 31) setTimer(resolve, +timeout, false, ["timed-out"], "Atomics.waitAsync"); }) };
    },
    pause() {},
  };
  for (const [name, value] of Object.entries(atomics)) {
    Object.defineProperty(value, "name", { value: name, configurable: true });
    Object.defineProperty(Atomics, name, { value, writable: true, configurable: true });
  }
  if (globalThis.Atomics === undefined) expose("Atomics", Atomics);
}
