// The waterfall: a request's whole trace over time, every part with its uncertainty. What cannot be told apart is hatched.

const MOST_ROWS = 300; // of one trace
const PARTS = {
  dns: 'looking up the name',
  connect: 'connecting',
  tls: 'TLS handshake',
  'request-network': 'request on the network',
  server: 'at the server',
  'response-network': 'response on the network',
  retransmission: 'waiting to send again',
  nat: 'NAT on one node',
};
const BARS = ['dns', 'connect', 'tls', 'request-network', 'server', 'response-network', 'retransmission', 'nat']; // in the order in which they cover one another

/** The rows of a trace around one of its requests: {root, rows: [record, depth], left} . */
function rowsOf(record) {
  const root = rootOf(record);
  const all = tree(root);
  const at = all.findIndex(([each]) => each === record);
  const from = Math.max(0, Math.min(at - MOST_ROWS / 2, all.length - MOST_ROWS));
  return { root, rows: all.slice(from, from + MOST_ROWS), left: Math.max(0, all.length - MOST_ROWS) };
}

function drawWaterfall(record, choose) {
  const { rows, left } = rowsOf(record);
  const times = rows.flatMap(([each]) => [
    each.start_ns,
    each.end_ns,
    ...(each.latency?.parts ?? []).flatMap((part) => [part.start_ns, part.end_ns]),
  ]);
  const [start, end] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
  const span = Math.max(1, end - start);
  const place = (ns) => (100 * (ns - start)) / span;
  const ticks = niceTicks(span);
  const axis = element(
    'div',
    { class: 'axis' },
    element('span'),
    element(
      'div',
      { class: 'lane' },
      ticks.map((ns) => element('span', { style: `left: ${(100 * ns) / span}%` }, roughly(ns))),
    ),
    element('span'),
  );
  const lines = rows.map(([each, depth]) =>
    drawSpan(
      each,
      depth,
      each === record,
      place,
      ticks.map((ns) => (100 * ns) / span),
      choose,
    ),
  );
  return element(
    'div',
    { class: 'waterfall' },
    axis,
    element('div', { role: 'listbox', tabindex: 0, 'aria-label': 'Requests of this trace' }, lines),
    left ? element('p', { class: 'quiet' }, `${plural(left, 'more request')} of this trace are not drawn.`) : null,
    partsKey(rows),
  );
}

function drawSpan(record, depth, selected, place, ticks, choose) {
  const at = (from, to) => `left: ${place(from)}%; width: ${Math.max(0, place(to) - place(from))}%`;
  const parts = (record.latency?.parts ?? [])
    .filter((part) => BARS.includes(part.kind))
    .sort((one, other) => BARS.indexOf(one.kind) - BARS.indexOf(other.kind));
  const told = parts.some((part) => part.kind === 'server');
  const bars = parts.flatMap((part) => {
    const words = `${PARTS[part.kind]}${part.node ? ` on ${part.node}` : ''}: ${duration(part.end_ns - part.start_ns)}${plusMinus(part.uncertainty_ns)}${part.separable === false ? ', not separable from its uncertainty' : ''}`;
    const pieces = part.kind === 'server' ? busy(part, childrenOf(record)) : [[part.start_ns, part.end_ns, part.kind]];
    return pieces.map(([from, to, kind]) =>
      element('i', {
        class: `part fill ${kind}${part.separable === false ? ' unseparable' : ''}`,
        style: at(from, to),
        title: kind === 'waiting' ? 'waiting for its own calls' : words,
      }),
    );
  });
  const edges = parts
    .filter((part) => part.uncertainty_ns && ['request-network', 'response-network'].includes(part.kind))
    .map((part) => {
      const edge = part.kind === 'request-network' ? part.end_ns : part.start_ns; // where one node's clock meets another's
      return element('i', {
        class: 'whisker',
        style: at(edge - part.uncertainty_ns, edge + part.uncertainty_ns),
        title: `± ${duration(part.uncertainty_ns)}: clocks of two nodes`,
      });
    });
  const who_ = record.server?.kind === 'pod' ? `${workload(record.server.name)} · ${record.server.node ?? '?'}` : serves(record);
  const label = `${record.id}, ${record.protocol} ${operation(record)}, ${record.status ?? 'no status'}, ${duration(total(record))}`;
  return element(
    'div',
    {
      class: selected ? 'span selected' : 'span',
      role: 'option',
      'aria-selected': String(selected),
      'aria-label': label,
      click: () => choose(record),
    },
    element(
      'div',
      { class: 'label', style: `padding-left: ${Math.min(depth, 8) * 14 + 8}px` },
      element('span', { class: 'protocol' }, record.protocol),
      element(
        'span',
        { class: 'what', title: operation(record) },
        operation(record) === record.protocol ? asked(record) : operation(record),
      ),
      element('span', { class: 'where quiet' }, who_),
    ),
    element(
      'div',
      { class: 'lane' },
      ticks.map((tick) => element('i', { class: 'tick', style: `left: ${tick}%` })),
      element('i', {
        class: `whole${told ? '' : ' fill untold'}${isError(record) ? ' failed' : ''}`,
        style: at(record.start_ns, record.end_ns),
        title: told ? '' : 'where inside is not told',
      }),
      bars,
      edges,
    ),
    element('div', { class: 'figures' }, duration(total(record)), ' ', badge(record)),
  );
}

/** A server's time in pieces: its own work, and where it was waiting for what it called. */
function busy(part, children) {
  const found = [];
  let from = part.start_ns;
  for (const child of children) {
    const [start, end] = [Math.max(from, child.start_ns), Math.min(part.end_ns, child.end_ns)];
    if (end <= start) continue;
    if (start > from) found.push([from, start, 'server']);
    found.push([start, end, 'waiting']);
    from = end;
  }
  if (part.end_ns > from) found.push([from, part.end_ns, 'server']);
  return found;
}

/** ` ± 60.0 µs`, or nothing where it is unknown or zero. */
const plusMinus = (ns) => (ns ? ` ± ${duration(ns)}` : '');

function niceTicks(span) {
  const size = 10 ** Math.floor(Math.log10(span / 4));
  const each = [1, 2, 5, 10].map((digit) => digit * size).find((width) => span / width <= 6) ?? span;
  return Array.from({ length: Math.floor((span * 0.97) / each) + 1 }, (_, i) => i * each);
}

const KEY = { server: 'the server itself', 'request-network': 'on the network' };

function partsKey(rows) {
  const kinds = new Set(rows.flatMap(([record]) => (record.latency?.parts ?? []).map((part) => part.kind)));
  const entries = BARS.filter((kind) => kinds.has(kind) && kind !== 'response-network').map((kind) =>
    element('li', {}, element('i', { class: `swatch fill ${kind}` }), KEY[kind] ?? PARTS[kind]),
  );
  if (rows.some(([record]) => childrenOf(record).length))
    entries.push(element('li', {}, element('i', { class: 'swatch fill waiting' }), 'waiting for what it called'));
  const hatched = rows.some(([record]) => (record.latency?.parts ?? []).some((part) => part.separable === false));
  const untold = rows.some(([record]) => !(record.latency?.parts ?? []).some((part) => part.kind === 'server'));
  return element(
    'ul',
    { class: 'key' },
    entries,
    hatched
      ? element('li', {}, element('i', { class: 'swatch fill request-network unseparable' }), 'not separable: smaller than its uncertainty')
      : null,
    untold ? element('li', {}, element('i', { class: 'swatch fill untold' }), 'where inside is not told') : null,
  );
}

// The dialog around it.

const shown = { record: null };

function show(record) {
  shown.record = record;
  byId('tip').hidden = true;
  const dialog = byId('trace');
  const root = rootOf(record);
  const body = byId('trace-body');
  body.replaceChildren(
    element(
      'header',
      {},
      element('h2', {}, element('span', { class: 'quiet' }, record.id), ' ', titleOf(record), ' ', badge(record)),
      element(
        'p',
        {},
        element('b', { class: 'big' }, duration(total(record))),
        ` · ${clock(record.start_ns)} · `,
        root === record ? way(record) : element('span', {}, 'part of ', link(root.id)),
      ),
    ),
    drawWaterfall(record, (each) => {
      location.hash = each.id;
    }),
    details(record),
  );
  if (!dialog.open) dialog.showModal();
  body.scrollTop = 0;
  body.querySelector('.selected')?.scrollIntoView({ block: 'nearest' });
}

const link = (id) => (page.index.has(id) ? element('a', { href: `#${id}` }, id) : id);

const MOVES = { ArrowUp: ['trace', -1], ArrowDown: ['trace', 1], ArrowLeft: ['table', -1], ArrowRight: ['table', 1] };

/** Up and down through the trace; left and right through the table's rows, in its order. */
function traceKey(event) {
  const [through, step_] = MOVES[event.key] ?? [];
  if (!through || !shown.record || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const list = through === 'trace' ? tree(rootOf(shown.record)).map(([record]) => record) : table.rows.map((row) => page.records[row]);
  const next = list[list.indexOf(shown.record) + step_];
  if (next) (history.replaceState(null, '', `#${next.id}`), show(next));
}

/** What the address asks for: a request's waterfall, or none. */
function follow() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (page.index.has(id)) show(page.records[page.index.get(id)]);
  else if (byId('trace').open) byId('trace').close();
}

function setUpTrace() {
  const dialog = byId('trace');
  dialog.addEventListener('keydown', traceKey);
  dialog.addEventListener('close', () => {
    if (page.index.has(location.hash.slice(1))) history.replaceState(null, '', location.pathname + location.search);
  });
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  byId('close').addEventListener('click', () => dialog.close());
  addEventListener('hashchange', follow);
  follow();
}
