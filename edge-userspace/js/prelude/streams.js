// ReadableStream, WritableStream and TransformStream (Streams standard) with default readers, writers and controllers. Byte sources
// (`type: "bytes"`) work as default ones: there is no BYOB reader.

const sizes = strategy => {
  const { highWaterMark, size } = dictionary(strategy, "the strategy");
  const mark = highWaterMark === undefined ? undefined : +highWaterMark;
  if (mark !== undefined && !(mark >= 0)) throw new RangeError("the high water mark is not a number from 0");
  if (size !== undefined && typeof size !== "function") throw new TypeError("the strategy's size is not a function");
  return { mark, size };
};
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

let streamRead, streamLock, streamRelease, streamState, streamCancel, streamFromHost, streamHost, streamDisturbed, streamTee;
class ReadableStreamDefaultController {
  #core;
  constructor(token, core) { illegal(token); this.#core = core; }
  get desiredSize() { return this.#core.desired(); }
  close() { this.#core.close(); }
  enqueue(chunk = undefined) { this.#core.enqueue(chunk); }
  error(reason = undefined) { this.#core.fail(reason); }
}
// What a stream holds; the classes around it are what a worker sees.
class Core {
  state = "readable"; queue = []; queued = 0; error = undefined; reader = null; reads = []; disturbed = false;
  closing = false; pulling = false; again = false; started = false; closed = new Deferred();
  constructor(source, mark, size) {
    quiet(this.closed.promise);
    this.source = source;
    this.mark = mark;
    this.size = size;
    this.controller = new ReadableStreamDefaultController(INTERNAL, this);
    if (!source.start) {
      this.started = true;
      if (source.pull && mark > 0) Promise.resolve().then(() => this.pull());
      return;
    }
    const begun = source.start.call(source.self, this.controller);
    Promise.resolve(begun).then(() => { this.started = true; this.pull(); }, error => this.fail(error));
  }
  desired() { return this.state === "errored" ? null : this.state === "closed" ? 0 : this.mark - this.queued; }
  enqueue(chunk) {
    if (this.closing || this.state !== "readable") throw new TypeError("the stream takes no more chunks");
    if (this.reads.length) {
      this.reads.shift().resolve({ value: chunk, done: false });
    } else {
      let weight = 1;
      if (this.size) {
        try {
          weight = +this.size(chunk);
          if (!(weight >= 0 && weight < Infinity)) throw new RangeError("the size of a chunk is not a number from 0");
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
  fail(reason) {
    if (this.state !== "readable") return;
    this.state = "errored";
    this.error = reason;
    this.queue = [];
    this.queued = 0;
    this.closed.reject(reason);
    for (const read of this.reads.splice(0)) read.reject(reason);
  }
  pull() {
    if (!this.started || this.closing || this.state !== "readable" || !(this.reads.length || this.desired() > 0)) return;
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
      const { chunk, weight } = this.queue.shift();
      this.queued -= weight;
      if (this.closing && !this.queue.length) this.end();
      else this.pull();
      return Promise.resolve({ value: chunk, done: false });
    }
    if (this.state === "closed") return Promise.resolve({ value: undefined, done: true });
    if (this.state === "errored") return Promise.reject(this.error);
    const read = new Deferred();
    this.reads.push(read);
    this.pull();
    return read.promise;
  }
  cancel(reason) {
    this.disturbed = true;
    if (this.state === "closed") return Promise.resolve();
    if (this.state === "errored") return Promise.reject(this.error);
    this.queue = [];
    this.queued = 0;
    this.end();
    return attempt(this.source.cancel, this.source.self, reason).then(() => {});
  }
}
class ReadableStreamDefaultReader {
  #core = null; #closed;
  constructor(stream) {
    required(1, arguments.length, "ReadableStreamDefaultReader");
    this.#core = streamLock(stream, this);
    this.#closed = this.#core.closed.promise;
  }
  static { streamRelease = reader => reader.releaseLock(); }
  get closed() { return this.#closed; }
  read() {
    if (!this.#core) return Promise.reject(new TypeError("the reader was released"));
    return this.#core.read();
  }
  cancel(reason = undefined) {
    if (!this.#core) return Promise.reject(new TypeError("the reader was released"));
    return this.#core.cancel(reason);
  }
  releaseLock() {
    if (!this.#core) return;
    const error = new TypeError("the reader was released");
    for (const read of this.#core.reads.splice(0)) read.reject(error);
    this.#core.reader = null;
    this.#core = null;
    this.#closed = quiet(Promise.reject(error));
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
    streamState = stream => stream.#core;
    streamCancel = (stream, reason) => stream.#core.cancel(reason);
    streamDisturbed = stream => stream.#core.disturbed;
    streamHost = stream => (stream.#core.disturbed || stream.#core.reader ? -1 : stream.#host);
    streamFromHost = id => {
      const stream = new ReadableStream({
        async pull(controller) {
          const { body } = await operation(host.read(id, false), "reading the content");
          if (body) controller.enqueue(body);
          else controller.close();
        },
        cancel() { host.close(id, true); },
      }, { highWaterMark: 0 });
      stream.#host = id;
      return stream;
    };
    streamTee = stream => {
      const reader = new ReadableStreamDefaultReader(stream), cores = [], cancelled = [false, false], reasons = [];
      const all = new Deferred();
      let reading = false, again = false;
      const pull = () => {
        if (reading) return void (again = true);
        reading = true;
        return reader.read().then(({ value, done }) => {
          reading = false;
          for (const i of [0, 1]) {
            if (cancelled[i]) continue;
            // The second branch gets its own copy, so that one cannot change what the other reads.
            if (done) cores[i].close();
            else cores[i].enqueue(i && isBufferSource(value) ? copyOf(value) : value);
          }
          if (done && !(cancelled[0] && cancelled[1])) all.resolve();
          if (again && !done) {
            again = false;
            return pull();
          }
        }, error => {
          for (const core of cores) core.fail(error);
          all.resolve();
        });
      };
      const branch = i => {
        const made = new ReadableStream({
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
      return [branch(0), branch(1)];
    };
  }
  constructor(source = undefined, strategy = undefined) {
    const { start, pull, cancel, type } = dictionary(source, "the source"), { mark, size } = sizes(strategy);
    if (type !== undefined && `${type}` !== "bytes") throw new RangeError(`ReadableStream: no such type: ${type}`);
    for (const callback of [start, pull, cancel]) {
      if (callback !== undefined && typeof callback !== "function") throw new TypeError("ReadableStream: start, pull and cancel are functions");
    }
    this.#core = new Core({ start, pull, cancel, self: source }, mark ?? (type === undefined ? 1 : 0), size);
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
    if (dictionary(options, "the options").mode !== undefined) throw new TypeError("getReader: there is no BYOB reader here");
    return new ReadableStreamDefaultReader(this);
  }
  tee() { return streamTee(this); }
  pipeThrough(transform, options = undefined) {
    required(1, arguments.length, "pipeThrough");
    const { readable, writable } = transform;
    if (!(readable instanceof ReadableStream && writable instanceof WritableStream)) throw new TypeError("pipeThrough: not a readable and a writable");
    quiet(this.pipeTo(writable, options));
    return readable;
  }
  async pipeTo(destination, options = undefined) {
    const { preventClose, preventAbort, preventCancel, signal } = dictionary(options, "the options");
    if (!(destination instanceof WritableStream)) throw new TypeError("pipeTo: not a WritableStream");
    const reader = this.getReader();
    let writer;
    try { writer = destination.getWriter(); } catch (error) { reader.releaseLock(); throw error; }
    let aborted = false, drop = () => {};
    if (signal) {
      drop = signalFollow(signal, reason => {
        aborted = true;
        if (!preventAbort) quiet(writer.abort(reason));
        if (!preventCancel) quiet(reader.cancel(reason));
      });
    }
    try {
      for (;;) {
        await writer.ready;
        if (aborted) throw signal.reason;
        let step;
        try { step = await reader.read(); } catch (error) {
          if (!preventAbort) await quiet(writer.abort(error)).catch(() => {});
          throw error;
        }
        if (aborted) throw signal.reason;
        if (step.done) break;
        quiet(writer.write(step.value));
      }
      if (!preventClose) await writer.close();
    } catch (error) {
      if (!preventCancel) quiet(reader.cancel(error));
      throw error;
    } finally {
      drop();
      writer.releaseLock();
      reader.releaseLock();
    }
  }
  values(options = undefined) {
    const keep = !!dictionary(options, "the options").preventCancel, reader = this.getReader();
    let ended = false;
    return {
      __proto__: AsyncIteratorPrototype,
      async next() {
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
      },
      async return(value) {
        if (!ended) {
          ended = true;
          const cancelled = keep ? undefined : reader.cancel(value);
          reader.releaseLock();
          await cancelled;
        }
        return { value, done: true };
      },
    };
  }
}
const AsyncIteratorPrototype = Object.getPrototypeOf(Object.getPrototypeOf(async function* () {}).prototype);
Object.defineProperty(ReadableStream.prototype, Symbol.asyncIterator, { value: ReadableStream.prototype.values, writable: true, configurable: true });

let writerOf;
class WritableStreamDefaultController {
  #core;
  constructor(token, core) { illegal(token); this.#core = core; }
  get signal() { return this.#core.abort.signal; }
  error(reason = undefined) { this.#core.fail(reason); }
}
class Sink {
  state = "writable"; error = undefined; writer = null; tail; pending = 0; closing = null; abort = new AbortController();
  ready = new Deferred(); closed = new Deferred();
  constructor(sink, mark, size) {
    quiet(this.closed.promise);
    quiet(this.ready.promise);
    this.sink = sink;
    this.mark = mark;
    this.size = size;
    this.controller = new WritableStreamDefaultController(INTERNAL, this);
    const begun = sink.start?.call(sink.self, this.controller);
    this.tail = Promise.resolve(begun).catch(error => this.fail(error));
    if (mark > 0) this.ready.resolve();
  }
  desired() { return this.state === "errored" ? null : this.state === "closed" ? 0 : this.mark - this.pending; }
  fail(reason) {
    if (this.state !== "writable") return;
    this.state = "errored";
    this.error = reason;
    this.ready.reject(reason);
    this.ready = new Deferred();
    quiet(this.ready.promise);
    this.ready.reject(reason);
    this.closed.reject(reason);
  }
  write(chunk) {
    if (this.state === "errored") return Promise.reject(this.error);
    if (this.closing || this.state === "closed") return Promise.reject(new TypeError("the stream takes no more chunks"));
    let weight = 1;
    try { if (this.size) weight = +this.size(chunk); } catch (error) { this.fail(error); return Promise.reject(error); }
    this.pending += weight;
    if (this.desired() <= 0) {
      this.ready = new Deferred();
      quiet(this.ready.promise);
    }
    const done = this.tail.then(() => {
      if (this.state === "errored") throw this.error;
      return this.sink.write?.call(this.sink.self, chunk, this.controller);
    });
    this.tail = done.then(() => {
      this.pending -= weight;
      if (this.state === "writable" && this.desired() > 0) this.ready.resolve();
    }, error => this.fail(error));
    return done.then(() => {});
  }
  close() {
    if (this.state === "errored") return Promise.reject(this.error);
    if (this.closing || this.state === "closed") return Promise.reject(new TypeError("the stream is closed already"));
    this.closing = this.tail.then(() => {
      if (this.state === "errored") throw this.error;
      return this.sink.close?.call(this.sink.self);
    }).then(() => {
      this.state = "closed";
      this.ready.resolve();
      this.closed.resolve();
    });
    this.closing.catch(error => this.fail(error));
    return this.closing;
  }
  stop(reason) {
    if (this.state !== "writable") return Promise.resolve();
    this.fail(reason);
    this.abort.abort(reason);
    return this.tail.then(() => attempt(this.sink.abort, this.sink.self, reason)).then(() => {});
  }
}
class WritableStreamDefaultWriter {
  #core = null;
  constructor(stream) {
    required(1, arguments.length, "WritableStreamDefaultWriter");
    this.#core = writerOf(stream, this);
  }
  #need() {
    if (!this.#core) throw new TypeError("the writer was released");
    return this.#core;
  }
  get closed() { return this.#core ? this.#core.closed.promise : quiet(Promise.reject(new TypeError("the writer was released"))); }
  get ready() { return this.#core ? this.#core.ready.promise : quiet(Promise.reject(new TypeError("the writer was released"))); }
  get desiredSize() { return this.#need().desired(); }
  async write(chunk = undefined) { return this.#need().write(chunk); }
  async close() { return this.#need().close(); }
  async abort(reason = undefined) { return this.#need().stop(reason); }
  releaseLock() {
    if (!this.#core) return;
    this.#core.writer = null;
    this.#core = null;
  }
}
class WritableStream {
  #core;
  static {
    writerOf = (stream, writer) => {
      if (!isObject(stream) || !(#core in stream)) throw new TypeError("not a WritableStream");
      if (stream.#core.writer) throw new TypeError("the stream is locked");
      stream.#core.writer = writer;
      return stream.#core;
    };
  }
  constructor(sink = undefined, strategy = undefined) {
    const { start, write, close, abort, type } = dictionary(sink, "the sink"), { mark, size } = sizes(strategy);
    if (type !== undefined) throw new RangeError("WritableStream: there are no types");
    this.#core = new Sink({ start, write, close, abort, self: sink }, mark ?? 1, size);
  }
  get locked() { return this.#core.writer !== null; }
  getWriter() { return new WritableStreamDefaultWriter(this); }
  async abort(reason = undefined) {
    if (this.locked) throw new TypeError("the stream is locked");
    return this.#core.stop(reason);
  }
  async close() {
    if (this.locked) throw new TypeError("the stream is locked");
    return this.#core.close();
  }
}

class TransformStreamDefaultController {
  #readable; #fail; #end;
  constructor(token, readable, fail, end) { illegal(token); this.#readable = readable; this.#fail = fail; this.#end = end; }
  get desiredSize() { return this.#readable().desiredSize; }
  enqueue(chunk = undefined) { this.#readable().enqueue(chunk); }
  error(reason = undefined) { this.#fail(reason); }
  terminate() { this.#end(); }
}
class TransformStream {
  #readable; #writable;
  constructor(transformer = undefined, writableStrategy = undefined, readableStrategy = undefined) {
    const { start, transform, flush, cancel } = dictionary(transformer, "the transformer");
    let output, input, wanted = new Deferred(), over = false;
    const fail = reason => { over = true; output.error(reason); input.error(reason); wanted.resolve(); };
    const end = () => {
      if (over) return;
      over = true;
      output.close();
      input.error(new TypeError("the transformer ended the stream"));
      wanted.resolve();
    };
    const controller = new TransformStreamDefaultController(INTERNAL, () => output, fail, end);
    this.#readable = new ReadableStream({
      start(made) { output = made; },
      pull() { wanted.resolve(); },
      async cancel(reason) {
        over = true;
        input.error(reason);
        wanted.resolve();
        await cancel?.call(transformer, reason);
      },
    }, { highWaterMark: 0, ...dictionary(readableStrategy, "the strategy") });
    let begun;
    this.#writable = new WritableStream({
      start(made) {
        input = made;
        begun = attempt(start, transformer, controller);
        return begun;
      },
      async write(chunk) {
        // Back-pressure: nothing is transformed before somebody reads.
        while (!over && !(output.desiredSize > 0) && !streamState(readable).reads.length) {
          wanted = new Deferred();
          await wanted.promise;
        }
        if (over) return;
        try {
          if (transform) await transform.call(transformer, chunk, controller);
          else controller.enqueue(chunk);
        } catch (error) {
          fail(error);
          throw error;
        }
      },
      async close() {
        try { await flush?.call(transformer, controller); } catch (error) { fail(error); throw error; }
        if (!over) {
          over = true;
          output.close();
        }
      },
      async abort(reason) {
        over = true;
        output.error(reason);
        await cancel?.call(transformer, reason);
      },
    }, { highWaterMark: 1, ...dictionary(writableStrategy, "the strategy") });
    const readable = this.#readable;
  }
  get readable() { return this.#readable; }
  get writable() { return this.#writable; }
}
class TextEncoderStream {
  #transform;
  constructor() {
    let high = "";
    this.#transform = new TransformStream({
      transform(chunk, controller) {
        let text = high + `${chunk}`;
        const last = text.charCodeAt(text.length - 1);
        high = last >= 0xd800 && last < 0xdc00 ? text[text.length - 1] : "";
        if (high) text = text.slice(0, -1);
        if (text) controller.enqueue(host.encode(text));
      },
      flush(controller) { if (high) controller.enqueue(host.encode(high)); },
    });
  }
  get encoding() { return "utf-8"; }
  get readable() { return this.#transform.readable; }
  get writable() { return this.#transform.writable; }
}
class TextDecoderStream {
  #decoder; #transform;
  constructor(label = "utf-8", options = undefined) {
    const decoder = this.#decoder = new TextDecoder(label, options);
    this.#transform = new TransformStream({
      transform(chunk, controller) {
        const text = decoder.decode(chunk, { stream: true });
        if (text) controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.decode();
        if (text) controller.enqueue(text);
      },
    });
  }
  get encoding() { return this.#decoder.encoding; }
  get fatal() { return this.#decoder.fatal; }
  get ignoreBOM() { return this.#decoder.ignoreBOM; }
  get readable() { return this.#transform.readable; }
  get writable() { return this.#transform.writable; }
}
class CountQueuingStrategy {
  constructor(init) { this.highWaterMark = +init.highWaterMark; }
  size() { return 1; }
}
class ByteLengthQueuingStrategy {
  constructor(init) { this.highWaterMark = +init.highWaterMark; }
  size(chunk) { return chunk.byteLength; }
}
interfaces({ ReadableStream, ReadableStreamDefaultReader, ReadableStreamDefaultController, WritableStream, WritableStreamDefaultWriter,
  WritableStreamDefaultController, TransformStream, TransformStreamDefaultController, TextEncoderStream, TextDecoderStream,
  CountQueuingStrategy, ByteLengthQueuingStrategy });
