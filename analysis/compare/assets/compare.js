// The two pictures of a comparison: distributions overlaid, and first packets against the rules they walk.

const DASHES = ['solid', [7, 3], [2, 3], [10, 3, 2, 3], [1, 3]];
const drawn = {};

const styles = () => getComputedStyle(document.documentElement);
const colour = (name) => styles().getPropertyValue(name).trim();
const curve = (at) => colour(`--curve-${1 + (at % 8)}`);
const dash = (at) => DASHES[at % DASHES.length];

async function start() {
  if (typeof DecompressionStream === 'undefined')
    throw new Error('this browser cannot unpack them (Chrome 80, Firefox 113 or Safari 16.4 can)');
  const told = JSON.parse(await unpack('told'));
  document.head.append(element('script', {}, await unpack('echarts')));
  const choice = byId('group');
  choice.append(...told.groups.map((group, at) => element('option', { value: String(at) }, group.name)));
  const draw = () => {
    if (told.groups.length) drawCurves(told.groups[Number(choice.value)]);
    else byId('distributions').hidden = true;
    drawPositions(told.positions);
  };
  choice.addEventListener('change', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  for (const id of ['chart', 'positions']) new ResizeObserver(() => drawn[id]?.resize()).observe(byId(id));
  draw();
  document.documentElement.dataset.ready = Math.round(performance.now());
}

function axes(x, y) {
  const label = { color: colour('--quiet'), fontSize: 12 };
  const rule = { lineStyle: { color: colour('--rule') } };
  const axis = (own) => ({ axisLabel: { ...label, ...own.axisLabel }, axisLine: rule, splitLine: rule, nameTextStyle: label, ...own.axis });
  return {
    animation: false,
    grid: { left: 64, right: 20, top: 24, bottom: 44 },
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    xAxis: axis(x),
    yAxis: axis(y),
  };
}

function fresh(id) {
  drawn[id]?.dispose();
  return (drawn[id] = echarts.init(byId(id), null, { renderer: 'svg' }));
}

const times = { axisLabel: { formatter: (ns) => roughly(ns), hideOverlap: true } };

function drawCurves(group) {
  const positive = group.sides.every((side) => side.points.every(([ns]) => ns > 0));
  const about = group.sides.map((side) => `${side.name}: median ${duration(side.p50)} of ${count(side.n)}`).join('; ');
  fresh('chart').setOption({
    ...axes(
      { ...times, axis: { type: positive ? 'log' : 'value', min: 'dataMin', max: 'dataMax' } },
      { axisLabel: { formatter: (share) => `${Math.round(100 * share)} %` }, axis: { type: 'value', min: 0, max: 1 } },
    ),
    series: group.sides.map((side, at) => ({
      type: 'line',
      name: side.name,
      step: 'end',
      showSymbol: false,
      data: side.points,
      color: curve(at),
      lineStyle: { width: 2, type: dash(at) },
    })),
  });
  byId('chart').setAttribute('aria-label', about);
  const head = ['', '', 'n', 'p50', 'p90', 'p99'];
  const rows = group.sides.map((side, at) => [sample(at), side.name, count(side.n), ...[side.p50, side.p90, side.p99].map(known)]);
  byId('percentiles').replaceChildren(
    element(
      'table',
      {},
      element('thead', {}, element('tr', {}, ...head.map((name) => element('th', { scope: 'col' }, name)))),
      element('tbody', {}, ...rows.map((row) => element('tr', {}, ...row.map((cell) => element('td', {}, cell))))),
    ),
  );
}

const known = (ns) => (ns === null ? '–' : duration(ns));

const sample = (at) =>
  svg(
    'svg',
    { width: 26, height: 8, 'aria-hidden': 'true' },
    svg('line', {
      x1: 0, x2: 26, y1: 4, y2: 4, stroke: curve(at), 'stroke-width': 2.5,
      'stroke-dasharray': dash(at) === 'solid' ? null : dash(at).join(' '),
    }),
  );

function drawPositions(sides) {
  byId('rules').hidden = !sides.some((side) => side.points.length);
  if (byId('rules').hidden) return;
  fresh('positions').setOption({
    ...axes(
      { axis: { type: 'value', name: 'rules walked', nameLocation: 'middle', nameGap: 28, minInterval: 1, scale: true } },
      { ...times, axis: { type: 'log', min: 'dataMin' } },
    ),
    legend: { top: 0, right: 0, textStyle: { color: colour('--ink') }, data: sides.map((side) => side.name) },
    series: sides.flatMap((side, at) => [
      { type: 'scatter', name: side.name, symbolSize: 5, color: curve(at), itemStyle: { opacity: 0.45 }, data: side.points },
      { type: 'line', name: side.name, showSymbol: false, color: curve(at), lineStyle: { width: 2, type: dash(at) }, data: side.medians },
    ]),
  });
  byId('positions').setAttribute(
    'aria-label',
    sides.map((side) => `${side.name}: ${plural(side.points.length, 'first packet')}, ${plural(side.medians.length, 'position')}`).join('; '),
  );
}

start().catch((error) => {
  byId('failure').hidden = false;
  byId('failure').textContent = `The pictures cannot be shown: ${error.message}`;
  throw error;
});
