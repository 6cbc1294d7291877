#include "report/html.h"

namespace attar {

std::string_view chart_script() {
  // Reads the page's own report.json; draws again when the reader's colours or the medium change.
  return R"js((function () {
"use strict";
if (typeof Chart === "undefined") return;
const report = JSON.parse(document.getElementById("report-json").textContent);
const artifacts = Object.entries(report.artifacts || {});
const summary = report.summary || {};
let charts = [], paper = false;
const css = name => paper && light[name] ? light[name] : getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const light = { ink: "#1b1f24", soft: "#5b6470", line: "#dfe3e8", card: "#ffffff", c1: "#0b62a8", c2: "#d06a00", c3: "#7a4bb8", c4: "#12794a",
    good: "#12794a" };
const number = v => typeof v === "number" && isFinite(v) ? v : v && typeof v === "object" ? (v.value !== undefined ? number(v.value)
    : number(v.mean)) : null;
const bytes = v => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let u = 0;
  while (v >= 1024 && u < 4) { v /= 1024; ++u; }
  return Number(v.toPrecision(3)) + " " + units[u];
};
const short = v => Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(1) : String(Number(v.toPrecision(4)));

function choices() {
  const out = [], seen = new Set();
  for (const [, a] of artifacts) for (const [task, metrics] of Object.entries(a.tasks || {})) for (const metric of Object.keys(metrics || {})) {
    const key = task + " " + metric;
    if (seen.has(key) || number(metrics[metric]) === null) continue;
    seen.add(key);
    out.push({ name: task + ": " + metric.replace(/_/g, " "), share: /accuracy|f1|recall|precision|exact|valid|rouge/.test(metric),
        up: !/ece|brier|nll/.test(metric),
               get: a => ((a.tasks || {})[task] || {})[metric], main: task === summary.task && metric === summary.metric });
  }
  out.sort((a, b) => (b.main ? 1 : 0) - (a.main ? 1 : 0));
  out.push({ name: "KL to base", get: a => a.kld, up: false, log: true });
  out.push({ name: "same top token as the base", get: a => a.top1_agreement, share: true, up: true });
  out.push({ name: "perplexity", get: a => a.perplexity, up: false });
  out.push({ name: "tokens/s", get: a => (a.latency || {}).tokens_per_s, up: true });
  return out.filter(c => artifacts.filter(([, a]) => number(c.get(a)) !== null && number(a.bytes) > 0).length > 1);
}

const axis = (title, more) => Object.assign({ title: { display: !!title, text: title, color: css("soft") }, ticks: { color: css("soft"),
    maxRotation: 0 },
  grid: { color: css("line"), borderColor: css("line") } }, more);
const frame = (x, y, legend, more) => Object.assign({ animation: false, responsive: true, maintainAspectRatio: false, scales: { x, y },
  plugins: { legend: { display: legend, position: "bottom", labels: { color: css("ink"), boxWidth: 22, boxHeight: 2, padding: 8 } } } }, more);

// Names beside their points, on the first side where nothing stands yet.
const names = { id: "names", afterDatasetsDraw(chart) {
  const c = chart.ctx, area = chart.chartArea, taken = [];
  c.save();
  c.font = "600 12px system-ui, sans-serif";
  c.textBaseline = "middle";
  const all = [];
  chart.data.datasets.forEach((set, s) => { if (set.names) chart.getDatasetMeta(s).data.forEach((p, i) => all.push({ x: p.x, y: p.y,
      text: set.names[i], strong: set.strong })); });
  for (const p of all) taken.push([p.x - 6, p.y - 6, p.x + 6, p.y + 6]);
  for (const p of all) {
    const w = c.measureText(p.text).width, h = 14;
    const places = [[p.x + 10, p.y], [p.x - 10 - w, p.y], [p.x - w / 2, p.y - 16], [p.x - w / 2, p.y + 16], [p.x + 8, p.y - 15], [p.x + 8, p.y + 15],
        [p.x - w - 8, p.y - 15], [p.x - w - 8, p.y + 15]];
    const free = places.find(([x, y]) => x >= area.left && x + w <= area.right && y - h / 2 >= area.top && y + h / 2 <= area.bottom &&
      !taken.some(t => x < t[2] && x + w > t[0] && y - h / 2 < t[3] && y + h / 2 > t[1]));
    if (!free) continue;
    taken.push([free[0], free[1] - h / 2, free[0] + w, free[1] + h / 2]);
    c.lineWidth = 4;
    c.lineJoin = "round";
    c.strokeStyle = css("card");
    c.strokeText(p.text, free[0], free[1]);
    c.fillStyle = p.strong ? css("good") : css("ink");
    c.fillText(p.text, free[0], free[1]);
  }
  c.restore();
} };

function quality(canvas, choice) {
  const sets = [], points = artifacts.map(([id, a]) => ({ id, x: number(a.bytes), y: number(choice.get(a)), m: choice.get(a) })).filter(p => p.x > 0
      && p.y !== null);
  const scale = choice.share ? 100 : 1, log = choice.log && points.every(p => p.y > 0);
  for (const p of points) {
    let low = number(p.m.low), high = number(p.m.high);
    if (low === null && number(p.m.stderr) !== null) { low = p.y - 1.96 * p.m.stderr; high = p.y + 1.96 * p.m.stderr; }
    if (low !== null && high !== null && !(log && low <= 0))
      sets.push({ type: "line", data: [{ x: p.x, y: scale * low }, { x: p.x, y: scale * high }], borderColor: css("soft"), borderWidth: 1.2,
          pointStyle: "line", pointRadius: 5, pointBorderWidth: 1.2, order: 3 });
  }
  const front = [];
  let best = null;
  for (const p of points.slice().sort((a, b) => a.x - b.x || (choice.up ? b.y - a.y : a.y - b.y)))
    if (best === null || (choice.up ? p.y > best : p.y < best)) { best = p.y; front.push({ x: p.x, y: scale * p.y }); }
  if (front.length > 1) sets.push({ type: "line", data: front, borderColor: css("c1"), borderDash: [5, 4], borderWidth: 1.5, pointRadius: 0,
      order: 2 });
  const group = (chosen, style, color, strong) => {
    const of = points.filter(chosen);
    if (of.length) sets.push({ data: of.map(p => ({ x: p.x, y: scale * p.y })), names: of.map(p => p.id), strong, pointStyle: style, radius: strong
        ? 8 : 6, hoverRadius: 9,
      backgroundColor: color, borderColor: css("card"), borderWidth: 1.5, order: 1 });
  };
  group(p => p.id === summary.choice, "circle", css("good"), true);
  group(p => p.id === summary.base && p.id !== summary.choice, "rectRot", css("c2"));
  group(p => p.id !== summary.choice && p.id !== summary.base, "circle", css("c1"));
  const xs = points.map(p => p.x), least = Math.min(...xs), most = Math.max(...xs), spread = Math.max(most / least, 1.5), margin = Math.pow(spread,
      0.12);
  const ticks = [];
  for (let v = Math.pow(2, Math.floor(Math.log2(least / margin))); v <= most * margin * 1.01; v *= spread > 64 ? 4 : 2) ticks.push(v);
  const x = axis("bytes of the weights (each step doubles)".replace("doubles", spread > 64 ? "is four times" : "doubles"), { type: "logarithmic",
      min: least / margin, max: most * margin,
    afterBuildTicks: s => { s.ticks = ticks.filter(v => v >= s.min && v <= s.max).map(value => ({ value })); } });
  x.ticks.callback = v => bytes(v);
  const y = axis(choice.name + (choice.share ? ", %" : "") + (choice.up ? "" : " (lower is better)"), { type: log ? "logarithmic" : "linear",
      grace: "6%", reverse: !choice.up });
  y.ticks.callback = v => short(v);
  const options = frame(x, y, false);
  options.plugins.tooltip = { filter: i => !!i.dataset.names, callbacks: { label: i => i.dataset.names[i.dataIndex] + ": " + bytes(i.parsed.x) + ", "
      + short(i.parsed.y) + (choice.share ? "%" : "") } };
  return new Chart(canvas, { type: "scatter", data: { datasets: sets }, options, plugins: [names] });
}

function curves(canvas, stage) {
  const colors = [css("c1"), css("c2")];
  let pair = -1;
  const sets = ((report.curves || {})[stage] || []).map(s => {
    if (!s.held_out) ++pair;
    const color = colors[Math.max(0, pair) % 2];
    return { label: s.name, data: s.points.map(p => ({ x: p[0], y: p[1] })), borderColor: color, backgroundColor: color, borderWidth: s.held_out
        ? 1.2 : 1.5, borderDash: s.held_out ? [4, 3] : [],
      pointRadius: s.held_out ? 3 : 0, pointHitRadius: 6, tension: 0 };
  });
  const ys = sets.flatMap(s => s.data.map(p => p.y)).filter(v => v > 0);
  const log = ys.length > 0 && sets.every(s => s.data.every(p => p.y > 0)) && Math.max(...ys) / Math.min(...ys) > 20;
  const x = axis("step", { type: "linear", min: 0 }), y = axis("", log ? { type: "logarithmic", min: Math.min(...ys) * 0.85,
      max: Math.max(...ys) * 1.1 } : { type: "linear", beginAtZero: true });
  y.ticks.callback = v => log && !/^[125]/.test(Number(v).toExponential()) ? null : short(v);
  return new Chart(canvas, { type: "line", data: { datasets: sets }, options: frame(x, y, true, { parsing: false, normalized: true,
      interaction: { mode: "nearest", axis: "x", intersect: false } }) });
}

function reliability(canvas, task) {
  const colors = { [summary.base]: css("c2"), [summary.choice]: css("c4") };
  const sets = [];
  for (const [id, a] of artifacts) {
    const bins = (((a.task_details || {})[task] || {}).reliability || []).filter(b => b.n > 0);
    if (bins.length && colors[id]) sets.push({ label: id, data: bins.map(b => ({ x: 100 * b.confidence, y: 100 * b.accuracy, n: b.n })),
        borderColor: colors[id], backgroundColor: colors[id], borderWidth: 1.8,
      pointRadius: bins.map(b => 2 + Math.min(7, Math.sqrt(b.n) / 5)) });
  }
  sets.push({ label: "as sure as it is right", data: [{ x: 0, y: 0 }, { x: 100, y: 100 }], borderColor: css("soft"), borderDash: [4, 4],
      borderWidth: 1, pointRadius: 0 });
  const options = frame(axis("how sure it is, %", { type: "linear", min: 0, max: 100 }), axis("how often it is right, %", { type: "linear", min: 0,
      max: 100 }), true);
  options.plugins.tooltip = { callbacks: { label: i => i.dataset.label + ": " + short(i.parsed.y) + "% right at " + short(i.parsed.x) + "%"
      + (i.raw.n ? ", " + i.raw.n + " cases" : "") } };
  return new Chart(canvas, { type: "line", data: { datasets: sets }, options });
}

function route(canvas, id) {
  const router = (report.routers || {})[id] || {}, curve = (router.curve || []).filter(p => number(p.quality) !== null);
  if (!curve.length) return null;
  const now = router.expected || {}, at = p => ({ x: 100 * p.large_share, y: 100 * p.quality });
  const sets = [{ label: "least sure requests to the large model", data: curve.map(at), borderColor: css("c1"), backgroundColor: css("c1"), borderWidth: 1.8,
      pointRadius: 0, pointHitRadius: 6, stepped: false },
    { label: "as many, drawn at random", data: [at(curve[0]), at(curve[curve.length - 1])], borderColor: css("soft"), borderDash: [4, 4], borderWidth: 1,
      pointRadius: 0 }];
  if (router.rule && number(now.large_share) !== null && number(now.quality) !== null)
    sets.push({ label: "at the threshold", data: [{ x: 100 * now.large_share, y: 100 * number(now.quality) }], borderColor: css("good"), backgroundColor: css("good"),
        pointRadius: 7, showLine: false });
  const options = frame(axis("share of large calls, %", { type: "linear", min: 0, max: 100 }), axis("right answers, %", { type: "linear", grace: "6%" }), true);
  options.plugins.tooltip = { callbacks: { label: i => i.dataset.label + ": " + short(i.parsed.y) + "% right at " + short(i.parsed.x) + "% large calls" } };
  return new Chart(canvas, { type: "line", data: { datasets: sets }, options });
}

// Against the first of prompt length, threads and answer length that has several values; a line for each artifact, dashed for more threads.
function latency(canvas, key) {
  const colors = ["c4", "c2", "c1", "c3", "ink"], dashes = [[], [6, 4], [2, 3], [8, 3, 2, 3]], milliseconds = key === "ttft_s" ? 1000 : 1;
  const points = ([, a]) => Object.values((a.latency || {}).grid || {}).filter(p => number(p[key]) !== null);
  const rank = ([id]) => id === summary.choice ? 0 : id === summary.base ? 1 : 2;
  const shown = artifacts.filter(a => points(a).length > 1).sort((a, b) => rank(a) - rank(b)).slice(0, colors.length);
  if (!shown.length) return null;
  const withThreads = count => count + (count === 1 ? " thread" : " threads");
  const values = name => [...new Set(shown.flatMap(points).map(p => p[name]))].sort((a, b) => a - b);
  const along = ["prompt_tokens", "threads", "new_tokens"].find(name => values(name).length > 1) || "prompt_tokens";
  const threads = along === "threads" ? [null] : values("threads").slice(0, dashes.length), sets = [];
  shown.forEach(([id, a], i) => threads.forEach((count, t) => {
    const line = points([id, a]).filter(p => (count === null || p.threads === count)
        && (along === "new_tokens" || p.new_tokens === a.latency.new_tokens)
        && (along !== "threads" || p.prompt_tokens === a.latency.prompt_tokens)).sort((p, q) => p[along] - q[along]);
    if (line.length) sets.push({ label: id, of: threads.length > 1 ? ", " + withThreads(count) : "", more: t > 0,
      data: line.map(p => ({ x: p[along], y: milliseconds * number(p[key]), low: p[key].p10, high: p[key].p90 })),
      borderColor: css(colors[i]), backgroundColor: css(colors[i]), borderDash: dashes[t], borderWidth: 1.8, pointRadius: 3.5, pointHitRadius: 8 });
  }));
  // In the legend colours are artifacts and dashes numbers of threads.
  if (threads.length > 1) threads.forEach((count, t) => sets.push({ label: withThreads(count), data: [], borderColor: css("soft"),
      borderDash: dashes[t], borderWidth: 1.8, pointRadius: 0 }));
  const xs = values(along), ys = sets.flatMap(s => s.data.map(p => p.y));
  const log = Math.min(...ys) > 0 && Math.max(...ys) / Math.min(...ys) > 20;
  const x = axis({ prompt_tokens: "tokens of the prompt", threads: "threads", new_tokens: "new tokens" }[along], { type: "logarithmic",
      min: xs[0] / 1.1, max: xs[xs.length - 1] * 1.1, afterBuildTicks: s => { s.ticks = xs.map(value => ({ value })); } });
  x.ticks.callback = v => String(v);
  const y = axis(milliseconds > 1 ? "ms (lower is better)" : "tokens a second",
      log ? { type: "logarithmic", min: Math.min(...ys) * 0.8, max: Math.max(...ys) * 1.25 } : { type: "linear", beginAtZero: true, grace: "6%" });
  y.ticks.callback = v => log && !/^[125]e/.test(Number(v).toExponential()) ? null : short(v);
  const options = frame(x, y, true);
  options.plugins.legend.labels.filter = (item, data) => !data.datasets[item.datasetIndex].more;
  const spread = p => typeof p.low === "number" ? " [" + short(milliseconds * p.low) + ", " + short(milliseconds * p.high) + "]" : "";
  options.plugins.tooltip = { callbacks: { title: i => i[0].parsed.x + " " + x.title.text,
      label: i => i.dataset.label + i.dataset.of + ": " + short(i.parsed.y) + spread(i.raw) } };
  return new Chart(canvas, { type: "line", data: { datasets: sets }, options });
}

const offered = choices(), select = document.getElementById("quality-of");
if (select && offered.length > 1) {
  for (const c of offered) select.add(new Option(c.name));
  select.closest("p").hidden = false;
  select.addEventListener("change", draw);
}
function draw() {
  charts.forEach(c => c.destroy());
  charts = [];
  Chart.defaults.color = css("ink");
  Chart.defaults.font.family = "system-ui, -apple-system, sans-serif";
  document.querySelectorAll("canvas[data-chart]").forEach(canvas => {
    const kind = canvas.dataset.chart;
    if (kind === "quality" && offered.length) charts.push(quality(canvas, offered[Math.max(0, select ? select.selectedIndex : 0)]));
    else if (kind === "curves") charts.push(curves(canvas, canvas.dataset.stage));
    else if (kind === "route") { const drawn = route(canvas, canvas.dataset.router); if (drawn) charts.push(drawn); }
    else if (kind === "latency") { const drawn = latency(canvas, canvas.dataset.of); if (drawn) charts.push(drawn); }
    else if (kind === "reliability") charts.push(reliability(canvas, canvas.dataset.task));
  });
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", () => { paper = true; draw(); charts.forEach(c => c.resize()); });
addEventListener("afterprint", () => { paper = false; draw(); });
})();
)js";
}

}  // namespace attar
