// Which rows the table has: words, choices, and what was picked in the picture.

const CHOICES = [
  ['protocol', (record) => [record.protocol]],
  ['status', (record) => [record.status ?? '?']],
  ['service', (record) => [asked(record)]],
  ['pod', (record) => [record.client, record.server].filter((end) => end?.kind === 'pod').map(who)],
  ['node', nodesOf],
];

const filters = { picked: null, haystacks: [] }; // picked: {name, rows} from the picture

function setUpFilters() {
  for (const [name, values] of CHOICES) {
    const counts = new Map();
    for (const record of page.records) for (const value of new Set(values(record))) counts.set(value, (counts.get(value) ?? 0) + 1);
    const options = [...counts]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([value, times]) => element('option', { value }, `${short(value, 40)} (${count(times)})`));
    byId('filters').insertBefore(
      element(
        'select',
        { id: `only-${name}`, 'aria-label': `Only ${name}`, change: refresh },
        element('option', { value: '' }, `any ${name}`),
        options,
      ),
      byId('only-errors').parentElement,
    );
  }
  byId('search').addEventListener('input', refresh);
  for (const id of ['only-errors', 'only-slow']) byId(id).addEventListener('change', refresh);
  byId('clear').addEventListener('click', () => {
    clearFilters();
    refresh();
  });
}

function clearFilters() {
  byId('search').value = '';
  for (const [name] of CHOICES) byId(`only-${name}`).value = '';
  for (const id of ['only-errors', 'only-slow']) byId(id).checked = false;
  unpick();
}

function unpick() {
  filters.picked = null;
  byId('picked').replaceChildren();
}

/** The rows that every filter lets through. */
function chosenRows() {
  const words = byId('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = CHOICES.map(([name, values]) => [byId(`only-${name}`).value, values]).filter(([value]) => value);
  const tests = [
    filters.picked && ((record, row) => filters.picked.rows.has(row)),
    byId('only-errors').checked && isError,
    byId('only-slow').checked && isSlow,
    ...wanted.map(
      ([value, values]) =>
        (record) =>
          values(record).includes(value),
    ),
    ...words.map((word) => (record, row) => haystack(row).includes(word)),
  ].filter(Boolean);
  return [...page.records.keys()].filter((row) => tests.every((test) => test(page.records[row], row)));
}

/** From the picture: only these rows. */
function pick(name, rows) {
  clearFilters();
  filters.picked = { name, rows: new Set(rows) };
  byId('picked').replaceChildren(
    element(
      'button',
      {
        click: () => {
          unpick();
          refresh();
        },
      },
      `${name} ✕`,
    ),
  );
  refresh();
  byId('requests').scrollIntoView({ behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
}

function onlyErrors() {
  clearFilters();
  byId('only-errors').checked = true;
  refresh();
  byId('requests').scrollIntoView();
}

/** Everything a record can be found by, in lower case. */
function haystack(row) {
  const record = page.records[row];
  filters.haystacks[row] ??= [
    record.id,
    record.connection,
    record.protocol,
    record.operation,
    record.status,
    record.host,
    who(record.client),
    who(record.server),
    asked(record),
    record.client?.address,
    record.server?.address,
    record.original?.src,
    record.original?.dst,
    record.translated?.src,
    record.translated?.dst,
    record.unread,
    record.true_client?.address,
    ...(record.problems ?? []),
  ]
    .filter(Boolean)
    .join(' ')
    .toLowerCase();
  return filters.haystacks[row];
}
