// Where boxes and lines of the picture go: columns by depth, lines that pass a column get a slot in it, crossings are few.

const HEAD = 40; // a box's name
const GAP_Y = 20;
const WORDS = 32; // what the words of one line need where it ends, besides its width
const MORE = 14; // and its errors
const HIGHEST = 160; // where a column begins at the latest: of a tall picture one sees the top first
const NARROW = 154; // a box
const WIDE = 220;
const BETWEEN = 122; // columns, at least
const PASS = 26; // and where it passes a column

/** Gives every box a `column`, `x`, `y` and every line its `points`; returns the picture's size. Boxes have a height, lines a width and errors. */
function layOut(boxes, lines, width) {
  rank(boxes, lines);
  const columns = Array.from({ length: 1 + Math.max(...boxes.map((box) => box.column)) }, () => []);
  for (const box of boxes) columns[box.column].push(box);
  for (const line of lines) {
    line.chain = [line.from];
    for (let at = line.from.column + 1; at < line.to.column; at++) {
      const pass = { column: at, height: PASS, pass: true };
      columns[at].push(pass);
      line.chain.push(pass);
    }
    line.chain.push(line.to);
  }
  untangle(columns, lines);
  const heights = columns.map((items) => items.reduce((sum, item) => sum + item.height + GAP_Y, -GAP_Y));
  const height = Math.max(...heights) + 24;
  const between = columns.length - 1;
  const boxWidth = Math.max(NARROW, Math.min(WIDE, (width - between * BETWEEN * 1.2) / columns.length));
  const gap = between ? Math.max(BETWEEN, (width - columns.length * boxWidth) / between) : 0;
  columns.forEach((items, at) => {
    let y = Math.min((height - heights[at]) / 2, HIGHEST);
    for (const item of items) {
      Object.assign(item, { x: at * (boxWidth + gap), y });
      y += item.height + GAP_Y;
    }
  });
  for (const box of boxes) seat(box, lines);
  for (const box of boxes)
    box.leaving = lines.filter((line) => line.from === box).sort((one, other) => one.after - other.after || one.slot - other.slot);
  for (const line of lines) line.points = points(line, boxWidth);
  return { width: Math.max(width, columns.length * (boxWidth + gap) - gap), height, boxWidth };
}

/** The longest way from a box that nobody calls; a line that closes a circle does not count. */
function rank(boxes, lines) {
  const out = new Map(boxes.map((box) => [box, lines.filter((line) => line.from === box && line.to !== box)]));
  const state = new Map();
  const order = [];
  const visit = (box) => {
    state.set(box, 'open');
    for (const line of out.get(box)) {
      line.back = state.get(line.to) === 'open';
      if (!state.has(line.to)) visit(line.to);
    }
    state.set(box, 'done');
    order.unshift(box);
  };
  const called = new Set(lines.filter((line) => line.from !== line.to).map((line) => line.to));
  for (const box of [...boxes].sort((one, other) => called.has(one) - called.has(other))) if (!state.has(box)) visit(box);
  for (const box of boxes) box.column = 0;
  for (const box of order) for (const line of out.get(box)) if (!line.back) line.to.column = Math.max(line.to.column, box.column + 1);
}

/** Barycentre sweeps (Sugiyama, Tagawa and Toda 1981): every item near the middle of those it is tied to. */
function untangle(columns, lines) {
  const tied = new Map();
  for (const { chain } of lines) {
    for (let i = 1; i < chain.length; i++) {
      append(tied, chain[i], chain[i - 1]);
      append(tied, chain[i - 1], chain[i]);
    }
  }
  const place = new Map();
  const number = (items) => items.forEach((item, i) => place.set(item, (i + 0.5) / items.length));
  columns.forEach(number);
  for (let sweep = 0; sweep < 6; sweep++) {
    const forward = sweep % 2 === 0;
    for (const items of forward ? columns : [...columns].reverse()) {
      const wanted = new Map(
        items.map((item) => {
          const others = (tied.get(item) ?? []).filter((other) => (forward ? other.column < item.column : other.column > item.column));
          return [item, others.length ? others.reduce((sum, other) => sum + place.get(other), 0) / others.length : place.get(item)];
        }),
      );
      items.sort((one, other) => wanted.get(one) - wanted.get(other));
      number(items);
    }
  }
  for (const line of lines) Object.assign(line, { before: place.get(line.chain.at(-2)), after: place.get(line.chain[1]) });
}

/** Lines reach (and leave) a box in the order of their other ends; those of one door stay together. */
function seat(box, lines) {
  const arriving = lines.filter((line) => line.to === box);
  const first = new Map();
  for (const line of arriving) first.set(line.door, Math.min(first.get(line.door) ?? Infinity, line.before));
  arriving.sort(
    (one, other) => first.get(one.door) - first.get(other.door) || one.door.localeCompare(other.door) || one.before - other.before,
  );
  let y = HEAD;
  arriving.forEach((line, at) => {
    line.slot = y + slotOf(line) - (WORDS + line.width) / 2;
    y += slotOf(line);
    line.leads = at === 0 || arriving[at - 1].door !== line.door;
  });
}

const slotOf = (line) => WORDS + line.width + (line.errors ? MORE : 0);

/** From a box's right side, through slots, to the door's place at the other's left side. */
function points(line, boxWidth) {
  const leaves = line.from.leaving.indexOf(line);
  const step = Math.min(20, (line.from.height - 24) / Math.max(1, line.from.leaving.length));
  const start = [line.from.x + boxWidth, line.from.y + line.from.height / 2 + (leaves - (line.from.leaving.length - 1) / 2) * step];
  const between = line.chain.slice(1, -1).flatMap((pass) => [
    [pass.x, pass.y + PASS / 2],
    [pass.x + boxWidth, pass.y + PASS / 2],
  ]);
  return [start, ...between, [line.to.x, line.to.y + line.slot]];
}

/** A path from a box over its top back into itself: what a pod asks of its own Service (hairpin). */
function around({ from, points }, boxWidth) {
  const [[x1, y1], [x2, y2]] = [points[0], points.at(-1)].map((point) => point.map(Math.round));
  const [top, middle] = [Math.round(from.y - GAP_Y / 2), Math.round(from.x + boxWidth / 2)];
  return `M${x1} ${y1}C${x1 + 40} ${y1} ${x1 + 40} ${top} ${middle} ${top}C${x2 - 40} ${top} ${x2 - 40} ${y2} ${x2} ${y2}`;
}

/** An SVG path through points, level at each. */
function curve(points) {
  let path = `M${points[0].map(Math.round).join(' ')}`;
  for (let i = 1; i < points.length; i++) {
    const [[x1, y1], [x2, y2]] = [points[i - 1], points[i]];
    const bend = x2 > x1 ? (x2 - x1) / 2 : 70;
    path +=
      y1 === y2 && x2 > x1
        ? `L${Math.round(x2)} ${Math.round(y2)}`
        : `C${Math.round(x1 + bend)} ${Math.round(y1)} ${Math.round(x2 - bend)} ${Math.round(y2)} ${Math.round(x2)} ${Math.round(y2)}`;
  }
  return path;
}
