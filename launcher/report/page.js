"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#2f6fde", "#d9622b", "#2b9a52", "#b04bc4", "#c9a227", "#1aa5a5", "#d6456b", "#7a6ff0", "#7f8a35", "#8d6a55"];
const SVG = "http://www.w3.org/2000/svg";
const el = (parent, name, attributes = {}, text) => {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
};
const short = (value) => value === null || value === undefined ? "–" : typeof value !== "number" ? String(value)
  : Number.isInteger(value) && Math.abs(value) < 1e7 ? value.toLocaleString("en") : String(+value.toPrecision(4));

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) || rough, found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9 && found.length < 20; at += step) found.push(+at.toPrecision(12));
  return found;
}

function smoothed(values, width) {
  return values.map((value, at) => {
    const first = at - Math.floor((width - 1) / 2);
    const part = values.slice(Math.max(0, first), first + width).filter((v) => v !== null);
    return part.length ? part.reduce((a, b) => a + b, 0) / part.length : null;
  });
}

function chart(box, panel) {
  const figure = el(box, "figure"), head = el(figure, "figcaption", {}, panel.title);
  const logButton = el(head, "button", { type: "button" }, "log"), reset = el(head, "button", { type: "button", hidden: "" }, "whole");
  const area = el(figure, "div", { class: "chart", "data-panel": panel.title }), svg = el(area, "svg:svg");
  const tip = el(area, "div", { class: "tip", hidden: "" }), key = el(figure, "div", { class: "key" });
  const lines = panel.lines.map((line, at) => ({ ...line, colour: COLOURS[(line.colour ?? at) % COLOURS.length], dashes: line.dashes || "",
    smooth: line.flat || line.mean.length < 20 ? line.mean : smoothed(line.mean, Math.max(1, Math.round(line.mean.length / 40))) }));
  for (const line of lines) {
    const entry = el(key, "span");
    el(entry, "i", { style: line.dashes ? `height:0;border-top:3px dashed ${line.colour}` : `background:${line.colour}` });
    entry.append(line.name);
  }
  const every = lines.flatMap((line) => line.steps);
  const whole = [Math.min(...every), Math.max(...every)];
  if (whole[0] === whole[1]) { whole[0] -= 1; whole[1] += 1; }
  let range = whole, log = false, drag = null;
  const pad = { left: 54, right: 8, top: 8, bottom: 22 };
  const inside = () => ({ width: area.clientWidth - pad.left - pad.right, height: area.clientHeight - pad.top - pad.bottom });
  const toX = (step) => pad.left + (step - range[0]) / (range[1] - range[0]) * inside().width;
  const toStep = (x) => range[0] + (x - pad.left) / inside().width * (range[1] - range[0]);
  let toY = () => 0;

  function draw() {
    svg.replaceChildren();
    const { width, height } = inside(), seen = [];
    if (width < 20) return;
    svg.setAttribute("viewBox", `0 0 ${area.clientWidth} ${area.clientHeight}`);
    for (const line of lines) line.steps.forEach((step, at) => {
      if (step < range[0] || step > range[1]) return;
      for (const value of [line.low ? line.low[at] : line.mean[at], line.high ? line.high[at] : line.mean[at]])
        if (value !== null && (!log || value > 0)) seen.push(value);
    });
    const scale = log ? Math.log10 : (v) => v;
    let low = seen.length ? scale(seen.reduce((a, b) => Math.min(a, b))) : 0;
    let high = seen.length ? scale(seen.reduce((a, b) => Math.max(a, b))) : 1;
    if (low === high) { const by = Math.abs(low) / 2 || 1; low -= by; high += by; }
    const room = (high - low) * 0.04; low -= room; high += room;
    toY = (value) => pad.top + (high - scale(value)) / (high - low) * height;
    for (const at of ticks(low, high, 5)) {
      const y = pad.top + (high - at) / (high - low) * height;
      el(svg, "svg:line", { class: "grid", x1: pad.left, x2: pad.left + width, y1: y, y2: y });
      el(svg, "svg:text", { x: pad.left - 6, y: y + 4, "text-anchor": "end" }, short(log ? 10 ** at : at));
    }
    for (const at of ticks(range[0], range[1], Math.max(2, width / 110)))
      el(svg, "svg:text", { x: toX(at), y: pad.top + height + 16, "text-anchor": "middle" }, short(at));
    for (const mark of panel.marks) if (mark >= range[0] && mark <= range[1]) {
      const line = el(svg, "svg:line", { class: "mark", x1: toX(mark), x2: toX(mark), y1: pad.top, y2: pad.top + height, stroke: "currentColor", "stroke-dasharray": "2 3", opacity: 0.6 });
      el(line, "svg:title", {}, `resumed from step ${mark}`);
    }
    const clip = `clip-${panel.number}`;
    el(el(svg, "svg:clipPath", { id: clip }), "svg:rect", { x: pad.left, y: 0, width, height: pad.top + height });
    const plot = el(svg, "svg:g", { "clip-path": `url(#${clip})` });
    const path = (steps, values) => {
      let text = "", pen = "M";
      steps.forEach((step, at) => {
        if (values[at] === null || (log && values[at] <= 0)) { pen = "M"; return; }
        text += `${pen}${toX(step).toFixed(1)} ${toY(values[at]).toFixed(1)}`; pen = "L";
      });
      return text;
    };
    for (const line of lines) {
      if (line.low && !log) {
        const back = line.steps.map((_, at) => at).reverse().filter((at) => line.low[at] !== null);
        const edge = back.map((at) => `L${toX(line.steps[at]).toFixed(1)} ${toY(line.low[at]).toFixed(1)}`).join("");
        el(plot, "svg:path", { d: path(line.steps, line.high) + edge + "Z", fill: line.colour, opacity: 0.18 });
      }
      if (line.smooth !== line.mean) el(plot, "svg:path", { d: path(line.steps, line.mean), fill: "none", stroke: line.colour, opacity: 0.35 });
      el(plot, "svg:path", { class: "curve", d: path(line.steps, line.smooth), fill: "none", stroke: line.colour, "stroke-width": 1.8, "stroke-dasharray": line.dashes });
      if (line.mean.length < 30) line.steps.forEach((step, at) => {
        if (line.mean[at] !== null && (!log || line.mean[at] > 0)) el(plot, "svg:circle", { cx: toX(step), cy: toY(line.mean[at]), r: 2.2, fill: line.colour });
      });
    }
  }

  function nearest(line, step) {
    let best = 0;
    line.steps.forEach((at, place) => { if (Math.abs(at - step) < Math.abs(line.steps[best] - step)) best = place; });
    return best;
  }
  function hover(event) {
    const x = event.clientX - area.getBoundingClientRect().left;
    svg.querySelectorAll(".cursor").forEach((old) => old.remove());
    if (x < pad.left || x > area.clientWidth - pad.right) { tip.hidden = true; return; }
    const step = toStep(x);
    tip.replaceChildren(); tip.hidden = false;
    el(tip, "div", { class: "soft" }, `step ${short(Math.round(step))}`);
    const sorted = lines.map((line) => [line, nearest(line, step)]).slice(0, 12);
    for (const [line, at] of sorted) {
      const row = el(tip, "div");
      el(row, "i", { style: `display:inline-block;width:8px;height:8px;margin-right:5px;background:${line.colour}` });
      const spread = line.low && line.low[at] !== line.high[at] ? ` (${short(line.low[at])} to ${short(line.high[at])})` : "";
      row.append(`${line.name} ${short(line.mean[at])}${spread} at ${short(line.steps[at])}`);
    }
    tip.style.left = x > area.clientWidth / 2 ? "auto" : `${x + 12}px`;
    tip.style.right = x > area.clientWidth / 2 ? `${area.clientWidth - x + 12}px` : "auto";
    const height = inside().height;
    el(svg, "svg:line", { class: "cursor", x1: x, x2: x, y1: pad.top, y2: pad.top + height, stroke: "currentColor", opacity: 0.35 });
    if (drag !== null) el(svg, "svg:rect", { class: "cursor", x: Math.min(x, drag), width: Math.abs(x - drag), y: pad.top, height, fill: "currentColor", opacity: 0.12 });
  }
  function zoom(to) { range = to; reset.hidden = to === whole; draw(); }
  area.addEventListener("pointermove", hover);
  area.addEventListener("pointerleave", () => { tip.hidden = true; drag = null; svg.querySelectorAll(".cursor").forEach((old) => old.remove()); });
  area.addEventListener("pointerdown", (event) => { drag = event.clientX - area.getBoundingClientRect().left; });
  area.addEventListener("pointerup", (event) => {
    const x = event.clientX - area.getBoundingClientRect().left, from = drag;
    drag = null;
    if (from !== null && Math.abs(x - from) > 8) zoom([toStep(Math.min(x, from)), toStep(Math.max(x, from))]);
  });
  area.addEventListener("dblclick", () => zoom(whole));
  reset.addEventListener("click", () => zoom(whole));
  logButton.addEventListener("click", () => { log = !log; logButton.textContent = log ? "linear" : "log"; draw(); });
  new ResizeObserver(draw).observe(area);
  draw();
}

function parallel(box, { axes, points }) {
  const area = el(box, "div", { class: "chart", style: "height:300px" }), svg = el(area, "svg:svg");
  const tip = el(area, "div", { class: "tip", hidden: "" });
  const scales = axes.map((axis, at) => {
    const values = points.map((point) => point.values[at]).filter((value) => value !== null);
    const numbers = values.every((value) => typeof value === "number");
    const names = numbers ? [] : [...new Set(values.map(String))];
    const low = Math.min(...values), span = Math.max(...values) - low;
    return { axis, numbers, low, span, names, at: (v) => v === null ? null : numbers ? (span ? (v - low) / span : 0.5)
      : names.length > 1 ? names.indexOf(String(v)) / (names.length - 1) : 0.5 };
  });
  function draw() {
    svg.replaceChildren();
    const width = area.clientWidth, height = area.clientHeight, top = 46, bottom = height - 20;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const x = (at) => 50 + at * (width - 100) / Math.max(1, axes.length - 1), y = (share) => bottom - share * (bottom - top);
    scales.forEach((scale, at) => {
      el(svg, "svg:line", { class: "grid", x1: x(at), x2: x(at), y1: top, y2: bottom });
      const name = scale.axis.length > 18 ? `…${scale.axis.slice(-16)}` : scale.axis;
      el(svg, "svg:text", { x: x(at), y: at % 2 ? 12 : 24, "text-anchor": "middle" }, name);
      const marks = scale.numbers ? (scale.span ? [0, 1] : [0.5]).map((s) => [s, short(scale.low + s * scale.span)])
        : scale.names.map((n) => [scale.at(n), n]);
      for (const [share, text] of marks.slice(0, 12))
        el(svg, "svg:text", { x: x(at), y: y(share) + (share < 0.5 ? 15 : -6), "text-anchor": "middle" }, text.slice(0, 14));
    });
    const last = scales[scales.length - 1];
    for (const point of points) {
      const places = point.values.map((value, at) => [x(at), scales[at].at(value)]).filter(([, share]) => share !== null);
      const share = last.at(point.values[point.values.length - 1]);
      const colour = share === null ? "#888" : `hsl(${Math.round(220 - 190 * share)} 75% 50%)`;
      const line = el(svg, "svg:polyline", { class: "point", points: places.map(([at, s]) => `${at},${y(s)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2, opacity: 0.75 });
      line.addEventListener("pointerenter", () => {
        line.setAttribute("stroke-width", 5); tip.hidden = false;
        tip.textContent = `${point.run}: ${axes.map((axis, at) => `${axis} ${short(point.values[at])}`).join(", ")}`;
      });
      line.addEventListener("pointerleave", () => { line.setAttribute("stroke-width", 2); tip.hidden = true; });
    }
  }
  new ResizeObserver(draw).observe(area);
  draw();
}

const charts = document.getElementById("charts");
data.panels.forEach((panel) => chart(charts, panel));
if (data.parallel) parallel(document.getElementById("parallel"), data.parallel);
document.body.dataset.drawn = document.querySelectorAll("path.curve").length;
