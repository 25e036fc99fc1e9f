// ReadableStream (Streams standard, sections 4.2 to 4.8) with default and BYOB readers. `Core` is what a stream holds, and the classes around it
// are what a worker sees; byte streams hold a `ByteCore` (bytes.js). Pipes are in pipe.js.

// A strategy's members are read once and by name: those of the classes stand on their prototypes.
const sizes = strategy => {
  const { highWaterMark, size } = dictionary(strategy, "the strategy");
  const mark = highWaterMark === undefined ? undefined : +highWaterMark;
  if (mark !== undefined && !(mark >= 0)) throw new RangeError("the high water mark is not a number from 0");
  if (size !== undefined && typeof size !== "function") throw new TypeError("the strategy's size is not a function");
  return { mark, size };
};
const callbacks = (of, ...names) => names.map(name => {
  const callback = of[name];
  if (callback !== undefined && typeof callback !== "function") throw new TypeError(`${name} is not a function`);
  return callback;
});
const attempt = (callback, self, ...rest) => {
  try { return Promise.resolve(callback?.call(self, ...rest)); } catch (error) { return Promise.reject(error); }
};
const quiet = promise => {
  promise.catch(() => {});
  return promise;
};
class Deferred {
  constructor() { this.promise = new Promise((resolve, reject) => { this.resolve = resolve; this.reject = reject; }); }
}
const weigh = (size, chunk) => {
  const weight = +size(chunk);
  if (!(weight >= 0 && weight < Infinity)) throw new RangeError("the size of a chunk is not a number from 0");
  return weight;
};

let streamLock, streamCore, streamCancel, streamFromHost, streamHost, streamDisturbed, streamTee;
class ReadableStreamDefaultController {
  #core;
  constructor(token, core) { illegal(token); this.#core = core; }
  get desiredSize() { return this.#core.desired(); }
  close() { this.#core.close(); }
  enqueue(chunk = undefined) { this.#core.enqueue(chunk); }
  error(reason = undefined) { this.#core.fail(reason); }
}
class Core {
  state = "readable"; queue = []; queued = 0; error = undefined; reader = null; reads = []; disturbed = false;
  closing = false; pulling = false; again = false; started = false; closed = new Deferred();
  constructor(source, mark, size) {
    quiet(this.closed.promise);
    this.source = source;
    this.mark = mark;
    this.size = size;
    this.controller = this.control();
  }
  begin() {
    const { source, mark } = this;
    if (!source.start) {
      this.started = true;
      if (source.pull && mark > 0) Promise.resolve().then(() => this.pull());
      return;
    }
    const begun = source.start.call(source.self, this.controller);
    Promise.resolve(begun).then(() => { this.started = true; this.pull(); }, error => this.fail(error));
  }
  control() { return new ReadableStreamDefaultController(INTERNAL, this); }
  desired() { return this.state === "errored" ? null : this.state === "closed" ? 0 : this.mark - this.queued; }
  wants() { return this.reads.length > 0 || this.desired() > 0; }
  enqueue(chunk) {
    if (this.closing || this.state !== "readable") throw new TypeError("the stream takes no more chunks");
    if (this.reads.length) {
      this.reads.shift().resolve({ value: chunk, done: false });
    } else {
      let weight = 1;
      if (this.size) {
        try {
          weight = weigh(this.size, chunk);
        } catch (error) {
          this.fail(error);
          throw error;
        }
      }
      this.queue.push({ chunk, weight });
      this.queued += weight;
    }
    this.pull();
  }
  close() {
    if (this.closing || this.state !== "readable") throw new TypeError("the stream is closed already");
    this.closing = true;
    if (!this.queue.length) this.end();
  }
  end() {
    this.state = "closed";
    this.closed.resolve();
    for (const read of this.reads.splice(0)) read.resolve({ value: undefined, done: true });
  }
  empty() {
    this.queue = [];
    this.queued = 0;
  }
  fail(reason) {
    if (this.state !== "readable") return;
    this.state = "errored";
    this.error = reason;
    this.empty();
    this.closed.reject(reason);
    for (const read of this.reads.splice(0)) read.reject(reason);
  }
  pull() {
    if (!this.started || this.closing || this.state !== "readable" || !this.wants()) return;
    if (this.pulling) return void (this.again = true);
    if (!this.source.pull) return;
    this.pulling = true;
    attempt(this.source.pull, this.source.self, this.controller).then(() => {
      this.pulling = false;
      if (this.again) {
        this.again = false;
        this.pull();
      }
    }, error => this.fail(error));
  }
  read() {
    this.disturbed = true;
    if (this.queue.length) {
      const chunk = this.shift();
      if (this.closing && !this.queue.length) this.end();
      else this.pull();
      return Promise.resolve({ value: chunk, done: false });
    }
    if (this.state === "closed") return Promise.resolve({ value: undefined, done: true });
    if (this.state === "errored") return Promise.reject(this.error);
    return this.wait();
  }
  shift() {
    const { chunk, weight } = this.queue.shift();
    this.queued = Math.max(this.queued - weight, 0);
    return chunk;
  }
  wait() {
    const read = new Deferred();
    this.reads.push(read);
    this.pull();
    return read.promise;
  }
  cancel(reason) {
    this.disturbed = true;
    if (this.state === "closed") return Promise.resolve();
    if (this.state === "errored") return Promise.reject(this.error);
    this.empty();
    this.end();
    return attempt(this.source.cancel, this.source.self, reason).then(() => {});
  }
  // The reader goes: what it waits for fails, and the stream stays as it is.
  release(error) {
    for (const read of this.reads.splice(0)) read.reject(error);
    this.reader = null;
  }
}
const RELEASED = "the reader was released";
const readable = (Reader, name) => {
  // Both kinds of readers have these.
  const cores = new WeakMap();
  const of = reader => {
    const held = cores.get(reader);
    if (!held) throw new TypeError(`not a ${name}`);
    return held;
  };
  Object.defineProperties(Reader.prototype, {
    closed: { configurable: true, get() { try { return of(this).closed; } catch (error) { return quiet(Promise.reject(error)); } } },
    cancel: {
      configurable: true, writable: true, value(reason = undefined) {
        try {
          const { core } = of(this);
          return core ? core.cancel(reason) : Promise.reject(new TypeError(RELEASED));
        } catch (error) { return Promise.reject(error); }
      },
    },
    releaseLock: {
      configurable: true, writable: true, value() {
        const held = of(this);
        if (!held.core) return;
        const error = new TypeError(RELEASED);
        held.core.release(error);
        held.core = null;
        held.closed = quiet(Promise.reject(error));
      },
    },
  });
  return {
    attach(reader, stream) {
      const core = streamLock(stream, reader);
      cores.set(reader, { core, closed: core.closed.promise });
    },
    core: reader => of(reader).core,
  };
};
class ReadableStreamDefaultReader {
  static #kind = readable(ReadableStreamDefaultReader, "ReadableStreamDefaultReader");
  constructor(stream) {
    required(1, arguments.length, "ReadableStreamDefaultReader");
    ReadableStreamDefaultReader.#kind.attach(this, stream);
  }
  read() {
    try {
      const core = ReadableStreamDefaultReader.#kind.core(this);
      return core ? core.read() : Promise.reject(new TypeError(RELEASED));
    } catch (error) {
      return Promise.reject(error);
    }
  }
}
class ReadableStreamBYOBReader {
  static #kind = readable(ReadableStreamBYOBReader, "ReadableStreamBYOBReader");
  constructor(stream) {
    required(1, arguments.length, "ReadableStreamBYOBReader");
    if (isObject(stream) && !(streamCore(stream) instanceof ByteCore)) throw new TypeError("not a stream of bytes");
    ReadableStreamBYOBReader.#kind.attach(this, stream);
  }
  read(view, options = undefined) {
    try {
      required(1, arguments.length, "read");
      const core = ReadableStreamBYOBReader.#kind.core(this);
      return core ? core.readInto(view, options) : Promise.reject(new TypeError(RELEASED));
    } catch (error) {
      return Promise.reject(error);
    }
  }
}
class ReadableStream {
  #core;
  // A stream of the host that nobody has read from is not read in here at all: it is handed on as it is.
  #host = -1;
  static {
    streamLock = (stream, reader) => {
      if (!isObject(stream) || !(#core in stream)) throw new TypeError("not a ReadableStream");
      if (stream.#core.reader) throw new TypeError("the stream is locked");
      stream.#core.reader = reader;
      return stream.#core;
    };
    streamCore = stream => {
      if (!(#core in stream)) throw new TypeError("not a ReadableStream");
      return stream.#core;
    };
    streamCancel = (stream, reason) => stream.#core.cancel(reason);
    streamDisturbed = stream => stream.#core.disturbed;
    streamHost = stream => (stream.#core.disturbed || stream.#core.reader || stream.#core.state !== "readable" ? -1 : stream.#host);
    // `signal` ends the content, too, whoever reads it (Fetch standard, "abort a fetch() call").
    streamFromHost = (id, signal) => {
      let drop = () => {}, pending = -1, over = false;
      const stream = new ReadableStream({
        type: "bytes",
        async pull(controller) {
          pending = host.read(id, false);
          let body;
          try {
            ({ body } = await operation(pending, "reading the content"));
          } catch (error) {
            if (over) return;
            over = true;
            drop();
            throw error;
          }
          if (over) return;
          pending = -1;
          if (body) return void stream.#core.push(body);
          over = true;
          drop();
          controller.close();
          controller.byobRequest?.respond(0);
        },
        cancel() {
          over = true;
          drop();
          host.close(id, true);
        },
      }, { highWaterMark: 0 });
      stream.#host = id;
      if (signal) {
        drop = signalFollow(signal, reason => {
          if (over) return;
          over = true;
          stream.#host = -1;
          if (pending >= 0) forget(pending);
          host.close(id, true);
          stream.#core.fail(reason);
        });
      }
      return stream;
    };
    streamTee = stream => {
      const reader = new ReadableStreamDefaultReader(stream), cores = [], cancelled = [false, false], reasons = [];
      const all = new Deferred(), bytes = stream.#core instanceof ByteCore;
      let reading = false, again = false;
      const put = (core, value) => { if (bytes) core.push(value); else core.enqueue(value); };
      const pull = () => {
        if (reading) return void (again = true);
        reading = true;
        return reader.read().then(({ value, done }) => {
          reading = false;
          for (const i of [0, 1]) {
            if (cancelled[i]) continue;
            // The second branch gets its own copy, so that one cannot change what the other reads.
            if (!done) put(cores[i], i && isBufferSource(value) ? copyOf(value) : value);
            else {
              cores[i].close();
              if (bytes) cores[i].controller.byobRequest?.respond(0);
            }
          }
          if (done && !(cancelled[0] && cancelled[1])) all.resolve();
          if (again && !done) {
            again = false;
            return pull();
          }
        }, () => {});
      };
      const branch = i => {
        const made = new ReadableStream({
          type: bytes ? "bytes" : undefined,
          pull,
          cancel(reason) {
            cancelled[i] = true;
            reasons[i] = reason;
            if (cancelled[0] && cancelled[1]) all.resolve(reader.cancel(reasons));
            return all.promise;
          },
        }, { highWaterMark: 0 });
        cores.push(made.#core);
        return made;
      };
      const branches = [branch(0), branch(1)];
      reader.closed.catch(error => {
        for (const core of cores) core.fail(error);
        if (!(cancelled[0] && cancelled[1])) all.resolve();
      });
      return branches;
    };
  }
  constructor(source = undefined, strategy = undefined) {
    const of = dictionary(source, "the source"), { type } = of, { mark, size } = sizes(strategy);
    const [start, pull, cancel] = callbacks(of, "start", "pull", "cancel"), calls = { start, pull, cancel, self: source };
    if (type === undefined) {
      this.#core = new Core(calls, mark ?? 1, size);
      return void this.#core.begin();
    }
    if (`${type}` !== "bytes") throw new TypeError(`ReadableStream: no such type: ${type}`);
    if (size) throw new RangeError("ReadableStream: a stream of bytes has no strategy with a size");
    this.#core = new ByteCore(calls, mark ?? 0, of.autoAllocateChunkSize);
    this.#core.begin();
  }
  static from(source) {
    const method = source?.[Symbol.asyncIterator] ?? source?.[Symbol.iterator];
    if (typeof method !== "function") throw new TypeError("ReadableStream.from: not iterable");
    const iterator = method.call(source);
    return new ReadableStream({
      async pull(controller) {
        const { value, done } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(await value);
      },
      async cancel(reason) { await iterator.return?.(reason); },
    }, { highWaterMark: 0 });
  }
  get locked() { return this.#core.reader !== null; }
  cancel(reason = undefined) {
    if (this.locked) return Promise.reject(new TypeError("the stream is locked"));
    return this.#core.cancel(reason);
  }
  getReader(options = undefined) {
    const { mode } = dictionary(options, "the options");
    if (mode === undefined) return new ReadableStreamDefaultReader(this);
    if (`${mode}` !== "byob") throw new TypeError(`getReader: no such mode: ${mode}`);
    return new ReadableStreamBYOBReader(this);
  }
  tee() { return streamTee(this); }
  pipeThrough(transform, options = undefined) {
    required(1, arguments.length, "pipeThrough");
    const { readable, writable } = dictionary(transform, "the transform");
    if (!(isObject(readable) && readable instanceof ReadableStream && isObject(writable) && writable instanceof WritableStream)) throw new TypeError("pipeThrough: not a readable and a writable");
    const settings = pipeSettings(options);
    if (this.locked || writable.locked) throw new TypeError("the stream is locked");
    quiet(pipe(this, writable, settings));
    return readable;
  }
  pipeTo(destination, options = undefined) {
    try {
      if (!(isObject(destination) && destination instanceof WritableStream)) throw new TypeError("pipeTo: not a WritableStream");
      const settings = pipeSettings(options);
      if (this.locked || destination.locked) throw new TypeError("the stream is locked");
      return pipe(this, destination, settings);
    } catch (error) {
      return Promise.reject(error);
    }
  }
  values(options = undefined) {
    const keep = !!dictionary(options, "the options").preventCancel, reader = this.getReader();
    let ended = false, last = Promise.resolve();
    const inOrder = step => (last = last.then(step, step));
    return {
      __proto__: AsyncIteratorPrototype,
      next: () => inOrder(async () => {
        if (ended) return { value: undefined, done: true };
        try {
          const step = await reader.read();
          if (step.done) {
            ended = true;
            reader.releaseLock();
          }
          return step;
        } catch (error) {
          ended = true;
          reader.releaseLock();
          throw error;
        }
      }),
      return: value => inOrder(async () => {
        if (!ended) {
          ended = true;
          const cancelled = keep ? undefined : reader.cancel(value);
          reader.releaseLock();
          await cancelled;
        }
        return { value, done: true };
      }),
    };
  }
}
const AsyncIteratorPrototype = Object.getPrototypeOf(Object.getPrototypeOf(async function* () {}).prototype);
Object.defineProperty(ReadableStream.prototype, Symbol.asyncIterator, { value: ReadableStream.prototype.values, writable: true, configurable: true });
class CountQueuingStrategy {
  #mark;
  constructor(init) {
    required(1, arguments.length, "CountQueuingStrategy");
    this.#mark = +dictionary(init, "the strategy").highWaterMark;
  }
  get highWaterMark() { return this.#mark; }
  get size() { return countOf; }
}
class ByteLengthQueuingStrategy {
  #mark;
  constructor(init) {
    required(1, arguments.length, "ByteLengthQueuingStrategy");
    this.#mark = +dictionary(init, "the strategy").highWaterMark;
  }
  get highWaterMark() { return this.#mark; }
  get size() { return lengthOf; }
}
const countOf = function size() { return 1; }, lengthOf = function size(chunk) { return chunk.byteLength; };
interfaces({ ReadableStream, ReadableStreamDefaultReader, ReadableStreamBYOBReader, ReadableStreamDefaultController, CountQueuingStrategy, ByteLengthQueuingStrategy });
