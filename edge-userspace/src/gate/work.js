(function () {
  "use strict";
  var script = document.currentScript, token = script.dataset.token, bits = Number(script.dataset.bits);
  var bar = document.getElementById("bar"), status = document.querySelector("[role=status]"), workers = [], tries = 0, done = false;

  // Runs in a worker. SHA-256 (FIPS 180-4) written out: Web Crypto's digest answers by a promise for each hash, which takes ten times
  // as long as the hash of so few bytes.
  function solve(token, bits, first) {
    var K = [], H = [], n, i, prime;
    var part = function (x) { return ((x - Math.floor(x)) * 4294967296) | 0; };
    for (n = 2; K.length < 64; n++) {
      for (prime = true, i = 2; i * i <= n; i++) if (n % i === 0) { prime = false; break; }
      if (!prime) continue;
      if (H.length < 8) H.push(part(Math.sqrt(n)));
      K.push(part(Math.cbrt(n)));
    }
    K = new Int32Array(K);
    var W = new Int32Array(64);
    function block(state, bytes, at) {
      var t, x, y, a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
      for (t = 0; t < 16; t++, at += 4) W[t] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
      for (; t < 64; t++) {
        x = W[t - 15]; y = W[t - 2];
        W[t] = (W[t - 16] + W[t - 7] + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3)
          + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10)) | 0;
      }
      for (t = 0; t < 64; t++) {
        x = (h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + (e & f ^ ~e & g) + K[t] + W[t]) | 0;
        y = (((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b ^ a & c ^ b & c)) | 0;
        h = g; g = f; f = e; e = (d + x) | 0; d = c; c = b; b = a; a = (x + y) | 0;
      }
      state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e; state[5] += f; state[6] += g; state[7] += h;
    }
    // TOKEN, a point, and ten digits of which the first is this worker's own; then the padding.
    var digits = 10, length = token.length + 1 + digits, bytes = new Uint8Array((length + 9 + 63) & ~63), last = length - 1;
    for (i = 0; i < token.length; i++) bytes[i] = token.charCodeAt(i);
    bytes[token.length] = 46;
    for (i = length - digits; i < length; i++) bytes[i] = 48;
    bytes[length - digits] = 48 + first;
    bytes[length] = 128;
    for (i = 0; i < 4; i++) bytes[bytes.length - 1 - i] = (length * 8) >>> (8 * i);
    // The blocks in front of the digits are hashed once.
    var fixed = (length - digits) & ~63, middle = new Int32Array(H), state = new Int32Array(8);
    for (i = 0; i < fixed; i += 64) block(middle, bytes, i);
    for (n = 1; ; n++) {
      state.set(middle);
      for (i = fixed; i < bytes.length; i += 64) block(state, bytes, i);
      for (i = 0; i < 8 && state[i] === 0; i++) {}
      if (i * 32 + Math.clz32(state[i]) >= bits) {
        postMessage(String.fromCharCode.apply(null, bytes.subarray(length - digits, length)));
        return;
      }
      if (n % 4096 === 0) postMessage(n);
      for (i = last; bytes[i] === 57; i--) bytes[i] = 48;
      bytes[i]++;
    }
  }

  function stop() {
    workers.forEach(function (worker) { worker.terminate(); });
  }

  function heard(event) {
    if (done) return;
    if (typeof event.data === "number") {
      tries += 4096;
      bar.max = 1;
      bar.value = 1 - Math.exp(-tries / Math.pow(2, bits));
      return;
    }
    done = true;
    stop();
    var pair = "__Host-edge-work=" + token + "." + event.data;
    document.cookie = pair + "; Path=/; Secure; SameSite=Lax; Max-Age=60";
    if (document.cookie.indexOf(pair) < 0) return;
    bar.value = bar.max;
    // What was sent is not sent again without being asked for.
    if (document.querySelector("meta[http-equiv]")) location.reload();
  }

  // Who has no workers waits: the page loads itself again when the wait is over.
  try {
    var text = "onmessage = function (event) { (" + solve + ").apply(null, event.data); };";
    var url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    for (var i = 0; i < Math.min(4, navigator.hardwareConcurrency || 1); i++) {
      var worker = new Worker(url);
      worker.onmessage = heard;
      worker.postMessage([token, bits, i]);
      workers.push(worker);
    }
    status.textContent = script.dataset.working;
    bar.hidden = false;
  } catch (error) {
    stop();
  }
})();
