// CompressionStream and DecompressionStream (Compression standard): the host works, chunk by chunk (codecs.rs).

const FORMATS = { "gzip": 1, "deflate": 2, "deflate-raw": 3 }, CODEC = 20;
const codec = (Class, compress) => {
  const transforms = new WeakMap();
  transforming(Class, stream => transforms.get(stream));
  return (stream, format) => {
    required(1, format === undefined ? 0 : 1, Class.name);
    const number = FORMATS[`${format}`];
    if (!number) throw new TypeError(`${Class.name}: no such format: ${format}`);
    let id = -1;
    const work = (chunk, last, controller) => {
      for (let data = chunk, more = true; more; data = NOTHING) {
        whileLive(Class.name);
        const answer = host.call(CODEC, id, (id < 0 ? number | (compress ? 4 : 0) : 0) | (last ? 8 : 0), data);
        if (typeof answer === "number") throw answer === -16 ? new TypeError(`${Class.name}: the data is not ${format}, or not all of it`) : new RangeError(`${Class.name}: ${refusal(answer)}`);
        id = new DataView(answer.buffer).getInt32(0, true);
        more = answer[4] !== 0;
        if (answer.length > 5) controller.enqueue(answer.slice(5));
      }
    };
    const close = () => { if (id >= 0 && live) host.call(CODEC, id, 16); };
    transforms.set(stream, new TransformStream({
      transform(chunk, controller) {
        if (!isBufferSource(chunk)) throw new TypeError(`${Class.name}: a chunk is not bytes`);
        work(bytesOf(chunk), false, controller);
      },
      flush(controller) {
        work(NOTHING, true, controller);
        close();
      },
      cancel: close,
    }));
  };
};
class CompressionStream {
  static #make = codec(CompressionStream, true);
  constructor(format) { CompressionStream.#make(this, format); }
}
class DecompressionStream {
  static #make = codec(DecompressionStream, false);
  constructor(format) { DecompressionStream.#make(this, format); }
}
interfaces({ CompressionStream, DecompressionStream });
