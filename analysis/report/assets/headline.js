// The headline: which requests were slowest, which way they went, and where their time and everybody's went.

const SLOWEST_SHOWN = 5;
const PARTS_SHOWN = 7; // of everybody's time; the rest is one
const OWN = ['own-1', 'own-2', 'own-3', 'own-4', 'own-5']; // colours of servers

let slowest = [];
const coloured = new Map(); // server → its colour in both halves of the headline

function drawHeadline() {
  const known = page.records.filter((record) => total(record) !== null && !parentOf(record));
  const requests = page.word === 'request' ? known.filter(isExchange) : [];
  const parts = sumUp(requests);
  for (const [what, kind] of parts) if (isWork(kind)) coloured.set(what, OWN[coloured.size % OWN.length]);
  slowest = (requests.length ? requests : known).sort((one, other) => total(other) - total(one)).slice(0, SLOWEST_SHOWN);
  const title = element('h2', {}, requests.length ? 'Slowest requests' : 'Longest connections');
  byId('slowest').replaceChildren(title, element('ol', {}, slowest.map(slowRow)));
  byId('sums').replaceChildren(...(parts.length ? everybody(parts, requests.length) : []), ...failures());
}

/** Where the time of all these trees went: [what, kind, ns], most first. */
function sumUp(roots) {
  const sums = new Map();
  for (const root of roots) for (const [what, kind, ns] of spent(root)) sums.set(what, [what, kind, (sums.get(what)?.[2] ?? 0) + ns]);
  return [...sums.values()].sort((one, other) => other[2] - one[2]);
}

const sumOf = (parts) => parts.reduce((sum, part) => sum + part[2], 0);
const isWork = (kind) => kind === 'self' || kind === 'calls';
const colourOf = (what, kind) => (isWork(kind) ? (coloured.get(what) ?? 'calls') : kind);
const said = (what, kind) => (kind === 'network' ? 'on the network' : isWork(kind) ? `${what} itself` : what);

function slowRow(record) {
  const parts = spent(record);
  const [what, kind, ns] = parts[0] ?? ['not told', 'untold', 1];
  const all = sumOf(parts) || 1;
  return element(
    'li',
    {},
    element(
      'a',
      { href: `#${record.id}` },
      element('span', { class: 'big' }, duration(total(record))),
      element('span', { class: 'what' }, element('b', {}, titleOf(record)), ' ', badge(record)),
      bar(parts, all, colourOf),
      element('span', { class: 'said' }, element('b', {}, percent(ns / all)), ` ${said(what, kind)}`),
      element('span', { class: 'way' }, way(record)),
    ),
  );
}

/** The way of a request: client → every server on the branch that took longest, with nodes. */
function way(record) {
  const steps = [whoBriefly(record.client)];
  for (const seen = new Set(); record && !seen.has(record.id);) {
    seen.add(record.id);
    steps.push(`${serves(record)}${record.server?.node && record.server.kind === 'pod' ? ` (${record.server.node})` : ''}`);
    record = childrenOf(record).sort((one, other) => (total(other) ?? 0) - (total(one) ?? 0))[0];
  }
  return steps.join(' → ');
}

function everybody(parts, roots) {
  const rest = sumOf(parts.slice(PARTS_SHOWN));
  const shown = rest ? [...parts.slice(0, PARTS_SHOWN), ['everything else', 'untold', rest]] : parts;
  const all = sumOf(parts);
  const entries = shown.map(([what, kind, ns]) => [
    element('i', { class: `swatch fill ${colourOf(what, kind)}` }),
    element('span', { title: what }, what),
    element('b', {}, percent(ns / all)),
  ]);
  return [
    element('h2', {}, `Where the time of all ${plural(roots, 'root request')} went`),
    bar(shown, all, colourOf),
    element(
      'ul',
      { class: 'key' },
      entries.map((entry) => element('li', {}, entry)),
    ),
  ];
}

function failures() {
  const all = plural(page.total, page.word);
  const statuses = new Map();
  for (const { like, count } of page.groups) if (isError(like)) statuses.set(like.status, (statuses.get(like.status) ?? 0) + count);
  const errors = [...statuses.values()].reduce((sum, times) => sum + times, 0);
  const most = mostOf(statuses, 6).map((status) => `${status} (${count(statuses.get(status))})`);
  const words = errors
    ? [element('button', { class: 'link', click: onlyErrors }, `${count(errors)} of ${all}`), `: ${most.join(', ')}`]
    : [`None of ${all}.`];
  return [element('h2', {}, 'What failed'), element('p', {}, words)];
}

/** A stacked bar of [what, kind, ns] in the colours that `colour` gives; by kind where nothing else is asked for. */
function bar(parts, all, colour = (what, kind) => kind) {
  const label = parts.map(([what, , ns]) => `${what} ${percent(ns / all)}`).join(', ');
  return element(
    'span',
    { class: 'bar', role: 'img', 'aria-label': label, title: label },
    parts.map(([what, kind, ns]) => element('i', { class: `fill ${colour(what, kind)}`, style: `width: ${(100 * ns) / all}%` })),
  );
}

const badge = (record) => element('span', { class: isError(record) ? 'status bad' : 'status' }, record.status ?? '?');
