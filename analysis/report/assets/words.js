// Words and elements. Text becomes a text node, never markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element; `properties` are attributes, or listeners where the value is a function. */
function element(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(made, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === 'function') made.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const byId = (id) => document.getElementById(id);

/** Nanoseconds as people say them: 812 ns, 4.2 µs, 13.1 ms, 2.004 s; ? where unknown. */
function duration(ns) {
  if (ns === null || ns === undefined || Number.isNaN(ns)) return '?';
  for (const [unit, size, digits] of [
    ['s', 1e9, 3],
    ['ms', 1e6, 1],
    ['µs', 1e3, 1],
  ]) {
    if (Math.abs(ns) >= size) return `${(ns / size).toFixed(digits)} ${unit}`;
  }
  return `${Math.round(ns)} ns`;
}

/** A length on an axis or in a legend, without digits that say nothing: 5 ms, 0.2 s. */
function roughly(ns, digits = 3) {
  for (const [unit, size] of [
    ['s', 1e9],
    ['ms', 1e6],
    ['µs', 1e3],
  ]) {
    if (Math.abs(ns) >= size * 0.999) return `${Number((ns / size).toPrecision(digits))} ${unit}`;
  }
  return ns ? `${Number(ns.toPrecision(digits))} ns` : '0';
}

const count = (number) => number.toLocaleString('en');
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? '' : 's'}`;
const percent = (share) => (share > 0 && share < 0.01 ? '<1 %' : `${Math.round(share * 100)} %`);

/** A text in at most `size` characters; of a long name the middle says least. */
function short(text, size) {
  if (text.length <= size) return text;
  const tail = Math.max(3, Math.floor(size / 3));
  return `${text.slice(0, size - tail - 1)}…${text.slice(-tail)}`;
}

/** A moment (ns after the first request) as UTC with microseconds. */
function clock(ns) {
  const at = BigInt(page.base_ns) + BigInt(Math.round(ns));
  const seconds = new Date(Number(at / 1000000000n) * 1000).toISOString();
  return `${seconds.slice(0, 10)} ${seconds.slice(11, 19)}.${String((at % 1000000000n) / 1000n).padStart(6, '0')}Z`;
}

/** Numbers and how many there are of each: `sorted[i]` is the i-th of those that differ, `upTo[i]` how many are at or below it. */
class Samples {
  size = 0;
  counts = new Map();

  add(number, times = 1) {
    this.counts.set(number, (this.counts.get(number) ?? 0) + times);
    this.size += times;
    this.sorted = null;
  }

  sort() {
    if (this.sorted) return;
    this.sorted = Float64Array.from(this.counts.keys()).sort();
    let sum = 0;
    this.upTo = this.sorted.map((number) => (sum += this.counts.get(number)));
  }

  /** The i-th smallest, from 1; null of none. */
  at(rank) {
    this.sort();
    return this.size ? this.sorted[firstWhere(this.upTo, (reached) => reached >= rank)] : null;
  }

  /** The value below which a share of them lies (nearest rank); null of none. */
  quantile(share) {
    return this.at(Math.min(this.size, Math.max(1, Math.ceil(share * this.size))));
  }

  /** The share of them that is at or below a number. */
  below(number) {
    this.sort();
    const above = firstWhere(this.sorted, (each) => each > number);
    return above ? this.upTo[above - 1] / this.size : 0;
  }
}

/** Where what `test` asks begins to hold; the length where it never does. */
function firstWhere(ordered, test) {
  let [low, high] = [0, ordered.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(ordered[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A text that is at most `room` pixels wide in a picture. */
function fit(text, room, bold = false, size = 11.5) {
  const pen = (fit.pen ??= document.createElement('canvas').getContext('2d'));
  pen.font = `${bold ? 650 : 400} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  for (let length = text.length; length > 4; length--) if (pen.measureText(short(text, length)).width <= room) return short(text, length);
  return short(text, 4);
}
