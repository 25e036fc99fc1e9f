// `util.inspect` and `util.format`, in the form that Node.js prints. What is shown is bounded by the depth, by `maxArrayLength` and by `maxStringLength`.

const INSPECT_DEFAULTS = { showHidden: false, depth: 2, colors: false, customInspect: true, showProxy: false, maxArrayLength: 100, maxStringLength: 10_000, breakLength: 80, compact: 3, sorted: false, getters: false, numericSeparator: false };
const INSPECT_CUSTOM = Symbol.for("nodejs.util.inspect.custom");
const INKS = { special: [36, 39], number: [33, 39], bigint: [33, 39], boolean: [33, 39], undefined: [90, 39], null: [1, 22], string: [32, 39], symbol: [32, 39], date: [35, 39], regexp: [31, 39] };
const CONTROL_NAMES = { "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r" };
const PLAIN_KEY = /^[a-zA-Z_][a-zA-Z_0-9]*$/, ESCAPE_SEQUENCES = /\x1b\[\d+m/g;
const quoted = text => {
  const quote = !text.includes("'") ? "'" : !text.includes('"') ? '"' : !text.includes("`") && !text.includes("${") ? "`" : "'";
  const plain = text.replace(/[\x00-\x1f\x7f-\x9f\\]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, character => {
    const code = character.charCodeAt(0);
    return character === "\\" ? "\\\\" : code > 0xff ? `\\u${code.toString(16)}` : CONTROL_NAMES[character] ?? `\\x${code.toString(16).toUpperCase().padStart(2, "0")}`;
  });
  return quote + (quote === "'" ? plain.replaceAll("'", "\\'") : plain) + quote;
};
const shownKey = key => (typeof key === "symbol" ? `[${String(key)}]` : PLAIN_KEY.test(key) ? key : quoted(key));
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const moreItems = count => `... ${count} more item${count === 1 ? "" : "s"}`;
// The name of the class that made an object; null if there is none on its chain.
const classOf = value => {
  for (let of = value; of !== null; of = Object.getPrototypeOf(of)) {
    const own = Object.getOwnPropertyDescriptor(of, "constructor");
    if (own && typeof own.value === "function" && own.value.name !== "" && value instanceof own.value) return own.value.name;
  }
  return null;
};
// Runs of short items in columns, as Node.js sets arrays of more than six.
const inColumns = (context, output, value) => {
  const many = context.maxArrayLength < output.length ? output.length - 1 : output.length, lengths = output.slice(0, many).map(text => text.replace(ESCAPE_SEQUENCES, "").length);
  const widest = Math.max(...lengths) + 2, total = lengths.reduce((sum, length) => sum + length + 2, 0);
  if (!(widest * 3 + context.indentation < context.breakLength && (total / widest > 5 || widest <= 8))) return output;
  const bias = Math.sqrt(widest - total / output.length), biased = Math.max(widest - 3 - bias, 1);
  const columns = Math.min(Math.round(Math.sqrt(2.5 * biased * many) / biased), Math.floor((context.breakLength - context.indentation) / widest), context.compact * 4, 15);
  if (columns <= 1) return output;
  const widths = Array.from({ length: columns }, (_, column) => 2 + Math.max(...lengths.filter((_, i) => i % columns === column)));
  const numbers = value !== undefined && value.every(item => typeof item === "number" || typeof item === "bigint"), lines = [];
  for (let row = 0; row < many; row += columns) {
    const last = Math.min(row + columns, many) - 1;
    let line = "";
    for (let i = row; i <= last; i++) {
      const text = i < last ? `${output[i]}, ` : output[i], width = widths[i - row] + output[i].length - lengths[i];
      line += numbers ? text.padStart(i < last ? width : width - 2) : i < last ? text.padEnd(width) : text;
    }
    lines.push(line);
  }
  return many < output.length ? [...lines, output[many]] : lines;
};
class Inspection {
  seen = []; circular = new Map(); indentation = 0; reached = 0;
  constructor(options) { Object.assign(this, options); }
  style(text, kind) { return this.colors && INKS[kind] ? `\x1b[${INKS[kind][0]}m${text}\x1b[${INKS[kind][1]}m` : text; }
  primitive(value) {
    if (typeof value === "string") {
      const cut = value.length > this.maxStringLength ? value.length - this.maxStringLength : 0, rest = cut ? `... ${plural(cut, "more character")}` : "", kept = cut ? value.slice(0, -cut) : value;
      if (this.compact !== true && kept.length > 16 && kept.length > this.breakLength - this.indentation - 4 && kept.includes("\n")) {
        return kept.split(/(?<=\n)/).map(line => this.style(quoted(line), "string")).join(` +\n${" ".repeat(this.indentation + 2)}`) + rest;
      }
      return this.style(quoted(kept), "string") + rest;
    }
    if (typeof value === "number") return this.style(Object.is(value, -0) ? "-0" : `${value}`, "number");
    if (typeof value === "bigint") return this.style(`${value}n`, "bigint");
    return this.style(typeof value === "symbol" ? String(value) : `${value}`, value === null ? "null" : typeof value);
  }
  value(value, level, typed = false) {
    if (!isObject(value)) return this.primitive(value);
    const proxy = host.isProxy(value), custom = this.customInspect && !proxy ? value[INSPECT_CUSTOM] : undefined;
    if (typeof custom === "function" && custom !== inspect) {
      const { seen, circular, indentation, reached, ...options } = this, depth = this.depth === null ? null : this.depth - level;
      const made = custom.call(value, depth, { ...options, stylize: (text, kind) => this.style(`${text}`, kind) }, inspect);
      if (made !== value) return isObject(made) ? this.value(made, level) : `${String(made)}`.replaceAll("\n", `\n${" ".repeat(this.indentation)}`);
    }
    if (this.seen.includes(value)) {
      if (!this.circular.has(value)) this.circular.set(value, this.circular.size + 1);
      return this.style(`[Circular *${this.circular.get(value)}]`, "special");
    }
    return this.object(value, level, typed);
  }
  keys(value) {
    const names = this.showHidden ? Object.getOwnPropertyNames(value) : Object.keys(value), symbols = Object.getOwnPropertySymbols(value);
    return [...names, ...(this.showHidden ? symbols : symbols.filter(symbol => Object.prototype.propertyIsEnumerable.call(value, symbol)))];
  }
  object(value, level, typed) {
    const name = classOf(value), tag = this.tag(value, name), indexed = Array.isArray(value) || (isView(value) && !(value instanceof DataView));
    let keys = this.keys(value), braces = ["{", "}"], base = "", entries = () => [], columns = false;
    const prefix = (fallback, size = "") => `${name === null ? `[${fallback}${size}: null prototype] ` : `${name}${size} `}${tag}`;
    if (indexed) {
      keys = keys.filter(key => typeof key === "symbol" || !/^(?:0|[1-9]\d*)$/.test(key));
      braces = [`${Array.isArray(value) && name === "Array" && !tag ? "" : prefix(brand(value), `(${value.length})`)}[`, "]"];
      if (!value.length && !keys.length) return `${braces[0]}]`;
      entries = () => this.items(value, level);
      columns = true;
    } else if (isBrand(setSize, value)) {
      entries = () => this.cut([...Set.prototype.values.call(value)], item => this.below(() => this.value(item, level)));
      braces[0] = `${prefix("Set", `(${setSize.call(value)})`)}{`;
      if (!setSize.call(value) && !keys.length) return `${braces[0]}}`;
    } else if (isBrand(mapSize, value)) {
      entries = () => this.cut([...Map.prototype.entries.call(value)], ([key, item]) => this.below(() => `${this.value(key, level)} => ${this.value(item, level)}`));
      braces[0] = `${prefix("Map", `(${mapSize.call(value)})`)}{`;
      if (!mapSize.call(value) && !keys.length) return `${braces[0]}}`;
    } else if (typeof value === "function") {
      base = this.callable(value, name);
      if (!keys.length) return this.style(base, "special");
    } else if (isBrand(dateValue, value)) {
      base = isNaN(dateValue.call(value)) ? "Invalid Date" : Date.prototype.toISOString.call(value);
      if (name !== "Date") base = `${prefix("Date")}${base}`;
      if (!keys.length) return this.style(base, "date");
    } else if (isBrand(regexpSource, value)) {
      base = RegExp.prototype.toString.call(value);
      if (name !== "RegExp") base = `${prefix("RegExp")}${base}`;
      if (!keys.length) return this.style(base, "regexp");
    } else if (value instanceof Error || value instanceof DOMException) {
      base = this.error(value);
      keys = keys.filter(key => key !== "stack" && key !== "message" && !(key === "name" && base.includes(value.name)));
      if (Object.hasOwn(value, "cause") && !keys.includes("cause")) keys.push("cause");
      if (Array.isArray(value.errors) && !keys.includes("errors")) keys.push("errors");
      if (!keys.length) return base;
    } else if (host.isBuffer(value)) {
      braces[0] = `${prefix("ArrayBuffer")}{`;
      entries = () => [`${this.style("[Uint8Contents]", "special")}: <${this.octets(new Bytes(value))}>`, `byteLength: ${this.value(value.byteLength, level)}`];
    } else if (value instanceof DataView) {
      braces[0] = `${prefix("DataView")}{`;
      entries = () => ["byteLength", "byteOffset", "buffer"].map(key => `${key}: ${this.below(() => this.value(value[key], level))}`);
    } else if (host.isPromise(value)) {
      // Whether it is settled, only the engine knows.
      braces[0] = `${prefix("Promise")}{`;
      if (!keys.length) return `${braces[0]}}`;
    } else if (value instanceof WeakMap || value instanceof WeakSet) {
      braces[0] = `${prefix(brand(value))}{`;
      entries = () => [this.style("<items unknown>", "special")];
    } else if (value instanceof URL || value instanceof URLSearchParams || value instanceof Headers || value instanceof Request || value instanceof Response || value instanceof Blob || value instanceof FormData || value instanceof Event) {
      return show(value, 0, []);
    } else {
      const kind = BOXES.find(kind => brandOf(value) === kind);
      if (kind) {
        if (kind === "String") keys = keys.filter(key => typeof key === "symbol" || !/^(?:0|[1-9]\d*)$/.test(key));
        base = `[${kind}${name === kind || name === null ? "" : ` (${name})`}: ${new Inspection({ ...this, colors: false }).primitive(value.valueOf())}]`;
        if (!keys.length) return this.style(base, kind.toLowerCase());
      } else {
        braces[0] = name === "Object" && !tag ? "{" : `${prefix("Object")}{`;
        if (brandOf(value) === "Arguments") braces[0] = "[Arguments] {";
        if (!keys.length) return `${braces[0]}}`;
      }
    }
    if (this.depth !== null && level > this.depth) return this.style(`[${Array.isArray(value) ? "Array" : name === null ? "Object: null prototype" : name}]`, "special");
    level++;
    this.seen.push(value);
    this.reached = level;
    let output = [...entries(), ...keys.map(key => this.property(value, key, level, indexed))];
    this.seen.pop();
    const mark = this.circular.get(value);
    if (mark !== undefined) {
      const reference = this.style(`<ref *${mark}>`, "special");
      if (this.compact !== true) base = base === "" ? reference : `${reference} ${base}`;
      else braces[0] = `${reference} ${braces[0]}`;
    }
    if (this.sorted) {
      const order = typeof this.sorted === "function" ? this.sorted : undefined;
      if (!indexed) output.sort(order);
    }
    return this.joined(output, base, braces, columns, level, value);
  }
  tag(value, name) {
    let tag;
    try { tag = value[Symbol.toStringTag]; } catch { return ""; }
    // One of its own is listed among its properties.
    return typeof tag !== "string" || tag === "" || Object.prototype.propertyIsEnumerable.call(value, Symbol.toStringTag) || tag === name || isView(value) || (name === null && tag === brandOf(value)) ? "" : `[${tag}] `;
  }
  below(made) {
    this.indentation += 2;
    try { return made(); } finally { this.indentation -= 2; }
  }
  cut(items, made) {
    const rest = items.length - this.maxArrayLength, output = (rest > 0 ? items.slice(0, this.maxArrayLength) : items).map(made);
    return rest > 0 ? [...output, moreItems(rest)] : output;
  }
  octets(bytes) {
    const shown = [...bytes.subarray(0, Math.min(this.maxArrayLength, bytes.length))].map(byte => byte.toString(16).padStart(2, "0")).join(" "), rest = bytes.length - this.maxArrayLength;
    return shown + (rest > 0 ? ` ... ${plural(rest, "more byte")}` : "");
  }
  items(value, level) {
    const output = [];
    let i = 0, holes = 0;
    const gap = () => { if (holes) output.push(this.style(`<${plural(holes, "empty item")}>`, "undefined")); holes = 0; };
    for (; i < value.length && output.length + (holes ? 1 : 0) < this.maxArrayLength; i++) {
      if (!(i in value)) { holes++; continue; }
      gap();
      if (output.length >= this.maxArrayLength) break;
      output.push(this.below(() => this.value(value[i], level)));
    }
    gap();
    if (i < value.length) output.push(moreItems(value.length - i));
    return output;
  }
  callable(value, name) {
    const source = Function.prototype.toString.call(value);
    if (/^class\b/.test(source)) {
      const parent = Object.getPrototypeOf(value)?.name;
      return `[class ${Object.hasOwn(value, "name") && value.name ? value.name : "(anonymous)"}${parent ? ` extends ${parent}` : name === null ? " extends [null prototype]" : ""}]`;
    }
    const kind = brandOf(value);
    return `[${kind === "Object" ? "Function" : kind}${name === null ? " (null prototype)" : ""}${value.name ? `: ${value.name}` : " (anonymous)"}]`;
  }
  error(value) {
    const text = describe(value).trimEnd();
    return this.indentation ? text.replaceAll("\n", `\n${" ".repeat(this.indentation)}`) : text;
  }
  property(value, key, level, indexed) {
    const own = Object.getOwnPropertyDescriptor(value, key) ?? { value: value[key], enumerable: true };
    if (indexed && key === "length") return `[length]: ${this.primitive(value.length)}`;
    const shown = own.get ? this.style(own.set ? "[Getter/Setter]" : "[Getter]", "special") : own.set ? this.style("[Setter]", "special") : this.below(() => this.value(own.value, level));
    const name = typeof key === "symbol" ? `[${this.style(String(key), "symbol")}]` : key === "__proto__" ? "['__proto__']" : own.enumerable ? PLAIN_KEY.test(key) ? this.style(key, "name") : this.style(quoted(key), "string") : `[${key}]`;
    return `${name}: ${shown}`;
  }
  // Whether all of it has room on one line.
  fits(output, base, braces, more) {
    const total = output.reduce((sum, text) => sum + (this.colors ? text.replace(ESCAPE_SEQUENCES, "") : text).length, 2 * output.length + this.indentation + braces[0].length + base.length + more);
    return total <= this.breakLength && !base.includes("\n");
  }
  joined(output, base, braces, columns, level, value) {
    const opened = base ? `${base} ` : "", many = output.length;
    if (typeof this.compact === "number" && this.compact >= 1) {
      if (columns && many > 6) output = inColumns(this, output, Array.isArray(value) || isView(value) ? [...value] : undefined);
      if (this.reached - level < this.compact && many === output.length && this.fits(output, base, braces, 10)) {
        const text = output.join(", ");
        if (!text.includes("\n")) return `${opened}${braces[0]} ${text} ${braces[1]}`;
      }
    }
    if (this.compact === true) {
      const line = `\n${" ".repeat(this.indentation)}  `, lead = base ? ` ${base}` : "";
      if (this.fits(output, base, braces, 0)) return `${braces[0]}${lead} ${output.join(", ")} ${braces[1]}`;
      return `${braces[0]}${!base && braces[0].length === 1 ? " " : lead + line}${output.join(`,${line}`)} ${braces[1]}`;
    }
    const indentation = `\n${" ".repeat(this.indentation)}`;
    return `${opened}${braces[0]}${indentation}  ${output.join(`,${indentation}  `)}${indentation}${braces[1]}`;
  }
}
// What an object is beneath its prototype and its tag.
const brandOf = value => {
  for (const [kind, test] of [["Number", Number.prototype.valueOf], ["String", String.prototype.valueOf], ["Boolean", Boolean.prototype.valueOf], ["BigInt", BigInt.prototype.valueOf], ["Symbol", Symbol.prototype.valueOf]]) if (isBrand(test, value)) return kind;
  return Object.prototype.toString.call(value).slice(8, -1);
};
const inspect = (value, options = undefined, depth = undefined, colors = undefined) => {
  const given = isObject(options) ? options : { ...(options === undefined ? {} : { showHidden: options }), ...(depth === undefined ? {} : { depth }), ...(colors === undefined ? {} : { colors }) };
  const settings = { ...INSPECT_DEFAULTS };
  for (const key of Object.keys(INSPECT_DEFAULTS)) if (given[key] !== undefined) settings[key] = given[key];
  for (const key of ["maxArrayLength", "maxStringLength"]) settings[key] = settings[key] === null ? Infinity : Math.max(settings[key], 0);
  if (settings.depth === Infinity) settings.depth = null;
  return new Inspection(settings).value(value, 0);
};
inspect.custom = INSPECT_CUSTOM;
inspect.defaultOptions = { ...INSPECT_DEFAULTS };
inspect.colors = { reset: [0, 0], bold: [1, 22], dim: [2, 22], italic: [3, 23], underline: [4, 24], inverse: [7, 27], strikethrough: [9, 29], black: [30, 39], red: [31, 39], green: [32, 39], yellow: [33, 39], blue: [34, 39], magenta: [35, 39], cyan: [36, 39], white: [37, 39], gray: [90, 39], grey: [90, 39] };

// Whether `%s` shows an object by its own `toString`.
const speaksForItself = value => {
  if (typeof value.toString !== "function") return false;
  if (Object.hasOwn(value, "toString")) return true;
  for (let of = Object.getPrototypeOf(value); of !== null; of = Object.getPrototypeOf(of)) {
    if (Object.hasOwn(of, "toString")) return !BUILT_IN.has(of);
  }
  return false;
};
const BUILT_IN = new Set([Object, Array, Function, Map, Set, Promise, ArrayBuffer, Bytes, Number, String, Boolean, BigInt, Symbol, Date, RegExp, Error, Object.getPrototypeOf(Bytes)].map(constructor => constructor.prototype));
const numberShown = (value, parse) => (typeof value === "bigint" ? `${value}n` : typeof value === "symbol" || (isObject(value) && parse === Number) ? "NaN" : `${Object.is(parse(value), -0) ? "-0" : parse(value)}`);
const formatWith = (options, values) => {
  let text = "", at = 0;
  if (typeof values[0] === "string" && values.length > 1) {
    at = 1;
    text = values[0].replace(/%([sdifjoOc%])/g, (whole, kind) => {
      if (kind === "%") return "%";
      if (at >= values.length) return whole;
      const value = values[at++];
      switch (kind) {
        case "s":
          if (typeof value === "number") return Object.is(value, -0) ? "-0" : `${value}`;
          if (typeof value === "bigint") return `${value}n`;
          if (!isObject(value) || typeof value === "function" || speaksForItself(value)) return String(value);
          return inspect(value, { ...options, depth: 0, colors: false, compact: 3 });
        case "d": return numberShown(value, Number);
        case "i": return numberShown(value, parseInt);
        case "f": return typeof value === "symbol" ? "NaN" : `${parseFloat(value)}`;
        case "j":
          try { return `${JSON.stringify(value)}`; } catch (error) { if (/circular/i.test(error.message)) return "[Circular]"; throw error; }
        case "o": return inspect(value, { ...options, showHidden: true, showProxy: true, depth: 4 });
        case "O": return inspect(value, options);
        default: return "";
      }
    });
  } else if (typeof values[0] === "string") [text, at] = [values[0], 1];
  const rest = values.slice(at).map(value => (typeof value === "string" ? value : inspect(value, { ...options, compact: 3, depth: 2, ...options })));
  return [...(at ? [text] : []), ...rest].join(" ");
};
