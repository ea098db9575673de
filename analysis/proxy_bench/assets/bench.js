// Curves over the number of Services. Times that grow with it are on a logarithmic axis, those that do not on a linear one.

const drawn = {};
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function start() {
  if (typeof DecompressionStream === 'undefined')
    throw new Error('this browser cannot unpack them (Chrome 80, Firefox 113 or Safari 16.4 can)');
  const told = JSON.parse(await unpack('told'));
  document.head.append(element('script', {}, await unpack('echarts')));
  const draw = () => {
    const modes = told.asked.modes;
    curves('first', modes, (mode) => [
      series(mode, told.cells, 'last', 'first_p50_ns', { width: 2.5 }),
      series(mode, told.cells, 'random', 'first_p50_ns', { width: 2.5, type: 'dashed' }),
      series(mode, told.cells, 'last', 'first_p99_ns', { width: 1, opacity: 0.6 }),
    ]);
    curves('later', modes, (mode) => [series(mode, told.cells, 'last', 'established_p50_ns', { width: 2.5 })]);
    curves('change', modes, (mode) => [
      series(
        mode,
        told.programming.map((each) => ({ ...each, target: each.what })),
        'change',
        'translated_ns',
        { width: 2.5 },
      ),
    ]);
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  for (const id of ['first', 'later', 'change']) new ResizeObserver(() => drawn[id]?.resize()).observe(byId(id));
  draw();
  document.documentElement.dataset.ready = Math.round(performance.now());
}

/** One line of a mode: its cells with that target, by their number of Services. */
function series(mode, cells, target, key, line) {
  const points = cells.filter((cell) => cell.mode === mode && cell.target === target && cell[key] > 0);
  return { name: mode, line, target, key, points: points.map((cell) => [cell.services, cell[key]]) };
}

function curves(id, modes, lines) {
  drawn[id]?.dispose();
  drawn[id] = echarts.init(byId(id), null, { renderer: 'svg' });
  const label = { color: colour('--quiet'), fontSize: 12 };
  const rule = { lineStyle: { color: colour('--rule') } };
  const all = modes.flatMap((mode, at) => lines(mode).map((each) => ({ ...each, colour: colour(`--curve-${1 + (at % 8)}`) })));
  drawn[id].setOption({
    animation: false,
    grid: { left: 72, right: 24, top: 36, bottom: 48 },
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    legend: { data: modes, top: 0, textStyle: { color: colour('--ink') } },
    xAxis: {
      type: 'log', name: 'Services', nameLocation: 'middle', nameGap: 28, nameTextStyle: label,
      axisLabel: { ...label, formatter: (services) => count(services) }, axisLine: rule, splitLine: rule,
    },
    yAxis: { type: id === 'later' ? 'value' : 'log', axisLabel: { ...label, formatter: (ns) => roughly(ns) }, axisLine: rule, splitLine: rule },
    tooltip: {
      trigger: 'item', confine: true, backgroundColor: colour('--card'), borderColor: colour('--rule'),
      textStyle: { color: colour('--ink'), fontSize: 12 }, transitionDuration: 0,
      formatter: (hit) => `${hit.seriesName}, ${count(hit.value[0])} Services: ${duration(hit.value[1])}`,
    },
    series: all.map((each) => ({
      type: 'line', name: each.name, data: each.points, color: each.colour, lineStyle: each.line, symbolSize: 5,
      emphasis: { disabled: true },
    })),
  });
  byId(id).setAttribute(
    'aria-label',
    all.map((each) => `${each.name} ${each.target}: ${each.points.map(([n, ns]) => `${n} Services ${duration(ns)}`).join(', ')}`).join('; '),
  );
}

start().catch((error) => {
  byId('failure').textContent = `The curves cannot be drawn: ${error.message}`;
  byId('failure').hidden = false;
});
