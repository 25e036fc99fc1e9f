// WritableStream (Streams standard, section 5). `Sink` is what a stream holds.

let sinkOf, sinkLock;
class WritableStreamDefaultController {
  #core;
  constructor(token, core) { illegal(token); this.#core = core; }
  get signal() { return this.#core.abortion.signal; }
  error(reason = undefined) { if (this.#core.state === "writable") this.#core.startErroring(reason); }
}
class Sink {
  state = "writable"; error = undefined; writer = null; started = false; abortion = new AbortController();
  queue = []; queued = 0; writing = null; closing = null; closingNow = false; aborting = null; pressed = false;
  ready = new Deferred(); closed = new Deferred();
  constructor(sink, mark, size) {
    quiet(this.closed.promise);
    quiet(this.ready.promise);
    this.sink = sink;
    this.mark = mark;
    this.size = size;
    this.controller = new WritableStreamDefaultController(INTERNAL, this);
    this.pressed = mark <= 0;
    if (!this.pressed) this.ready.resolve();
  }
  begin() {
    const begun = this.sink.start?.call(this.sink.self, this.controller);
    Promise.resolve(begun).then(() => {
      this.started = true;
      this.advance();
    }, error => {
      this.started = true;
      this.refuse(error);
    });
  }
  desired() { return this.state === "errored" || this.state === "erroring" ? null : this.state === "closed" ? 0 : this.mark - this.queued; }
  get ending() { return this.closing !== null; }
  press() {
    const pressed = this.desired() <= 0;
    if (this.state !== "writable" || this.ending || pressed === this.pressed) return;
    this.pressed = pressed;
    if (pressed) quiet((this.ready = new Deferred()).promise);
    else this.ready.resolve();
  }
  refuse(error) {
    if (this.state === "writable") this.startErroring(error);
    else if (this.state === "erroring") this.finishErroring();
  }
  startErroring(reason) {
    this.state = "erroring";
    this.error = reason;
    if (!this.pressed) quiet((this.ready = new Deferred()).promise);
    this.ready.reject(reason);
    if (!this.writing && !this.closingNow && this.started) this.finishErroring();
  }
  finishErroring() {
    if (this.writing || this.closingNow) return;
    this.state = "errored";
    const error = this.error;
    for (const { done } of this.queue.splice(0)) done.reject(error);
    this.queued = 0;
    const over = () => {
      if (this.closing && !this.closingNow) this.closing.reject(error);
      this.closing = null;
      this.closed.reject(error);
    };
    const request = this.aborting;
    if (!request) return over();
    this.aborting = null;
    if (request.already) {
      request.done.reject(error);
      return over();
    }
    attempt(this.sink.abort, this.sink.self, request.reason).then(() => { request.done.resolve(); over(); }, failure => { request.done.reject(failure); over(); });
  }
  write(chunk) {
    let weight = 1;
    if (this.size) {
      try { weight = weigh(this.size, chunk); } catch (error) { if (this.state === "writable") this.startErroring(error); }
    }
    if (this.state === "errored") return Promise.reject(this.error);
    if (this.ending || this.state === "closed") return Promise.reject(new TypeError("the stream takes no more chunks"));
    if (this.state === "erroring") return Promise.reject(this.error);
    const done = new Deferred();
    this.queue.push({ chunk, weight, done });
    this.queued += weight;
    this.press();
    this.advance();
    return done.promise;
  }
  close() {
    if (this.state === "closed" || this.ending) return Promise.reject(new TypeError("the stream is closed already"));
    if (this.state === "errored") return Promise.reject(this.error);
    this.closing = new Deferred();
    if (this.pressed && this.state === "writable") this.ready.resolve();
    this.advance();
    return this.closing.promise;
  }
  advance() {
    if (!this.started || this.writing || this.closingNow) return;
    if (this.state === "erroring") return this.finishErroring();
    if (this.state !== "writable") return;
    if (!this.queue.length) {
      if (this.ending) this.finish();
      return;
    }
    const { chunk, weight, done } = this.writing = this.queue[0];
    attempt(this.sink.write, this.sink.self, chunk, this.controller).then(() => {
      this.writing = null;
      done.resolve();
      this.queue.shift();
      this.queued = Math.max(this.queued - weight, 0);
      if (this.state === "erroring") return this.finishErroring();
      this.press();
      this.advance();
    }, error => {
      this.writing = null;
      done.reject(error);
      this.queue.shift();
      this.refuse(error);
    });
  }
  finish() {
    this.closingNow = true;
    const done = this.closing;
    attempt(this.sink.close, this.sink.self).then(() => {
      this.closingNow = false;
      done.resolve();
      if (this.state === "erroring") {
        this.error = undefined;
        if (this.aborting) this.aborting.done.resolve();
        this.aborting = null;
      }
      this.state = "closed";
      this.closed.resolve();
    }, error => {
      this.closingNow = false;
      done.reject(error);
      if (this.aborting) {
        this.aborting.done.reject(error);
        this.aborting = null;
      }
      this.refuse(error);
    });
  }
  stop(reason) {
    if (this.state === "closed" || this.state === "errored") return Promise.resolve();
    this.abortion.abort(reason);
    if (this.state === "closed" || this.state === "errored") return Promise.resolve();
    if (this.aborting) return this.aborting.done.promise;
    const already = this.state === "erroring";
    this.aborting = { done: new Deferred(), reason: already ? undefined : reason, already };
    const { promise } = this.aborting.done;
    if (!already) this.startErroring(reason);
    return promise;
  }
}
class WritableStreamDefaultWriter {
  #core = null; #closed = null; #ready = null;
  constructor(stream) {
    required(1, arguments.length, "WritableStreamDefaultWriter");
    this.#core = sinkLock(stream, this);
  }
  #need() {
    if (!this.#core) throw new TypeError("the writer was released");
    return this.#core;
  }
  get closed() { return this.#core ? this.#core.closed.promise : this.#closed; }
  get ready() { return this.#core ? this.#core.ready.promise : this.#ready; }
  get desiredSize() { return this.#need().desired(); }
  write(chunk = undefined) { try { return this.#need().write(chunk); } catch (error) { return Promise.reject(error); } }
  close() { try { return this.#need().close(); } catch (error) { return Promise.reject(error); } }
  abort(reason = undefined) { try { return this.#need().stop(reason); } catch (error) { return Promise.reject(error); } }
  releaseLock() {
    if (!this.#core) return;
    this.#core.writer = null;
    this.#core = null;
    this.#closed = this.#ready = quiet(Promise.reject(new TypeError("the writer was released")));
  }
}
class WritableStream {
  #core;
  static {
    sinkOf = stream => stream.#core;
    sinkLock = (stream, writer) => {
      if (!isObject(stream) || !(#core in stream)) throw new TypeError("not a WritableStream");
      if (stream.#core.writer) throw new TypeError("the stream is locked");
      stream.#core.writer = writer;
      return stream.#core;
    };
  }
  constructor(sink = undefined, strategy = undefined) {
    const of = dictionary(sink, "the sink"), { mark, size } = sizes(strategy);
    if (of.type !== undefined) throw new RangeError("WritableStream: there are no types");
    const [start, write, close, abort] = callbacks(of, "start", "write", "close", "abort");
    this.#core = new Sink({ start, write, close, abort, self: sink }, mark ?? 1, size);
    this.#core.begin();
  }
  get locked() { return this.#core.writer !== null; }
  getWriter() { return new WritableStreamDefaultWriter(this); }
  abort(reason = undefined) {
    if (this.locked) return Promise.reject(new TypeError("the stream is locked"));
    return this.#core.stop(reason);
  }
  close() {
    if (this.locked) return Promise.reject(new TypeError("the stream is locked"));
    return this.#core.close();
  }
}
interfaces({ WritableStream, WritableStreamDefaultWriter, WritableStreamDefaultController });

// ReadableStreamPipeTo: whatever ends on either side ends the pipe, after the writes that were begun.
const pipeSettings = options => {
  const { preventClose, preventAbort, preventCancel, signal } = dictionary(options, "the options");
  if (signal !== undefined && !(isObject(signal) && signal instanceof AbortSignal)) throw new TypeError("the signal is not an AbortSignal");
  return { preventClose: !!preventClose, preventAbort: !!preventAbort, preventCancel: !!preventCancel, signal };
};
const pipe = (source, destination, { preventClose, preventAbort, preventCancel, signal }) => {
  const reader = new ReadableStreamDefaultReader(source), writer = new WritableStreamDefaultWriter(destination);
  const from = streamCore(source), to = sinkOf(destination), whole = new Deferred();
  from.disturbed = true;
  let over = false, writes = Promise.resolve(), drop = () => {};
  const finish = (failed, error) => {
    drop();
    writer.releaseLock();
    reader.releaseLock();
    if (failed) whole.reject(error);
    else whole.resolve();
  };
  const shut = (action, failed, error) => {
    if (over) return;
    over = true;
    const after = async () => {
      // Chunks that were read are written.
      if (to.state === "writable" && !to.ending) for (let last = null; last !== writes;) await quiet(last = writes).catch(() => {});
      if (!action) return finish(failed, error);
      try { await action(); } catch (failure) { return finish(true, failure); }
      finish(failed, error);
    };
    after();
  };
  if (signal) {
    drop = signalFollow(signal, reason => {
      const actions = [];
      if (!preventAbort) actions.push(() => (to.state === "writable" ? to.stop(reason) : Promise.resolve()));
      if (!preventCancel) actions.push(() => (from.state === "readable" ? from.cancel(reason) : Promise.resolve()));
      shut(() => Promise.all(actions.map(action => action())), true, reason);
    });
    if (over) return whole.promise;
  }
  const sourceFailed = error => (preventAbort ? shut(null, true, error) : shut(() => to.stop(error), true, error));
  const sourceClosed = () => (preventClose ? shut() : shut(() => (to.ending || to.state === "closed" ? Promise.resolve() : to.state === "errored" ? Promise.reject(to.error) : to.close())));
  const sinkFailed = error => (preventCancel ? shut(null, true, error) : shut(() => from.cancel(error), true, error));
  if (from.state === "errored") sourceFailed(from.error);
  else if (to.state === "errored" || to.state === "erroring") sinkFailed(to.error);
  else if (from.state === "closed") sourceClosed();
  else if (to.ending || to.state === "closed") {
    const error = new TypeError("the destination is closed");
    if (preventCancel) shut(null, true, error);
    else shut(() => from.cancel(error), true, error);
  }
  if (over) return whole.promise;
  from.closed.promise.then(() => { if (!from.queue.length) sourceClosed(); }, sourceFailed);
  to.closed.promise.then(() => sinkFailed(new TypeError("the destination is closed")), sinkFailed);
  const step = async () => {
    while (!over) {
      try { await to.ready.promise; } catch { return; }
      if (over) return;
      let next;
      try { next = await from.read(); } catch { return; }
      // What was read while the pipe ended is written still, if it can be.
      if (next.done) return;
      if (to.state === "writable" && !to.ending) writes = quiet(to.write(next.value));
    }
  };
  step();
  return whole.promise;
};
