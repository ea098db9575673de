// Distributions of latency, on a log axis, with how many samples each has. The library is unpacked when somebody comes to look.

const CURVES = 10; // groups that one chart can hold
const POINTS = 160; // of a curve
const DASHES = ['solid', [7, 3], [2, 3], [10, 3, 2, 3], [1, 3]];

/** What to compare: `each(group, add)` gives `add(name, ns, separable, times)` every sample of a group. */
const VIEWS = [
  {
    name: 'hop kind',
    says: 'time of each part and hop of requests',
    each(group, add) {
      for (const part of group.like.latency?.parts ?? [])
        add(PARTS[part.kind] ?? part.kind, part.end_ns - part.start_ns, part.separable !== false, group.count);
      eachHop(group, (hop, ns, separable, times) => add(HOPS[hop.step], ns, separable, times));
    },
  },
  {
    name: 'Service',
    says: `from start to end`,
    each(group, add) {
      const { service } = group.like;
      const name = service?.name ? `${service.namespace}/${service.name}` : `${serves(group.like)} (direct)`;
      eachTotal(group, (ns, times) => add(name, ns, true, times));
    },
  },
  {
    name: 'node pair',
    says: 'on the network, there and back; where that is not told, the handshake',
    each({ like }, add) {
      const [from, to] = [like.client, like.server].map((end) => end?.node ?? (end?.kind === 'external' ? 'outside' : null));
      if (!from || !to) return;
      const one = (ns, times) => add(`${from} → ${to}`, ns, ns > (like.latency?.uncertainty_ns ?? 0), times);
      const ns = like.latency?.network_ns ?? like.handshake_ns ?? null;
      if (like.times) eachIn(like.times.handshake, one);
      else if (ns !== null) one(ns, 1);
    },
  },
  {
    name: 'kube-proxy mode',
    says: 'from before to after NAT on one node',
    each(group, add) {
      const mode = (node) =>
        group.like.translations?.find((each) => each.node === node)?.rules?.mode ?? page.modes[node] ?? 'mode not known';
      const parts = (group.like.latency?.parts ?? []).filter((part) => part.kind === 'nat');
      for (const part of parts)
        add(
          `${mode(part.node)}, ${part.first_packet ? 'first packet' : 'later packets'}`,
          part.end_ns - part.start_ns,
          part.separable !== false,
          group.count,
        );
      if (!natIsTold())
        eachHop(group, (hop, ns, separable, times) => {
          if (hop.step === 'nat' && hop.path === 'request') add(mode(hop.node), ns, separable, times);
        });
    },
  },
];

const HOPS = { between: 'hop between nodes', nat: 'hop across NAT', within: 'hop within a node' };

// Connections have no parts: there NAT is the hop at which the tuple changes.
const natIsTold = () => (page.natIsTold ??= page.records.some((record) => record.latency?.parts?.some((part) => part.kind === 'nat')));

/** Every hop of a group with a latency: {step, path, node}, how long it took, whether that can be told, and how often it occurs. */
function eachHop({ like }, use) {
  for (const hop of like.times?.hops ?? []) eachIn(hop, (ns, times) => use(hop, ns, true, times));
  const hops = like.hops ?? [];
  for (let i = 1; i < hops.length; i++) {
    const [before, hop] = [hops[i - 1], hops[i]];
    if (hop.path !== before.path || (hop.latency_ns ?? null) === null) continue;
    const rewritten = hop.src !== before.src || hop.dst !== before.dst;
    const step = hop.node !== before.node ? 'between' : rewritten ? 'nat' : 'within';
    use({ step, path: hop.path, node: hop.node }, hop.latency_ns, hop.separable !== false, 1);
  }
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
  for (const group of page.groups)
    view.each(group, (name, ns, separable, times) => {
      if (separable) sampled(found, name).add(Math.max(1, ns), times);
      else apart += times;
    });
  const groups = [...found].map(([name, samples]) => ({ name, samples })).sort((one, other) => other.samples.size - one.samples.size);
  charts.groups = groups.slice(0, CURVES);
  byId('chart-words').textContent =
    `${view.says}${page.error ? `, within ${(page.error * 100).toFixed(1)} %` : ''}${apart ? `; ${plural(apart, 'sample')} smaller than the clocks’ uncertainty left out` : ''}${groups.length > CURVES ? `; ${plural(groups.length - CURVES, 'smaller group')} not drawn` : ''}.`;
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
          charts.groups.map(({ name, samples }, at) => [
            sample(at),
            element('span', { title: name }, short(name, 28)),
            count(samples.size),
            ...[0.5, 0.9, 0.99].map((share) => enough(samples, share)),
          ]),
        )
      : element('p', {}, 'No samples: these records do not tell it.'),
  );
  drawChart(colours, dash, colour);
}

/** A percentile; `–` where there are fewer samples than it needs to mean anything. */
const enough = (samples, share) =>
  samples.size * (1 - share) < 1 && samples.size > 1
    ? element('span', { class: 'quiet', title: 'too few samples' }, '–')
    : duration(samples.quantile(share));

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
    series: charts.groups.map(({ name, samples }, at) => ({
      type: 'line',
      name,
      step: 'end',
      showSymbol: false,
      data: ecdf(samples),
      color: colours[at],
      lineStyle: { width: 2, type: dash(at) },
      emphasis: { disabled: true },
    })),
  });
  byId('chart').setAttribute(
    'aria-label',
    charts.groups.map(({ name, samples }) => `${name}: median ${duration(samples.quantile(0.5))} of ${samples.size}`).join('; '),
  );
}

const style_font = () => getComputedStyle(document.body).fontFamily;

/** The empirical distribution: [ns, share at or below it]. */
function ecdf(samples) {
  const points = Math.min(POINTS, samples.size);
  const found = [[samples.at(1), 0]];
  for (let i = 1; i <= points; i++) {
    const rank = Math.ceil((i * samples.size) / points);
    found.push([samples.at(rank), rank / samples.size]);
  }
  return found;
}

function sharesAt(hit) {
  const ns = hit[0].axisValue;
  return element(
    'div',
    {},
    element('b', {}, `at most ${duration(ns)}`),
    charts.groups.map(({ name, samples }) => element('div', {}, `${percent(samples.below(ns))}  ${short(name, 34)}`)),
  );
}
