// What `edge worker test` puts beside a file of tests, as the module "edge:test". The file registers its tests when it is loaded; the request that
// follows runs them, one after the other, and each line of its response is one thing that happened, as JSON.
import assert from "node:assert/strict";

export { assert };

const tests = [];
let group = { name: "", above: null, before: [], after: [], skipped: false };
let only = false;
const within = (skipped, name, define) => {
  const above = group;
  group = { name: `${name}`, above, before: [], after: [], skipped };
  try {
    if (define() instanceof Promise) throw new TypeError(`describe("${name}"): the function is async; tests are registered at once`);
  } finally {
    group = above;
  }
};
const add = (how, name, run) => {
  if (typeof run !== "function") throw new TypeError(`test("${name}"): the second argument is not a function`);
  let full = `${name}`, skipped = how === "skip";
  for (let of = group; of.above; of = of.above) full = `${of.name} > ${full}`, skipped ||= of.skipped;
  only ||= how === "only";
  tests.push({ name: full, run, group, skipped, only: how === "only" });
};
export const test = Object.assign((name, run) => add("", name, run), { skip: (name, run = () => {}) => add("skip", name, run), only: (name, run) => add("only", name, run) });
export const it = test;
export const describe = Object.assign((name, define) => within(false, name, define), { skip: (name, define) => within(true, name, define) });
export const beforeEach = hook => void group.before.push(hook);
export const afterEach = hook => void group.after.push(hook);
Object.assign(globalThis, { test, it, describe, beforeEach, afterEach, assert });

const told = error => (error !== null && typeof error === "object" && typeof error.stack === "string" ? `${error}\n${error.stack}` : `${typeof error === "symbol" ? String(error) : error}`);
const { setTimeout: later } = globalThis, clock = Date.now;
const runOne = async ({ run, group }, given) => {
  const groups = [];
  for (let of = group; of; of = of.above) groups.unshift(of);
  try {
    for (const { before } of groups) for (const hook of before) await hook(given);
    await run(given);
  } finally {
    for (const { after } of groups.toReversed()) for (const hook of after) await hook(given);
  }
};
const runAll = async (say, filter, given) => {
  for (const one of tests) {
    const { name } = one;
    if (!name.includes(filter)) continue;
    if (one.skipped || (only && !one.only)) {
      await say({ what: "skipped", name });
      continue;
    }
    await say({ what: "begun", name });
    const began = clock();
    try {
      await runOne(one, given);
      await say({ what: "ok", name, ms: clock() - began });
    } catch (error) {
      await say({ what: "failed", name, text: told(error) });
    }
  }
  await say({ what: "over" });
};
export default {
  fetch(request, env, ctx) {
    const { readable, writable } = new TransformStream(), writer = writable.getWriter(), encoder = new TextEncoder();
    const say = async line => {
      await writer.write(encoder.encode(`${JSON.stringify(line)}\n`));
      // The line is out before what follows may end the worker.
      await new Promise(resolve => later(resolve, 0));
    };
    runAll(say, new URL(request.url).searchParams.get("filter") ?? "", { env, ctx }).then(() => writer.close(), error => writer.abort(error));
    return new Response(readable);
  },
};
