// The page is complete without this, but for the timeline: a table beside it says the same of each node.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const percent = (part) => `${part > 0 && part < 0.01 ? "< 1" : Math.round(100 * part)} %`;

// As the marks below the plots have it.
function time(seconds) {
  if (data.length < 120) return `${seconds.toFixed(data.length < 10 ? 3 : 1)} s`;
  const whole = Math.round(seconds), two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600), rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

// --- the timeline --------------------------------------------------------------------------------------------------------

const canvas = document.querySelector(".timeline canvas");
const tip = document.querySelector(".tip");

function timeline() {
  const { rows, columns } = data, context = canvas.getContext("2d");
  const busy = bytes(data.busy ?? ""), bad = bytes(data.bad ?? ""), lost = bytes(data.lost ?? "");
  const cursor = { row: 0, column: 0, bar: -1, shown: false };
  let names = 0, width = 0, height = 0, step = 0;

  const barsOf = rows.map(() => []);
  for (const bar of data.bars ?? []) barsOf[bar[0]].push(bar);
  for (const bars of barsOf) bars.sort((one, other) => one[1] - other[1]);

  function size() {
    const room = canvas.parentElement.clientWidth, ratio = devicePixelRatio || 1;
    step = Math.max(2, Math.min(18, Math.floor(560 / rows.length)));
    names = room < 560 ? 74 : 120;
    width = room - names;
    height = rows.length * step;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(room * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    canvas.parentElement.style.setProperty("--names", `${names}px`);
  }

  // One pixel for each column of each row, stretched afterwards.
  function cells() {
    const image = new ImageData(columns, rows.length);
    const rgb = (name) => colour(name).match(/\w\w/g).map((two) => parseInt(two, 16));
    const [good, wrong, gone] = ["--good", "--bad", "--warn"].map(rgb);
    for (let at = 0; at < busy.length; at++) {
      const fault = lost[at] ?? 0, used = Math.min(255, busy[at] + fault), odd = Math.max(bad[at], fault);
      if (!used) continue;
      const other = fault > bad[at] ? gone : wrong, mix = odd ? 0.35 + 0.65 * Math.min(1, odd / used) : 0;
      for (let part = 0; part < 3; part++) image.data[4 * at + part] = good[part] + (other[part] - good[part]) * mix;
      image.data[4 * at + 3] = 40 + (215 * used) / 255;
    }
    const small = document.createElement("canvas");
    small.width = columns;
    small.height = rows.length;
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, names, 0, width, height);
    if (step > 4) for (let row = 1; row < rows.length; row++) context.clearRect(names, row * step - 0.5, width, 1);
  }

  function bars() {
    const kinds = ["--good", "--bad", "--warn"].map(colour);
    for (const [row, start, length, kind] of data.bars) {
      context.fillStyle = kinds[kind];
      const left = names + (start / data.length) * width, wide = (length / data.length) * width;
      context.fillRect(left, row * step, Math.max(0.7, wide - (wide > 3 ? 1 : 0)), step > 4 ? step - 1 : step);
    }
  }

  function labels() {
    context.clearRect(0, 0, names, height);
    context.fillStyle = colour("--paper");
    context.fillRect(0, 0, names, height);
    context.fillStyle = colour("--quiet");
    context.font = "11.5px system-ui, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    let free = 0;
    rows.forEach(([name, node], row) => {
      const first = row === 0 || rows[row - 1][1] !== node, middle = row * step + step / 2;
      if (middle < free || (step < 12 && !first && node)) return;
      context.fillText(step < 12 && node ? node : name, names - 8, Math.min(height - 6, Math.max(7, middle)), names - 10);
      free = middle + 14;
    });
  }

  function mark() {
    if (!cursor.shown) return;
    context.strokeStyle = colour("--ink");
    context.lineWidth = 1.5;
    const bar = barsOf[cursor.row][cursor.bar];
    const left = bar ? bar[1] / data.length : cursor.column / columns, wide = bar ? bar[2] / data.length : 1 / columns;
    context.strokeRect(names + left * width - 1, cursor.row * step - 1, Math.max(3, wide * width + 1), step + 1);
  }

  function draw() {
    size();
    context.clearRect(0, 0, names + width, height);
    if (data.bars) bars();
    else cells();
    context.fillStyle = colour("--paper");
    for (const [row, start, length] of data.away)
      context.fillRect(names + (start / data.length) * width, row * step, (length / data.length) * width, step);
    labels();
    mark();
  }

  function say() {
    const [name] = rows[cursor.row], bar = barsOf[cursor.row][cursor.bar];
    if (data.bars) {
      tip.textContent = bar
        ? `${data.names[bar[4]]} on ${name}: ${data.states[bar[3]]}, ${time(bar[1])} to ${time(bar[1] + bar[2])}`
        : `${name}: idle at ${time((cursor.column / columns) * data.length)}`;
      return;
    }
    const at = cursor.row * columns + cursor.column, part = data.length / columns;
    const wrong = bad[at] ? `, ${percent(bad[at] / 255)} in tasks that did not succeed` : "";
    const gone = lost[at] ? `, ${percent(lost[at] / 255)} lost to faults` : "";
    tip.textContent = `${name}, ${time(cursor.column * part)} to ${time((cursor.column + 1) * part)}: busy ${percent(busy[at] / 255)}${wrong}${gone}`;
  }

  function show() {
    cursor.shown = true;
    draw();
    say();
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), part = (event.clientX - box.left - names) / width;
    if (part < 0) return;
    cursor.row = Math.min(rows.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / step)));
    cursor.column = Math.min(columns - 1, Math.floor(part * columns));
    const seconds = part * data.length;
    cursor.bar = barsOf[cursor.row].findIndex((bar) => bar[1] <= seconds && seconds <= bar[1] + bar[2]);
    show();
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }, move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const limit = (value, most) => Math.min(most - 1, Math.max(0, value));
    cursor.row = limit(cursor.row + move[0], rows.length);
    if (data.bars) {
      const count = barsOf[cursor.row].length;
      cursor.bar = count ? limit(cursor.bar + (move[0] ? 0 : move[1]), count) : -1;
    } else cursor.column = limit(cursor.column + move[1] * (event.shiftKey ? 10 : 1), columns);
    show();
  });
  for (const name of ["blur", "pointerleave"])
    canvas.addEventListener(name, () => {
      cursor.shown = false;
      draw();
    });
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}

// --- what a curve is worth where the pointer rests -----------------------------------------------------------------------

function readable(figure) {
  const values = figure.dataset.values.split(",").map(Number), plot = figure.querySelector(".plot");
  const cursor = document.createElement("div"), label = document.createElement("b");
  cursor.className = "cursor";
  cursor.append(label);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect(), part = (event.clientX - box.left) / box.width;
    if (part < 0 || part > 1) return;
    const value = values[Math.min(values.length - 1, Math.floor(part * values.length))];
    cursor.style.left = `${100 * part}%`;
    cursor.classList.toggle("late", part > 0.6);
    label.textContent = `${time(part * data.length)}: ${value.toLocaleString("en", { maximumFractionDigits: 1 })} ${figure.dataset.unit}`;
    plot.append(cursor);
  });
  plot.addEventListener("pointerleave", () => cursor.remove());
}

if (canvas) timeline();
document.querySelectorAll("figure[data-values]").forEach(readable);
document.documentElement.dataset.drawn = Math.round(performance.now());
