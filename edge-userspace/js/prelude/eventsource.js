// EventSource (HTML standard, section 9.2): events of a server that stay on one response, asked for again when it ends.

const SOURCE_STATES = { CONNECTING: 0, OPEN: 1, CLOSED: 2 };
class EventSource extends EventTarget {
  #url; #state = 0; #credentials; #abort = new AbortController(); #last = ""; #wait = 3000; #asked; #headers;
  constructor(url, init = undefined) {
    super();
    required(1, arguments.length, "EventSource");
    const record = host.urlParse(usv(url), currentUrl), options = dictionary(init, "the options");
    if (!record) throw new DOMException("EventSource: not a URL", "SyntaxError");
    whileLive("EventSource");
    this.#url = record[0];
    this.#credentials = !!options.withCredentials;
    // As other platforms have them: another fetch, and fields of its own.
    this.#asked = typeof options.fetch === "function" ? options.fetch : (input, asked) => fetch(input, asked);
    this.#headers = options.headers ?? [];
    quiet(this.#run());
  }
  async #run() {
    while (this.#state !== 2) {
      try {
        const headers = new Headers(this.#headers);
        if (!headers.has("accept")) headers.set("accept", "text/event-stream");
        if (this.#last) headers.set("last-event-id", this.#last);
        const response = await this.#asked(this.#url, { headers, signal: this.#abort.signal });
        if (this.#state === 2) return;
        if (response.status !== 200 || mimeOf(response.headers.get("content-type"))?.essence !== "text/event-stream" || !response.body) {
          this.close();
          this.dispatchEvent(new Event("error"));
          return;
        }
        this.#state = 1;
        this.dispatchEvent(new Event("open"));
        await this.#read(response.body);
      } catch { /* asked again */ }
      if (this.#state === 2) return;
      this.#state = 0;
      this.dispatchEvent(new Event("error"));
      if (this.#state !== 2) await new Promise(resolve => setTimer(resolve, this.#wait, false, [], "EventSource"));
    }
  }
  async #read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", data = [], type = "", id = this.#last;
    const line = text => {
      if (text === "") {
        this.#last = id;
        if (data.length) this.dispatchEvent(new MessageEvent(type || "message", { data: data.join("\n"), lastEventId: id, origin: new URL(this.#url).origin }));
        data = [];
        type = "";
        return;
      }
      const colon = text.indexOf(":"), name = colon < 0 ? text : text.slice(0, colon), value = colon < 0 ? "" : text.slice(colon + (text[colon + 1] === " " ? 2 : 1));
      if (name === "data") data.push(value);
      else if (name === "event") type = value;
      else if (name === "id" && !value.includes("\0")) id = value;
      else if (name === "retry" && /^\d+$/.test(value)) this.#wait = Math.min(+value, 0x7fffffff);
    };
    let after = false;
    for (let step; !(step = await reader.read()).done;) {
      let text = step.value;
      // A line feed after a carriage return that ended the chunk before belongs to it.
      if (after && text.startsWith("\n")) text = text.slice(1);
      if (!text) continue;
      after = text.endsWith("\r");
      const lines = (rest + text).split(/\r\n|\r|\n/);
      rest = lines.pop();
      for (const one of lines) {
        if (this.#state === 2) return void quiet(reader.cancel());
        line(one);
      }
    }
  }
  close() {
    this.#state = 2;
    this.#abort.abort();
  }
  get url() { return this.#url; }
  get readyState() { return this.#state; }
  get withCredentials() { return this.#credentials; }
}
for (const [name, value] of Object.entries(SOURCE_STATES)) for (const place of [EventSource, EventSource.prototype]) Object.defineProperty(place, name, { value, enumerable: true });
handlers(EventSource, "open", "message", "error");
interfaces({ EventSource });
