// Distributions of latency, on a log axis, with how many samples each has. The library is unpacked when somebody comes to look.

const CURVES = 10; // groups that one chart can hold
const POINTS = 160; // of a curve
const DASHES = ['solid', [7, 3], [2, 3], [10, 3, 2, 3], [1, 3]];

/** What to compare: `each(record, add)` gives `add(group, ns, separable)` every sample of a record. */
const VIEWS = [
  {
    name: 'hop kind',
    says: 'time of each part and hop of requests',
    each(record, add) {
      for (const part of record.latency?.parts ?? [])
        add(PARTS[part.kind] ?? part.kind, part.end_ns - part.start_ns, part.separable !== false);
      eachHop(record, (hop, before) => {
        const kind =
          hop.node !== before.node
            ? 'hop between nodes'
            : hop.src !== before.src || hop.dst !== before.dst
              ? 'hop across NAT'
              : 'hop within a node';
        add(kind, hop.latency_ns, hop.separable !== false);
      });
    },
  },
  {
    name: 'Service',
    says: `from start to end`,
    each: (record, add) => {
      if (total(record) !== null)
        add(
          record.service?.name ? `${record.service.namespace}/${record.service.name}` : `${serves(record)} (direct)`,
          total(record),
          true,
        );
    },
  },
  {
    name: 'node pair',
    says: 'on the network, there and back; where that is not told, the handshake',
    each(record, add) {
      const ns = record.latency?.network_ns ?? record.handshake_ns ?? null;
      const [from, to] = [record.client, record.server].map((end) => end?.node ?? (end?.kind === 'external' ? 'outside' : null));
      if (ns !== null && from && to) add(`${from} → ${to}`, ns, ns > (record.latency?.uncertainty_ns ?? 0));
    },
  },
  {
    name: 'kube-proxy mode',
    says: 'from before to after NAT on one node',
    each(record, add) {
      const mode = (node) => record.translations?.find((each) => each.node === node)?.rules?.mode ?? page.modes[node] ?? 'mode not known';
      const parts = (record.latency?.parts ?? []).filter((part) => part.kind === 'nat');
      for (const part of parts)
        add(
          `${mode(part.node)}, ${part.first_packet ? 'first packet' : 'later packets'}`,
          part.end_ns - part.start_ns,
          part.separable !== false,
        );
      if (!natIsTold())
        eachHop(record, (hop, before) => {
          if (hop.path === 'request' && hop.node === before.node && (hop.src !== before.src || hop.dst !== before.dst))
            add(mode(hop.node), hop.latency_ns, hop.separable !== false);
        });
    },
  },
];

// Connections have no parts: there NAT is the hop at which the tuple changes.
const natIsTold = () => (page.natIsTold ??= page.records.some((record) => record.latency?.parts?.some((part) => part.kind === 'nat')));

/** Every hop with a latency, and the hop before it. */
function eachHop(record, use) {
  const hops = record.hops ?? [];
  for (let i = 1; i < hops.length; i++)
    if (hops[i].path === hops[i - 1].path && (hops[i].latency_ns ?? null) !== null) use(hops[i], hops[i - 1]);
}

const charts = { loaded: null, drawn: null, view: VIEWS[1], groups: [] };

function setUpCharts() {
  byId('views').append(
    ...VIEWS.map((view) =>
      element('button', { 'aria-pressed': String(view === charts.view), click: () => chooseView(view) }, `by ${view.name}`),
    ),
  );
  const look = () => {
    charts.loaded ??= load().then(() => chooseView(charts.view));
  };
  new IntersectionObserver(
    (seen) => {
      if (seen.some((each) => each.isIntersecting)) look();
    },
    { rootMargin: '200px' },
  ).observe(byId('distributions'));
  addEventListener('beforeprint', () => charts.drawn?.resize());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    if (charts.drawn) chooseView(charts.view);
  });
  new ResizeObserver(() => charts.drawn?.resize()).observe(byId('chart'));
}

/** Runs the packed library: its text is the one whose hash the page's policy allows. */
async function load() {
  document.head.append(element('script', {}, await unpack('echarts')));
}

function chooseView(view) {
  charts.view = view;
  [...byId('views').children].forEach((button, at) => button.setAttribute('aria-pressed', String(VIEWS[at] === view)));
  const found = new Map();
  let apart = 0;
  for (const record of page.records)
    view.each(record, (group, ns, separable) => {
      if (separable) append(found, group, Math.max(1, ns));
      else apart++;
    });
  const groups = [...found]
    .map(([name, values]) => ({ name, sorted: ascending(values) }))
    .sort((one, other) => other.sorted.length - one.sorted.length);
  charts.groups = groups.slice(0, CURVES);
  byId('chart-words').textContent =
    `${view.says}${apart ? `; ${plural(apart, 'sample')} smaller than the clocks’ uncertainty left out` : ''}${groups.length > CURVES ? `; ${plural(groups.length - CURVES, 'smaller group')} not drawn` : ''}.`;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = charts.groups.map((_, at) => colour(`--curve-${1 + (at % 8)}`));
  const dash = (at) => DASHES[Math.floor(at / 2) % DASHES.length];
  const sample = (at) =>
    svg(
      'svg',
      { width: 26, height: 8, 'aria-hidden': 'true' },
      svg('line', {
        x1: 0,
        x2: 26,
        y1: 4,
        y2: 4,
        stroke: colours[at],
        'stroke-width': 2.5,
        'stroke-dasharray': dash(at) === 'solid' ? null : dash(at).join(' '),
      }),
    );
  byId('percentiles').replaceChildren(
    charts.groups.length
      ? rowsTable(
          ['', '', 'n', 'p50', 'p90', 'p99'],
          charts.groups.map(({ name, sorted }, at) => [
            sample(at),
            element('span', { title: name }, short(name, 28)),
            count(sorted.length),
            ...[0.5, 0.9, 0.99].map((share) => enough(sorted, share)),
          ]),
        )
      : element('p', {}, 'No samples: these records do not tell it.'),
  );
  drawChart(colours, dash, colour);
}

/** A percentile; `–` where there are fewer samples than it needs to mean anything. */
const enough = (sorted, share) =>
  sorted.length * (1 - share) < 1 && sorted.length > 1
    ? element('span', { class: 'quiet', title: 'too few samples' }, '–')
    : duration(quantile(sorted, share));

function drawChart(colours, dash, colour) {
  charts.drawn?.dispose();
  charts.drawn = null;
  byId('chart').hidden = !charts.groups.length;
  if (!charts.groups.length) return;
  charts.drawn = echarts.init(byId('chart'), null, { renderer: 'svg' });
  const label = { color: colour('--quiet'), fontSize: 12 };
  const rule = { lineStyle: { color: colour('--rule') } };
  charts.drawn.setOption({
    animation: false,
    grid: { left: 48, right: 20, top: 12, bottom: 40 },
    textStyle: { fontFamily: style_font() },
    xAxis: {
      type: 'log',
      min: 'dataMin',
      max: 'dataMax',
      axisLabel: { ...label, formatter: (ns) => roughly(ns), hideOverlap: true, showMaxLabel: false },
      axisLine: rule,
      splitLine: rule,
      minorSplitLine: { show: false },
      name: '',
    },
    yAxis: {
      type: 'value',
      min: 0,
      max: 1,
      axisLabel: { ...label, formatter: (share) => `${Math.round(100 * share)} %` },
      splitLine: rule,
    },
    tooltip: {
      trigger: 'axis',
      confine: true,
      formatter: sharesAt,
      backgroundColor: colour('--card'),
      borderColor: colour('--rule'),
      textStyle: { color: colour('--ink'), fontSize: 12 },
      transitionDuration: 0,
    },
    series: charts.groups.map(({ name, sorted }, at) => ({
      type: 'line',
      name,
      step: 'end',
      showSymbol: false,
      data: ecdf(sorted),
      color: colours[at],
      lineStyle: { width: 2, type: dash(at) },
      emphasis: { disabled: true },
    })),
  });
  byId('chart').setAttribute(
    'aria-label',
    charts.groups.map(({ name, sorted }) => `${name}: median ${duration(quantile(sorted, 0.5))} of ${sorted.length}`).join('; '),
  );
}

const style_font = () => getComputedStyle(document.body).fontFamily;

/** The empirical distribution: [ns, share at or below it]. */
function ecdf(sorted) {
  const size = Math.min(POINTS, sorted.length);
  const found = [[sorted[0], 0]];
  for (let i = 1; i <= size; i++)
    found.push([sorted[Math.ceil((i * sorted.length) / size) - 1], Math.ceil((i * sorted.length) / size) / sorted.length]);
  return found;
}

function sharesAt(hit) {
  const ns = hit[0].axisValue;
  return element(
    'div',
    {},
    element('b', {}, `at most ${duration(ns)}`),
    charts.groups.map(({ name, sorted }) =>
      element('div', {}, `${percent(sorted.filter((each) => each <= ns).length / sorted.length)}  ${short(name, 34)}`),
    ),
  );
}
