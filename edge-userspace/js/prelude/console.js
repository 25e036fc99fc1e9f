// console, into the edge's log with the zone and the request. Values are shown as in other runtimes, to a depth and a length.

const DEPTH = 4, LONGEST = 8000, MANY = 100;
const show = (value, depth, seen) => {
  if (typeof value === "string") return depth ? JSON.stringify(value) : value;
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "symbol") return String(value);
  if (typeof value === "function") return `[function ${value.name || "anonymous"}]`;
  if (!isObject(value)) return Object.is(value, -0) ? "-0" : `${value}`;
  if (seen.includes(value)) return "[circular]";
  if (value instanceof Error || value instanceof DOMException) return describe(value).trimEnd();
  if (depth >= DEPTH) return Array.isArray(value) ? "[…]" : "{…}";
  const inner = [...seen, value], below = item => show(item, depth + 1, inner);
  if (Array.isArray(value)) return `[${value.slice(0, MANY).map(below).join(", ")}${value.length > MANY ? ", …" : ""}]`;
  if (value instanceof Date) return isNaN(value) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp || value instanceof URL || value instanceof URLSearchParams) return String(value);
  if (value instanceof Map) return `Map(${value.size}) {${[...value].slice(0, MANY).map(([key, item]) => `${below(key)} => ${below(item)}`).join(", ")}}`;
  if (value instanceof Set) return `Set(${value.size}) {${[...value].slice(0, MANY).map(below).join(", ")}}`;
  if (value instanceof Headers) return `Headers {${[...value].map(([name, item]) => `${name}: ${JSON.stringify(item)}`).join(", ")}}`;
  if (value instanceof Request) return `Request { method: ${JSON.stringify(value.method)}, url: ${JSON.stringify(value.url)}, headers: ${below(value.headers)}, bodyUsed: ${value.bodyUsed} }`;
  if (value instanceof Response) return `Response { status: ${value.status}, url: ${JSON.stringify(value.url)}, headers: ${below(value.headers)}, bodyUsed: ${value.bodyUsed} }`;
  if (value instanceof FormData) return `FormData {${[...value].slice(0, MANY).map(([name, item]) => `${name}: ${below(item)}`).join(", ")}}`;
  if (value instanceof File) return `File { name: ${JSON.stringify(value.name)}, size: ${value.size}, type: ${JSON.stringify(value.type)} }`;
  if (value instanceof Blob) return `Blob { size: ${value.size}, type: ${JSON.stringify(value.type)} }`;
  if (value instanceof Event) return `${value.constructor.name} { type: ${JSON.stringify(value.type)} }`;
  if (host.isPromise(value)) return "Promise {}";
  if (isView(value)) return `${brand(value)}(${value.length ?? value.byteLength}) [${[...(value.length === undefined ? [] : value.subarray(0, 32))].join(", ")}${value.length > 32 ? ", …" : ""}]`;
  const keys = Object.keys(value), name = Object.getPrototypeOf(value)?.constructor?.name;
  const body = keys.slice(0, MANY).map(key => `${/^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key)}: ${below(value[key])}`).join(", ");
  return `${name && name !== "Object" ? `${name} ` : ""}{${body}${keys.length > MANY ? ", …" : ""}}`;
};
const format = values => {
  let rest = values, text = "";
  if (typeof values[0] === "string" && values.length > 1 && values[0].includes("%")) {
    let at = 1;
    text = values[0].replace(/%([sdifjoOc%])/g, (whole, kind) => {
      if (kind === "%") return "%";
      if (at >= values.length) return whole;
      const value = values[at++];
      if (kind === "c") return "";
      if (kind === "s") return typeof value === "string" ? value : show(value, 1, []);
      if (kind === "d" || kind === "i") return typeof value === "bigint" ? `${value}n` : `${kind === "i" ? parseInt(value, 10) : Number(value)}`;
      if (kind === "f") return `${parseFloat(value)}`;
      if (kind === "j") return JSON.stringify(value);
      return show(value, 1, []);
    });
    rest = values.slice(at);
    if (rest.length) text += " ";
  }
  return (text + rest.map(value => show(value, 0, [])).join(" ")).slice(0, LONGEST);
};
let indent = "";
const print = (level, values) => {
  let text;
  try { text = indent ? indent + format(values).replaceAll("\n", `\n${indent}`) : format(values); } catch { text = "(what was logged threw when it was looked at)"; }
  host.log(level, text);
};
const counts = new Map(), starts = new Map();
const console = globalThis.console = {
  debug(...values) { print(1, values); },
  trace(...values) { print(1, [...values, `\n${new Error().stack.split("\n").slice(1).join("\n")}`]); },
  log(...values) { print(2, values); },
  info(...values) { print(2, values); },
  dir(value) { print(2, [value]); },
  dirxml(...values) { print(2, values); },
  table(value) { print(2, [value]); },
  group(...values) {
    if (values.length) print(2, values);
    indent += "  ";
  },
  groupCollapsed(...values) { console.group(...values); },
  groupEnd() { indent = indent.slice(2); },
  clear() { indent = ""; },
  warn(...values) { print(3, values); },
  error(...values) { print(4, values); },
  assert(condition, ...values) { if (!condition) print(4, ["Assertion failed:", ...values]); },
  count(label = "default") {
    const count = (counts.get(`${label}`) ?? 0) + 1;
    counts.set(`${label}`, count);
    print(2, [`${label}: ${count}`]);
  },
  countReset(label = "default") { counts.delete(`${label}`); },
  time(label = "default") { starts.set(`${label}`, now()); },
  timeLog(label = "default", ...values) { if (starts.has(`${label}`)) print(2, [`${label}: ${now() - starts.get(`${label}`)} ms`, ...values]); },
  timeEnd(label = "default") {
    console.timeLog(label);
    starts.delete(`${label}`);
  },
};
Object.defineProperty(console, Symbol.toStringTag, { value: "console", configurable: true });
Object.defineProperty(globalThis, "console", { enumerable: false });
// An error that somebody else is to hear of (HTML standard, section 8.1.4.5): the request goes on.
expose("reportError", function reportError(error) {
  required(1, arguments.length, "reportError");
  if (!live || globalEvent === null || globalEvent("error", error, null)) print(4, [error]);
});
