/* The page of the reader's own model: a file is chosen, judged by workers on this machine, and shown. Nothing is sent. */
(function () {
  "use strict";
  const root = document.getElementById("model-report");
  if (!root || typeof modelReportCore !== "function") return;
  const core = modelReportCore();

  /* --- small things -------------------------------------------------------------------------------------------- */

  const SVG = document.documentElement.namespaceURI.replace("1999/xhtml", "2000/svg");
  function build(element, given, children) {
    for (const [name, value] of Object.entries(given || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }
  const h = (tag, given, ...children) => build(document.createElement(tag), given, children);
  const s = (tag, given, ...children) => build(document.createElementNS(SVG, tag), given, children);

  const grouped = (n) => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  function bytes(n) {
    for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
      if (n >= size) return (n / size).toFixed(n >= 100 * size ? 0 : 1) + "\u00a0" + unit;
    }
    return n + "\u00a0bytes";
  }
  const percent = (share) => (share > 0 && share < 0.001 ? "<\u202f0.1" : (100 * share).toFixed(share < 0.1 || share > 0.99 && share < 1 ? 1 : 0)) + "\u00a0%";
  const snrText = (found) => (!found ? "none" : found.snr === null ? "nothing lost" : found.snr.toFixed(1) + "\u00a0dB");
  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(1);
  const plural = (n, one, many) => grouped(n) + "\u00a0" + (n === 1 ? one : many);
  const kurtosisText = (value) => (value === null ? "none" : value < 1000 ? value.toFixed(1) : grouped(value));
  /* A name that is broken, if it must be, after a dot. */
  const dotted = (name) => name.split(".").flatMap((part, i) => (i ? [".", document.createElement("wbr"), part] : [part]));
  /* The name of a scheme in words, where it is a share that is pruned. */
  function called(scheme) {
    const share = /^([\d.]+)% FP16$/.exec(scheme.name);
    return share ? Number(Number(share[1]).toFixed(1)) + "\u00a0% pruned" : scheme.name;
  }
  const WORDS = { quantization: "fewer bits", pruning: "fewer weights", both: "both at once" };

  /* --- workers: slices of the file go to as many as the machine has room for ---------------------------------------- */

  const SERVE = `
    let file = null;
    onmessage = async ({ data }) => {
      if (data.file) { file = data.file; return; }
      try {
        postMessage({ id: data.id, result: await core.work(file, data.task) });
      } catch (error) {
        postMessage({ id: data.id, error: String(error && error.message || error) });
      }
    };`;

  function pool(file) {
    const text = "const core = (" + modelReportCore + ")();" + SERVE;
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const count = Math.max(1, Math.min(navigator.hardwareConcurrency || 2, 8)), waiting = [], open = new Map();
    let next = 0;
    const idle = [], workers = [];
    function give() {
      while (waiting.length && idle.length) {
        const worker = idle.shift(), { task, resolve, reject } = waiting.shift(), id = next++;
        open.set(id, { worker, resolve, reject });
        worker.postMessage({ id, task });
      }
    }
    for (let i = 0; i < count; i++) {
      const worker = new Worker(address);
      worker.postMessage({ file });
      worker.onmessage = ({ data }) => {
        const { resolve, reject } = open.get(data.id);
        open.delete(data.id);
        idle.push(worker);
        give();
        if (data.error) reject(new Error(data.error)); else resolve(data.result);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        open.forEach(({ reject }) => reject(new Error(event.message || "a worker of this page did not start")));
      };
      idle.push(worker, worker); // one task is read from the disk while another is computed
      workers.push(worker);
    }
    return {
      count,
      run: (task) => new Promise((resolve, reject) => { waiting.push({ task, resolve, reject }); give(); }),
      close: () => { workers.forEach((worker) => worker.terminate()); URL.revokeObjectURL(address); },
    };
  }

  const SHARES = { all: 1, scan: 0.1, judge: 0.9 }; // of the work on a matrix
  /* The report on a file; progress(done, of) in bytes, until the signal of an AbortController. */
  async function reportOn(file, progress, signal) {
    const gaveUp = new Promise((resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    const model = await Promise.race([gaveUp, core.openModel(file)]);
    const total = model.matrices.reduce((sum, matrix) => sum + matrix.nbytes, 0) || 1;
    const queue = model.matrices.map((matrix, place) => ({ matrix, place })).sort((a, b) => b.matrix.nbytes - a.matrix.nbytes);
    const rows = new Array(queue.length), workers = pool(file);
    let done = 0;
    async function lane() {
      while (queue.length) {
        const { matrix, place } = queue.shift();
        rows[place] = await core.judge(matrix, async (task) => {
          const found = await workers.run(task);
          done += SHARES[task.what] * matrix.nbytes * (task.stop - task.first) / matrix.rows;
          progress(Math.min(done, total), total);
          return found;
        });
      }
    }
    try {
      await Promise.race([gaveUp, Promise.all(Array.from({ length: 2 * workers.count }, lane))]);
    } finally {
      workers.close();
    }
    return core.assembleReport(model, rows);
  }

  /* --- the place to drop a file ----------------------------------------------------------------------------------- */

  const status = h("p", { class: "pq-report-status", role: "status", "aria-live": "polite" });
  const input = h("input", { type: "file", id: "model-report-file", accept: ".safetensors", class: "pq-report-hidden", tabindex: "-1",
    "aria-label": "a safetensors file", on: { change: () => { if (input.files.length) take(input.files[0]); } } });
  const choose = h("button", { type: "button", class: "pq-report-primary", on: { click: () => input.click() } }, "Choose a file");
  const demo = h("button", { type: "button", on: { click: () => take(core.demo()) } }, "Try the demo");
  const bar = h("progress", { max: "1", value: "0", "aria-label": "how much of the file has been judged" });
  const cancel = h("button", { type: "button", on: { click: () => { if (current) current.abort(); } } }, "Cancel");
  const running = h("div", { class: "pq-report-running", role: "group", "aria-label": "the file is being judged", tabindex: "-1", hidden: true }, bar, cancel);
  const place = h("div", { class: "pq-report-drop" },
    s("svg", { viewBox: "0 0 48 48", "aria-hidden": "true", class: "pq-report-icon" },
      s("path", { d: "M24 6v22m0 0l-8-8m8 8l8-8M8 32v8h32v-8", fill: "none", stroke: "currentColor", "stroke-width": "3",
        "stroke-linecap": "round", "stroke-linejoin": "round" })),
    h("p", { class: "pq-report-call" }, "Drop a ", h("code", {}, ".safetensors"), " file here"),
    h("p", { class: "pq-report-buttons" }, choose, demo, input),
    h("p", { class: "pq-report-small" }, "It is read on this machine, by this page. Nothing is sent anywhere."),
    running, status);
  const shown = h("div", { class: "pq-report-shown" });
  root.append(place, shown);

  let depth = 0;
  const over = (on) => place.classList.toggle("pq-report-over", on);
  root.addEventListener("dragenter", (event) => { event.preventDefault(); depth++; over(true); });
  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("dragleave", () => { depth--; if (depth <= 0) over(false); });
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(false);
    const files = event.dataTransfer ? event.dataTransfer.files : [];
    if (files.length > 1) say("Drop one file at a time: a model in several shards is for prunequant report.", true);
    else if (files.length) take(files[0]);
  });

  let current = null; // the run on show: a file that is dropped meanwhile takes its place
  function say(text, wrong) {
    status.textContent = text;
    status.classList.toggle("pq-report-wrong", !!wrong);
  }
  /* Buttons that cannot be pressed lose the focus of the keyboard: it goes where they are replaced. */
  function show(isRunning) {
    const [from, to] = isRunning ? [place, running] : [running, choose], held = from.contains(document.activeElement);
    running.hidden = !isRunning;
    choose.disabled = demo.disabled = isRunning;
    if (held) to.focus();
  }
  async function take(file) {
    const run = new AbortController(), began = performance.now();
    let told = 0;
    if (current) current.abort();
    current = run;
    shown.replaceChildren();
    bar.value = 0;
    show(true);
    say("Reading " + file.name + ", " + bytes(file.size) + " \u2026");
    function progress(done, total) {
      bar.value = done / total;
      if (done / total < told + 0.25) return; // a screen reader hears quarters, not every slice
      told = Math.floor(4 * done / total) / 4;
      say(bytes(done) + " of " + bytes(total) + " judged");
    }
    const [report, error] = await reportOn(file, progress, run.signal).then((found) => [found, null], (wrong) => [null, wrong]);
    if (current !== run) return;
    current = null;
    show(false);
    input.value = "";
    const seconds = (performance.now() - began) / 1000;
    if (report) {
      say(file.name + ": " + bytes(file.size) + " judged in " + seconds.toFixed(1) + " s, on this machine.");
      render(report);
    } else if (run.signal.aborted) say("Stopped. Nothing was kept.");
    else say(error.name === "NotReadableError" ? file.name + ": the browser may not read it, or it changed meanwhile" : error.message, true);
    window.modelReport.last = report ? { report, seconds } : { error: run.signal.aborted ? "stopped" : error.message };
  }

  /* --- the report --------------------------------------------------------------------------------------------------- */

  const W = 640;
  const winnerOf = (row, budget) => core.winnerAt(row, budget);
  const stored = (report, budget) => report.matrices.reduce((sum, row) => {
    const won = winnerOf(row, budget), found = won.winner ? won[won.winner] : null;
    return sum + row.weights * (found ? found.bits_per_weight : 16) / 8;
  }, report.totals.untreated_bytes);

  function median(pairs) { // of [value, weight]
    const sorted = pairs.slice().sort((a, b) => a[0] - b[0]), half = sorted.reduce((sum, p) => sum + p[1], 0) / 2;
    let sum = 0;
    for (const [value, weight] of sorted) {
      sum += weight;
      if (sum >= half) return value;
    }
    return null;
  }

  /* What a person wants to know first, in words. */
  function verdict(report, budget) {
    const rows = report.matrices, found = rows.map((row) => winnerOf(row, budget));
    if (!rows.length) return ["There is no matrix in this file: nothing here can be quantized or pruned.", ""];
    const total = report.totals.weights, count = {}, share = {};
    found.forEach((won, i) => {
      count[won.winner] = (count[won.winner] || 0) + 1;
      share[won.winner] = (share[won.winner] || 0) + rows[i].weights / total;
    });
    const [most] = Object.keys(count).sort((a, b) => share[b] - share[a]);
    const all = count[most] === rows.length;
    const call = { quantization: "Quantize it", pruning: "Prune it", both: "Prune half of it and quantize the rest" }[most]
      || "Nothing fits";
    const margins = found.map((won, i) => [won.margin, rows[i].weights]).filter(([margin]) => margin !== null);
    const middle = median(margins);
    const how = { quantization: "fewer bits lose least", pruning: "fewer weights lose least", both: "both at once lose least" }[most];
    let text = "At " + budget + " bits a weight, " + how + " in " + (all ? (rows.length === 1 ? "its one matrix" : "all "
      + grouped(rows.length) + " matrices") : grouped(count[most]) + " of " + grouped(rows.length) + " matrices, "
      + percent(share[most]) + " of the weights");
    text += ". ";
    if (middle !== null) {
      text += "For the median weight, " + (middle >= 0 ? "pruning" : "quantizing") + " to the same size is "
        + Math.abs(middle).toFixed(1) + " dB worse. ";
    }
    const size = stored(report, budget);
    text += "The file would take " + bytes(size) + " instead of " + bytes(report.model.stored_bytes) + ".";
    return [(all ? "" : "Mostly: ") + (all ? call : call[0].toLowerCase() + call.slice(1)) + ".", text];
  }

  const SIGNS = {
    quantization: (x, y, r) => s("circle", { cx: x, cy: y, r }),
    pruning: (x, y, r) => s("rect", { x: x - r * 0.89, y: y - r * 0.89, width: r * 1.78, height: r * 1.78 }),
    both: (x, y, r) => s("path", { d: "M" + x + " " + (y - 1.25 * r) + "l" + 1.25 * r + " " + 1.25 * r + "l" + -1.25 * r + " "
      + 1.25 * r + "l" + -1.25 * r + " " + -1.25 * r + "z" }),
  };
  const key = (families) => h("ul", { class: "pq-report-key" }, families.map((family) => h("li", {},
    s("svg", { viewBox: "0 0 16 16", width: "16", height: "16", "aria-hidden": "true", class: "pq-is-" + family },
      SIGNS[family] ? SIGNS[family](8, 8, 6) : s("rect", { x: 2, y: 2, width: 12, height: 12 })),
    " " + (WORDS[family] || "untreated"))));

  /* Where the bytes are: every matrix a piece of one bar, in the order of the file, in the colour of what wins. */
  function bytesFigure(report, budget, choose) {
    const untreated = report.totals.untreated_bytes, total = report.totals.matrix_bytes + untreated || 1;
    const bar = s("svg", { viewBox: "0 0 " + W + " 46", role: "img", preserveAspectRatio: "none",
      "aria-label": "one bar of all stored bytes; the table below has the same numbers" });
    let x = 0;
    const piece = (size, family, title, call) => {
      const width = W * size / total, gap = width > 3 ? 1 : 0;
      bar.append(s("rect", { x: x.toFixed(2), y: 3, width: Math.max(width - gap, 0.35).toFixed(2), height: 40,
        class: "pq-is-" + family, on: call ? { click: call } : null }, s("title", {}, title)));
      x += width;
    };
    const kinds = new Map();
    for (const row of report.matrices) {
      const won = winnerOf(row, budget);
      piece(row.stored_bytes, won.winner || "nothing", row.name + ": " + bytes(row.stored_bytes) + ", "
        + (WORDS[won.winner] || "nothing fits"), () => choose(row));
      const kind = kinds.get(row.kind) || { bytes: 0, count: 0 };
      kind.bytes += row.stored_bytes;
      kind.count += 1;
      kinds.set(row.kind, kind);
    }
    if (untreated) piece(untreated, "nothing", "untreated: " + bytes(untreated));
    const lines = Array.from(kinds, ([name, kind]) => [name, kind.count, kind.bytes]);
    if (report.untreated.length) lines.push(["untreated", report.untreated.length, untreated]);
    lines.sort((a, b) => b[2] - a[2]);
    return h("figure", { class: "pq-report-figure" },
      h("figcaption", {}, h("strong", {}, "Where the bytes are. "), "Every matrix is a piece of the bar, in the colour of what loses least."),
      bar, key(["quantization", "both", "pruning", "nothing"]),
      h("ul", { class: "pq-report-kinds" }, lines.map(([name, count, size]) => h("li", {},
        h("span", {}, name), h("span", {}, grouped(count)), h("span", {}, bytes(size)), h("span", {}, percent(size / total)),
        h("span", { "aria-hidden": "true" }, h("i", { style: "width:" + (100 * size / total).toFixed(2) + "%" }))))));
  }

  function ticks(from, to, about) {
    const step = (to - from) / about, power = Math.pow(10, Math.floor(Math.log10(step)));
    const unit = [1, 2, 5, 10].map((k) => k * power).find((u) => u >= step), found = [];
    for (let v = Math.ceil(from / unit - 1e-9) * unit; v <= to + 1e-9; v += unit) found.push(Number(v.toPrecision(12)));
    return found;
  }
  function frame(box, xs, ys, xLabel, yLabel) {
    const { L, R, T, B, H, X, Y } = box, g = s("g", { class: "pq-report-frame", "aria-hidden": "true" });
    for (const [value, label] of xs) {
      g.append(s("line", { x1: X(value), x2: X(value), y1: T, y2: H - B }),
        s("text", { x: X(value), y: H - B + 22, "text-anchor": "middle" }, label));
    }
    for (const value of ys) {
      g.append(s("line", { x1: L, x2: W - R, y1: Y(value), y2: Y(value) }),
        s("text", { x: L - 8, y: Y(value) + 5, "text-anchor": "end" }, String(value).replace("-", "\u2212")));
    }
    g.append(s("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle" }, xLabel),
      s("text", { transform: "translate(15 " + (T + H - B) / 2 + ") rotate(-90)", "text-anchor": "middle" }, yLabel));
    return g;
  }
  function boxOf(H, x0, x1, y0, y1, log) {
    const L = 72, R = 16, T = 14, B = 50, at = (v) => (log ? Math.log(v) : v);
    return { L, R, T, B, H, X: (v) => L + (at(v) - at(x0)) / (at(x1) - at(x0)) * (W - L - R), Y: (v) => H - B - (v - y0) / (y1 - y0) * (H - T - B) };
  }

  /* What wins where: the margin of quantization over pruning against the weight of the tails. */
  function marginFigure(report, budget, choose) {
    const points = report.matrices.map((row) => ({ row, won: winnerOf(row, budget) }))
      .filter(({ row, won }) => won.margin !== null && row.kurtosis !== null);
    if (points.length < 2) return null;
    const tails = points.map(({ row }) => Math.max(row.kurtosis, 1)), margins = points.map(({ won }) => won.margin);
    const wide = Math.pow(Math.max(...tails, 6) / Math.min(...tails, 2), 0.05);
    const x0 = Math.min(...tails, 2) / wide, x1 = Math.max(...tails, 6) * wide;
    const spread = Math.max(3, ...margins) - Math.min(-3, ...margins);
    const y0 = Math.min(-3, ...margins) - 0.07 * spread, y1 = Math.max(3, ...margins) + 0.09 * spread, box = boxOf(330, x0, x1, y0, y1, true);
    const marks = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 1e4, 1e5, 1e6].filter((v) => v >= x0 && v <= x1);
    const thin = marks.filter((v, i) => marks.length < 9 || i % 2 === 0);
    const below = margins.filter((margin) => margin < 0).length;
    const svg = s("svg", { viewBox: "0 0 " + W + " 330", role: "img", "aria-label": "margin of quantization over pruning against kurtosis, "
      + points.length + " matrices: " + (points.length - below) + " above zero, " + below + " below; the table below has the same numbers" },
      frame(box, thin.map((v) => [v, grouped(v)]), ticks(y0, y1, 5), "kurtosis (3: bell-shaped; more: heavier tails)", "margin in dB"),
      s("line", { x1: box.L, x2: W - box.R, y1: box.Y(0), y2: box.Y(0), class: "pq-report-zero" }));
    const most = Math.max(...points.map(({ row }) => row.weights));
    points.sort((a, b) => b.row.weights - a.row.weights);
    for (const { row, won } of points) {
      const sign = SIGNS[won.winner](box.X(Math.max(row.kurtosis, 1)), box.Y(won.margin), 4 + 9 * Math.sqrt(row.weights / most));
      svg.append(build(sign, { class: "pq-report-point pq-is-" + won.winner, on: { click: () => choose(row) } }, [
        s("title", {}, row.name + ": " + signed(won.margin) + " dB, kurtosis " + kurtosisText(row.kurtosis) + ", " + grouped(row.weights) + " weights")]));
    }
    svg.append(s("text", { x: box.L + 6, y: box.Y(0) - 7, class: "pq-report-side pq-is-quantization" }, "fewer bits lose less \u2191"),
      s("text", { x: box.L + 6, y: box.Y(0) + 18, class: "pq-report-side pq-is-pruning" }, "fewer weights lose less \u2193"));
    return h("figure", { class: "pq-report-figure" },
      h("figcaption", {}, h("strong", {}, "What wins where. "), "Every mark is a matrix, its size how many weights it has. The height says by how much the best "
        + "quantization beats the best pruning at " + budget + " bits."), svg, key(["quantization", "both", "pruning"]));
  }

  /* One matrix: every scheme, at its size. */
  function matrixFigure(report, budget, chosen, choose) {
    const row = chosen, select = h("select", { id: "model-report-matrix", on: { change: () => choose(report.matrices[select.selectedIndex]) } },
      report.matrices.map((other) => h("option", { selected: other === row }, other.name)));
    const points = row.schemes.filter((scheme) => scheme.snr !== null && scheme.bits_per_weight <= 10);
    const curve = core.STOPS.map((bits, i) => [bits, row.curve[i]]).filter(([, snr]) => snr !== null);
    const top = Math.max(6, ...points.map((p) => p.snr), ...curve.map((c) => c[1])), box = boxOf(330, 2, 10, 0, 1.08 * top);
    const won = winnerOf(row, budget);
    const svg = s("svg", { viewBox: "0 0 " + W + " 330", role: "img", "aria-label": "signal-to-noise ratio of every scheme of " + row.name
      + " against its bits a weight; the list below has the same numbers" },
      frame(box, [2, 3, 4, 5, 6, 7, 8, 9, 10].map((v) => [v, v]), ticks(0, 1.08 * top, 5), "stored bits a weight", "SNR in dB"),
      s("line", { x1: box.X(budget), x2: box.X(budget), y1: box.T, y2: box.H - box.B, class: "pq-report-budget" }),
      curve.length ? s("path", { class: "pq-report-curve pq-is-pruning", d: curve.map(([bits, snr], i) => (i ? "L" : "M") + box.X(bits).toFixed(1) + " " + box.Y(snr).toFixed(1)).join("") }) : null,
      points.map((scheme) => build(SIGNS[core.FAMILY[scheme.name]](box.X(scheme.bits_per_weight), box.Y(Math.max(scheme.snr, 0)),
        won.winner && won[won.winner].name === scheme.name ? 8 : 5), { class: "pq-report-point pq-is-" + core.FAMILY[scheme.name] },
        [s("title", {}, scheme.name + ": " + scheme.bits_per_weight.toFixed(3) + " bits, " + scheme.snr.toFixed(1) + " dB")])));
    const best = ["quantization", "both", "pruning"].map((family) => won[family] && h("li", {},
      h("span", { class: "pq-is-" + family }, WORDS[family]), " " + called(won[family]) + ", " + won[family].bits_per_weight.toFixed(2) + " bits: " + snrText(won[family])));
    return h("figure", { class: "pq-report-figure", id: "model-report-one" },
      h("figcaption", {}, h("strong", {}, "One matrix, every way to store it. "), h("label", { for: "model-report-matrix" }, "Which:"), " ", select),
      h("p", { class: "pq-report-small" }, row.kind + ", " + row.shape.join(" \u00d7 ") + ", " + row.dtype
        + (row.kurtosis === null ? "" : ", kurtosis " + kurtosisText(row.kurtosis)) + ", " + grouped(row.zeros) + " zeros"
        + (row.aliases.length ? ", also stored as " + row.aliases.join(", ") : "") + ". The dashed curve prunes to the size, mask and all."),
      svg, h("ul", { class: "pq-report-best" }, best), orderText(row), row.notes.map((note) => h("p", { class: "pq-report-small" }, note)));
  }

  function orderText(row) {
    const { order } = row;
    if (!order || order.cost === null) return null;
    const dB = (found) => (found.snr === null ? "nothing lost" : found.snr.toFixed(1) + "\u00a0dB");
    return h("p", { class: "pq-report-small" }, "2:4 with 4-bit integers: " + order.better + " (" + dB(order.prune_first) + " pruned first, "
      + dB(order.quantize_first) + " quantized first; with ties broken by the stored weights " + dB(order.by_weights)
      + ", mask chosen jointly " + dB(order.joint) + ").");
  }

  /* The few tensors that a person should look at. */
  function careList(report, budget, choose) {
    const found = [], rows = report.matrices.map((row) => ({ row, won: winnerOf(row, budget) }));
    const seen = new Set(), add = (row, why) => { if (!seen.has(row) && found.length < 6) { seen.add(row); found.push([row, why]); } };
    const snr = ({ won }) => { const best = won.winner && won[won.winner]; return best ? (best.snr === null ? Infinity : best.snr) : -Infinity; };
    const middle = median(rows.map((r) => [snr(r), 1]));
    rows.filter(({ won }) => won.winner && won.winner !== "quantization").sort((a, b) => b.row.weights - a.row.weights).slice(0, 3)
      .forEach(({ row, won }) => add(row, WORDS[won.winner] + (won.winner === "both" ? " lose least here: " : " lose less here: ") + called(won[won.winner]) + ", " + snrText(won[won.winner])
        + " against " + snrText(won.quantization)));
    rows.slice().sort((a, b) => snr(a) - snr(b)).slice(0, 3).filter((r) => snr(r) < middle - 1)
      .forEach((r) => add(r.row, "loses most: " + (Number.isFinite(snr(r)) ? snr(r).toFixed(1) + " dB are left, "
        + middle.toFixed(1) + " dB in the middle" : "nothing fits this size")));
    rows.filter(({ row }) => row.kurtosis > 20).sort((a, b) => b.row.kurtosis - a.row.kurtosis).slice(0, 2)
      .forEach(({ row }) => add(row, "heavy tails: kurtosis " + grouped(row.kurtosis) + "; a few large weights set the step"));
    rows.filter(({ row }) => row.zeros > 0.2 * row.weights).slice(0, 2)
      .forEach(({ row }) => add(row, percent(row.zeros / row.weights) + " of it are zeros already"));
    const jump = (row) => h("button", { type: "button", class: "pq-report-link", on: { click: () => choose(row, true) } }, dotted(row.name));
    return h("section", { "aria-label": "matrices that deserve care" }, h("h3", {}, "What deserves care"),
      found.length ? h("ul", { class: "pq-report-care" }, found.map(([row, why]) => h("li", {}, jump(row), h("span", {}, why))))
        : h("p", {}, "No matrix stands out at this size."));
  }

  const COLUMNS = [
    ["matrix", (r) => r.row.name, (r, choose) => [h("button", { type: "button", class: "pq-report-link", on: { click: () => choose(r.row, true) } }, dotted(r.row.name)),
      h("span", { class: "pq-report-small" }, r.row.kind + ", " + r.row.shape.join("\u00a0\u00d7\u00a0"))]],
    ["bytes", (r) => r.row.stored_bytes, (r) => bytes(r.row.stored_bytes)],
    ["kurtosis", (r) => r.row.kurtosis, (r) => kurtosisText(r.row.kurtosis)],
    ["zeros", (r) => r.row.zeros / r.row.weights, (r) => (r.row.zeros ? percent(r.row.zeros / r.row.weights) : "0")],
    ["loses least", (r) => r.won.winner, (r) => (r.won.winner ? h("span", { class: "pq-is-" + r.won.winner }, called(r.won[r.won.winner])) : "nothing fits")],
    ["quantized", (r) => r.won.quantization && (r.won.quantization.snr === null ? Infinity : r.won.quantization.snr), (r) => snrText(r.won.quantization)],
    ["pruned", (r) => r.won.pruning && (r.won.pruning.snr === null ? Infinity : r.won.pruning.snr), (r) => snrText(r.won.pruning)],
    ["margin", (r) => r.won.margin, (r) => (r.won.margin === null ? "none" : signed(r.won.margin) + "\u00a0dB")],
  ];
  let sorted = { column: -1, down: false };
  function table(report, budget, choose) {
    const rows = report.matrices.map((row) => ({ row, won: winnerOf(row, budget) })), body = h("tbody", {}), heads = [];
    function fill() {
      const order = rows.slice();
      if (sorted.column >= 0) {
        const value = COLUMNS[sorted.column][1], way = sorted.down ? -1 : 1;
        order.sort((a, b) => {
          const [u, v] = [value(a), value(b)];
          return u === v ? 0 : u === null || u === undefined ? 1 : v === null || v === undefined ? -1 : way * (u < v ? -1 : 1);
        });
      }
      heads.forEach((head, i) => head.setAttribute("aria-sort", i === sorted.column ? (sorted.down ? "descending" : "ascending") : "none"));
      body.replaceChildren(...order.map((r) => h("tr", {}, COLUMNS.map(([head, , cell], i) => (i === 0
        ? h("th", { scope: "row" }, cell(r, choose)) : h("td", { "data-head": head }, cell(r)))))));
    }
    COLUMNS.forEach(([name], i) => heads.push(h("th", { scope: "col" }, h("button", { type: "button", on: { click: () => {
      sorted = { column: i, down: sorted.column === i ? !sorted.down : i > 0 };
      fill();
    } } }, name))));
    fill();
    return h("div", { class: "pq-report-scroll", tabindex: "0", role: "region", "aria-label": "table of all matrices" },
      h("table", { class: "pq-report-table" }, h("caption", {}, "All " + plural(rows.length, "matrix", "matrices") + " at " + budget
        + " bits a weight. A heading sorts by its column."), h("thead", {}, h("tr", {}, heads)), body));
  }

  function untreatedList(report) {
    const total = report.totals.matrix_bytes + report.totals.untreated_bytes || 1;
    if (!report.untreated.length) return null;
    return h("details", { class: "pq-report-untreated" },
      h("summary", {}, plural(report.untreated.length, "tensor is", "tensors are") + " not treated: "
        + percent(report.totals.untreated_bytes / total) + " of the bytes"),
      h("div", { class: "pq-report-scroll", tabindex: "0", role: "region", "aria-label": "table of untreated tensors" },
        h("table", { class: "pq-report-table" }, h("caption", {}, "They stay as they are; each with the reason."),
          h("thead", {}, h("tr", {}, ["tensor", "shape", "dtype", "bytes", "reason"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, report.untreated.map((item) => h("tr", {}, h("th", { scope: "row" }, dotted(item.name)),
            [["shape", item.shape.join(" \u00d7 ") || "none"], ["dtype", item.dtype], ["bytes", bytes(item.nbytes)], ["reason", item.reason]]
              .map(([head, value]) => h("td", { "data-head": head }, value))))))));
  }

  function save(report) {
    const { matrices, ...rest } = report;
    const plain = { ...rest, matrices: matrices.map(({ curve, ...row }) => row) };
    const address = URL.createObjectURL(new Blob([JSON.stringify(plain, null, 1)], { type: "application/json" }));
    const link = h("a", { href: address, download: report.model.path.replace(/\.safetensors$/, "") + ".report.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  function render(report) {
    let budget = 4.25, chosen = report.matrices.slice().sort((a, b) => b.weights - a.weights)[0];
    sorted = { column: -1, down: false };
    const title = h("h3", { class: "pq-report-verdict", tabindex: "-1" }), text = h("p", { class: "pq-report-answer" });
    const output = h("output", { for: "model-report-budget" });
    const slider = h("input", { type: "range", id: "model-report-budget", min: "2.25", max: "8.25", step: "0.25", value: "4.25" });
    const figures = h("div", {});
    function choose(row, move) {
      chosen = row;
      document.getElementById("model-report-one").replaceWith(matrixFigure(report, budget, chosen, choose));
      const figure = document.getElementById("model-report-one");
      if (move) {
        figure.scrollIntoView({ block: "center" });
        figure.querySelector("select").focus({ preventScroll: true });
      }
    }
    function draw() {
      const [call, sentence] = verdict(report, budget);
      title.textContent = call;
      text.textContent = sentence;
      output.textContent = budget + " bits a weight";
      slider.setAttribute("aria-valuetext", budget + " bits a weight. " + call);
      figures.replaceChildren(...(report.matrices.length ? [bytesFigure(report, budget, choose), marginFigure(report, budget, choose),
        careList(report, budget, choose), matrixFigure(report, budget, chosen, choose), table(report, budget, choose)] : []).filter(Boolean));
    }
    slider.addEventListener("input", () => { budget = Number(slider.value); draw(); });
    draw();
    shown.replaceChildren(title, text,
      report.matrices.length ? h("p", { class: "pq-report-slider" }, h("label", { for: "model-report-budget" }, "Size to reach: "), output, slider) : "",
      figures, untreatedList(report) || "",
      report.notes.length ? h("details", {}, h("summary", {}, plural(report.notes.length, "note", "notes") + " on the file"), h("ul", {}, report.notes.map((note) => h("li", {}, note)))) : "",
      h("p", { class: "pq-report-buttons" }, h("button", { type: "button", on: { click: () => save(report) } }, "Download the report (JSON)")));
    title.focus({ preventScroll: true });
  }


  window.modelReport = { take, last: null, core };
})();
