// Intl.DateTimeFormat for the locales of locales.js, and the methods of Number, BigInt, Date, String and Array that ask Intl (ECMA-402).

const ZONE = 23;
// Minutes east of UTC, at a time in milliseconds, and the zone's own name for that; by the host.
const zoneAt = (zone, time) => {
  if (zone === "UTC") return { offset: 0, short: "UTC" };
  const found = host.call(ZONE, 0, 0, zone, `${Math.trunc(time)}`);
  if (typeof found === "number") throw new RangeError(`Invalid time zone specified: ${zone}`);
  const [offset, short, name] = host.text(found).split("\n");
  return { offset: +offset, short, name };
};
const pad = (value, length = 2) => `${value}`.padStart(length, "0");
const offsetName = (seconds, style) => {
  if (!seconds) return "GMT";
  const minutes = Math.abs(seconds) / 60, hours = Math.floor(minutes / 60), rest = Math.floor(minutes % 60);
  return `GMT${seconds < 0 ? "-" : "+"}${style === "longOffset" ? `${pad(hours)}:${pad(rest)}` : `${hours}${rest ? `:${pad(rest)}` : ""}`}`;
};
const FIELDS = { weekday: ["narrow", "short", "long"], year: ["2-digit", "numeric"], month: ["2-digit", "numeric", "narrow", "short", "long"], day: ["2-digit", "numeric"], hour: ["2-digit", "numeric"], minute: ["2-digit", "numeric"], second: ["2-digit", "numeric"] };
const STYLES = ["full", "long", "medium", "short"];
const DATE_STYLES = {
  full: { weekday: "long", year: "numeric", month: "long", day: "numeric" }, long: { year: "numeric", month: "long", day: "numeric" }, medium: { year: "numeric", month: "short", day: "numeric" },
  short: { year: "2-digit", month: "numeric", day: "numeric" },
};
const TIME_STYLES = { full: { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "long" }, long: { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" }, medium: { hour: "numeric", minute: "2-digit", second: "2-digit" }, short: { hour: "numeric", minute: "2-digit" } };
// Names of zones in English where they are not an offset: those of North America.
const AMERICAN = /^(?:[ECMP][SD]T|AK[SD]T|H[SD]T)$/, LONG_AMERICAN = { E: "Eastern", C: "Central", M: "Mountain", P: "Pacific", A: "Alaska", H: "Hawaii-Aleutian" };
class DateTimeFormat {
  #locale; #fields; #zone; #hour12; #of; #bound = null;
  constructor(locales = undefined, options = undefined, defaults = "date", wanted = "any") {
    const given = dictionary(options === undefined ? undefined : Object(options), "the options"), locale = this.#locale = chooseLocale(locales), fields = {};
    optionOf(given, "calendar", ["gregory"], "gregory");
    optionOf(given, "numberingSystem", ["latn"], "latn");
    if (given.dayPeriod !== undefined) throw new RangeError("DateTimeFormat: dayPeriod is not here");
    const era = optionOf(given, "era", ["narrow", "short", "long"], undefined);
    if (era !== undefined) fields.era = era;
    const hour12 = given.hour12, cycle = optionOf(given, "hourCycle", ["h11", "h12", "h23", "h24"], undefined);
    this.#hour12 = hour12 !== undefined ? !!hour12 : cycle ? cycle === "h12" || cycle === "h11" : locale.name === "en-US";
    let zone = given.timeZone === undefined ? "UTC" : `${given.timeZone}`;
    if (/^(?:utc|etc\/utc|gmt|etc\/gmt)$/i.test(zone)) zone = "UTC";
    else if (/^[+-]\d\d(?::?\d\d)?$/.test(zone)) zone = zone.replace(/^([+-]\d\d):?(\d\d)?$/, (whole, hours, minutes) => `${hours}:${minutes ?? "00"}`);
    else zone = zoneAt(zone, 0).name;
    this.#zone = zone;
    for (const [name, values] of Object.entries(FIELDS)) {
      const value = optionOf(given, name, values, undefined);
      if (value !== undefined) fields[name] = value;
    }
    if (given.fractionalSecondDigits !== undefined) fields.fractionalSecondDigits = numberOption(given, "fractionalSecondDigits", 1, 3, undefined);
    if (given.timeZoneName !== undefined) fields.timeZoneName = optionOf(given, "timeZoneName", ["short", "long", "shortOffset", "longOffset"], undefined);
    const dateStyle = optionOf(given, "dateStyle", STYLES, undefined), timeStyle = optionOf(given, "timeStyle", STYLES, undefined);
    this.#of = { dateStyle, timeStyle };
    if (dateStyle || timeStyle) {
      if (Object.keys(fields).length) throw new TypeError(`Can't set option ${Object.keys(fields)[0]} when ${dateStyle ? "dateStyle" : "timeStyle"} is used`);
      if ((wanted === "date" && timeStyle) || (wanted === "time" && dateStyle)) throw new TypeError("a style that does not belong here");
      Object.assign(fields, dateStyle ? DATE_STYLES[dateStyle] : {}, timeStyle ? TIME_STYLES[timeStyle] : {});
      if (dateStyle === "short" && locale.name !== "en-US") Object.assign(fields, { month: "2-digit", day: "2-digit", ...(locale.name === "en-GB" ? { year: "numeric" } : {}) });
      if (dateStyle === "medium" && locale.name === "de") Object.assign(fields, { month: "2-digit", day: "2-digit" });
      if (timeStyle && !this.#hour12) fields.hour = "2-digit";
    } else {
      const date = ["weekday", "year", "month", "day"].some(name => fields[name]), time = ["hour", "minute", "second", "fractionalSecondDigits"].some(name => fields[name] !== undefined);
      const needs = wanted === "date" ? !date : wanted === "time" ? !time : !date && !time;
      if (needs && defaults !== "time") Object.assign(fields, { year: "numeric", month: "numeric", day: "numeric" });
      if (needs && defaults !== "date") Object.assign(fields, { hour: "numeric", minute: "numeric", second: "numeric" });
    }
    this.#fields = fields;
  }
  #parts(time) {
    const zone = /^[+-]/.test(this.#zone) ? (() => { const [h, m] = this.#zone.split(":").map(Number), s = Math.sign(h || 1) * (Math.abs(h) * 3600 + m * 60) * (this.#zone.startsWith("-") && h === 0 ? -1 : 1); return { offset: s, short: offsetName(s) }; })() : zoneAt(this.#zone, time);
    const date = new Date(Math.floor(time) + zone.offset * 1000), f = this.#fields, { name, months, short, days } = this.#locale, german = name === "de", british = name === "en-GB", parts = [];
    const year = date.getUTCFullYear() > 0 ? date.getUTCFullYear() : 1 - date.getUTCFullYear(), month = date.getUTCMonth(), day = date.getUTCDate(), weekday = date.getUTCDay();
    const lit = value => parts.push({ type: "literal", value }), put = (type, value) => parts.push({ type, value: `${value}` });
    const worded = f.month && !["numeric", "2-digit"].includes(f.month);
    const two = british && f.day && f.month && !worded, number = (value, style) => (style === "2-digit" || two ? pad(value) : value);
    const putYear = () => put("year", f.year === "2-digit" ? pad(year % 100) : year), putDay = () => put("day", number(day, f.day));
    const putMonth = () => put("month", f.month === "long" ? months[month] : f.month === "short" ? (british && month === 8 ? "Sept" : short[month]) : f.month === "narrow" ? months[month][0] : number(month + 1, f.month));
    const dayName = f.weekday && (f.weekday === "long" ? days[weekday] : f.weekday === "short" ? days[weekday].slice(0, this.#locale.cut) + (german && (f.day || f.month || f.year) ? "." : "") : days[weekday][0]);
    if (dayName) put("weekday", dayName);
    if (dayName && (f.day || f.month || f.year)) lit(british && worded ? " " : ", ");
    if (worded && name === "en-US") {
      putMonth();
      if (f.day) lit(" "), putDay();
      if (f.year) lit(f.day ? ", " : " "), putYear();
    } else if (worded) {
      if (f.day) putDay(), lit(german ? ". " : " ");
      putMonth();
      if (f.year) lit(" "), putYear();
    } else {
      const order = name === "en-US" ? [f.month && putMonth, f.day && putDay, f.year && putYear] : [f.day && putDay, f.month && putMonth, f.year && putYear], present = order.filter(Boolean);
      present.forEach((write, i) => { if (i) lit(german ? "." : "/"); write(); });
      if (german && f.day && f.month && !f.year) lit(".");
    }
    if (f.era) {
      const before = date.getUTCFullYear() < 1;
      lit(" "), put("era", german ? (before ? "v. Chr." : "n. Chr.") : f.era === "long" ? (before ? "Before Christ" : "Anno Domini") : f.era === "short" ? (before ? "BC" : "AD") : before ? "B" : "A");
    }
    const dated = parts.length > 0, hours = date.getUTCHours(), timed = f.hour || f.minute || f.second || f.fractionalSecondDigits;
    if (dated && timed) lit((this.#of.dateStyle === "full" || this.#of.dateStyle === "long") ? (german ? " um " : " at ") : ", ");
    if (f.hour) put("hour", this.#hour12 ? number12(hours, f.hour) : f.hour === "numeric" && f.minute === "2-digit" && name !== "en-US" ? hours : pad(hours));
    if (f.minute) { if (f.hour) lit(":"); put("minute", f.hour || f.second || f.minute === "2-digit" ? pad(date.getUTCMinutes()) : date.getUTCMinutes()); }
    if (f.second) { if (f.minute) lit(":"); put("second", f.minute || f.second === "2-digit" ? pad(date.getUTCSeconds()) : date.getUTCSeconds()); }
    if (f.fractionalSecondDigits) { if (f.second) lit(german ? "," : "."); put("fractionalSecond", pad(date.getUTCMilliseconds(), 3).slice(0, f.fractionalSecondDigits)); }
    if (f.hour && this.#hour12) lit(" "), put("dayPeriod", british ? (hours < 12 ? "am" : "pm") : hours < 12 ? "AM" : "PM");
    else if (f.hour && german && !f.minute) lit(" Uhr");
    if (f.timeZoneName) {
      if (parts.length) lit(dated && !timed ? ", " : " ");
      const american = name === "en-US" && AMERICAN.test(zone.short);
      put("timeZoneName", f.timeZoneName.endsWith("Offset") ? offsetName(zone.offset, f.timeZoneName) : this.#zone === "UTC" ? (f.timeZoneName === "long" ? (german ? "Koordinierte Weltzeit" : "Coordinated Universal Time") : "UTC")
        : f.timeZoneName === "long" && american ? `${LONG_AMERICAN[zone.short[0]]} ${zone.short.at(-2) === "D" ? "Daylight" : "Standard"} Time` : american ? zone.short : offsetName(zone.offset));
    }
    return parts;
  }
  formatToParts(date = undefined) {
    const time = date === undefined ? Date.now() : +date;
    if (!(Math.abs(time) <= 8.64e15)) throw new RangeError("Invalid time value");
    return this.#parts(time);
  }
  get format() { return this.#bound ??= date => this.formatToParts(date).map(piece => piece.value).join(""); }
  resolvedOptions() {
    const { dateStyle, timeStyle } = this.#of, hour = this.#fields.hour ? { hourCycle: this.#hour12 ? "h12" : "h23", hour12: this.#hour12 } : {};
    return { locale: this.#locale.tag, calendar: "gregory", numberingSystem: "latn", timeZone: this.#zone, ...hour, ...(dateStyle || timeStyle ? { ...(dateStyle ? { dateStyle } : {}), ...(timeStyle ? { timeStyle } : {}) } : this.#fields) };
  }
  static supportedLocalesOf(locales) { return canonicalLocales(locales).filter(dataOf); }
}
const number12 = (hours, style) => { const value = hours % 12 || 12; return style === "2-digit" ? pad(value) : value; };

// Constructors of formats can be called without `new`.
const callable = Class => new Proxy(Class, { apply: (target, self, list) => new target(...list) });
const Intl = { Collator: callable(Collator), DateTimeFormat: callable(DateTimeFormat), ListFormat, Locale, NumberFormat: callable(NumberFormat), PluralRules, RelativeTimeFormat };
for (const [name, Class] of Object.entries({ Collator, DateTimeFormat, ListFormat, Locale, NumberFormat, PluralRules, RelativeTimeFormat })) {
  Object.defineProperty(Class.prototype, Symbol.toStringTag, { value: `Intl.${name}`, configurable: true });
  Class.prototype.constructor = Intl[name];
}
Object.defineProperty(Intl, Symbol.toStringTag, { value: "Intl", configurable: true });
for (const name of Object.keys(Intl)) Object.defineProperty(Intl, name, { enumerable: false });
Object.defineProperties(Intl, {
  getCanonicalLocales: { writable: true, configurable: true, value: locales => canonicalLocales(locales) },
  supportedValuesOf: { writable: true, configurable: true, value: key => { const values = { calendar: ["gregory"], collation: ["default"], currency: Object.keys(CURRENCIES).sort(), numberingSystem: ["latn"], timeZone: ["UTC"], unit: [] }[`${key}`]; if (!values) throw new RangeError(`Invalid key : ${key}`); return values; } },
});
expose("Intl", Intl);
const method = (on, name, value) => Object.defineProperty(on, name, { value: { [name](...rest) { return value(this, ...rest); } }[name], writable: true, configurable: true });
method(Number.prototype, "toLocaleString", (self, locales, options) => new NumberFormat(locales, options).format(Number.prototype.valueOf.call(self)));
method(BigInt.prototype, "toLocaleString", (self, locales, options) => new NumberFormat(locales, options).format(BigInt.prototype.valueOf.call(self)));
const dateMethod = (name, defaults, wanted) => method(Date.prototype, name, (self, locales, options) => {
  const time = dateValue.call(self);
  return time === time ? new DateTimeFormat(locales, options, defaults, wanted).format(time) : "Invalid Date";
});
dateMethod("toLocaleString", "all", "any");
dateMethod("toLocaleDateString", "date", "date");
dateMethod("toLocaleTimeString", "time", "time");
let plainCollator = null;
method(String.prototype, "localeCompare", (self, other, locales, options) => {
  if (self === null || self === undefined) throw new TypeError("localeCompare of nothing");
  return (locales === undefined && options === undefined ? plainCollator ??= new Collator() : new Collator(locales, options)).compare(self, other);
});
for (const name of ["toLocaleUpperCase", "toLocaleLowerCase"]) {
  const plain = String.prototype[name.replace("Locale", "")];
  method(String.prototype, name, (self, locales) => {
    const [first] = canonicalLocales(locales);
    if (first && /^(?:tr|az|lt)(?:-|$)/.test(first)) {
      if (first.startsWith("lt")) throw new RangeError("the locale lt is not here");
      const text = `${self}`;
      return name === "toLocaleUpperCase" ? plain.call(text.replace(/i/g, "İ")) : plain.call(text.replace(/İ/g, "i").replace(/I/g, "ı"));
    }
    return plain.call(self);
  });
}
