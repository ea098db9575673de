// The picture: who talks to whom. A line's width is the number of requests, its colour their latency.

const ROW = 18; // a pod in its box
const POD_ROWS = { 8: 4, 12: 2, Infinity: 0 }; // how many of its pods a box names, by how many boxes there are at most
const WIDEST = 14;
const STEPS = 5; // of the colour scale: --slow-1 … --slow-5

const picture = { share: 0.95, boxes: [], lines: [] };

function drawPicture() {
  const room = byId('picture-room');
  if (!page.records.length) return room.replaceChildren(element('p', {}, `No ${page.word}s.`));
  const { boxes, lines } = picture;
  const podRows = Object.entries(POD_ROWS).find(([most]) => boxes.length <= Number(most))[1];
  const most = Math.max(...lines.map((line) => line.count));
  for (const line of lines) line.width = Math.max(1.5, WIDEST * Math.sqrt(line.count / most));
  for (const box of boxes) {
    box.shown = [...box.pods.values()]
      .sort((one, other) => other.count - one.count)
      .slice(0, box.pods.size === podRows + 1 ? podRows + 1 : podRows);
    const rows = box.shown.length + (box.pods.size > box.shown.length);
    box.height = HEAD + lines.filter((line) => line.to === box).reduce((sum, line) => sum + slotOf(line), 0) + rows * ROW + 8;
  }
  const width = Math.max(700, room.clientWidth || 1280);
  const size = layOut(boxes, lines, width);
  const scale = colourScale(lines.map((line) => line.totals.quantile(picture.share)).filter((ns) => ns > 0));
  const drawing = svg('svg', {
    viewBox: `0 0 ${size.width} ${size.height}`,
    width: size.width,
    height: size.height,
    class: size.height > 1.2 * size.width ? 'tall' : '', // too tall for one sheet of paper
    role: 'group',
    'aria-label': 'Who talks to whom',
  });
  const drawn = [...lines].sort((one, other) => other.count - one.count).map((line) => drawLine(line, scale, size.boxWidth));
  drawing.append(...drawn.map(({ path }) => path), ...boxes.map((box) => drawBox(box, size.boxWidth)), ...drawn.map(({ words }) => words));
  room.replaceChildren(drawing);
  drawLegend(scale, most);
}

/** Round limits (1, 2, 5) between the quickest and the slowest line. */
function colourScale(latencies) {
  const [low, high] = [Math.log10(Math.min(...latencies)), Math.log10(Math.max(...latencies))];
  const limits = Array.from({ length: STEPS - 1 }, (_, i) => roundUp(10 ** (low + ((high - low) * (i + 1)) / STEPS)));
  return [...new Set(latencies.length ? limits : [])];
}

function roundUp(number) {
  const size = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].find((digit) => number <= digit * size * 1.001) * size;
}

/** 1 (quick) … 5 (slow) of a latency; with few limits the steps are spread. */
const step = (ns, limits) => 1 + Math.round((limits.filter((limit) => ns >= limit).length * (STEPS - 1)) / Math.max(1, limits.length));

function drawLine(line, scale, boxWidth) {
  const latency = line.totals.quantile(picture.share);
  const shape = line.from === line.to ? around(line, boxWidth) : curve(line.points);
  const { width } = line;
  const name = `${line.from.title} to ${line.to.title} through ${line.door}`;
  const [x, y] = line.points.at(-1);
  const path = svg(
    'g',
    {
      class: 'line',
      tabindex: 0,
      role: 'button',
      'aria-label': `${name}: ${plural(line.count, page.word)}, ${plural(line.errors, 'error')}`,
    },
    svg('path', { d: shape, class: 'reach', 'stroke-width': Math.max(14, width) }),
    svg('path', {
      d: shape,
      class: 'stroke',
      'stroke-width': width,
      style: `stroke: var(${latency > 0 ? `--slow-${step(latency, scale)}` : '--untold'})`,
    }),
    svg('path', { d: `M${x - 8} ${y - 5}L${x} ${y}L${x - 8} ${y + 5}Z`, class: 'head' }),
  );
  react(
    path,
    () => lineWords(line),
    () => pick(name, line.rows),
  );
  const nat =
    line.nat.size > 1
      ? `${[...new Set([...line.nat.keys()].map((what) => what.split(' ')[0]))].join(', ')}, ${line.nat.size} nodes`
      : (mostOf(line.nat, 1)[0]?.replace(' on ', ' ') ?? '');
  const words = svg(
    'g',
    { class: 'words', 'aria-hidden': 'true' },
    svg(
      'text',
      { x: x - 12, y: y - 4 - width / 2, 'text-anchor': 'end' },
      `${count(line.count)} · ${latency === null ? '?' : roughly(latency, 2)}`,
    ),
    line.errors
      ? svg('text', { x: x - 12, y: y - 4 - MORE - width / 2, 'text-anchor': 'end', class: 'bad' }, `✕ ${count(line.errors)}`)
      : null,
    svg('text', { x: x - 12, y: y + 12 + width / 2, 'text-anchor': 'end', class: 'quiet' }, nat),
  );
  return { path, words };
}

function drawBox(box, width) {
  const parts = [svg('rect', { width, height: box.height, rx: 8, class: 'box' })];
  parts.push(
    svg('text', { x: 12, y: 18, class: 'title' }, fit(box.title, width - 22, true, 13)),
    svg('text', { x: 12, y: 32, class: 'quiet' }, fit(box.under, width - 22)),
  );
  for (const line of picture.lines.filter((each) => each.to === box && each.leads)) {
    const [what, via] = line.shown;
    parts.push(
      svg(
        'text',
        { x: 12, y: line.slot - 1, class: 'door' },
        fit(what, width - 22 - 7 * via.length, true),
        svg('tspan', { class: 'quiet' }, ` ${via}`),
      ),
    );
    parts.push(
      svg(
        'text',
        { x: 12, y: line.slot + 12, class: 'quiet ports' },
        fit((mostOf(line.ports, 1)[0] ?? '').replaceAll(' → ', '→'), width - 20),
      ),
    );
  }
  const group = svg(
    'g',
    {
      class: 'node',
      transform: `translate(${box.x} ${box.y})`,
      tabindex: 0,
      role: 'button',
      'aria-label': `${box.title}, ${plural(box.count, page.word)}`,
    },
    parts,
  );
  react(
    group,
    () => boxWords(box),
    () => pick(box.title, box.rows),
  );
  let y = box.height - 8 - (box.shown.length + (box.pods.size > box.shown.length)) * ROW;
  for (const pod of box.shown) {
    const label = /-\d+$/.test(pod.name) ? pod.name : pod.name.replace(MADE_UP, (made) => made.slice(-6)).replace(`${box.title}-`, '…');
    const row = svg(
      'g',
      { class: 'pod', tabindex: 0, role: 'button', 'aria-label': `${pod.name}, ${plural(pod.count, page.word)}` },
      svg('rect', { x: 5, y, width: width - 10, height: ROW, rx: 4 }),
      svg(
        'text',
        { x: 12, y: y + 13 },
        fit(pod.node && pod.node !== pod.name ? `${label} ${pod.node}` : label, width - 28 - 7 * count(pod.count).length),
      ),
      svg('text', { x: width - 12, y: y + 13, 'text-anchor': 'end', class: 'quiet' }, count(pod.count)),
    );
    react(
      row,
      () => [pod.name, pod.node && `on ${pod.node}`, plural(pod.count, page.word)],
      () => pick(pod.name, pod.rows),
    );
    group.append(row);
    y += ROW;
  }
  if (box.pods.size > box.shown.length)
    group.append(
      svg(
        'text',
        { x: 12, y: y + 13, class: 'quiet' },
        box.shown.length ? `and ${count(box.pods.size - box.shown.length)} more` : plural(box.pods.size, 'member'),
      ),
    );
  return group;
}

const mostOf = (counted, size) =>
  [...counted]
    .sort((one, other) => other[1] - one[1])
    .slice(0, size)
    .map(([what]) => what);

function lineWords(line) {
  const times = [0.5, 0.9, 0.95, 0.99].map((share) => `p${share * 100} ${duration(line.totals.quantile(share))}`).join('   ');
  return [
    `${line.from.title} → ${line.to.title}`,
    `through ${line.door}`,
    fourPorts(line.like, true),
    `${plural(line.count, page.word)}${line.errors ? `, ${plural(line.errors, 'error')}` : ''}`,
    times,
    ...[...line.nat]
      .sort((one, other) => other[1] - one[1])
      .slice(0, 6)
      .map(([what, times]) => `${what}: ${count(times)}`),
    line.nat.size ? '' : 'no NAT seen',
    'Click: only these in the table',
  ];
}

const boxWords = (box) => [
  box.title,
  box.under,
  `${plural(box.called, page.word)} served, ${count(box.count - box.called)} made`,
  plural(box.pods.size, 'member'),
  'Click: only these in the table',
];

function drawLegend(scale, most) {
  const swatch = (at) => element('i', { class: 'swatch', style: `background: var(--slow-${at})` });
  const bands = scale.length
    ? [
        `< ${roughly(scale[0])}`,
        ...scale.slice(1).map((limit, i) => `${roughly(scale[i])} – ${roughly(limit)}`),
        `≥ ${roughly(scale.at(-1))}`,
      ]
    : [];
  const choose = (share) =>
    element(
      'button',
      {
        'aria-pressed': String(picture.share === share),
        click: () => {
          picture.share = share;
          drawPicture();
        },
      },
      `p${share * 100}`,
    );
  byId('picture-legend').replaceChildren(
    element('span', { class: 'choice', role: 'group', 'aria-label': 'Colour shows' }, 'colour: latency ', choose(0.5), choose(0.95)),
    ...bands.map((band, at) => element('span', {}, swatch(1 + Math.round((at * (STEPS - 1)) / Math.max(1, bands.length - 1))), band)),
    element('span', {}, `width: ${page.word}s, up to ${count(most)}`),
    element('span', { class: 'bad' }, '✕ errors'),
  );
}
