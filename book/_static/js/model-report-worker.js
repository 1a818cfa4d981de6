/* The reader's own model, judged in the browser: a safetensors file is read in slices, and every matrix of it is
   stored in the ways of `prunequant report`, with the same rules and the same arithmetic. No dependency, no network.

   Everything stands in one function, because its text becomes the worker: a page that was opened from a disk may not
   load a worker by its address. The heavy loops are WebAssembly with vectors, assembled here from readable text; where
   a browser lacks them, plain loops with the same roundings take their place. */
function modelReportCore(options) {
  "use strict";

  /* --- numbers of a file --------------------------------------------------------------------------------------- */

  const PIECE = (options && options.piece) || 1 << 21; // values judged at a time
  const LARGEST_HEADER = 100000000;
  /* dtype → [values, bytes] of a block; those of READ are decoded, the others only counted */
  const SIZES = {
    F64: [1, 8], F32: [1, 4], F16: [1, 2], BF16: [1, 2], F8_E4M3: [1, 1], F8_E5M2: [1, 1], F8_E4M3FNUZ: [1, 1],
    F8_E5M2FNUZ: [1, 1], F8_E8M0: [1, 1], F4: [2, 1], BOOL: [1, 1], I8: [1, 1], U8: [1, 1], I16: [1, 2], U16: [1, 2],
    I32: [1, 4], U32: [1, 4], I64: [1, 8], U64: [1, 8], C64: [1, 8], C128: [1, 16], F6_E2M3: [4, 3], F6_E3M2: [4, 3],
  };
  const FLOATS = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "F4"];
  const INTEGERS = ["BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"];

  /* All values of a small float, by its code; `special(exponent, mantissa, sign)` is what is no number, or undefined. */
  function table(exponentBits, mantissaBits, bias, special) {
    const found = new Float32Array(1 << (1 + exponentBits + mantissaBits));
    for (let code = 0; code < found.length; code++) {
      const mantissa = code & ((1 << mantissaBits) - 1), exponent = (code >> mantissaBits) & ((1 << exponentBits) - 1);
      const sign = code >> (exponentBits + mantissaBits);
      let value = special(exponent, mantissa, sign);
      if (value === undefined) {
        value = (mantissa / (1 << mantissaBits) + (exponent ? 1 : 0)) * Math.pow(2, Math.max(exponent, 1) - bias);
      }
      found[code] = sign ? -value : value;
    }
    return found;
  }
  const ieee = (e, m) => (e === 31 ? (m ? NaN : Infinity) : undefined);
  const oneZero = (e, m, sign) => (sign && !e && !m ? NaN : undefined);
  const tables = {};
  function tableOf(dtype) {
    if (!tables[dtype]) {
      tables[dtype] = {
        F16: () => table(5, 10, 15, ieee),
        F8_E5M2: () => table(5, 2, 15, ieee),
        F8_E4M3: () => table(4, 3, 7, (e, m) => (e === 15 && m === 7 ? NaN : undefined)),
        F8_E4M3FNUZ: () => table(4, 3, 8, oneZero),
        F8_E5M2FNUZ: () => table(5, 2, 16, oneZero),
        F8_E8M0: () => Float32Array.from({ length: 256 }, (_, e) => (e === 255 ? NaN : Math.pow(2, e - 127))),
        F4: () => table(2, 1, 1, () => undefined),
      }[dtype]();
    }
    return tables[dtype];
  }

  /* Bytes as float32 numbers, written into `out`. Numbers of 64 bits lose what 32 do not hold. */
  function decode(dtype, buffer, out) {
    const count = out.length;
    if (dtype === "F32") {
      out.set(new Float32Array(buffer));
    } else if (dtype === "BF16") {
      const from = new Uint16Array(buffer), to = new Uint32Array(out.buffer, out.byteOffset, count);
      for (let i = 0; i < count; i++) to[i] = from[i] << 16;
    } else if (dtype === "F64") {
      out.set(new Float64Array(buffer));
    } else if (dtype === "F4") {
      const from = new Uint8Array(buffer), values = tableOf(dtype);
      for (let i = 0; i < count; i++) out[i] = values[(from[i >> 1] >> (i & 1 ? 4 : 0)) & 15];
    } else {
      const from = dtype === "F16" ? new Uint16Array(buffer) : new Uint8Array(buffer), values = tableOf(dtype);
      for (let i = 0; i < count; i++) out[i] = values[from[i]];
    }
  }

  /* --- the file ------------------------------------------------------------------------------------------------ */

  /* A name as Python shows it, and never longer than a line. */
  function shown(name) {
    const quote = name.includes("'") && !name.includes('"') ? '"' : "'";
    const text = Array.from(name, (c) => {
      const code = c.codePointAt(0);
      if (c === "\\" || c === quote) return "\\" + c;
      if (c === "\n") return "\\n";
      if (c === "\r") return "\\r";
      if (c === "\t") return "\\t";
      if (code < 32 || (code >= 127 && code < 161)) return "\\x" + code.toString(16).padStart(2, "0");
      return c;
    });
    const whole = quote + text.join("") + quote;
    return whole.length <= 140 ? whole : whole.slice(0, 100) + "\u2026" + whole.slice(-30);
  }

  class ModelFileError extends Error {
    constructor(file, problem, tensor) {
      super(file + ": " + (tensor ? "tensor " + shown(tensor) + ": " : "") + problem);
      this.name = "ModelFileError";
      this.problem = problem;
      this.tensor = tensor || "";
    }
  }

  /* The key that stands twice in an object of a JSON text, or null: JSON.parse would keep the last in silence. */
  function repeatedKey(text) {
    const stack = [];
    const pattern = /"(?:[^"\\]|\\.)*"|[{}[\]]/g;
    let match;
    while ((match = pattern.exec(text))) {
      const token = match[0];
      if (token === "{" || token === "[") {
        stack.push(token === "{" ? new Set() : null);
      } else if (token === "}" || token === "]") {
        stack.pop();
      } else if (stack.length && stack[stack.length - 1]) {
        let next = pattern.lastIndex;
        while (next < text.length && " \t\r\n".includes(text[next])) next++;
        if (text[next] !== ":") continue;
        const key = JSON.parse(token), seen = stack[stack.length - 1];
        if (seen.has(key)) return key;
        seen.add(key);
      }
    }
    return null;
  }

  const isWhole = (value) => typeof value === "number" && Number.isInteger(value) && value >= 0;
  const list = (values) => "[" + values.join(", ") + "]";
  const has = (object, key) => Object.prototype.hasOwnProperty.call(object, key);

  /* The header of a safetensors file and where its data begin; `file` has name, size and slice(start, stop), as a File. */
  async function header(file) {
    const fail = (problem) => { throw new ModelFileError(file.name, problem); };
    if (file.size < 8) fail(file.size + " bytes are no safetensors file: its header has a length of 8");
    const first = new DataView(await file.slice(0, 8).arrayBuffer()).getBigUint64(0, true);
    if (first > BigInt(LARGEST_HEADER)) {
      fail("it is no safetensors file, or damaged: its header would have " + first + " bytes, of at most " +
        LARGEST_HEADER);
    }
    const length = Number(first);
    if (length > file.size - 8) fail("it is cut off: a header of " + length + " bytes in a file of " + file.size);
    let found, repeated;
    try {
      const bytes = await file.slice(8, 8 + length).arrayBuffer();
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
      found = JSON.parse(text);
      repeated = repeatedKey(text);
    } catch (error) {
      fail("its header is no JSON (" + String(error.message).replace(/\s+/g, " ").slice(0, 120) + ")");
    }
    if (repeated !== null) fail("its header is damaged: the key " + shown(repeated) + " stands twice");
    if (found === null || typeof found !== "object" || Array.isArray(found)) {
      const kind = found === null ? "NoneType" : Array.isArray(found) ? "list"
        : { string: "str", boolean: "bool", number: Number.isInteger(found) ? "int" : "float" }[typeof found];
      fail("its header is a " + kind + ": it must be a JSON object");
    }
    return { entries: found, data: 8 + length };
  }

  function entry(file, name, given, data) {
    const fail = (problem) => { throw new ModelFileError(file.name, problem, name); };
    if (/[\ud800-\udfff]/u.test(name)) fail("its name is no text");
    if (given === null || typeof given !== "object" || !["dtype", "shape", "data_offsets"].every((k) => has(given, k))) {
      fail("its entry in the header must have dtype, shape and data_offsets");
    }
    const { dtype, shape, data_offsets: offsets } = given;
    if (!Array.isArray(shape) || !shape.every(isWhole) || shape.length > 64) {
      fail("its shape must be a list of whole numbers, at most 64");
    }
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isWhole)) {
      fail("its data_offsets must be two whole numbers");
    }
    const [start, stop] = offsets;
    if (start > stop || data + stop > file.size) {
      fail("its bytes " + start + " to " + stop + " are not among the " + (file.size - data) + " of the file's data");
    }
    const size = typeof dtype === "string" && has(SIZES, dtype) ? SIZES[dtype] : null;
    const count = shape.reduce((a, b) => a * b, 1);
    if (size && (count % size[0] || Math.ceil(count / size[0]) * size[1] !== stop - start)) {
      fail("shape " + list(shape) + " of " + dtype + " takes " + Math.ceil(count / size[0]) * size[1]
        + " bytes, its offsets " + (stop - start));
    }
    return {
      name, shape, dtype: typeof dtype === "string" && dtype.length <= 40 ? dtype : shown(String(dtype)),
      nbytes: stop - start, start: data + start, stop: data + stop, count, known: !!size,
    };
  }

  /* Tensors and metadata of a file, everything checked; what the format does not allow is an error that says where. */
  async function open(file) {
    const { entries, data } = await header(file);
    const metadata = has(entries, "__metadata__") ? entries.__metadata__ : {};
    delete entries.__metadata__;
    const strings = metadata && typeof metadata === "object" && !Array.isArray(metadata)
      && Object.values(metadata).every((value) => typeof value === "string");
    if (!strings) throw new ModelFileError(file.name, "__metadata__ must hold strings");
    const tensors = Object.keys(entries).map((name) => entry(file, name, entries[name], data));
    const places = tensors.slice().sort((a, b) => a.start - b.start || a.stop - b.stop || (a.name < b.name ? -1 : 1));
    let edge = data, before = "";
    for (const tensor of places) {
      if (tensor.start !== edge) {
        const what = tensor.start < edge ? "overlaps" : "leaves a gap after";
        throw new ModelFileError(file.name, "it " + what + " " + (before ? shown(before) : "the header"), tensor.name);
      }
      edge = tensor.stop;
      before = tensor.name;
    }
    if (edge !== file.size) {
      throw new ModelFileError(file.name, file.size - edge + " bytes at its end belong to no tensor");
    }
    return { tensors, metadata };
  }

  /* --- which tensors are matrices: the rules of `checkpoint.structure` -------------------------------------------- */

  const EMBEDDING = new RegExp(
    "(^|[._/])(wte|wpe|embed_tokens|embed_positions|embed_in|tok_embeddings|token_embd|position_embd|token_types"
    + "|(word|token|position|positional|token_type|patch)_embeddings?|embeddings?|embedding_table|emb|shared"
    + "|pos_embed|position_embedding|relative_attention_bias|relative_position_bias_table|codebook)([._/]weight)?$");
  const EXPERTS = /experts?\b|experts|_exps\b|\bmoe\b/;
  const CONV1D = /(^|\.)(c_attn|c_proj|c_fc|q_attn)\.weight$/, WIDENS = /(^|\.)(c_attn|c_fc)\.weight$/;
  const UPSAMPLING = /conv_?transpose|deconv|transposed?_conv/i;
  const COMPUTED = /(^|\.)(cos_cached|sin_cached|rotary_emb\.\w+|inv_freq|attn_mask|causal_mask|masked_bias)$/;
  const MASK = /(^|\.)attn\.(bias|masked_bias)$|(^|\.)attention\.(bias|masked_bias)$/;
  const BIAS = /(^|[._])biases?$/;
  const product = (values) => values.reduce((a, b) => a * b, 1);

  function reasonAgainst(tensor) {
    const { name, shape, dtype } = tensor, axes = shape.length;
    if (!tensor.known || !(FLOATS.includes(dtype) || INTEGERS.includes(dtype))) return "values of " + dtype + " are not read";
    if (tensor.count === 0) return "empty";
    if (!axes) return "a scalar";
    if (MASK.test(name) && axes >= 2) return "an attention mask, which holds no weights";
    if (COMPUTED.test(name)) return "computed, not learned";
    if (INTEGERS.includes(dtype)) return (dtype === "BOOL" ? "flags" : "integers") + " without a scale";
    if (shape.filter((n) => n > 1).length <= 1 && (axes === 1 || shape[0] === 1)) return "a vector: kept as it is";
    if (axes === 2 && BIAS.test(name) && !EMBEDDING.test(name)) return "biases: kept as they are";
    if (axes > 5) return axes + " axes: none is known as the input";
    return "";
  }

  function kindOf({ name, shape }, conv1d) {
    const axes = shape.length;
    if (axes === 3 && EXPERTS.test(name)) return "experts";
    if (axes === 2 && EMBEDDING.test(name)) return "embedding";
    if (axes === 2) return conv1d && CONV1D.test(name) ? "linear, transposed" : "linear";
    if (product(shape.slice(0, -2)) === 1 && EMBEDDING.test(name)) return "embedding";
    return shape[1] === 1 && shape[0] > 1 ? "depthwise convolution" : "convolution";
  }

  /* Codes whose scales stand beside them: name → the names that belong together. `prunequant report` joins them. */
  function codesOf(tensors) {
    const names = new Set(tensors.map((tensor) => tensor.name)), found = new Map();
    for (const { name, dtype, shape } of tensors) {
      const base = name.replace(/(weight|_packed|_blocks|qweight)$/, "");
      const narrow = ["F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "F4"].includes(dtype);
      let parts = [];
      if (/qweight$/.test(name)) {
        if (names.has(base + "scales")) parts = ["scales", "qzeros", "g_idx"].map((end) => base + end);
      } else if (/_packed$/.test(name)) {
        if (names.has(base + "_scale")) parts = ["_scale", "_shape", "_zero_point", "_global_scale", "_g_idx"].map((end) => base + end);
      } else if (/_blocks$/.test(name)) {
        if (names.has(base + "_scales")) parts = [base + "_scales"];
      } else if (narrow && (shape.length === 2 || shape.length === 3)) {
        const scales = ["_scale_inv", "_scale", ".scale"].map((end) => name + end);
        if (/\.weight$/.test(name)) scales.push(base + "scale_weight", base + "SCB");
        if (scales.some((scale) => names.has(scale))) parts = scales.concat(name + "_scale_2", name + "_zero_point");
      }
      parts = parts.filter((part) => names.has(part));
      if (parts.length) found.set(name, parts);
    }
    return found;
  }

  /* How the matrix lies in its tensor: "rows" one after another, "turned" (columns, rows), or "swapped" (in, out, kernel). */
  function matrixOf(tensor, kind) {
    const { shape } = tensor;
    let experts = 1, rows = shape[0], columns = product(shape.slice(1)), layout = "rows";
    if (kind === "embedding") {
      rows = product(shape.slice(0, -1));
      columns = shape[shape.length - 1];
    } else if (kind === "experts") {
      [experts, rows, columns] = [shape[0], shape[0] * shape[1], shape[2]];
    } else if (kind === "linear, transposed") {
      [columns, rows] = shape;
      layout = "turned";
    } else if (kind.includes("convolution") && UPSAMPLING.test(tensor.name)) {
      [rows, columns] = [shape[1], shape[0] * product(shape.slice(2))];
      layout = "swapped";
    }
    return { ...tensor, kind, experts, rows, columns, layout, aliases: [], parts: [] };
  }

  /* Some bytes of a tensor, as text: different for nearly all that are not equal. */
  async function sample(file, tensor) {
    const total = tensor.nbytes, starts = new Set([0, Math.max((total >> 1) - 2048, 0), Math.max(total - 4096, 0)]);
    let key = "";
    for (const start of starts) {
      const at = tensor.start + start;
      const bytes = new Uint8Array(await file.slice(at, Math.min(at + 4096, tensor.stop)).arrayBuffer());
      let a = 0x811c9dc5, b = 0x9747b28c;
      for (const byte of bytes) {
        a = Math.imul(a ^ byte, 0x01000193);
        b = Math.imul(b + byte, 0x85ebca6b) ^ (b >>> 13);
      }
      key += (a >>> 0) + "," + (b >>> 0) + ";";
    }
    return key;
  }
  async function equal(file, a, b) {
    for (let at = 0; at < a.nbytes; at += 1 << 22) {
      const stop = Math.min(at + (1 << 22), a.nbytes);
      const parts = await Promise.all([a, b].map((t) => file.slice(t.start + at, t.start + stop).arrayBuffer()));
      const [left, right] = parts.map((part) => new Uint8Array(part));
      for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return false;
    }
    return true;
  }

  /* One matrix for all of equal content, the first; what the others take is said and added up. */
  async function tie(file, all, notes) {
    const groups = new Map();
    let copies = 0;
    for (const matrix of all) {
      const key = [matrix.kind, matrix.dtype, matrix.shape].join("|");
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(matrix);
    }
    const dropped = new Set();
    for (const group of groups.values()) {
      const firsts = new Map();
      for (const matrix of group.length > 1 ? group : []) {
        const key = await sample(file, matrix);
        const alike = firsts.get(key) || [];
        firsts.set(key, alike);
        let first = null;
        for (const other of alike) if (!first && await equal(file, other, matrix)) first = other;
        if (!first) { alike.push(matrix); continue; }
        dropped.add(matrix);
        first.aliases.push(matrix.name);
        copies += matrix.nbytes;
        notes.push(shown(matrix.name) + " holds the same as " + shown(first.name) + ", stored again in " + matrix.nbytes
          + " bytes: it is counted once, as " + shown(first.name));
      }
    }
    return { matrices: all.filter((matrix) => !dropped.has(matrix)), copies };
  }

  /* A file as a model: its matrices, what is untreated, notes, and where its bytes are. */
  async function openModel(file) {
    if (!file.size) throw new ModelFileError(file.name, "it is empty");
    const { tensors, metadata } = await open(file);
    const notes = [], untreated = [], all = [];
    let votes = 0;
    for (const { name, shape } of tensors) {
      if (shape.length === 2 && WIDENS.test(name)) votes += Math.sign(shape[1] - shape[0]);
    }
    const codes = codesOf(tensors), owner = new Map();
    codes.forEach((parts, name) => parts.forEach((part) => owner.set(part, name)));
    for (const tensor of tensors) {
      const reason = codes.has(tensor.name) ? "codes with scales: prunequant report joins them, this page does not"
        : owner.has(tensor.name) ? "belongs to " + shown(owner.get(tensor.name)) + ", which is not joined" : reasonAgainst(tensor);
      if (reason) {
        untreated.push({ name: tensor.name, shape: tensor.shape, dtype: tensor.dtype, nbytes: tensor.nbytes, reason });
      } else all.push(matrixOf(tensor, kindOf(tensor, votes > 0)));
    }
    const { matrices, copies } = await tie(file, all, notes);
    const bytes = {
      matrices: matrices.reduce((sum, m) => sum + m.nbytes, 0), copies,
      untreated: untreated.reduce((sum, u) => sum + u.nbytes, 0),
    };
    bytes.headers = file.size - bytes.matrices - bytes.untreated - copies;
    notes.push(bytes.headers + " bytes are headers, padding and settings");
    return { name: file.name, size: file.size, tensors: tensors.length, matrices, untreated, notes, metadata, bytes };
  }

  /* The 16 quantiles of NF4 and the places halfway between them, in float32. */
  const NF4 = [
    -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
  ].map(Math.fround);
  const THRESHOLDS = NF4.slice(1).map((level, i) => Math.fround(Math.fround(level + NF4[i]) / 2));

  /* --- the loops, in WebAssembly ------------------------------------------------------------------------------- */

  /* name → [opcode bytes, what follows]: u (unsigned), s (signed), f and d (floats), m (a place in memory),
     v (16 bytes), t (a block without a result) */
  const V = (code) => (code < 128 ? [0xfd, code] : [0xfd, (code & 127) | 128, code >> 7]);
  const OPS = {
    "block": [[0x02], "t"], "loop": [[0x03], "t"], "if": [[0x04], "t"], "else": [[0x05]], "end": [[0x0b]],
    "br": [[0x0c], "u"], "br_if": [[0x0d], "u"], "return": [[0x0f]], "call": [[0x10], "u"], "select": [[0x1b]],
    "get": [[0x20], "u"], "set": [[0x21], "u"], "tee": [[0x22], "u"], "global.get": [[0x23], "u"],
    "global.set": [[0x24], "u"], "f32.load": [[0x2a], "m"], "f32.store": [[0x38], "m"],
    "i32.const": [[0x41], "s"], "f32.const": [[0x43], "f"],
    "f64.const": [[0x44], "d"], "i32.eqz": [[0x45]], "i32.lt_s": [[0x48]], "i32.gt_s": [[0x4a]], "i32.ge_s": [[0x4e]],
    "i32.lt_u": [[0x49]], "i32.ge_u": [[0x4f]], "f32.eq": [[0x5b]], "f32.lt": [[0x5d]], "f32.gt": [[0x5e]],
    "f64.lt": [[0x63]], "f64.gt": [[0x64]], "i32.add": [[0x6a]], "i32.sub": [[0x6b]], "i32.mul": [[0x6c]],
    "i32.and": [[0x71]], "i32.or": [[0x72]], "i32.shl": [[0x74]], "i32.shr_u": [[0x76]], "f32.abs": [[0x8b]],
    "f32.nearest": [[0x90]], "f32.add": [[0x92]], "f32.sub": [[0x93]], "f32.mul": [[0x94]], "f32.div": [[0x95]],
    "f32.min": [[0x96]], "f32.max": [[0x97]], "f64.add": [[0xa0]], "f64.mul": [[0xa2]], "f64.div": [[0xa3]], "f32.demote": [[0xb6]],
    "f64.promote": [[0xbb]], "f64.convert": [[0xb7]], "i32.bits": [[0xbc]],
    "f32.bits": [[0xbe]], "v.load": [V(0x00), "m"], "v.const": [V(0x0c), "v"], "v.splat": [V(0x13)],
    "v.isplat": [V(0x11)], "v.lane": [V(0x1f), "u"], "v.gt": [V(0x44)], "v.eq": [V(0x41)], "v.or": [V(0x50)], "v.isub": [V(0xb1)], "v.igt": [V(0x3b)], "v.store": [V(0x0b), "m"],
    "v.and": [V(0x4e)], "v.select": [V(0x52)],
    "v.promote": [V(0x5f)], "v.shuffle": [V(0x0d), "v"], "v.nearest": [V(0x6a)], "v.iadd": [V(0xae)],
    "v.imax": [V(0xb8)], "v.abs": [V(0xe0)], "v.add": [V(0xe4)], "v.sub": [V(0xe5)], "v.mul": [V(0xe6)],
    "v.div": [V(0xe7)], "v.min": [V(0xea)], "v.max": [V(0xeb)], "w.add": [V(0xf0)], "w.lane": [V(0x21), "u"],
  };
  const TYPES = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v: 0x7b };

  function leb(value, signed) {
    const bytes = [];
    for (;;) {
      const low = value & 127;
      value = signed ? value >> 7 : value >>> 7;
      const last = signed ? (value === 0 && !(low & 64)) || (value === -1 && low & 64) : value === 0;
      bytes.push(last ? low : low | 128);
      if (last) return bytes;
    }
  }
  const packed = (values) => leb(values.length).concat(values.flat());
  const text = (name) => packed(Array.from(name, (c) => c.charCodeAt(0)));
  const raw = (array) => Array.from(new Uint8Array(array.buffer));

  /* The bytes of a module. Each function: name, "a:i32 b:f32" (its parameters), result, locals alike, and its text. */
  function assemble(functions, pages) {
    const index = {};
    functions.forEach((f, i) => { index[f[0]] = i; });
    const names = (given) => given.split(" ").filter(Boolean).map((pair) => pair.split(":"));
    const bodies = functions.map(([name, params, , locals, source]) => {
      const all = names(params).concat(names(locals)), place = {};
      all.forEach(([local], i) => { place[local] = i; });
      const words = source.split(/\s+/).filter(Boolean), out = [];
      for (let i = 0; i < words.length; i++) {
        if (!OPS[words[i]]) throw new Error(name + ": no instruction " + words[i]);
        const [code, follows] = OPS[words[i]];
        out.push(...code);
        if (follows === "u") {
          const word = words[++i];
          out.push(...leb(code[0] === 0x10 ? index[word] : word in place ? place[word] : Number(word)));
        } else if (follows === "s") out.push(...leb(Number(words[++i]) | 0, true));
        else if (follows === "f") out.push(...raw(new Float32Array([Number(words[++i])])));
        else if (follows === "d") out.push(...raw(new Float64Array([Number(words[++i])])));
        else if (follows === "m") out.push(0, 0);
        else if (follows === "t") out.push(0x40);
        else if (follows === "v") out.push(...words[++i].split(",").map(Number));
      }
      const body = packed(names(locals).map(([, type]) => [1, TYPES[type]])).concat(out, 0x0b);
      return leb(body.length).concat(body);
    });
    const types = functions.map(([, params, result]) =>
      [0x60].concat(packed(names(params).map(([, type]) => [TYPES[type]])), packed([[TYPES[result]]])));
    const section = (id, content) => [id].concat(leb(content.length), content);
    const exported = functions.map((f, i) => text(f[0]).concat(0, leb(i))).concat(
      [text("memory").concat(2, 0), text("up").concat(3, 0), text("down").concat(3, 1)]);
    return new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0].concat(
      section(1, packed(types)),
      section(3, packed(functions.map((f, i) => leb(i)))),
      section(5, packed([[0].concat(leb(pages))])),
      section(6, packed([0, 1].map(() => [TYPES.f64, 1, 0x44].concat(new Array(8).fill(0), 0x0b)))),
      section(7, packed(exported)),
      section(10, packed(bodies)),
    ));
  }

  const HIGH = "8,9,10,11,12,13,14,15,8,9,10,11,12,13,14,15";
  const ZERO = "v.const " + new Array(16).fill(0).join(",");
  /* Runs `body` on vectors x at ptr up to the last whole one, and `single` on each number after them. */
  const over = (body, single) => `
    get ptr get n i32.const -4 i32.and i32.const 2 i32.shl i32.add set end
    block loop
      get ptr get end i32.ge_u br_if 1
      get ptr v.load set x ${body}
      get ptr i32.const 16 i32.add set ptr br 0
    end end
    get end get n i32.const 3 i32.and i32.const 2 i32.shl i32.add set end
    block loop
      get ptr get end i32.ge_u br_if 1
      get ptr f32.load set one ${single}
      get ptr i32.const 4 i32.add set ptr br 0
    end end`;
  /* The same where `body` leaves the squares of errors: at most 64 of them are added in float32. Stops beyond `bound`. */
  const squares = (error, single) => `
    get ptr get n i32.const -4 i32.and i32.const 2 i32.shl i32.add set end
    block loop
      get ptr get end i32.ge_u br_if 1
      get ptr i32.const 256 i32.add set stop
      get end get stop get end get stop i32.lt_u select set stop
      ${ZERO} set sum
      loop
        get ptr v.load set x ${error} tee e get e v.mul get sum v.add set sum
        get ptr i32.const 16 i32.add tee ptr get stop i32.lt_u br_if 0
      end
      get total get sum v.promote w.add get sum get sum v.shuffle ${HIGH} v.promote w.add set total
      get total w.lane 0 get total w.lane 1 f64.add tee found get bound f64.gt br_if 1
      br 0
    end end
    get ptr get end i32.lt_u if get found return end
    get end get n i32.const 3 i32.and i32.const 2 i32.shl i32.add set end
    block loop
      get ptr get end i32.ge_u br_if 1
      get ptr f32.load set one ${single} tee last get last f32.mul f64.promote get found f64.add set found
      get ptr i32.const 4 i32.add set ptr br 0
    end end
    get found`;
  const SUMS = "end:i32 stop:i32 x:v e:v sum:v total:v found:f64 one:f32 last:f32";
  /* Blocks of `block` numbers along each of the rows: `each` sees ptr, n and adds to `all`. */
  const blocks = (each) => `
    block loop
      get rows i32.eqz br_if 1
      get columns set left
      block loop
        get left i32.eqz br_if 1
        get left get block get left get block i32.lt_s select set n
        get ptr get n call largest set a
        ${each}
        get ptr get n i32.const 2 i32.shl i32.add set ptr
        get left get n i32.sub set left br 0
      end end
      get rows i32.const 1 i32.sub set rows br 0
    end end
    get all`;
  const BLOCKS = "left:i32 n:i32 a:f32 all:f64";
  const four = (number, type) => raw(new type([number, number, number, number])).join(",");
  const splat = (number) => "v.const " + four(number, Float32Array);
  const FIELD = "v.const " + four(0x7f800000, Int32Array);

  /* The neighbours of four lanes, turned by 1, 2, 3 places, and which of them stand before a lane. */
  const TURNS = [1, 2, 3].map((by) => {
    const lanes = [0, 1, 2, 3].map((lane) => (lane + by) % 4);
    return {
      lanes: lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte)).join(","),
      before: "v.const " + raw(Int32Array.from(lanes, (other, lane) => (other < lane ? -1 : 0))).join(","),
    };
  });
  const TWO = "v.const " + four(2, Int32Array);
  /* -1 in every lane that its turned neighbour beats: larger, or equal and before it */
  const beaten = (v, { lanes, before }) => {
    const other = `get ${v} get ${v} v.shuffle ${lanes}`;
    return `${other} get ${v} v.gt ${other} get ${v} v.eq ${before} v.and v.or`;
  };
  /* adds the squares of a vector to two sums in float64 */
  const added = (v, total) => `get ${total} get ${v} get ${v} v.mul v.promote w.add
    get ${v} get ${v} v.mul get ${v} get ${v} v.mul v.shuffle ${HIGH} v.promote w.add set ${total}`;

  const ranked = (name, scores, above) => [name, "ptr:i32 n:i32 s:f32", "f64",
    "end:i32 vs:v vi:v x:v q:v e:v a:v b:v found:v total:v", `
      get s v.splat set vs f32.const 1 get s f32.div v.splat set vi
      get ptr get n i32.const 2 i32.shl i32.add set end
      block loop
        get ptr get end i32.ge_u br_if 1
        get ptr v.load tee x get vi v.mul v.nearest ${splat(7)} v.min ${splat(-8)} v.max set q
        get x get q get vs v.mul v.sub set e
        ${scores}
        get e get x ${TWO} ${ZERO} ${TURNS.map((turn) => `${above(turn)} v.isub`).join(" ")} v.igt v.select set found
        ${added("found", "total")}
        get ptr i32.const 16 i32.add set ptr br 0
      end end
      get total w.lane 0 get total w.lane 1 f64.add`];

  const FUNCTIONS = [
    ["largest", "ptr:i32 n:i32", "f32", "end:i32 x:v most:v one:f32 found:f32", over(
      "get x v.abs get most v.max set most", "get one f32.abs get found f32.max set found")
      + ` get found ${[0, 1, 2, 3].map((i) => `get most v.lane ${i} f32.max`).join(" ")}`],
    /* Σ (x − s·clip(rint(x/s))), squared */
    ["integer", "ptr:i32 n:i32 s:f32 low:f32 high:f32 bound:f64", "f64", SUMS + " i:f32 vs:v vi:v vl:v vh:v", `
      f32.const 1 get s f32.div set i
      get s v.splat set vs get i v.splat set vi get low v.splat set vl get high v.splat set vh ` + squares(
      "get x get x get vi v.mul v.nearest get vh v.min get vl v.max get vs v.mul v.sub",
      "get one get one get i f32.mul f32.nearest get high f32.min get low f32.max get s f32.mul f32.sub")],
    /* Σ x q / Σ q² for the integers q of a scale: sums of 64 products in float32, of those in float64 */
    ["fitted", "ptr:i32 n:i32 s:f32 low:f32 high:f32", "f64",
      "end:i32 stop:i32 q:v x:v up:v down:v xq:f64 qq:f64 one:f32 r:f32 i:f32 vi:v vl:v vh:v", `
      f32.const 1 get s f32.div tee i v.splat set vi get low v.splat set vl get high v.splat set vh
      get ptr get n i32.const -4 i32.and i32.const 2 i32.shl i32.add set end
      block loop
        get ptr get end i32.ge_u br_if 1
        get ptr i32.const 256 i32.add set stop
        get end get stop get end get stop i32.lt_u select set stop
        ${ZERO} set up ${ZERO} set down
        loop
          get ptr v.load tee x get vi v.mul v.nearest get vh v.min get vl v.max tee q
          get x v.mul get up v.add set up
          get q get q v.mul get down v.add set down
          get ptr i32.const 16 i32.add tee ptr get stop i32.lt_u br_if 0
        end
        ${[0, 1, 2, 3].map((k) => `get up v.lane ${k} f64.promote get xq f64.add set xq
          get down v.lane ${k} f64.promote get qq f64.add set qq`).join(" ")}
        br 0
      end end
      get end get n i32.const 3 i32.and i32.const 2 i32.shl i32.add set end
      block loop
        get ptr get end i32.ge_u br_if 1
        get ptr f32.load tee one get i f32.mul f32.nearest get high f32.min get low f32.max tee r
        get one f32.mul f64.promote get xq f64.add set xq
        get r get r f32.mul f64.promote get qq f64.add set qq
        get ptr i32.const 4 i32.add set ptr br 0
      end end
      get xq global.set 0 get qq global.set 1
      get xq get qq f64.div`],
    ["rounded", "s:f32", "f32", "u:i32", `
      get s i32.bits tee u i32.const 0xfff i32.add get u i32.const 13 i32.shr_u i32.const 1 i32.and i32.add
      i32.const -8192 i32.and f32.bits`],
    /* The least error of a group over the candidates for its scale, factor · a, in their order until one is `worse`
       times as bad as the best; then the scale that fits the integers of the best. None is below `floor`. */
    ["best", "ptr:i32 n:i32 a:f32 factors:i32 count:i32 low:f32 high:f32 worse:f64 floor:f32 out:i32", "f64",
      "j:i32 s:f32 error:f64 least:f64 bound:f64 at:f32", `
      f64.const Infinity tee least set bound
      block loop
        get j get count i32.ge_s br_if 1
        get factors get j i32.const 2 i32.shl i32.add f32.load get a f32.mul call rounded get floor f32.max set s
        get ptr get n get s get low get high get bound call integer tee error get bound f64.gt br_if 1
        get error get least f64.lt if
          get error tee least get worse f64.mul set bound get s set at
        end
        get j i32.const 1 i32.add set j br 0
      end end
      get ptr get n get at get low get high call fitted f32.demote call rounded tee s
      f32.const 0 f32.gt if
        get s get floor f32.max set s
        get ptr get n get s get low get high get least call integer tee error get least f64.lt if
          get error set least get s set at
        end
      end
      get out get at f32.store
      get least`],
    ["integers",
      "ptr:i32 rows:i32 columns:i32 block:i32 factors:i32 count:i32 low:f32 high:f32 worse:f64 floor:f32 out:i32",
      "f64", BLOCKS, blocks(`
        get out f32.const 0 f32.store
        get a f32.const 0 f32.gt if
          get ptr get n get a get factors get count get low get high get worse get floor get out
          call best get all f64.add set all
        end
        get out i32.const 4 i32.add set out`)],
    /* Small floats under a scale: adding 2^(23 - mantissa) steps makes the processor round to them. */
    ["small", "ptr:i32 n:i32 s:f32 least:i32 shift:i32 top:f32 bound:f64", "f64",
      SUMS + " t:f32 m:f32 r:f32 v1:v magic:v vs:v vl:v vf:v vt:v u:i32", `
      get s v.splat set vs get least v.isplat set vl get shift v.isplat set vf get top v.splat set vt ` + squares(
      `get x v.abs get vs v.div tee v1 ${FIELD} v.and get vl v.imax get vf v.iadd set magic
       get x v.abs get v1 get magic v.add get magic v.sub get vt v.min get vs v.mul v.sub`,
      `get one f32.abs get s f32.div tee t i32.bits i32.const 0x7f800000 i32.and tee u get least
         get u get least i32.gt_s select get shift i32.add f32.bits set m
       get one f32.abs get t get m f32.add get m f32.sub get top f32.min get s f32.mul f32.sub`)],
    ["mx", "ptr:i32 rows:i32 columns:i32 block:i32 emax:i32 least:i32 shift:i32 top:f32", "f64", BLOCKS + " k:i32",
      blocks(`
        get a f32.const 0 f32.gt if
          get a i32.bits i32.const 23 i32.shr_u get emax i32.sub set k
          get k i32.const 0 i32.gt_s if get k i32.const 23 i32.shl set k else i32.const 0x400000 set k end
          get ptr get n get k f32.bits get least get shift get top f64.const Infinity call small get all f64.add set all
        end`)],
    ["nvfp4", "ptr:i32 rows:i32 columns:i32 block:i32 whole:f32", "f64", BLOCKS + " c:f32 m:f32 u:i32", blocks(`
        get a f32.const 6 f32.div get whole f32.div f32.const 448 f32.min tee c
        i32.bits i32.const 0x7f800000 i32.and tee u i32.const 0x3c800000 get u i32.const 0x3c800000 i32.gt_s select
        i32.const 0xa000000 i32.add f32.bits tee m get c f32.add get m f32.sub get whole f32.mul set c
        get c f32.const 0 f32.gt if
          get ptr get n get c i32.const 0x3f800000 i32.const 0xb000000 f32.const 6 f64.const Infinity
          call small get all f64.add set all
        else
          get ptr get n f32.const 1 f32.const 0 f32.const 0 f64.const Infinity call integer get all f64.add set all
        end`)],
    ["levels", "ptr:i32 n:i32 s:f32 bound:f64", "f64", SUMS + " vs:v t:v r:f32 q:f32", "get s v.splat set vs " + squares(
      `get x get x get vs v.div set t ${splat(NF4[0])} ` + NF4.slice(1).map((level, i) =>
        `set e ${splat(level)} get e get t ${splat(THRESHOLDS[i])} v.gt v.select`).join(" ") + " get vs v.mul v.sub",
      `get one get s f32.div set r f32.const ${NF4[0]} set q ` + NF4.slice(1).map((level, i) =>
        `get r f32.const ${THRESHOLDS[i]} f32.gt if f32.const ${level} set q end`).join(" ")
        + " get one get q get s f32.mul f32.sub")],
    /* Of every four numbers the two of largest magnitude, the first of equals, to `out`; the energy of the others. */
    ["halve", "ptr:i32 n:i32 out:i32", "f64", "end:i32 x:v a:v above:v gone:v total:v found:f64", `
      get ptr get n i32.const 2 i32.shl i32.add set end
      block loop
        get ptr get end i32.ge_u br_if 1
        get ptr v.load tee x v.abs set a
        ${ZERO} ${TURNS.map((turn) => `${beaten("a", turn)} v.isub`).join(" ")} set above
        ${TWO} get above v.igt get x v.and set gone
        get out get gone v.store
        get x get gone v.sub set gone
        ${added("gone", "total")}
        get ptr i32.const 16 i32.add set ptr get out i32.const 16 i32.add set out br 0
      end end
      get total w.lane 0 get total w.lane 1 f64.add`],
    /* 4-bit integers of a row, then 2:4: which two of four stay follows from the integers, ties by place; ties by the
       numbers themselves; or from the error that they save. And how many integers are 0. */
    ranked("by_place", "get q v.abs set a", (turn) => beaten("a", turn)),
    ranked("by_weights", "get q v.abs set a get x v.abs set b", (turn) => {
      const other = `get a get a v.shuffle ${turn.lanes}`;
      return `${other} get a v.gt ${other} get a v.eq ${beaten("b", turn)} v.and v.or`;
    }),
    ranked("jointly", "get x get x v.mul get e get e v.mul v.sub set a", (turn) => beaten("a", turn)),
    ["none", "ptr:i32 n:i32 s:f32", "f64", "end:i32 vi:v count:v", `
      f32.const 1 get s f32.div v.splat set vi
      get ptr get n i32.const 2 i32.shl i32.add set end
      block loop
        get ptr get end i32.ge_u br_if 1
        get count get ptr v.load get vi v.mul v.nearest ${ZERO} v.eq v.isub set count
        get ptr i32.const 16 i32.add set ptr br 0
      end end
      ${[0, 1, 2, 3].map((k) => `get count v.lane ${k} i32.bits f64.convert ${k ? "f64.add" : ""}`).join(" ")}`],
    ["nf4", "ptr:i32 rows:i32 columns:i32 block:i32", "f64", BLOCKS, blocks(`
        get a f32.const 0 f32.gt if
          get ptr get n get a f64.const Infinity call levels get all f64.add set all
        end`)],
  ];

  /* The same without WebAssembly: slower, with the same roundings. */
  function plain() {
    const round = Math.fround, bits = new Int32Array(1), float = new Float32Array(bits.buffer);
    const nearest = (t) => { const m = Math.abs(t); return m > 8388607 ? t : Math.sign(t) * (m + 8388608 - 8388608); };
    const even = (t) => (Math.abs(t) < 4194304 ? round(round(t + 12582912) - 12582912) : nearest(t));
    const asBits = (value) => { float[0] = value; return bits[0]; };
    const asFloat = (value) => { bits[0] = value; return float[0]; };
    let memory = new ArrayBuffer(65536), at = new Float32Array(memory);
    function largest(ptr, n) {
      let found = 0;
      for (let i = ptr >> 2; i < (ptr >> 2) + n; i++) found = Math.max(found, Math.abs(at[i]));
      return found;
    }
    function integer(ptr, n, s, low, high, bound) {
      s = round(s);
      const inverse = round(1 / s);
      let total = 0;
      for (let i = ptr >> 2; i < (ptr >> 2) + n; i++) {
        const q = Math.max(Math.min(even(round(at[i] * inverse)), high), low), e = round(at[i] - round(s * q));
        total += e * e;
        if (total > bound) break;
      }
      return total;
    }
    const rounded = (s) => asFloat((asBits(s) + 0xfff + ((asBits(s) >>> 13) & 1)) & ~0x1fff);
    const up = { value: 0 }, down = { value: 0 };
    function fitted(ptr, n, s, low, high) {
      const inverse = round(1 / round(s));
      up.value = down.value = 0;
      for (let i = ptr >> 2; i < (ptr >> 2) + n; i++) {
        const q = Math.max(Math.min(even(round(at[i] * inverse)), high), low);
        up.value += at[i] * q;
        down.value += q * q;
      }
      return up.value / down.value;
    }
    function best(ptr, n, a, factors, count, low, high, worse, floor, out) {
      let least = Infinity, scale = 0;
      for (let j = 0; j < count; j++) {
        const s = Math.max(rounded(round(at[(factors >> 2) + j] * a)), floor);
        const error = integer(ptr, n, s, low, high, worse * least);
        if (error > worse * least) break;
        if (error < least) { least = error; scale = s; }
      }
      const fit = rounded(round(fitted(ptr, n, scale, low, high))), s = fit > 0 ? Math.max(fit, floor) : 0;
      const error = s > 0 ? integer(ptr, n, s, low, high, least) : least;
      at[out >> 2] = error < least ? s : scale;
      return Math.min(error, least);
    }
    function small(ptr, n, s, least, shift, top) {
      let total = 0;
      for (let i = ptr >> 2; i < (ptr >> 2) + n; i++) {
        const x = Math.abs(at[i]), t = round(x / s), magic = asFloat(Math.max(asBits(t) & 0x7f800000, least) + shift);
        const e = round(x - round(Math.min(round(round(t + magic) - magic), top) * s));
        total += e * e;
      }
      return total;
    }
    function blocks(ptr, rows, columns, block, each) {
      let all = 0;
      for (let row = 0; row < rows; row++) {
        for (let left = columns; left > 0; left -= block) {
          const n = Math.min(left, block);
          all += each(ptr, n, largest(ptr, n));
          ptr += 4 * n;
        }
      }
      return all;
    }
    return {
      memory: {
        get buffer() { return memory; },
        grow(pages) {
          const wider = new ArrayBuffer(memory.byteLength + 65536 * pages);
          new Uint8Array(wider).set(new Uint8Array(memory));
          memory = wider;
          at = new Float32Array(memory);
        },
      },
      largest, integer, best, fitted, up, down,
      integers: (ptr, rows, columns, block, factors, count, low, high, worse, floor, out) => blocks(ptr, rows, columns, block,
        (p, n, a) => {
          at[out >> 2] = 0;
          out += 4;
          return a > 0 ? best(p, n, a, factors, count, low, high, worse, floor, out - 4) : 0;
        }),
      mx: (ptr, rows, columns, block, emax, least, shift, top) => blocks(ptr, rows, columns, block, (p, n, a) => {
        const k = (asBits(a) >>> 23) - emax;
        return a > 0 ? small(p, n, asFloat(k > 0 ? k << 23 : 0x400000), least, shift, top) : 0;
      }),
      nvfp4: (ptr, rows, columns, block, g) => blocks(ptr, rows, columns, block, (p, n, a) => {
        const c = Math.min(round(round(a / 6) / round(g)), 448);
        const magic = asFloat(Math.max(asBits(c) & 0x7f800000, 0x3c800000) + 0xa000000);
        const s = round(round(round(c + magic) - magic) * round(g));
        return s > 0 ? small(p, n, s, 0x3f800000, 0xb000000, 6) : integer(p, n, 1, 0, 0, Infinity);
      }),
      nf4: (ptr, rows, columns, block) => blocks(ptr, rows, columns, block, (p, n, a) => {
        let total = 0;
        for (let i = p >> 2; a > 0 && i < (p >> 2) + n; i++) {
          const t = round(at[i] / a);
          let level = 0;
          while (level < 15 && t > THRESHOLDS[level]) level++;
          const e = round(at[i] - round(NF4[level] * a));
          total += e * e;
        }
        return total;
      }),
    };
  }

  /* What the loops run on: WebAssembly with vectors where there is such, else plain loops. */
  function machine() {
    if (typeof WebAssembly === "object" && !(options && options.plain)) {
      try {
        return new WebAssembly.Instance(new WebAssembly.Module(assemble(FUNCTIONS, 1))).exports;
      } catch (error) {
        if (options && options.vectors) throw error; // a test that must not pass without them
      }
    }
    return plain();
  }
  /* --- how a matrix may be stored ------------------------------------------------------------------------------ */

  /* As `checkpoint.schemes` has them; a test holds them equal. */
  const FIRST = { 2: 2.0, 3: 1.34, 4: 1.3, 8: 1.22 }, PER_OCTAVE = { 2: 4, 3: 6, 4: 10, 8: 16 };
  const HOW_MANY = { 2: 24, 3: 22, 4: 22, 8: 7 }, WORSE = 2.0;
  const CANDIDATES = {};
  for (const b of [2, 3, 4, 8]) {
    CANDIDATES[b] = Array.from({ length: HOW_MANY[b] }, (_, j) => FIRST[b] * Math.pow(2, -j / PER_OCTAVE[b]));
  }
  const WIDTHS = [2, 3, 4, 8], GROUP = 128, BUDGETS = [2.25, 3.25, 4.25, 8.25], MASKS = ["bitmap", "free", "entropy"];
  /* block, bits of a value, of a scale, of the matrix; then what `mx` takes */
  const FORMATS = {
    MXFP4: [32, 4, 8, 0, [2, 127 << 23, 22 << 23, 6]],
    MXFP6: [32, 6, 8, 0, [2, 127 << 23, 20 << 23, 7.5]],
    MXFP8: [32, 8, 8, 0, [8, 121 << 23, 20 << 23, 448]],
    NVFP4: [16, 4, 8, 32],
    NF4: [64, 4, 32, 0],
  };
  const BOTH = ["2:4", "50%"], SHARES = [0.5, 0.75, 0.875];
  /* A smaller scale is raised to the first; a scheme that needs a larger one than the second is none for the matrix. */
  const LEAST_SCALE = Math.pow(2, -14), LARGEST_SCALE = 65504;
  const leastScale = (exponent) => Math.pow(2, Math.min(-14 - exponent, 126)); // in units of 2^exponent
  const BINS = 1 << 16, FINER = 32, OCTAVES = 10; // of the histogram; of the scales of a whole tensor

  const granular = (of) => (typeof of === "number" ? "g" + of : of);

  /* Bits a weight of a scheme, values, scales and mask. */
  function bitsPerWeight(rows, columns, { pattern, bits, of, format }) {
    const count = rows * columns;
    let kept = count, mask = 0, stored;
    if (pattern && pattern.endsWith("%")) {
      kept = count - Math.floor(count * parseFloat(pattern) / 100);
      mask = count;
    } else if (pattern) {
      const [n, m] = pattern.split(":").map(Number);
      kept = Math.floor(count / m) * n;
      mask = kept * Math.ceil(Math.log2(m));
    }
    if (bits) {
      const scales = of === "tensor" ? 1 : of === "channel" ? rows : rows * Math.ceil(columns / of);
      stored = kept * bits + scales * 16;
    } else if (format) {
      const [block, value, scale, whole] = FORMATS[format];
      stored = kept * value + rows * Math.ceil(columns / block) * scale + whole;
    } else stored = kept * 16;
    return (stored + mask) / count;
  }

  const entropy = (p) => (p <= 0 || p >= 1 ? 0 : -p * Math.log2(p) - (1 - p) * Math.log2(1 - p));
  /* The share of weights that pruning keeps in so many bits a weight, values of 16; null where a mask has no room. */
  function keptShare(bits, mask) {
    if (mask === "bitmap") return bits > 1 ? Math.min((bits - 1) / 16, 1) : null;
    if (mask === "free") return Math.min(bits / 16, 1);
    let low = 0, high = Math.min(bits / 16, 1);
    for (let i = 0; i < 100; i++) {
      const middle = (low + high) / 2;
      if (16 * middle + entropy(middle) > bits) high = middle; else low = middle;
    }
    return low;
  }

  /* --- a matrix, judged ---------------------------------------------------------------------------------------- */

  let loops = null;
  const VALUES = 65536; // where numbers begin in the memory of the loops; candidates lie below
  const factorsAt = {};
  function prepare(count) {
    if (!loops) {
      loops = machine();
      let place = 1024;
      for (const bits of WIDTHS) {
        factorsAt[bits] = place;
        CANDIDATES[bits].forEach((factor, j) => {
          new Float32Array(loops.memory.buffer)[place / 4 + j] = Math.fround(factor) / Math.pow(2, bits - 1);
        });
        place += 4 * CANDIDATES[bits].length;
      }
    }
    const needed = VALUES + 12 * (count + 4), there = loops.memory.buffer.byteLength;
    if (needed > there) loops.memory.grow(Math.ceil((needed - there) / 65536));
  }
  const single = new Float32Array(1), singleBits = new Uint32Array(single.buffer);
  function toHalf(value) {
    single[0] = value;
    singleBits[0] = (singleBits[0] + 0xfff + ((singleBits[0] >>> 13) & 1)) & ~0x1fff;
    return single[0];
  }

  async function bytesOf(file, matrix, start, stop) {
    const buffer = await file.slice(matrix.start + start, matrix.start + stop).arrayBuffer();
    if (buffer.byteLength !== stop - start) {
      throw new ModelFileError(file.name, "it does not have the bytes of all values", matrix.name);
    }
    return buffer;
  }

  /* The bytes of rows first … stop - 1; a matrix that does not lie row by row is read whole, once. */
  let whole = { matrix: "", values: null };
  async function bytesOfRows(file, matrix, first, stop) {
    const { columns, layout } = matrix, size = matrix.nbytes / matrix.count;
    if (layout === "rows") {
      return bytesOf(file, matrix, Math.floor(first * columns * size), Math.ceil(stop * columns * size));
    }
    return whole.matrix === matrix.name ? null : bytesOf(file, matrix, 0, matrix.nbytes);
  }

  /* Those rows as float32, at VALUES in the memory of the loops: nothing else may run before they are done with. */
  function place(buffer, matrix, first, stop) {
    const { columns, layout, rows } = matrix, count = (stop - first) * columns;
    prepare(count);
    const out = new Float32Array(loops.memory.buffer, VALUES, count);
    if (layout === "rows") {
      const odd = matrix.dtype === "F4" && (first * columns) % 2; // half a byte belongs to the row before
      const values = odd ? new Float32Array(count + 1) : out;
      decode(matrix.dtype, buffer, values);
      if (odd) out.set(values.subarray(1));
      return out;
    }
    if (whole.matrix !== matrix.name) {
      whole = { matrix: matrix.name, values: new Float32Array(matrix.count) };
      decode(matrix.dtype, buffer, whole.values);
    }
    const kernel = layout === "swapped" ? product(matrix.shape.slice(2)) : 1;
    for (let row = first, at = 0; row < stop; row++) {
      for (let line = 0; line < columns / kernel; line++) {
        const from = (line * rows + row) * kernel;
        for (let k = 0; k < kernel; k++) out[at++] = whole.values[from + k];
      }
    }
    return out;
  }

  /* The first pass: the largest magnitude, zeros, and a histogram of the upper halves of the bit patterns, with the sums
     of the lower halves and of their squares; or the first number that is none. */
  function scan(x, at) {
    const counts = new Float64Array(BINS), lows = new Float64Array(BINS), squares = new Float64Array(BINS);
    const patterns = new Uint32Array(x.buffer, x.byteOffset, x.length);
    let top = 0, zeros = 0;
    for (let i = 0; i < patterns.length; i++) {
      const bits = patterns[i], size = bits & 0x7fffffff, place = bits >>> 16, low = bits & 0xffff;
      if (size >= 0x7f800000) {
        return { bad: at + i, what: size > 0x7f800000 ? "nan" : bits >>> 31 ? "-inf" : "inf" };
      }
      if (size > top) top = size;
      if (!size) zeros++;
      counts[place] += 1;
      lows[place] += low;
      squares[place] += low * low;
    }
    return { top, zeros, counts, lows, squares, bad: -1 };
  }
  function joinScans(parts) {
    const bad = parts.filter((part) => part.bad >= 0).sort((a, b) => a.bad - b.bad);
    if (bad.length) return bad[0];
    return parts.reduce((all, part) => {
      all.top = Math.max(all.top, part.top);
      all.zeros += part.zeros;
      for (let i = 0; i < BINS; i++) {
        all.counts[i] += part.counts[i];
        all.lows[i] += part.lows[i];
        all.squares[i] += part.squares[i];
      }
      return all;
    });
  }

  /* What the histogram says, in units of 2^exponent, in which the largest magnitude lies in [1, 2). */
  function census({ top, zeros, counts, lows, squares }) {
    singleBits[0] = top;
    const largest = single[0], bins = [];
    singleBits[0] = top & 0x7f800000;
    const exponent = largest > 0 ? (top >= 0x800000 ? Math.log2(single[0]) : Math.floor(Math.log2(largest))) : 0;
    const unit = Math.pow(2, -exponent);
    let total = 0, sum = 0;
    for (let place = 0; place < BINS; place++) {
      if (!counts[place]) continue;
      singleBits[0] = place << 16;
      const base = single[0], step = (place & 0x8000 ? -1 : 1) * Math.pow(2, Math.max((place >> 7) & 0xff, 1) - 150);
      const inside = lows[place] / counts[place], mean = (base + step * inside) * unit;
      const spread = Math.pow(step * unit, 2) * Math.max(squares[place] / counts[place] - inside * inside, 0);
      bins.push({ place, count: counts[place], mean, spread, square: counts[place] * (mean * mean + spread) });
      total += counts[place];
      sum += counts[place] * mean;
    }
    const average = sum / total;
    let power = 0, second = 0, fourth = 0;
    for (const { count, mean, spread, square } of bins) {
      const away = (mean - average) * (mean - average);
      power += square;
      second += count * (away + spread) / total;
      fourth += count * (away * away + 6 * away * spread) / total;
    }
    const magnitudes = new Map(); // bins of |x|, ascending
    for (const { place, count, square } of bins) {
      const bin = magnitudes.get(place & 0x7fff) || { place: place & 0x7fff, count: 0, square: 0 };
      bin.count += count;
      bin.square += square;
      magnitudes.set(bin.place, bin);
    }
    const sizes = Array.from(magnitudes.values()).sort((a, b) => a.place - b.place), below = [0], lost = [0];
    sizes.forEach(({ count, square }, i) => { below.push(below[i] + count); lost.push(lost[i] + square); });
    const binOf = (gone) => {
      let low = 0, high = sizes.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (below[middle + 1] >= gone) high = middle; else low = middle + 1;
      }
      return low;
    };
    return {
      exponent, largest, zeros, total, power, bins, kurtosis: second > 0 ? fourth / (second * second) : null,
      /* Σ x² of the smallest, a number of them that need not be whole */
      pruned(gone) {
        const at = binOf(Math.min(gone, total));
        return lost[at] + (Math.min(gone, total) - below[at]) / sizes[at].count * sizes[at].square;
      },
      /* where the bin begins and ends that holds the last of the smallest, and the share of it that goes, times 2^32 */
      boundary(gone) {
        const at = binOf(gone), edge = (place) => { singleBits[0] = place << 16; return single[0] * unit; };
        return {
          low: edge(sizes[at].place), high: edge(sizes[at].place + 1),
          share: Math.round((gone - below[at]) / sizes[at].count * 4294967296),
        };
      },
    };
  }

  /* The one scale of a matrix, of a fine list, estimated on the bins; in units of the census. */
  function tensorScale(counted, bits) {
    const top = Math.pow(2, bits - 1), largest = counted.largest * Math.pow(2, -counted.exponent);
    const bins = counted.bins.filter(({ place }) => (place & 0x7fff) > 0);
    let best = Infinity, scale = 1;
    for (let j = 0; j < FINER * OCTAVES; j++) {
      const s = Math.max(toHalf(2 * largest / top * Math.pow(2, -j / FINER)), leastScale(counted.exponent));
      let error = 0;
      for (const { count, mean, spread } of bins) {
        const away = mean - s * Math.max(-top, Math.min(top - 1, nearest(mean / s)));
        error += count * (away * away + spread);
      }
      if (error < best) { best = error; scale = s; } else if (error > WORSE * best) break;
    }
    return scale;
  }
  /* to the nearest whole number, ties to even */
  const nearest = (t) => (Math.abs(t) < 4503599627370496 ? (t < 0 ? t - 4503599627370496 + 4503599627370496 : t + 4503599627370496 - 4503599627370496) : t);

  /* Of every m neighbours of x the n of largest magnitude, the first of equals, into y; the energy of the others. */
  function prunePattern(x, y, n, m) {
    const size = new Float32Array(m), above = new Int32Array(m);
    let lost = 0;
    for (let first = 0; first < x.length; first += m) {
      for (let i = 0; i < m; i++) { size[i] = Math.abs(x[first + i]); above[i] = 0; }
      for (let i = 0; i < m - 1; i++) {
        for (let j = i + 1; j < m; j++) {
          const later = +(size[j] > size[i]);
          above[i] += later;
          above[j] += 1 - later;
        }
      }
      for (let i = 0; i < m; i++) {
        const stays = above[i] < n, value = x[first + i];
        y[first + i] = stays ? value : 0;
        lost += stays ? 0 : value * value;
      }
    }
    return lost;
  }

  /* x without the magnitudes below `low`, and of those from there to below `high` without the ones whose place, times the
     golden ratio modulo 2^32, lies below the share; into y. The energy of what is pruned. */
  function pruneBelow(x, start, { low, high, share }, y) {
    let lost = 0;
    for (let i = 0; i < x.length; i++) {
      const size = Math.abs(x[i]);
      const out = size < low || (size < high && Math.imul(start + i, 0x9e3779b9) >>> 0 < share);
      y[i] = out ? 0 : x[i];
      if (out) lost += x[i] * x[i];
    }
    return lost;
  }

  /* Errors of 2:4 after quantization, one scale a row: ties among equal integers by place, by the stored weights, and what
     saves the most error; and how many integers are 0. */
  function orders(x, steps, columns) {
    const NEAR = 6755399441055744; // adding it makes the processor round to whole numbers, ties to even
    const score = new Float64Array(4), size = new Float64Array(4), gain = new Float64Array(4);
    const square = new Float64Array(4), error = new Float64Array(4);
    const place = new Int32Array(4), weight = new Int32Array(4), joint = new Int32Array(4); // how many stand above
    let zeros = 0, byPlace = 0, byWeights = 0, jointly = 0;
    for (let row = 0; row < steps.length; row++) {
      const s = steps[row], inverse = s > 0 ? Math.fround(1 / s) : 0;
      for (let at = row * columns; at < (row + 1) * columns; at += 4) {
        for (let i = 0; i < 4; i++) {
          const value = x[at + i], t = Math.fround(value * inverse), q = (t < -8 ? -8 : t > 7 ? 7 : t) + NEAR - NEAR;
          const difference = value - Math.fround(s * q);
          zeros += +(q === 0);
          score[i] = q < 0 ? -q : q;
          size[i] = value < 0 ? -value : value;
          square[i] = value * value;
          error[i] = difference * difference;
          gain[i] = square[i] - error[i];
          place[i] = weight[i] = joint[i] = 0;
        }
        for (let i = 0; i < 3; i++) {
          for (let j = i + 1; j < 4; j++) {
            const more = +(score[j] > score[i]), heavier = more | (+(score[j] === score[i]) & +(size[j] > size[i]));
            const better = +(gain[j] > gain[i]);
            place[i] += more;
            place[j] += 1 - more;
            weight[i] += heavier;
            weight[j] += 1 - heavier;
            joint[i] += better;
            joint[j] += 1 - better;
          }
        }
        for (let i = 0; i < 4; i++) {
          byPlace += place[i] < 2 ? error[i] : square[i];
          byWeights += weight[i] < 2 ? error[i] : square[i];
          jointly += joint[i] < 2 ? error[i] : square[i];
        }
      }
    }
    return { sums: [byPlace, byWeights, jointly], zeros };
  }

  function ordersByVectors(steps, columns) {
    const sums = [0, 0, 0];
    let zeros = 0;
    steps.forEach((step, row) => {
      const at = VALUES + 4 * row * columns;
      if (step > 0) {
        sums[0] += loops.by_place(at, columns, step);
        sums[1] += loops.by_weights(at, columns, step);
        sums[2] += loops.jointly(at, columns, step);
      }
      zeros += step > 0 ? loops.none(at, columns, step) : columns;
    });
    return { sums, zeros };
  }

  const low = (bits) => -Math.pow(2, bits - 1), high = (bits) => Math.pow(2, bits - 1) - 1;

  /* Squared errors of every scheme over rows that are loaded, and the ends of their scales. */
  function errorsOf(x, matrix, first, about) {
    const { columns } = matrix, rows = x.length / columns, errors = {}, scales = {};
    const second = VALUES + 4 * Math.ceil(x.length / 4) * 4, third = second + 4 * Math.ceil(x.length / 4) * 4;
    let order = null, stepsOfRows = null;
    function integers(name, at, bits, of, lost) {
      const block = of === "channel" ? columns : Math.min(of, columns);
      errors[name] = lost + loops.integers(at, rows, columns, block, factorsAt[bits], CANDIDATES[bits].length, low(bits),
        high(bits), WORSE, leastScale(about.exponent), third);
      let least = Infinity, most = 0;
      const steps = new Float32Array(loops.memory.buffer, third, rows * Math.ceil(columns / block));
      if (name === "INT4 channel") stepsOfRows = steps.slice();
      for (const s of steps) {
        if (s > 0 && s < least) least = s;
        if (s > most) most = s;
      }
      if (most > 0) scales[name] = [least, most];
    }
    for (const bits of WIDTHS) {
      const s = about.steps[bits];
      errors["INT" + bits + " tensor"] = loops.integer(VALUES, x.length, s, low(bits), high(bits), Infinity);
      scales["INT" + bits + " tensor"] = [s, s];
      for (const of of ["channel", GROUP]) integers("INT" + bits + " " + granular(of), VALUES, bits, of, 0);
    }
    for (const [name, [block, , , , element]] of Object.entries(FORMATS)) {
      if (element) errors[name] = loops.mx(VALUES, rows, columns, block, ...element);
    }
    errors.NVFP4 = loops.nvfp4(VALUES, rows, columns, FORMATS.NVFP4[0], Math.max(Math.fround(about.largest / 2688), Math.pow(2, -126)));
    errors.NF4 = loops.nf4(VALUES, rows, columns, FORMATS.NF4[0]);
    const y = new Float32Array(x.buffer, second, x.length);
    if (columns % 8 === 0) errors["4:8 FP16"] = prunePattern(x, y, 4, 8);
    if (columns % 4 === 0) {
      const lost = errors["2:4 FP16"] = loops.halve ? loops.halve(VALUES, x.length, second) : prunePattern(x, y, 2, 4);
      for (const of of ["channel", GROUP]) integers("2:4 INT4 " + granular(of), second, 4, of, lost);
      order = loops.by_place ? ordersByVectors(stepsOfRows, columns) : orders(x, stepsOfRows, columns);
    }
    const lost = pruneBelow(x, first * columns, about.boundary, y);
    for (const of of ["channel", GROUP]) integers("50% INT4 " + granular(of), second, 4, of, lost);
    return { errors, scales, order };
  }

  /* A piece of work on rows first … stop - 1: "scan", "judge" what is known `about` the matrix, or "all" of a small one.
     Everything is judged in units of the largest magnitude, a power of two. */
  async function work(file, { matrix, first, stop, what, about }) {
    const x = place(await bytesOfRows(file, matrix, first, stop), matrix, first, stop);
    if (what === "scan") return scan(x, first * matrix.columns);
    const scanned = what === "all" ? scan(x, 0) : null;
    if (scanned && scanned.bad >= 0) return { scanned };
    if (scanned && !scanned.top) return { scanned, errors: {}, scales: {} };
    const known = about || aboutOf(census(scanned));
    if (known.exponent) {
      const unit = Math.pow(2, -known.exponent);
      for (let i = 0; i < x.length; i++) x[i] *= unit;
    }
    return { scanned, ...errorsOf(x, matrix, first, known) };
  }
  function aboutOf(counted) {
    return {
      exponent: counted.exponent, largest: counted.largest * Math.pow(2, -counted.exponent),
      boundary: counted.boundary(Math.floor(counted.total / 2)),
      steps: Object.fromEntries(WIDTHS.map((bits) => [bits, tensorScale(counted, bits)])),
    };
  }

  /* A matrix as a row of the report; run(task) does a piece of work, here or in a worker. */
  async function judge(matrix, run) {
    const rows = Math.max(1, Math.floor(PIECE / matrix.columns));
    if (matrix.rows <= rows) {
      const done = await run({ what: "all", matrix, first: 0, stop: matrix.rows });
      return done.scanned.bad >= 0 ? refused(matrix, done.scanned) : rowOf(matrix, census(done.scanned), [done]);
    }
    const all = (what, about) => {
      const parts = [];
      for (let first = 0; first < matrix.rows; first += rows) {
        parts.push(run({ what, matrix, first, stop: Math.min(first + rows, matrix.rows), about }));
      }
      return Promise.all(parts);
    };
    const scanned = joinScans(await all("scan"));
    if (scanned.bad >= 0) return refused(matrix, scanned);
    const counted = census(scanned);
    return rowOf(matrix, counted, scanned.top ? await all("judge", aboutOf(counted)) : []);
  }

  function refused(matrix, { bad, what }) {
    const { name, shape, dtype, nbytes, columns } = matrix;
    const reason = "it holds " + what + " in row " + Math.floor(bad / columns) + ", column " + bad % columns;
    return { untreated: { name, shape, dtype, nbytes, reason } };
  }

  /* --- the report ---------------------------------------------------------------------------------------------- */

  const decibels = (signal, error) => (error > 0 && signal > 0 ? 10 * Math.log10(signal / error) : null);
  const ratio = (snr) => (snr === null ? { snr, lossless: true } : { snr });
  /* All schemes that are judged: name, family and what is stored. */
  const SCHEMES = [];
  for (const bits of WIDTHS) {
    for (const of of ["tensor", "channel", GROUP]) {
      SCHEMES.push({ name: "INT" + bits + " " + granular(of), family: "quantization", bits, of });
    }
  }
  for (const format of Object.keys(FORMATS)) SCHEMES.push({ name: format, family: "quantization", format });
  for (const pattern of ["2:4", "4:8", ...SHARES.map((share) => 100 * share + "%")]) SCHEMES.push({ name: pattern + " FP16", family: "pruning", pattern });
  for (const pattern of BOTH) for (const of of ["channel", GROUP]) {
    SCHEMES.push({ name: pattern + " INT4 " + granular(of), family: "both", pattern, bits: 4, of });
  }
  const FAMILY = Object.fromEntries(SCHEMES.map((scheme) => [scheme.name, scheme.family]));

  const STOPS = Array.from({ length: 25 }, (_, i) => 2.25 + i / 4); // of the page's slider

  /* The sums of all pieces as a row of the report. */
  function rowOf(matrix, counted, measured) {
    const { name, shape, kind, dtype, rows, columns, experts, nbytes, aliases, parts } = matrix, notes = [];
    const { power, total, exponent } = counted, errors = {}, ends = {}, unit = Math.pow(2, exponent);
    for (const part of measured) {
      for (const [scheme, error] of Object.entries(part.errors)) errors[scheme] = (errors[scheme] || 0) + error;
      for (const [scheme, [least, most]] of Object.entries(part.scales)) {
        const [a, b] = ends[scheme] || [Infinity, 0];
        ends[scheme] = [Math.min(a, least), Math.max(b, most)];
      }
    }
    if (!counted.largest) notes.push("all weights are zero: nothing is lost by any scheme, and nothing need be stored");
    const schemes = [], refused = {}, raised = [];
    const refuse = (why, scheme) => { refused[why] = (refused[why] || []).concat(scheme.name); };
    for (const scheme of SCHEMES) {
      const neighbours = scheme.pattern && scheme.pattern.includes(":") ? Number(scheme.pattern.split(":")[1]) : 1;
      if (columns % neighbours) {
        refuse("rows of " + columns + " values are no whole number of groups of " + neighbours, scheme);
        continue;
      }
      const share = scheme.pattern && scheme.pattern.endsWith("%") && !scheme.bits ? parseFloat(scheme.pattern) / 100 : 0;
      const error = share ? counted.pruned(Math.floor(share * total)) : errors[scheme.name] || 0;
      const [least, most] = ends[scheme.name] ? ends[scheme.name].map((end) => end * unit) : [1, 1];
      const unstored = !scheme.bits || !counted.largest ? ""
        : most > LARGEST_SCALE ? "a scale is larger than half precision holds"
          : counted.largest <= LEAST_SCALE / 2 ? "every weight would be zero: half precision holds no scale that is small enough" : "";
      if (unstored) {
        refuse(unstored, scheme);
        continue;
      }
      if (ends[scheme.name] && least <= LEAST_SCALE) raised.push(scheme.name);
      schemes.push({
        name: scheme.name, bits_per_weight: bitsPerWeight(rows, columns, scheme), ...ratio(decibels(power, error)),
      });
    }
    if (raised.length) {
      notes.push(raised.join(", ") + ": the smallest scales are raised to the least of half precision, 2^-14");
    }
    for (const [why, names] of Object.entries(refused)) notes.push(names.join(", ") + ": " + why);
    const prunedTo = (bits, mask) => {
      const share = keptShare(bits, mask);
      return share === null ? null : {
        mask, bits_per_weight: bits, share_kept: share, ...ratio(decibels(power, counted.pruned((1 - share) * total))),
      };
    };
    const wanted = new Map();
    const want = (bits, mask) => wanted.set(bits + mask, [bits, mask]);
    for (const scheme of schemes) if (FAMILY[scheme.name] === "quantization") want(scheme.bits_per_weight, "bitmap");
    for (const bits of BUDGETS) for (const mask of MASKS) want(bits, mask);
    const pruning = Array.from(wanted.values()).sort((a, b) => a[0] - b[0] || MASKS.indexOf(a[1]) - MASKS.indexOf(b[1]))
      .map(([bits, mask]) => prunedTo(bits, mask)).filter(Boolean);
    if (GROUP < columns && columns % GROUP) {
      notes.push("groups of " + GROUP + " do not divide " + columns + " columns: the last holds " + columns % GROUP);
    } else if (GROUP > columns) notes.push("rows are shorter than a group of " + GROUP + ": one group a row");
    let order = null;
    if (measured.length && measured[0].order && schemes.some((scheme) => scheme.name === "2:4 INT4 channel")) {
      const after = measured.map((part) => part.order.sums).reduce((a, b) => a.map((error, i) => error + b[i]));
      const [byPlace, byWeights, joint] = after.map((error) => decibels(power, error));
      const first = decibels(power, errors["2:4 INT4 channel"]);
      const value = (snr) => (snr === null ? Infinity : snr);
      order = {
        better: value(first) >= value(byPlace) ? "prune first" : "quantize first",
        cost: first === null || byPlace === null ? null : Math.abs(first - byPlace),
        zeros: measured.reduce((sum, part) => sum + part.order.zeros, 0),
        prune_first: ratio(first), quantize_first: ratio(byPlace), by_weights: ratio(byWeights), joint: ratio(joint),
      };
    }
    const row = {
      name, kind, dtype, rows, columns, experts, weights: rows * columns, stored_bytes: nbytes, largest: counted.largest,
      power: power * unit * unit, shape, aliases, parts, kurtosis: counted.kurtosis, zeros: counted.zeros, schemes, pruning,
      curve: STOPS.map((bits) => prunedTo(bits, "bitmap").snr),
    };
    row.budgets = BUDGETS.map((bits) => winnerAt(row, bits));
    return { row: { ...row, order, entropy: [], notes } };
  }

  /* The best of each family within so many bits a weight, of equals the one that stores fewer; `curve` has the stops. */
  function winnerAt(row, bits) {
    const snr = (found) => (found.snr === null ? Infinity : found.snr), fitting = row.schemes.slice();
    const share = keptShare(bits, "bitmap"), at = STOPS.indexOf(bits);
    const percent = Math.min(Math.ceil((1 - share) * 1e6) / 1e4, 99.9999);
    fitting.push({ name: Number(percent.toPrecision(10)) + "% FP16", bits_per_weight: bits, ...ratio(row.curve[at]) });
    const found = { quantization: null, pruning: null, both: null };
    fitting.filter((scheme) => scheme.bits_per_weight <= bits * (1 + 1e-12))
      .sort((a, b) => (snr(a) === snr(b) ? a.bits_per_weight - b.bits_per_weight : snr(b) > snr(a) ? 1 : -1))
      .forEach((scheme) => {
        const family = FAMILY[scheme.name] || "pruning";
        if (!found[family]) found[family] = scheme;
      });
    let winner = null;
    for (const family of Object.keys(found)) {
      if (found[family] && (!winner || snr(found[family]) > snr(found[winner]))) winner = family;
    }
    const { quantization, pruning } = found;
    const margin = quantization && pruning && quantization.snr !== null && pruning.snr !== null
      ? quantization.snr - pruning.snr : null;
    return { bits, winner, ...found, margin };
  }

  /* The report as `prunequant report --json` writes it; each row has a `curve` more, which the page draws. */
  function assembleReport(model, rows) {
    const matrices = [], untreated = model.untreated.slice();
    rows.forEach((done) => { if (done.row) matrices.push(done.row); else untreated.push(done.untreated); });
    const sum = (list, what) => list.reduce((total, item) => total + what(item), 0);
    const weights = sum(matrices, (m) => m.weights), zeros = sum(matrices, (m) => m.zeros);
    const mask = sum(matrices, (m) => m.weights * entropy(m.zeros / m.weights));
    const winners = BUDGETS.map((bits, i) => {
      const share = { quantization: 0, pruning: 0, both: 0, none: 0 };
      for (const m of matrices) share[m.budgets[i].winner || "none"] += m.weights / weights;
      return { bits, ...(weights ? share : {}) };
    });
    return {
      schema: 1,
      model: { path: model.name, format: "safetensors", tensors: model.tensors, stored_bytes: model.size, bytes: model.bytes },
      settings: { budgets: BUDGETS, group: GROUP, mask: "bitmap", entropy: false, scales: "searched" },
      totals: {
        weights, zeros, matrices: matrices.length, matrix_bytes: sum(matrices, (m) => m.stored_bytes),
        untreated: untreated.length, untreated_bytes: sum(untreated, (u) => u.nbytes), winners,
        sparse: {
          dense: 2 * weights, bitmap: 2 * (weights - zeros) + Math.ceil(weights / 8),
          entropy: 2 * (weights - zeros) + Math.ceil(mask / 8), "2:4": Math.ceil(9 * weights / 8),
        },
      },
      matrices, untreated, notes: model.notes, provenance: { made_by: "the page practice/your-own-model" },
    };
  }

  /* The whole report, one matrix after another: what the tests run, and the worker where there is only one. */
  async function report(file, progress) {
    const model = await openModel(file), rows = [];
    for (const matrix of model.matrices) {
      rows.push(await judge(matrix, (task) => work(file, task)));
      if (progress) progress(matrix.nbytes);
    }
    return assembleReport(model, rows);
  }

  /* --- a small model for those who have none --------------------------------------------------------------------- */

  /* A made transformer block of 1.3 million weights in bfloat16: bell-shaped, Laplace, heavy-tailed and sparse matrices. */
  function demo() {
    let state = 20260101;
    const uniform = () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return (state + 0.5) / 4294967296; };
    const bell = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    const laplace = () => -Math.log(uniform()) * (uniform() < 0.5 ? -1 : 1);
    const sparse = () => bell() * (uniform() < 0.12 ? 1 : 0.002); // few weights hold nearly everything
    const halved = () => bell() * (uniform() < 0.45 ? 1 : 0); // pruned before
    const heavy = () => bell() / Math.sqrt(-Math.log(uniform())); // Student's t with two degrees of freedom
    const given = [
      ["embed_tokens.weight", [1024, 256], bell, 0.02], ["layers.0.attn.q_proj.weight", [256, 256], laplace, 0.03],
      ["layers.0.attn.k_proj.weight", [256, 256], laplace, 0.03], ["layers.0.attn.v_proj.weight", [256, 256], bell, 0.03],
      ["layers.0.attn.o_proj.weight", [256, 256], bell, 0.03], ["layers.0.mlp.up_proj.weight", [768, 256], halved, 0.04],
      ["layers.0.mlp.gate_proj.weight", [768, 256], heavy, 0.01], ["layers.0.mlp.down_proj.weight", [256, 768], sparse, 0.05],
      ["layers.0.norm.weight", [256], () => 1, 1], ["stem.conv.weight", [64, 16, 3, 3], bell, 0.1],
      ["stem.depthwise.weight", [64, 1, 5, 5], laplace, 0.2], ["stem.conv.bias", [64], () => 0, 1],
    ];
    const entries = {}, total = given.reduce((sum, [, shape]) => sum + product(shape), 0), values = new Uint16Array(total);
    let at = 0;
    for (const [name, shape, draw, size] of given) {
      const from = at;
      for (const end = at + product(shape); at < end; at++) {
        single[0] = draw() * size;
        values[at] = (singleBits[0] + 0x7fff + ((singleBits[0] >>> 16) & 1)) >>> 16;
      }
      entries[name] = { dtype: "BF16", shape, data_offsets: [2 * from, 2 * at] };
    }
    const head = new TextEncoder().encode(JSON.stringify(entries)), size = new DataView(new ArrayBuffer(8));
    size.setBigUint64(0, BigInt(head.length), true);
    return new File([size.buffer, head, values.buffer], "demo.safetensors");
  }

  return {
    openModel, demo, judge, work, report, assembleReport, winnerAt, machine, shown, ModelFileError,
    CANDIDATES, WORSE, STOPS, FAMILY,
  };
}
if (typeof module === "object") module.exports = modelReportCore;
