// Streams of bytes (Streams standard, section 4.7): readers may bring their own buffers.

const elementOf = view => (view instanceof DataView ? 1 : view.BYTES_PER_ELEMENT);
const moved = view => {
  if (!isObject(view) || !isView(view)) throw new TypeError("not a view of a buffer");
  const buffer = view.buffer, offset = view.byteOffset, length = view.byteLength;
  if (!host.isBuffer(buffer) || buffer.detached) throw new TypeError("the buffer is detached, or cannot be");
  return { buffer: buffer.transfer(), offset, length };
};
let byobForget;
class ReadableStreamBYOBRequest {
  #core; #view;
  static { byobForget = request => { request.#core = null; request.#view = null; }; }
  constructor(token, core, view) { illegal(token); this.#core = core; this.#view = view; }
  get view() { return this.#view; }
  respond(written) {
    required(1, arguments.length, "respond");
    if (!this.#core) throw new TypeError("the request was answered already");
    if (this.#view.buffer.detached) throw new TypeError("the view's buffer is detached");
    const count = +written;
    if (!(count >= 0 && count <= Number.MAX_SAFE_INTEGER)) throw new TypeError("not a number of bytes");
    this.#core.respond(Math.trunc(count));
  }
  respondWithNewView(view) {
    required(1, arguments.length, "respondWithNewView");
    if (!this.#core) throw new TypeError("the request was answered already");
    this.#core.respondWith(view);
  }
}
class ReadableByteStreamController {
  #core;
  constructor(token, core) { illegal(token); this.#core = core; }
  get byobRequest() { return this.#core.request(); }
  get desiredSize() { return this.#core.desired(); }
  close() { this.#core.close(); }
  enqueue(chunk) {
    required(1, arguments.length, "enqueue");
    this.#core.enqueue(chunk);
  }
  error(reason = undefined) { this.#core.fail(reason); }
}
class ByteCore extends Core {
  // What readers want filled: { buffer, offset, length, filled, least, element, make, read }; `read` is null for the controller's own.
  wanted = []; asked = null;
  constructor(source, mark, chunk) {
    let auto = 0;
    if (chunk !== undefined) {
      auto = Math.trunc(+chunk);
      if (!(auto > 0)) throw new TypeError("autoAllocateChunkSize is not a number from 1");
    }
    super(source, mark, undefined);
    this.auto = auto;
  }
  control() { return new ReadableByteStreamController(INTERNAL, this); }
  wants() { return super.wants() || this.wanted.length > 0; }
  request() {
    if (this.asked === null && this.wanted.length) {
      const first = this.wanted[0];
      this.asked = new ReadableStreamBYOBRequest(INTERNAL, this, new Bytes(first.buffer, first.offset + first.filled, first.length - first.filled));
    }
    return this.asked;
  }
  forget() {
    if (this.asked) byobForget(this.asked);
    this.asked = null;
  }
  enqueue(chunk) {
    if (!isObject(chunk) || !isView(chunk)) throw new TypeError("a chunk of a stream of bytes is a view of a buffer");
    if (!chunk.byteLength) throw new TypeError("an empty chunk");
    if (this.closing || this.state !== "readable") throw new TypeError("the stream takes no more chunks");
    const { buffer, offset, length } = moved(chunk);
    this.push(new Bytes(buffer, offset, length));
  }
  // Bytes that nobody else has.
  push(bytes) {
    if (this.state !== "readable") return;
    if (this.wanted.length) {
      this.forget();
      this.wanted[0].buffer = this.wanted[0].buffer.transfer();
      if (this.wanted[0].read === null && this.wanted[0].filled) this.keepRest(this.wanted.shift());
    }
    if (this.reads.length && !this.queue.length) {
      if (this.wanted.length) this.wanted.shift();
      this.reads.shift().resolve({ value: bytes, done: false });
    } else {
      this.queue.push({ chunk: bytes, weight: bytes.length });
      this.queued += bytes.length;
      this.serve();
    }
    this.pull();
  }
  keepRest(into) {
    if (!into.filled) return;
    const rest = new Bytes(into.buffer, into.offset, into.filled).slice();
    this.queue.push({ chunk: rest, weight: rest.length });
    this.queued += rest.length;
  }
  // From the queue into what readers brought; true for those that are full.
  serve() {
    while (this.wanted.length && this.queue.length && this.wanted[0].read !== null) {
      if (!this.fill(this.wanted[0])) return;
      this.deliver(this.wanted.shift());
    }
    while (this.reads.length && this.queue.length) this.reads.shift().resolve({ value: this.shift(), done: false });
  }
  fill(into) {
    const room = Math.min(this.queued, into.length - into.filled), after = into.filled + room, whole = after - after % into.element;
    const ready = whole >= into.least;
    let take = ready ? whole - into.filled : room;
    while (take > 0) {
      const head = this.queue[0], bytes = head.chunk, count = Math.min(take, bytes.length);
      new Bytes(into.buffer, into.offset + into.filled, count).set(bytes.subarray(0, count));
      if (count === bytes.length) this.queue.shift();
      else {
        head.chunk = bytes.subarray(count);
        head.weight -= count;
      }
      this.queued -= count;
      into.filled += count;
      take -= count;
    }
    return ready;
  }
  deliver(into, done = false) {
    const view = into.make(into.buffer, into.offset, into.filled / into.element);
    into.read.resolve({ value: view, done });
  }
  wait() {
    const read = super.wait.bind(this);
    if (this.auto) {
      this.wanted.push({ buffer: new ArrayBuffer(this.auto), offset: 0, length: this.auto, filled: 0, least: 1, element: 1, make: (...a) => new Bytes(...a), read: new Deferred(), byDefault: true });
      const { read: deferred } = this.wanted[this.wanted.length - 1];
      this.pull();
      return deferred.promise;
    }
    return read();
  }
  readInto(view, options) {
    const { min = 1 } = dictionary(options, "the options"), least = Math.trunc(+min);
    if (!isObject(view) || !isView(view)) return Promise.reject(new TypeError("not a view of a buffer"));
    if (!view.byteLength || !view.buffer.byteLength) return Promise.reject(new TypeError("an empty view"));
    const element = elementOf(view), Kind = view.constructor;
    if (!(least > 0)) return Promise.reject(new TypeError("min is not a number from 1"));
    if (least * element > view.byteLength) return Promise.reject(new RangeError("min is more than the view holds"));
    let buffer, offset, length;
    try { ({ buffer, offset, length } = moved(view)); } catch (error) { return Promise.reject(error); }
    this.disturbed = true;
    const make = (b, o, n) => new Kind(b, o, n), read = new Deferred();
    const into = { buffer, offset, length, filled: 0, least: least * element, element, make, read };
    if (!this.wanted.length) {
      if (this.state === "closed") return Promise.resolve({ value: make(buffer, offset, 0), done: true });
      if (this.state === "errored") return Promise.reject(this.error);
      if (this.queued && this.fill(into)) {
        if (this.closing && !this.queue.length) this.end();
        else this.pull();
        this.deliver(into);
        return read.promise;
      }
      if (this.closing) {
        const error = new TypeError("the stream ended within an element");
        this.fail(error);
        return Promise.reject(error);
      }
    }
    this.wanted.push(into);
    this.pull();
    return read.promise;
  }
  close() {
    if (this.closing || this.state !== "readable") throw new TypeError("the stream is closed already");
    this.closing = true;
    if (this.queue.length) return;
    const first = this.wanted[0];
    if (first && first.filled % first.element) {
      const error = new TypeError("the stream ended within an element");
      this.fail(error);
      throw error;
    }
    if (!this.wanted.length || this.wanted.every(into => into.byDefault)) {
      this.end();
      for (const into of this.wanted.splice(0)) into.read.resolve({ value: undefined, done: true });
      this.forget();
    } else {
      this.state = "closed";
      this.closed.resolve();
    }
  }
  respond(count) {
    const first = this.wanted[0];
    if (this.state === "closed") {
      if (count) throw new TypeError("the stream is closed");
      this.forget();
      for (const into of this.wanted.splice(0)) {
        into.buffer = into.buffer.transfer();
        if (into.byDefault) into.read.resolve({ value: undefined, done: true });
        else if (into.read) this.deliver(into, true);
      }
      return;
    }
    if (!count) throw new TypeError("no bytes were written");
    if (first.filled + count > first.length) throw new RangeError("more bytes than the view has");
    this.forget();
    first.buffer = first.buffer.transfer();
    this.filled(first, count);
  }
  respondWith(view) {
    const first = this.wanted[0];
    if (!isObject(view) || !isView(view)) throw new TypeError("not a view of a buffer");
    if (this.state === "closed" ? view.byteLength : !view.byteLength) throw new TypeError("the wrong number of bytes");
    if (first.offset + first.filled !== view.byteOffset) throw new RangeError("the view begins elsewhere");
    if (first.filled + view.byteLength > first.length) throw new RangeError("more bytes than the view has");
    const count = view.byteLength, { buffer } = moved(view);
    if (this.state === "closed") {
      first.buffer = buffer;
      return this.respond(0);
    }
    this.forget();
    first.buffer = buffer;
    this.filled(first, count);
  }
  filled(into, count) {
    into.filled += count;
    if (into.read === null) {
      this.wanted.shift();
      this.keepRest(into);
      this.serve();
      return this.pull();
    }
    if (into.filled >= into.least) {
      this.wanted.shift();
      const over = into.filled % into.element;
      if (over) {
        const rest = new Bytes(into.buffer, into.offset + into.filled - over, over).slice();
        this.queue.push({ chunk: rest, weight: over });
        this.queued += over;
        into.filled -= over;
      }
      this.deliver(into);
      this.serve();
    }
    this.pull();
  }
  empty() {
    super.empty();
    this.forget();
  }
  end() {
    super.end();
    if (this.cancelling) for (const into of this.wanted.splice(0)) into.read?.resolve({ value: undefined, done: true });
  }
  cancel(reason) {
    this.cancelling = true;
    return super.cancel(reason);
  }
  fail(reason) {
    if (this.state !== "readable") return;
    super.fail(reason);
    for (const into of this.wanted.splice(0)) into.read?.reject(reason);
  }
  release(error) {
    super.release(error);
    for (const into of this.wanted) into.read?.reject(error);
    // What the source may be filling stays: its bytes go to the next reader.
    this.wanted.length = Math.min(this.wanted.length, 1);
    if (this.wanted.length) this.wanted[0].read = null;
  }
}
interfaces({ ReadableByteStreamController, ReadableStreamBYOBRequest });
