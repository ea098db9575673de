// The details of one request: facts, evidence, where its time went, and its path hop by hop with the tuple before and after each NAT.

function details(record) {
  return element('div', { class: 'details' }, [
    section('What it was', facts(record)),
    section('How sure', sureness(record)),
    section('Where its time went', partsTable(record)),
    section('The request’s way', hopList(record, 'request')),
    section('The answer’s way', hopList(record, 'reply')),
    section('What went wrong', troubles(record)),
  ]);
}

const section = (title, content) => (content ? element('section', {}, element('h3', {}, title), content) : null);

/** A definition list of [term, words] without the unknown ones; null where nothing is known. */
function definitions(pairs) {
  const known = pairs.filter(([, words]) => words !== null && words !== undefined && words !== '' && words.length !== 0);
  return known.length
    ? element(
        'dl',
        {},
        known.flatMap(([term, words]) => [element('dt', {}, term), element('dd', {}, words)]),
      )
    : null;
}

function owner(end) {
  if (!end) return 'not seen';
  const where = [
    end.container && `container ${end.container}`,
    end.node && end.kind === 'pod' && `on ${end.node}`,
    end.kind === 'external' && 'outside the cluster',
    end.kind === null && 'owner not known',
  ];
  return [end.kind === 'external' || end.kind === null ? end.address : `${who(end)} · ${end.address}`, ...where.filter(Boolean)].join(', ');
}

function facts(record) {
  const { ingress, bytes, packets } = record;
  const rule =
    ingress &&
    `${ingress.kind} ${ingress.namespace}/${ingress.name} · ${ingress.host ?? '*'}${ingress.path ?? ''} (${ingress.path_type ?? '?'}) → ${ingress.service ?? '?'}`;
  const agrees = ingress && { true: ', and packets went there', false: ', but packets went elsewhere', null: '' }[ingress.agrees];
  return definitions([
    ['Client', owner(record.client)],
    ['True client', record.true_client && `${record.true_client.address} (says ${record.true_client.source})`],
    [
      'Asked for',
      record.service?.name ? `${asked(record)} ${record.service.via}` : record.service ? 'the server itself (direct)' : 'not told',
    ],
    ['Rule', rule && `${rule}${agrees}`],
    ['Server', owner(record.server)],
    ['Ports', fourPorts(record, true)],
    ['Host', record.host],
    ['Original', record.original ? `${record.original.proto} ${record.original.src} > ${record.original.dst}` : 'not seen'],
    ['Translated', record.translated ? `${record.translated.proto} ${record.translated.src} > ${record.translated.dst}` : 'not seen'],
    ['Connection', record.connection],
    ['Bytes', bytes && `${count(bytes.request ?? 0)} asked, ${count(bytes.response ?? 0)} answered`],
    [
      'Packets',
      packets && `${count(packets.original)} to the server, ${count(packets.reply)} back, ${count(record.retransmissions ?? 0)} sent again`,
    ],
    ['Tries', record.tries > 1 ? count(record.tries) : null],
    ['Handshake', record.handshake_ns !== null && record.handshake_ns !== undefined ? duration(record.handshake_ns) : null],
    ['Not read', record.unread],
  ]);
}

function sureness(record) {
  const candidates = (record.parent_candidates ?? []).map((each) =>
    element(
      'li',
      {},
      link(each.id),
      ` ${each.confidence === null ? '?' : each.confidence.toFixed(2)}`,
      page.index.has(each.id) ? ` ${operation(page.records[page.index.get(each.id)])}` : '',
    ),
  );
  const parent =
    record.parent !== null
      ? [link(record.parent), sure(record.parent_confidence), because(record.parent_evidence)]
      : candidates.length
        ? ['not told: no candidate is sure enough', because(record.parent_evidence)]
        : 'none: this is a root';
  return definitions([
    ['Its parent', parent],
    [record.parent !== null ? 'Runner-up' : 'Candidates', candidates.length ? element('ul', {}, candidates) : ''],
    ['Joined across NAT', [sure(record.confidence, ''), because(record.evidence)]],
    ['The original could be', (record.candidates ?? []).map((each) => element('div', { class: 'mono' }, `${each.src} > ${each.dst}`))],
    [
      'Policies',
      (record.policies ?? []).map((each) =>
        element('div', {}, `${each.name} ${each.value}: ${each.held ? 'held' : 'NOT held'}, ${each.why}`),
      ),
    ],
  ]);
}

const sure = (confidence, before = ', ') => (confidence === null || confidence === undefined ? '' : `${before}confidence ${confidence}`);
const because = (evidence) => (evidence?.length ? ` (${evidence.join(', ')})` : '');

function partsTable(record) {
  const { latency } = record;
  const known = ['total_ns', 'network_ns', 'server_ns', 'self_ns'].filter(
    (name) => latency?.[name] !== null && latency?.[name] !== undefined,
  );
  if (!known.length && !latency?.parts?.length) return null;
  const sum = known
    .map((name) => `${name.replace('_ns', '')} ${duration(latency[name])}${name === 'total_ns' ? '' : plusMinus(latency.uncertainty_ns)}`)
    .join(' · '); // the total is one clock's
  const rows = (latency.parts ?? []).map((part) => [
    `${PARTS[part.kind] ?? part.kind}${part.first_packet === true ? ', first packet' : part.first_packet === false ? ', later packet' : ''}`,
    part.node,
    part.separable === false
      ? element('span', { class: 'quiet' }, `${duration(part.end_ns - part.start_ns)}, not separable`)
      : duration(part.end_ns - part.start_ns),
    plusMinus(part.uncertainty_ns).trim(),
  ]);
  return element('div', {}, element('p', {}, sum), rows.length ? rowsTable(['Part', 'Node', 'Time', ''], rows) : null);
}

const rowsTable = (head, rows) =>
  element(
    'table',
    {},
    element(
      'thead',
      {},
      element(
        'tr',
        {},
        head.map((name) => element('th', { scope: 'col' }, name)),
      ),
    ),
    element(
      'tbody',
      {},
      rows.map((row) =>
        element(
          'tr',
          {},
          row.map((cell) => element('td', {}, cell)),
        ),
      ),
    ),
  );

/** Every observation point in path order; where the tuple changes, the translation between them. */
function hopList(record, path) {
  const hops = (record.hops ?? []).filter((hop) => hop.path === path);
  if (!hops.length) return null;
  const rows = [];
  hops.forEach((hop, at) => {
    const before = hops[at - 1];
    if (before && before.node !== hop.node) rows.push(between('to another node', ''));
    if (before && (before.src !== hop.src || before.dst !== hop.dst)) rows.push(translation(record, before, hop, path));
    rows.push(hopRow(hop));
  });
  return element(
    'div',
    { class: 'scroll' },
    element(
      'table',
      { class: 'hops' },
      element(
        'thead',
        {},
        element(
          'tr',
          {},
          ['Node', 'Interface', '', 'Tuple there', 'Port', 'Since the hop before', 'Frame'].map((name) =>
            element('th', { scope: 'col' }, name),
          ),
        ),
      ),
      element('tbody', {}, rows),
    ),
  );
}

function hopRow(hop) {
  const apart = hop.separable === false;
  const since =
    (hop.latency_ns ?? null) === null
      ? ''
      : `+${duration(hop.latency_ns)}${plusMinus(hop.uncertainty_ns)}${apart ? ', not separable' : ''}`;
  const tunnel =
    hop.tunnel && element('div', { class: 'quiet' }, `in ${hop.tunnel.kind} ${hop.tunnel.id} ${hop.tunnel.src} > ${hop.tunnel.dst}`);
  return element(
    'tr',
    {},
    [
      hop.node,
      hop.interface,
      { in: '→ in', out: 'out →' }[hop.direction] ?? '',
      [element('span', { class: 'mono' }, `${hop.src} > ${hop.dst}`), tunnel],
      hop.port_kind ?? '',
      element('span', { class: apart ? 'hatch' : '' }, since),
      element('span', { class: 'quiet' }, `${hop.file} #${hop.frame}`),
    ].map((cell) => element('td', {}, cell)),
  );
}

function translation(record, before, after, path) {
  const forward = [`${before.src} > ${before.dst}`, `${after.src} > ${after.dst}`];
  const found = (record.translations ?? []).find((each) =>
    path === 'request' ? each.before === forward[0] && each.after === forward[1] : each.node === before.node || each.node === after.node,
  );
  const name = found
    ? `${found.kinds.map((kind) => kind.toUpperCase()).join('+')}${path === 'reply' ? ', undone' : ''} on ${found.node}`
    : 'translated';
  const rules =
    found?.rules && path === 'request'
      ? `${found.rules.mode}, ${plural(found.rules.walked, 'rule')} walked: ${found.rules.chains.join(' → ')}`
      : '';
  return between(`${name}${because(found?.evidence)}`, rules);
}

const between = (words, more) =>
  element(
    'tr',
    { class: 'between' },
    element('td', { colspan: 7 }, `┆ ${words}`, more ? element('span', { class: 'quiet' }, `  ${more}`) : null),
  );

function troubles(record) {
  const { refusal, verdict } = record;
  const lines = [
    ...(record.losses ?? []).map(
      (loss) =>
        `${loss.path === 'reply' ? 'answer' : 'request'} segment ${loss.seq} sent again after ${duration(loss.sent_again_after_ns)}: last seen at ${loss.last_seen_at ?? '?'}, first missed at ${loss.first_missed_at ?? 'no point we saw'}`,
    ),
    refusal && `refused by ${refusal.from} with ${refusal.kind}, seen at ${refusal.at}`,
    verdict &&
      `${verdict.node}'s rules ${verdict.verdict} it${verdict.service ? ` (${verdict.service})` : ''}: ${verdict.chains.join(' → ')}`,
    record.last_seen_at && `no answer: last seen at ${record.last_seen_at}`,
    ...(record.problems ?? []),
  ].filter(Boolean);
  return lines.length
    ? element(
        'ul',
        {},
        lines.map((line) => element('li', {}, line)),
      )
    : null;
}
