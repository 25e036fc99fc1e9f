// Intl for three locales, which are there as the browsers have them: en-US (and what begins with en), en-GB, de (and what begins with de). Others
// are a RangeError, and so are options that are not here: wrong numbers and dates in silence help nobody. Time zones are the host's.

const LOCALES = {
  "en-US": { decimal: ".", group: ",", months: "January February March April May June July August September October November December", days: "Sunday Monday Tuesday Wednesday Thursday Friday Saturday", cut: 3 },
  "en-GB": { decimal: ".", group: ",", cut: 3 },
  "de": { decimal: ",", group: ".", months: "Januar Februar März April Mai Juni Juli August September Oktober November Dezember", days: "Sonntag Montag Dienstag Mittwoch Donnerstag Freitag Samstag",
    short: "Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez.", cut: 2 },
};
LOCALES["en-GB"] = { ...LOCALES["en-US"], ...LOCALES["en-GB"] };
for (const locale of Object.values(LOCALES)) {
  locale.months = locale.months.split(" ");
  locale.days = locale.days.split(" ");
  locale.short = locale.short ? locale.short.split(" ") : locale.months.map(month => month.slice(0, locale.cut));
}
const LANGUAGE_TAG = /^([a-z]{2,8})(?:-[a-z]{4})?(?:-([a-z]{2}|\d{3}))?(?:-[a-z0-9]{1,8})*$/i;
const canonicalLocale = tag => {
  if (typeof tag !== "string" && !isObject(tag)) throw new TypeError("a locale is text");
  const found = LANGUAGE_TAG.exec(`${tag}`);
  if (!found) throw new RangeError(`Incorrect locale information provided: ${tag}`);
  return [found[1].toLowerCase(), ...`${tag}`.split("-").slice(1).map((piece, i, all) => (piece.length === 4 && !i ? piece[0].toUpperCase() + piece.slice(1).toLowerCase() : piece.length === 2 && (i === 0 || all[i - 1].length === 4) ? piece.toUpperCase() : piece))].join("-");
};
const canonicalLocales = locales => (locales === undefined ? [] : [...new Set((typeof locales === "string" || !(Symbol.iterator in Object(locales)) ? [locales] : [...locales]).map(canonicalLocale))]);
// The data's name for a locale; undefined if there is none.
const dataOf = tag => (tag === "en-GB" ? tag : tag === "en" || tag.startsWith("en-") ? "en-US" : tag === "de" || tag.startsWith("de-") ? "de" : undefined);
const chooseLocale = locales => {
  const list = canonicalLocales(locales), tag = list.length ? list.find(dataOf) : "en-US";
  if (!tag) throw new RangeError(`the locale ${list[0]} is not here: en-US, en-GB and de are`);
  return { tag, ...LOCALES[dataOf(tag)], name: dataOf(tag) };
};
const optionOf = (options, name, values, fallback) => {
  let value = options[name];
  if (value === undefined) return fallback;
  if (typeof fallback === "boolean") return !!value;
  value = `${value}`;
  if (values && !values.includes(value)) throw new RangeError(`Value ${value} out of range for Intl option ${name}`);
  return value;
};
const numberOption = (options, name, least, most, fallback) => {
  if (options[name] === undefined) return fallback;
  const value = +options[name];
  if (!(value >= least && value <= most)) throw new RangeError(`${name} value is out of range`);
  return Math.floor(value);
};

// Digits of a number that is not negative: by its shortest decimal, half away from zero.
const digitsOf = value => {
  const [mantissa, exponent = "0"] = `${value}`.split("e"), [whole, fraction = ""] = mantissa.split(".");
  const digits = (whole + fraction).replace(/^0+/, ""), point = whole.length + +exponent - (whole + fraction).length + digits.length;
  return { digits: digits || "0", point: digits ? point : 1 };
};
const rounded = ({ digits, point }, places) => {
  const keep = point + places;
  if (keep >= digits.length) return { digits, point };
  if (keep < 0) return { digits: "0", point: 1 };
  const up = digits.charCodeAt(keep) >= 53, kept = `0${digits.slice(0, keep)}`;
  const next = up ? (BigInt(kept) + 1n).toString().padStart(kept.length, "0") : kept;
  return next[0] === "0" ? { digits: next.slice(1) || "0", point: next.length > 1 ? point : 1 } : { digits: next, point: point + 1 };
};
const CURRENCIES = { USD: ["$", "$"], EUR: ["€", "€"], GBP: ["£", "£"], JPY: ["¥", "¥"], CNY: ["CN¥", "CN¥"], INR: ["₹", "₹"], KRW: ["₩", "₩"], AUD: ["A$", "AU$"], CAD: ["CA$", "CA$"], MXN: ["MX$", "MX$"], BRL: ["R$", "R$"], NZD: ["NZ$", "NZ$"], HKD: ["HK$", "HK$"], ILS: ["₪", "₪"], VND: ["₫", "₫"] };
const NO_MINOR = new Set(["JPY", "KRW", "VND", "CLP", "ISK", "PYG", "UGX", "XAF", "XOF", "XPF", "RWF", "GNF", "KMF", "DJF", "BIF", "VUV"]);
const COMPACT = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]];
class NumberFormat {
  #locale; #of; #bound = null;
  constructor(locales = undefined, options = undefined) {
    const given = dictionary(options === undefined ? undefined : Object(options), "the options"), locale = this.#locale = chooseLocale(locales);
    const style = optionOf(given, "style", ["decimal", "percent", "currency", "unit"], "decimal"), notation = optionOf(given, "notation", ["standard", "compact", "scientific", "engineering"], "standard");
    if (style === "unit" || notation === "scientific" || notation === "engineering") throw new RangeError(`NumberFormat: ${style === "unit" ? style : notation} is not here`);
    if (notation === "compact" && locale.name === "de") throw new RangeError("NumberFormat: compact is not here for de");
    const of = this.#of = { style, notation, signDisplay: optionOf(given, "signDisplay", ["auto", "never", "always", "exceptZero", "negative"], "auto"), useGrouping: given.useGrouping === undefined ? (notation === "compact" ? "min2" : "auto") : given.useGrouping === "false" ? false : given.useGrouping };
    if (optionOf(given, "roundingMode", ["halfExpand"], "halfExpand") && optionOf(given, "numberingSystem", ["latn"], "latn")) of.numberingSystem = "latn";
    let natural = style === "percent" ? [0, 0] : notation === "compact" ? [0, 0] : [0, 3];
    if (style === "currency") {
      if (given.currency === undefined) throw new TypeError("NumberFormat: a currency is needed");
      of.currency = `${given.currency}`.toUpperCase();
      if (!/^[A-Z]{3}$/.test(of.currency)) throw new RangeError(`Invalid currency code: ${given.currency}`);
      of.currencyDisplay = optionOf(given, "currencyDisplay", ["symbol", "narrowSymbol", "code"], "symbol");
      of.currencySign = optionOf(given, "currencySign", ["standard", "accounting"], "standard");
      if (notation === "standard") natural = NO_MINOR.has(of.currency) ? [0, 0] : [2, 2];
    }
    of.minimumIntegerDigits = numberOption(given, "minimumIntegerDigits", 1, 21, 1);
    if (given.minimumSignificantDigits !== undefined || given.maximumSignificantDigits !== undefined) {
      of.minimumSignificantDigits = numberOption(given, "minimumSignificantDigits", 1, 21, 1);
      of.maximumSignificantDigits = numberOption(given, "maximumSignificantDigits", of.minimumSignificantDigits, 21, 21);
    } else {
      const least = numberOption(given, "minimumFractionDigits", 0, 100, undefined), most = numberOption(given, "maximumFractionDigits", 0, 100, undefined);
      of.minimumFractionDigits = least ?? Math.min(natural[0], most ?? natural[0]);
      of.maximumFractionDigits = most ?? Math.max(natural[1], of.minimumFractionDigits);
      if (of.minimumFractionDigits > of.maximumFractionDigits) throw new RangeError("maximumFractionDigits value is out of range");
      of.natural = least === undefined && most === undefined;
    }
  }
  #number(value, parts) {
    const of = this.#of, { decimal, group } = this.#locale;
    if (value === Infinity) return void parts.push({ type: "infinity", value: "∞" });
    let suffix = "", number = typeof value === "bigint" ? { digits: `${value}`.replace(/^0+(?=.)/, ""), point: `${value}`.length } : null, least = of.minimumFractionDigits, most = of.maximumFractionDigits;
    let plain = number ? Number(value) : value;
    if (of.notation === "compact") {
      for (const [size, letter] of COMPACT) if (plain >= size * 0.9995) { [plain, suffix] = [plain / size, letter]; break; }
      if (of.natural && plain < 100) most = plain < 9.95 && plain !== Math.round(plain) ? 1 : plain < 99.5 && plain < 10 ? 1 : 0;
      number = null;
    }
    if (of.style === "percent") number = null;
    number ??= digitsOf(plain);
    if (of.style === "percent") number = { digits: number.digits, point: number.digits === "0" ? 1 : number.point + 2 };
    if (of.maximumSignificantDigits !== undefined) {
      number = rounded(number, of.maximumSignificantDigits - number.point);
      least = Math.max(of.minimumSignificantDigits - number.point, 0), most = Infinity;
    } else number = rounded(number, most);
    const { digits, point } = number;
    let whole = point > 0 ? digits.slice(0, point).padEnd(point, "0") : "0", fraction = (point > 0 ? digits.slice(point) : "0".repeat(-point) + digits).replace(/0+$/, "");
    if (digits === "0") whole = "0", fraction = "";
    whole = whole.padStart(of.minimumIntegerDigits, "0");
    fraction = fraction.padEnd(least, "0");
    const grouped = of.useGrouping !== false && whole.length > (of.useGrouping === "min2" ? 4 : 3) ? whole.replace(/\B(?=(?:\d{3})+$)/g, ",").split(",") : [whole];
    grouped.forEach((piece, i) => { if (i) parts.push({ type: "group", value: group }); parts.push({ type: "integer", value: piece }); });
    if (fraction) parts.push({ type: "decimal", value: decimal }, { type: "fraction", value: fraction });
    if (suffix) parts.push({ type: "compact", value: suffix });
  }
  formatToParts(value = undefined) {
    const of = this.#of, number = typeof value === "bigint" ? value : +value, negative = typeof number === "bigint" ? number < 0n : number < 0 || Object.is(number, -0), parts = [], size = negative ? -number : number;
    if (number !== number) parts.push({ type: "nan", value: "NaN" });
    else this.#number(size, parts);
    const zero = !parts.some(({ type, value: text }) => (type === "infinity") || ((type === "integer" || type === "fraction") && /[1-9]/.test(text)));
    const sign = number !== number ? (of.signDisplay === "always" ? "+" : "") : of.signDisplay === "never" ? "" : negative ? ((of.signDisplay === "exceptZero" || of.signDisplay === "negative") && zero ? "" : "-") : of.signDisplay === "always" || (of.signDisplay === "exceptZero" && !zero) ? "+" : "";
    const german = this.#locale.name === "de", accounting = of.currencySign === "accounting" && sign === "-" && !german;
    if (of.style === "percent") parts.push(...(german ? [{ type: "literal", value: "\u00a0" }] : []), { type: "percentSign", value: "%" });
    if (of.style === "currency") {
      const known = CURRENCIES[of.currency], narrow = { AUD: "$", CAD: "$", MXN: "$", NZD: "$", HKD: "$", CNY: "¥" };
      const british = this.#locale.name === "en-GB" && of.currencyDisplay === "symbol" && { USD: "US$", JPY: "JP¥" }[of.currency];
      const text = british || (of.currencyDisplay === "code" ? of.currency : of.currencyDisplay === "narrowSymbol" ? narrow[of.currency] ?? known?.[0] ?? of.currency : german && of.currency === "AUD" ? "AU$" : known?.[0] ?? of.currency);
      if (german) parts.push({ type: "literal", value: "\u00a0" }, { type: "currency", value: text });
      else parts.unshift({ type: "currency", value: text }, ...(/[A-Za-z]$/.test(text) ? [{ type: "literal", value: "\u00a0" }] : []));
    }
    if (accounting) return [{ type: "literal", value: "(" }, ...parts, { type: "literal", value: ")" }];
    if (sign) parts.unshift({ type: sign === "-" ? "minusSign" : "plusSign", value: sign });
    return parts;
  }
  get format() { return this.#bound ??= value => this.formatToParts(value).map(piece => piece.value).join(""); }
  resolvedOptions() {
    const { natural, ...of } = this.#of;
    return { locale: this.#locale.tag, ...of, roundingMode: "halfExpand", roundingIncrement: 1, roundingPriority: "auto", trailingZeroDisplay: "auto" };
  }
  static supportedLocalesOf(locales) { return canonicalLocales(locales).filter(dataOf); }
}

// Collation: letters without their marks first, then marks, then case (small first); spaces and punctuation before digits before letters. As
// the root collation has Latin script; other scripts come by their characters' numbers.
const collationClass = code => (code < 0x30 || (code > 0x39 && code < 0x41) || (code > 0x5a && code < 0x61) || (code > 0x7a && code < 0xc0) ? 0 : code <= 0x39 ? 1 : 2);
const PUNCTUATION = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";
const collationKey = text => {
  const letters = [], marks = [], cases = [];
  for (const character of text.normalize("NFD").replace(/ß/g, "ss").replace(/[æÆ]/g, c => (c === "æ" ? "ae" : "AE")).replace(/[øØ]/g, c => (c === "ø" ? "o\u0338" : "O\u0338"))) {
    if (/\p{M}/u.test(character)) {
      if (marks.length) marks[marks.length - 1] += character.codePointAt(0);
      continue;
    }
    const small = character.toLowerCase(), code = small.codePointAt(0), kind = collationClass(code), place = PUNCTUATION.indexOf(character);
    letters.push(kind * 0x200000 + (kind ? code : place >= 0 ? 0x100 + place : code < 0x21 ? code : 0x1000 + code));
    marks.push(0);
    cases.push(small === character ? 0 : 1);
  }
  return [letters, marks, cases];
};
const compareLists = (a, b) => {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
  return Math.sign(a.length - b.length);
};
const SENSITIVITY = { base: [0], accent: [0, 1], case: [0, 2], variant: [0, 1, 2] };
class Collator {
  #locale; #of; #bound = null;
  constructor(locales = undefined, options = undefined) {
    const given = dictionary(options === undefined ? undefined : Object(options), "the options");
    this.#locale = chooseLocale(locales);
    this.#of = { usage: optionOf(given, "usage", ["sort", "search"], "sort"), sensitivity: optionOf(given, "sensitivity", Object.keys(SENSITIVITY), "variant"), ignorePunctuation: optionOf(given, "ignorePunctuation", null, false), numeric: optionOf(given, "numeric", null, false), caseFirst: optionOf(given, "caseFirst", ["upper", "lower", "false"], "false") };
  }
  #compare(a, b) {
    if (a === b) return 0;
    const { sensitivity, numeric, ignorePunctuation, caseFirst } = this.#of;
    if (ignorePunctuation) [a, b] = [a, b].map(text => text.replace(/[\p{P}\p{Z}]/gu, ""));
    if (numeric) {
      const pieces = text => text.split(/(\d+)/), one = pieces(a), two = pieces(b);
      for (let i = 0; i < one.length && i < two.length; i++) {
        if (i % 2) {
          const x = BigInt(one[i]), y = BigInt(two[i]);
          if (x !== y) return x < y ? -1 : 1;
        } else if (one[i] !== two[i]) {
          const primary = compareLists(collationKey(one[i])[0], collationKey(two[i])[0]);
          if (primary) return primary;
        }
      }
      if (one.length !== two.length) return one.length < two.length ? -1 : 1;
    }
    const one = collationKey(a), two = collationKey(b);
    for (const level of SENSITIVITY[sensitivity]) {
      const order = compareLists(one[level], two[level]);
      if (order) return level === 2 && caseFirst === "upper" ? -order : order;
    }
    return 0;
  }
  get compare() { return this.#bound ??= (a, b) => this.#compare(`${a}`, `${b}`); }
  resolvedOptions() { return { locale: this.#locale.tag, ...this.#of, collation: "default" }; }
  static supportedLocalesOf(locales) { return canonicalLocales(locales).filter(dataOf); }
}
class PluralRules {
  #locale; #type; #numbers; #given;
  constructor(locales = undefined, options = undefined) {
    this.#given = dictionary(options === undefined ? undefined : Object(options), "the options");
    this.#locale = chooseLocale(locales);
    this.#type = optionOf(this.#given, "type", ["cardinal", "ordinal"], "cardinal");
    this.#numbers = new NumberFormat(this.#locale.tag, this.#given);
  }
  select(value) {
    const n = Math.abs(+value), text = this.#numbers.formatToParts(n).map(piece => piece.value).join("");
    if (this.#type === "cardinal") return n === 1 && !/[.,]/.test(text) ? "one" : "other";
    if (this.#locale.name === "de") return "other";
    const tens = n % 100, ones = n % 10;
    return ones === 1 && tens !== 11 ? "one" : ones === 2 && tens !== 12 ? "two" : ones === 3 && tens !== 13 ? "few" : "other";
  }
  resolvedOptions() { return { locale: this.#locale.tag, type: this.#type, pluralCategories: this.#type === "cardinal" || this.#locale.name === "de" ? ["one", "other"] : ["few", "one", "two", "other"] }; }
  static supportedLocalesOf(locales) { return canonicalLocales(locales).filter(dataOf); }
}
class ListFormat {
  #locale; #of;
  constructor(locales = undefined, options = undefined) {
    const given = dictionary(options, "the options");
    this.#locale = chooseLocale(locales);
    this.#of = { type: optionOf(given, "type", ["conjunction", "disjunction", "unit"], "conjunction"), style: optionOf(given, "style", ["long", "short", "narrow"], "long") };
  }
  formatToParts(list) {
    const items = [...list].map(item => { if (typeof item !== "string") throw new TypeError("ListFormat: an item is not text"); return item; }), { type, style } = this.#of, german = this.#locale.name === "de";
    const word = type === "unit" ? (german ? " und " : "") : type === "disjunction" ? (german ? " oder " : " or ") : german ? " und " : style === "long" || this.#locale.name === "en-GB" ? " and " : style === "short" ? " & " : ", ";
    const last = type === "unit" ? (style === "narrow" ? " " : german ? " und " : ", ") : items.length > 2 && this.#locale.name === "en-US" && word !== ", " ? `,${word}` : word, between = type === "unit" && style === "narrow" ? " " : ", ";
    return items.flatMap((value, i) => [...(i ? [{ type: "literal", value: i === items.length - 1 ? (items.length === 2 && type === "unit" && !german ? between : last) : between }] : []), { type: "element", value }]);
  }
  format(list) { return this.formatToParts(list).map(piece => piece.value).join(""); }
  resolvedOptions() { return { locale: this.#locale.tag, ...this.#of }; }
  static supportedLocalesOf(locales) { return canonicalLocales(locales).filter(dataOf); }
}
const UNITS = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"];
const AUTO = { day: { "-1": "yesterday", 0: "today", 1: "tomorrow" }, second: { 0: "now" }, minute: { 0: "this minute" }, hour: { 0: "this hour" } };
for (const unit of ["week", "month", "quarter", "year"]) AUTO[unit] = { "-1": `last ${unit}`, 0: `this ${unit}`, 1: `next ${unit}` };
const GERMAN_UNITS = { second: ["Sekunde", "Sekunden"], minute: ["Minute", "Minuten"], hour: ["Stunde", "Stunden"], day: ["Tag", "Tagen"], week: ["Woche", "Wochen"], month: ["Monat", "Monaten"], quarter: ["Quartal", "Quartalen"], year: ["Jahr", "Jahren"] };
const GERMAN_AUTO = {
  second: { 0: "jetzt" }, minute: { 0: "in dieser Minute" }, hour: { 0: "in dieser Stunde" }, day: { "-2": "vorgestern", "-1": "gestern", 0: "heute", 1: "morgen", 2: "übermorgen" }, week: { "-1": "letzte Woche", 0: "diese Woche", 1: "nächste Woche" },
  month: { "-1": "letzten Monat", 0: "diesen Monat", 1: "nächsten Monat" }, quarter: { "-1": "letztes Quartal", 0: "dieses Quartal", 1: "nächstes Quartal" }, year: { "-1": "letztes Jahr", 0: "dieses Jahr", 1: "nächstes Jahr" },
};
class RelativeTimeFormat {
  #locale; #of; #numbers;
  constructor(locales = undefined, options = undefined) {
    const given = dictionary(options === undefined ? undefined : Object(options), "the options");
    this.#locale = chooseLocale(locales);
    this.#of = { style: optionOf(given, "style", ["long"], "long"), numeric: optionOf(given, "numeric", ["always", "auto"], "always") };
    this.#numbers = new NumberFormat(this.#locale.tag);
  }
  formatToParts(value, unit) {
    const name = `${unit}`.replace(/s$/, ""), number = +value;
    if (!UNITS.includes(name)) throw new RangeError(`Invalid unit argument for format() '${unit}'`);
    if (!Number.isFinite(number)) throw new RangeError("Invalid time value");
    const german = this.#locale.name === "de", word = this.#of.numeric === "auto" ? (german ? GERMAN_AUTO : AUTO)[name]?.[number] : undefined;
    if (word !== undefined) return [{ type: "literal", value: word }];
    const past = number < 0 || Object.is(number, -0), size = Math.abs(number), parts = this.#numbers.formatToParts(size).map(piece => ({ ...piece, unit: name }));
    if (german) return [{ type: "literal", value: past ? "vor " : "in " }, ...parts, { type: "literal", value: ` ${GERMAN_UNITS[name][size === 1 ? 0 : 1]}` }];
    const rest = ` ${name}${size === 1 ? "" : "s"}`;
    return past ? [...parts, { type: "literal", value: `${rest} ago` }] : [{ type: "literal", value: "in " }, ...parts, { type: "literal", value: rest }];
  }
  format(value, unit) { return this.formatToParts(value, unit).map(piece => piece.value).join(""); }
  resolvedOptions() { return { locale: this.#locale.tag, ...this.#of, numberingSystem: "latn" }; }
  static supportedLocalesOf(locales) { return canonicalLocales(locales).filter(dataOf); }
}
class Locale {
  #tag;
  constructor(tag, options = undefined) {
    required(1, arguments.length, "Locale");
    const { language, region } = dictionary(options, "the options");
    let text = canonicalLocale(tag);
    if (language !== undefined) text = text.replace(/^[a-z]+/, `${language}`.toLowerCase());
    if (region !== undefined) text = canonicalLocale(`${text.split("-")[0]}-${region}`);
    this.#tag = text;
  }
  get baseName() { return this.#tag.replace(/-[ut]-.*$/, ""); }
  get language() { return this.#tag.split("-")[0]; }
  get script() { return this.#tag.split("-").find((piece, i) => i && piece.length === 4); }
  get region() { return this.#tag.split("-").find((piece, i) => i && (/^[A-Z]{2}$/.test(piece) || /^\d{3}$/.test(piece))); }
  toString() { return this.#tag; }
}
