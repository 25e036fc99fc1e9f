// The two doors of the engine: `init` evaluates a worker's script, once, before the snapshot; `handle` answers one request in a
// copy of that heap, and is the event loop: jobs, then rejections nobody handled, then the next thing the host has.
#include "edge.h"
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(name)))
// Less than what the linker lays out (see xtask/src/build_js.rs), so that deep recursion is a RangeError and not a trap.
enum { STACK = 160 * 1024, QUIET_GC = 24 << 20, KEPT_REJECTIONS = 64 };
enum { OK = 0, THREW = 1, SILENT = 2, NO_MEMORY = 3, NO_HANDLER = 4, UNSETTLED = 5 };

static JSRuntime *runtime;
static JSContext *context;
static JSValue on_start, on_complete, on_timers, on_rejection, on_idle, on_ready, on_module;
static struct {
  JSValue promise, reason;
} rejections[KEPT_REJECTIONS];
static uint32_t rejected, asleep;
static uint64_t random_state[2];

static void *m_calloc(void *o, size_t count, size_t size) { return (void)o, calloc(count, size); }
static void *m_malloc(void *o, size_t size) { return (void)o, malloc(size); }
static void m_free(void *o, void *p) { (void)o, free(p); }
static void *m_realloc(void *o, void *p, size_t size) { return (void)o, realloc(p, size); }
size_t malloc_usable_size(const void *p);

// Math.random, in place of QuickJS's, whose state would be the same in every copy of the heap: xoroshiro128+, seeded by the host
// when a request first asks.
static JSValue math_random(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
  (void)self, (void)argc, (void)argv;
  if (asleep) {
    host_random((uint8_t *)random_state, sizeof random_state);
    random_state[0] |= 1;
    asleep = 0;
  }
  uint64_t a = random_state[0], b = random_state[1], sum = a + b;
  b ^= a;
  random_state[0] = (a << 24 | a >> 40) ^ b ^ (b << 16);
  random_state[1] = b << 37 | b >> 27;
  return JS_NewFloat64(ctx, (double)(sum >> 11) * 0x1p-53);
}

static void track(JSContext *ctx, JSValueConst promise, JSValueConst reason, bool handled, void *opaque) {
  (void)opaque;
  if (!handled) {
    if (rejected < KEPT_REJECTIONS) {
      rejections[rejected].promise = JS_DupValue(ctx, promise);
      rejections[rejected++].reason = JS_DupValue(ctx, reason);
    }
    return;
  }
  for (uint32_t i = 0; i < rejected; i++)
    if (JS_IsStrictEqual(ctx, rejections[i].promise, promise)) {
      JS_FreeValue(ctx, rejections[i].promise);
      JS_FreeValue(ctx, rejections[i].reason);
      rejections[i] = rejections[--rejected];
      return;
    }
}

// What was thrown, into the log: `Error: words`, and the stack below it.
static void report(JSValue thrown) {
  size_t n, m = 0;
  const char *words = JS_ToCStringLen(context, &n, thrown), *stack = NULL;
  if (!words) JS_FreeValue(context, JS_GetException(context));
  if (JS_IsObject(thrown)) {
    JSValue value = JS_GetPropertyStr(context, thrown, "stack");
    if (JS_IsString(value)) stack = JS_ToCStringLen(context, &m, value);
    if (JS_IsException(value)) JS_FreeValue(context, JS_GetException(context));
    JS_FreeValue(context, value);
  }
  char *line = malloc(n + m + 16);
  if (line) {
    size_t at = 0;
    if (words) memcpy(line, words, at = n);
    else memcpy(line, "(no text)", at = 9);
    if (stack && m) line[at++] = '\n', memcpy(line + at, stack, m), at += m;
    host_log(5, line, at);
    free(line);
  } else {
    host_log(5, "out of memory", 13);
  }
  if (words) JS_FreeCString(context, words);
  if (stack) JS_FreeCString(context, stack);
  JS_FreeValue(context, thrown);
}

// True if nothing was thrown.
static int settled(JSValue value) {
  if (!JS_IsException(value)) return JS_FreeValue(context, value), 1;
  report(JS_GetException(context));
  return 0;
}

static int run_jobs(void) {
  JSContext *of;
  int more;
  while ((more = JS_ExecutePendingJob(runtime, &of)) > 0) {
  }
  if (more < 0) {
    report(JS_GetException(of));
    return 0;
  }
  return 1;
}

// Jobs, and what they left rejected. False when the request cannot go on.
static int drain(void) {
  int fine = 1;
  for (;;) {
    while (!run_jobs()) fine = 0;
    if (!rejected) return fine;
    while (rejected) {
      rejected--;
      JSValue arguments[2] = {rejections[rejected].reason, rejections[rejected].promise};
      if (!settled(JS_Call(context, on_rejection, JS_UNDEFINED, 2, arguments))) fine = 0;
      JS_FreeValue(context, arguments[0]);
      JS_FreeValue(context, arguments[1]);
    }
  }
}

// A function of ours, from its source: compiled, written out without that, and read back, else each function within would keep its text.
static JSValue lean(const char *source, size_t size) {
  JSValue compiled = JS_Eval(context, source, size, "edge", JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_COMPILE_ONLY);
  if (JS_IsException(compiled)) return compiled;
  size_t n;
  uint8_t *code = JS_WriteObject(context, &n, compiled, JS_WRITE_OBJ_BYTECODE | JS_WRITE_OBJ_STRIP_SOURCE | JS_WRITE_OBJ_STRIP_DEBUG);
  JS_FreeValue(context, compiled);
  if (!code) return JS_EXCEPTION;
  JSValue function = JS_ReadObject(context, code, n, JS_READ_OBJ_BYTECODE);
  js_free(context, code);
  return JS_IsException(function) ? function : JS_EvalFunction(context, function);
}

JSValue unit_function(JSContext *ctx, const char *name) {
  for (size_t i = 0; i < units_count; i++)
    if (!strcmp(units[i].name, name)) return lean(units[i].source, units[i].size);
  return JS_ThrowReferenceError(ctx, "no unit %s", name);
}

// Units that a script names are made before it runs: they are part of its image, and no request compiles them.
static int units_for(const char *script) {
  JSValue global = JS_GetGlobalObject(context);
  int fine = 1;
  for (size_t i = 0; i < units_count && fine; i++)
    if (strstr(script, units[i].name)) fine = settled(JS_GetPropertyStr(context, global, units[i].name));
  JS_FreeValue(context, global);
  return fine;
}

static int prepare(void) {
  static const JSMallocFunctions memory = {m_calloc, m_malloc, m_free, m_realloc, malloc_usable_size};
  runtime = JS_NewRuntime2(&memory, NULL);
  if (!runtime) return NO_MEMORY;
  JS_SetMaxStackSize(runtime, STACK);
  JS_SetGCThreshold(runtime, (size_t)-1);
  context = JS_NewContext(runtime);
  if (!context) return NO_MEMORY;
  JS_SetHostPromiseRejectionTracker(runtime, track, NULL);
  asleep = 1;

  JSValue global = JS_GetGlobalObject(context), math = JS_GetPropertyStr(context, global, "Math");
  JS_DefinePropertyValueStr(context, math, "random", JS_NewCFunction(context, math_random, "random", 0),
                            JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
  JS_FreeValue(context, math);
  JS_FreeValue(context, global);

  json_install(context);

  JSValue function = lean(prelude, prelude_size);
  if (JS_IsException(function)) return settled(function), THREW;
  JSValue host = natives(context), doors = JS_Call(context, function, JS_UNDEFINED, 1, &host);
  JS_FreeValue(context, host);
  JS_FreeValue(context, function);
  if (JS_IsException(doors)) return settled(doors), THREW;
  on_start = JS_GetPropertyStr(context, doors, "start");
  on_complete = JS_GetPropertyStr(context, doors, "complete");
  on_timers = JS_GetPropertyStr(context, doors, "timers");
  on_rejection = JS_GetPropertyStr(context, doors, "rejection");
  on_idle = JS_GetPropertyStr(context, doors, "idle");
  on_ready = JS_GetPropertyStr(context, doors, "ready");
  on_module = JS_GetPropertyStr(context, doors, "modules");
  JS_FreeValue(context, doors);
  return OK;
}

// A module of the prelude's, by its name: an object of what it exports, or undefined.
static JSValue exports_of(JSContext *ctx, const char *name) {
  JSValue text = JS_NewString(ctx, name), found = JS_Call(ctx, on_module, JS_UNDEFINED, 1, &text);
  JS_FreeValue(ctx, text);
  return found;
}

static int fill_module(JSContext *ctx, JSModuleDef *module) {
  JSAtom atom = JS_GetModuleName(ctx, module);
  const char *name = JS_AtomToCString(ctx, atom);
  JS_FreeAtom(ctx, atom);
  if (!name) return -1;
  JSValue exports = exports_of(ctx, name);
  JS_FreeCString(ctx, name);
  JSPropertyEnum *list;
  uint32_t count;
  if (JS_IsException(exports) || JS_GetOwnPropertyNames(ctx, &list, &count, exports, JS_GPN_STRING_MASK)) return -1;
  int fine = 0;
  for (uint32_t i = 0; i < count; i++) {
    const char *export = JS_AtomToCString(ctx, list[i].atom);
    JSValue value = export ? JS_GetProperty(ctx, exports, list[i].atom) : JS_EXCEPTION;
    if (JS_IsException(value) || JS_SetModuleExport(ctx, module, export, value)) fine = -1;
    if (export) JS_FreeCString(ctx, export);
  }
  JS_FreePropertyEnum(ctx, list, count);
  JS_FreeValue(ctx, exports);
  return fine;
}

// Modules of the worker's own, beside its main one: they stay in the image, for imports that come later.
typedef struct Module {
  struct Module *next;
  const char *name, *text;
  size_t n;
} Module;
static Module *own;

static JSModuleDef *own_module(JSContext *ctx, const Module *module) {
  JSValue compiled = JS_Eval(ctx, module->text, module->n, module->name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
  if (JS_IsException(compiled)) return NULL;
  JSModuleDef *definition = JS_VALUE_GET_PTR(compiled);
  JS_FreeValue(ctx, compiled);
  return definition;
}

static JSModuleDef *load_module(JSContext *ctx, const char *name, void *opaque) {
  (void)opaque;
  for (const Module *module = own; module; module = module->next)
    if (!strcmp(module->name, name)) return own_module(ctx, module);
  JSValue exports = exports_of(ctx, name);
  if (JS_IsException(exports)) return NULL;
  if (!JS_IsObject(exports)) {
    JS_ThrowReferenceError(ctx, "cannot import '%s': there is no such module here; bundle it", name);
    return NULL;
  }
  JSModuleDef *module = JS_NewCModule(ctx, name, fill_module);
  JSPropertyEnum *list;
  uint32_t count;
  if (module && !JS_GetOwnPropertyNames(ctx, &list, &count, exports, JS_GPN_STRING_MASK)) {
    for (uint32_t i = 0; i < count; i++) {
      const char *export = JS_AtomToCString(ctx, list[i].atom);
      if (!export || JS_AddModuleExport(ctx, module, export)) module = NULL;
      if (export) JS_FreeCString(ctx, export);
      if (!module) break;
    }
    JS_FreePropertyEnum(ctx, list, count);
  }
  JS_FreeValue(ctx, exports);
  return module;
}

// `./` and `../` are relative to the module that imports; other names are as they are written.
static char *full_name(JSContext *ctx, const char *base, const char *name, void *opaque) {
  (void)opaque;
  if (name[0] != '.' || (name[1] != '/' && (name[1] != '.' || name[2] != '/'))) return js_strdup(ctx, name);
  const char *slash = strrchr(base, '/');
  size_t n = slash ? (size_t)(slash - base) : 0;
  char *full = js_malloc(ctx, n + strlen(name) + 2);
  if (!full) return NULL;
  memcpy(full, base, n);
  while (*name) {
    const char *end = strchr(name, '/');
    size_t part = end ? (size_t)(end - name) : strlen(name);
    if (part == 2 && !memcmp(name, "..", 2)) {
      while (n && full[n - 1] != '/') n--;
      if (n) n--;
    } else if (part && !(part == 1 && *name == '.')) {
      if (n) full[n++] = '/';
      memcpy(full + n, name, part), n += part;
    }
    name += part + (end ? 1 : 0);
  }
  full[n] = 0;
  return full;
}

// Room for the script, or anything else the host writes before a call.
EXPORT("alloc") void *door_alloc(size_t n) { return malloc(n); }

// Another module of the worker's, before `init`: a name, and n bytes and a zero.
EXPORT("module") int door_module(const char *name, const char *text, size_t n) {
  Module *module = malloc(sizeof *module);
  if (!module) return NO_MEMORY;
  *module = (Module){own, name, text, n};
  own = module;
  return OK;
}

// Evaluates the script (n bytes and a zero) as a module or, with `module` 0, as a classic script, under `name`. Called once; afterwards
// this memory is the worker's image.
EXPORT("init") int door_init(char *script, size_t n, const char *name, int module) {
  int code = prepare();
  if (code) return code;
  if (!units_for(script)) return THREW;
  for (const Module *each = own; each; each = each->next)
    if (!units_for(each->text)) return THREW;
  JS_SetModuleLoaderFunc(runtime, full_name, load_module, NULL);
  JSValue exported = JS_UNDEFINED;
  if (module) {
    JSValue compiled = JS_Eval(context, script, n, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    if (JS_IsException(compiled)) return settled(compiled), THREW;
    JSModuleDef *definition = JS_VALUE_GET_PTR(compiled);
    JSValue promise = JS_EvalFunction(context, compiled);
    if (JS_IsException(promise)) return settled(promise), THREW;
    JS_PromiseMarkAsHandled(context, promise);
    // The module's own rejection is told once, by what it rejected with.
    if (!drain() && JS_PromiseState(context, promise) != JS_PROMISE_REJECTED) return THREW;
    switch (JS_PromiseState(context, promise)) {
      case JS_PROMISE_REJECTED:
        report(JS_PromiseResult(context, promise));
        return THREW;
      case JS_PROMISE_PENDING:
        return UNSETTLED;
      default:
        break;
    }
    JS_FreeValue(context, promise);
    JSValue space = JS_GetModuleNamespace(context, definition);
    exported = JS_GetPropertyStr(context, space, "default");
    JS_FreeValue(context, space);
    if (JS_IsException(exported)) return settled(exported), THREW;
  } else {
    JSValue value = JS_Eval(context, script, n, name, JS_EVAL_TYPE_GLOBAL);
    if (!settled(value) || !drain()) return THREW;
  }
  free(script);
  JSValue ready = JS_Call(context, on_ready, JS_UNDEFINED, 1, &exported);
  JS_FreeValue(context, exported);
  if (JS_IsException(ready)) return settled(ready), THREW;
  int handled = JS_ToBool(context, ready);
  JS_FreeValue(context, ready);
  if (!handled) return NO_HANDLER;
  JS_FreeValue(context, on_ready);
  JS_RunGC(runtime);
  JS_SetGCThreshold(runtime, QUIET_GC);
  asleep = 1;
  return alloc_freeze() ? NO_MEMORY : OK;
}

// What the host hands in, in front of the texts themselves.
typedef struct {
  uint32_t method, url, headers, environment, body;  // lengths
  int32_t stream;                                     // the request's content, or -1
  uint32_t whole;                                     // whether the content stands here, complete
} Head;

// The answer of one request: OK when all is said, also that an exception was answered for.
EXPORT("handle") int door_handle(size_t n) {
  uint8_t *at = malloc(n);
  if (!at) return NO_MEMORY;
  host_head(at);
  Head head;
  memcpy(&head, at, sizeof head);
  const char *text = (const char *)at + sizeof head;
  JSValue arguments[6];
  arguments[0] = JS_NewStringLen(context, text, head.method), text += head.method;
  arguments[1] = JS_NewStringLen(context, text, head.url), text += head.url;
  arguments[2] = JS_NewStringLen(context, text, head.headers), text += head.headers;
  arguments[3] = head.environment ? JS_ParseJSON(context, text, head.environment, "<env>") : JS_UNDEFINED;
  text += head.environment + 1;
  arguments[4] = head.whole ? JS_NewUint8ArrayCopy(context, (const uint8_t *)text, head.body) : JS_UNDEFINED;
  arguments[5] = JS_NewInt32(context, head.stream);
  free(at);
  JSValue started = JS_Call(context, on_start, JS_UNDEFINED, 6, arguments);
  for (int i = 0; i < 6; i++) JS_FreeValue(context, arguments[i]);
  if (!settled(started)) return THREW;

  for (;;) {
    if (!drain()) return THREW;
    // -2: all is said; -1: no timer; else milliseconds to the next.
    JSValue idle = JS_Call(context, on_idle, JS_UNDEFINED, 0, NULL);
    double timeout = -1;
    if (JS_IsException(idle) || JS_ToFloat64(context, &timeout, idle)) return report(JS_GetException(context)), THREW;
    if (timeout == -2) return OK;
    int32_t result[5] = {0};  // operation, status, length of head, length of body, stream
    int got = host_wait(timeout, result);
    if (got == 2) return SILENT;
    if (got == 1) {
      if (!settled(JS_Call(context, on_timers, JS_UNDEFINED, 0, NULL))) return THREW;
      continue;
    }
    JSValue done[5] = {JS_NewInt32(context, result[0]), JS_NewInt32(context, result[1]), JS_UNDEFINED, JS_UNDEFINED,
                       JS_NewInt32(context, result[4])};
    if (result[2] >= 0) {
      char *words = malloc((size_t)result[2] + 1);
      if (!words) return NO_MEMORY;
      host_take(1, (uint8_t *)words);
      done[2] = JS_NewStringLen(context, words, (size_t)result[2]);
      free(words);
    }
    if (result[3] >= 0) {
      size_t length = (size_t)result[3];
      uint8_t *body = js_malloc(context, length + 1);
      if (!body) return NO_MEMORY;
      host_take(2, body);
      done[3] = bytes_owned(context, body, length);
      if (JS_IsException(done[3])) return NO_MEMORY;
    }
    JSValue completed = JS_Call(context, on_complete, JS_UNDEFINED, 5, done);
    for (int i = 0; i < 5; i++) JS_FreeValue(context, done[i]);
    if (!settled(completed)) return THREW;
  }
}
