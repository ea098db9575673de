// The table of requests: only the rows in sight are elements, so that a hundred thousand scroll like ten.

const ROW_HEIGHT = 30;
const SPARE = 8; // rows drawn above and below what is in sight

const COLUMNS = [
  { name: 'ID', sort: (record, row) => row, cell: (record) => element('a', { href: `#${record.id}`, tabindex: -1 }, record.id) },
  { name: 'Start', right: true, sort: (record) => record.start_ns, cell: (record) => `+${(record.start_ns / 1e9).toFixed(3)} s` },
  { name: 'Client', sort: (record) => who(record.client), cell: (record) => titled(who(record.client), whoBriefly(record.client)) },
  {
    name: 'Operation',
    sort: operation,
    cell: (record) =>
      element(
        'span',
        { title: operation(record) },
        element('span', { class: 'protocol' }, record.protocol),
        operation(record) === record.protocol ? '' : ` ${operation(record)}`,
      ),
  },
  {
    name: 'Service',
    sort: asked,
    cell: (record) =>
      titled(
        `${asked(record)} ${record.service?.via ?? ''} ${fourPorts(record, true)}`,
        record.service?.name ? short(servicePort(record.service), 22) : asked(record),
      ),
  },
  {
    name: 'Server',
    sort: (record) => who(record.server),
    cell: (record) =>
      titled(
        `${who(record.server)} ${record.server?.node ? `on ${record.server.node}` : ''}`,
        short(record.server?.kind === 'pod' ? record.server.name : whoBriefly(record.server), 23),
      ),
  },
  { name: 'Status', sort: (record) => record.status ?? '', cell: badge },
  {
    name: 'Total',
    right: true,
    first: -1,
    sort: (record) => total(record) ?? -1,
    cell: (record) => element('span', { class: isSlow(record) ? 'slow' : '' }, duration(total(record))),
  },
  { name: 'Where time went', sort: (record) => spentAs(record, 'self'), first: -1, cell: spentBar },
  { name: 'Parent', right: true, sort: (record) => record.parent_confidence ?? -1, cell: parentCell },
];

const titled = (title, text) => element('span', { title: title.trim() }, text);

/** Where the time of a request and of everything it called went, by kind, in the order of the key below the table. */
function spentBar(record) {
  const parts = spent(record);
  const all =
    Math.max(
      total(record) ?? 0,
      parts.reduce((sum, part) => sum + part[2], 0),
    ) || 1;
  return bar(
    parts.sort((one, other) => KINDS.indexOf(one[1]) - KINDS.indexOf(other[1])),
    all,
  );
}

function parentCell(record) {
  if (record.parent_confidence === null || record.parent_confidence === undefined)
    return element('span', { class: 'quiet' }, record.parent ? '' : 'root');
  const told = record.parent !== null;
  const title = told ? `${record.parent}: ${(record.parent_evidence ?? []).join(', ')}` : 'not told: see its candidates';
  return element(
    'span',
    { class: told ? '' : 'doubt', title },
    told ? record.parent_confidence.toFixed(2) : `? ${record.parent_confidence.toFixed(2)}`,
  );
}

const table = { rows: [], at: 0, sort: 7, sign: -1 };

function setUpTable() {
  setUpFilters();
  byId('heads').append(
    ...COLUMNS.map((each, at) =>
      element('div', { role: 'columnheader', class: each.right ? 'right' : '' }, element('button', { click: () => sortBy(at) }, each.name)),
    ),
  );
  const scroller = byId('scroller');
  scroller.addEventListener('scroll', () => requestAnimationFrame(drawRows));
  byId('grid').addEventListener('keydown', tableKey);
  scroller.addEventListener('click', (event) => {
    const row = event.target.closest('[data-at]');
    if (row) open(table.rows[Number(row.dataset.at)]);
  });
  new ResizeObserver(drawRows).observe(scroller);
  byId('held').hidden = page.total === page.records.length;
  byId('held').textContent =
    `Of ${plural(page.total, page.word)} the table has ${count(page.records.length)}: the longest of all, and of each kind. Everything else here is told of all.`;
  refresh();
}

function sortBy(at) {
  table.sign = table.sort === at ? -table.sign : (COLUMNS[at].first ?? 1);
  table.sort = at;
  refresh();
}

/** Chooses and sorts the rows anew. */
function refresh() {
  table.rows = chosenRows();
  const { sort } = COLUMNS[table.sort];
  const keys = new Map(table.rows.map((row) => [row, sort(page.records[row], row)]));
  table.rows.sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    return a < b ? -table.sign : a > b ? table.sign : one - other;
  });
  table.at = 0;
  const all = plural(page.total, page.word);
  byId('shown').textContent = table.rows.length === page.total ? all : `${count(table.rows.length)} of ${all}`;
  byId('grid').setAttribute('aria-rowcount', table.rows.length + 1);
  const direction = table.sign > 0 ? 'ascending' : 'descending';
  [...byId('heads').children].forEach((head, at) => head.setAttribute('aria-sort', at === table.sort ? direction : 'none'));
  byId('scroller').scrollTop = 0;
  drawRows();
}

function drawRows() {
  const scroller = byId('scroller');
  const room = byId('rows');
  room.style.height = `${Math.max(1, table.rows.length) * ROW_HEIGHT}px`;
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_HEIGHT) - SPARE);
  const last = Math.min(table.rows.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW_HEIGHT) + SPARE);
  const drawn = [];
  for (let at = first; at < last; at++) drawn.push(drawRow(at));
  room.replaceChildren(...(table.rows.length ? drawn : [element('p', { class: 'none' }, `No ${page.word} is like that.`)]));
  byId('grid').setAttribute('aria-activedescendant', table.rows.length ? `row-${table.at}` : '');
}

function drawRow(at) {
  const record = page.records[table.rows[at]];
  const cells = COLUMNS.map((each) =>
    element('div', { role: 'gridcell', class: each.right ? 'right' : '' }, each.cell(record, table.rows[at])),
  );
  return element(
    'div',
    {
      role: 'row',
      id: `row-${at}`,
      class: at === table.at ? 'row at' : 'row',
      'data-at': at,
      'aria-rowindex': at + 2,
      style: `top: ${at * ROW_HEIGHT}px`,
    },
    cells,
  );
}

const TABLE_KEYS = {
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: 10,
  PageUp: -10,
  Home: -Infinity,
  End: Infinity,
};

function tableKey(event) {
  if (event.target.closest('#heads')) return; // a heading's own keys
  if (event.key === 'Enter' && table.rows.length) open(table.rows[table.at]);
  else if (event.key in TABLE_KEYS) {
    event.preventDefault();
    const scroller = byId('scroller');
    table.at = Math.max(0, Math.min(table.rows.length - 1, table.at + TABLE_KEYS[event.key]));
    const top = table.at * ROW_HEIGHT;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    if (top + ROW_HEIGHT > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW_HEIGHT - scroller.clientHeight;
    drawRows();
  }
}

/** Opens a request by its row; its address is its link. */
function open(row) {
  location.hash = page.records[row].id;
}
