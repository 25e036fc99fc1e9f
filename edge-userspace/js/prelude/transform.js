// TransformStream (Streams standard, section 6) and the transforms of text.

class TransformStreamDefaultController {
  #on;
  constructor(token, on) { illegal(token); this.#on = on; }
  get desiredSize() { return this.#on.output().desired(); }
  enqueue(chunk = undefined) { this.#on.enqueue(chunk); }
  error(reason = undefined) { this.#on.fail(reason); }
  terminate() { this.#on.end(); }
}
class TransformStream {
  #readable; #writable;
  constructor(transformer = undefined, writableStrategy = undefined, readableStrategy = undefined) {
    const of = dictionary(transformer, "the transformer");
    if (of.readableType !== undefined || of.writableType !== undefined) throw new RangeError("TransformStream: there are no types");
    const [start, transform, flush, cancel] = callbacks(of, "start", "transform", "flush", "cancel");
    const inside = sizes(writableStrategy), outside = sizes(readableStrategy);
    const begun = new Deferred();
    // `finished` is the one ending that runs: flush, cancel or abort.
    let output, input, pressed = true, change = new Deferred(), finished = null;
    const press = to => {
      if (pressed === to) return;
      pressed = to;
      change.resolve();
      change = new Deferred();
    };
    const failInput = reason => {
      if (input.state === "writable") input.startErroring(reason);
      press(false);
    };
    const on = {
      output: () => output,
      enqueue(chunk) {
        if (output.closing || output.state !== "readable") throw new TypeError("the stream takes no more chunks");
        try {
          output.enqueue(chunk);
        } catch (error) {
          failInput(error);
          throw output.error;
        }
        if (!output.wants()) press(true);
      },
      fail(reason) {
        output.fail(reason);
        failInput(reason);
      },
      end() {
        if (!output.closing && output.state === "readable") output.close();
        failInput(new TypeError("the transformer ended the stream"));
      },
    };
    const controller = new TransformStreamDefaultController(INTERNAL, on);
    const readable = this.#readable = new ReadableStream({
      start: () => begun.promise,
      pull() {
        press(false);
        return change.promise;
      },
      cancel(reason) {
        if (finished) return finished;
        const done = new Deferred();
        finished = done.promise;
        attempt(cancel, transformer, reason).then(() => {
          if (input.state === "errored" || input.state === "erroring") return done.reject(input.error);
          failInput(reason);
          done.resolve();
        }, error => {
          failInput(error);
          done.reject(error);
        });
        return quiet(finished);
      },
    }, { highWaterMark: outside.mark ?? 0, size: outside.size });
    output = streamCore(readable);
    const writable = this.#writable = new WritableStream({
      start: () => begun.promise,
      async write(chunk) {
        if (pressed) {
          while (pressed) await change.promise;
          if (input.state === "erroring") throw input.error;
        }
        try {
          if (transform) await transform.call(transformer, chunk, controller);
          else on.enqueue(chunk);
        } catch (error) {
          on.fail(error);
          throw error;
        }
      },
      close() {
        if (finished) return finished;
        finished = attempt(flush, transformer, controller).then(() => {
          if (output.state === "errored") throw output.error;
          if (!output.closing && output.state === "readable") output.close();
        }, error => {
          output.fail(error);
          throw error;
        });
        return quiet(finished);
      },
      abort(reason) {
        if (finished) return finished;
        finished = attempt(cancel, transformer, reason).then(() => {
          if (output.state === "errored") throw output.error;
          output.fail(reason);
        }, error => {
          output.fail(error);
          throw error;
        });
        return quiet(finished);
      },
    }, { highWaterMark: inside.mark ?? 1, size: inside.size });
    input = sinkOf(writable);
    // What `start` throws, the constructor throws; what it rejects with, both sides fail with.
    const first = start?.call(transformer, controller);
    begun.resolve(first);
  }
  get readable() { return this.#readable; }
  get writable() { return this.#writable; }
}
// A stream whose two ends are a transform's.
const transforming = (Class, of) => {
  for (const name of ["readable", "writable"]) {
    Object.defineProperty(Class.prototype, name, { configurable: true, get() { return of(this)[name]; } });
  }
};
class TextEncoderStream {
  #transform;
  static { transforming(this, stream => stream.#transform); }
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
}
class TextDecoderStream {
  #decoder; #transform;
  static { transforming(this, stream => stream.#transform); }
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
}
interfaces({ TransformStream, TransformStreamDefaultController, TextEncoderStream, TextDecoderStream });
