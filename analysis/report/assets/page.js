// Puts the views together.

async function start() {
  if (typeof DecompressionStream === 'undefined')
    throw new Error('this browser cannot unpack the records (Chrome 80, Firefox 113 or Safari 16.4 can)');
  read(JSON.parse(await unpack('told')));
  gather();
  drawHeadline();
  drawPicture();
  setUpTable();
  setUpCharts();
  setUpTrace();
  for (const each of document.querySelectorAll('[data-word]'))
    each.textContent = each.textContent.replace('request', page.word).replace('Request', page.word[0].toUpperCase() + page.word.slice(1));
  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth !== width) {
      width = innerWidth;
      drawPicture();
    }
  });
  addEventListener('beforeprint', printSlowest);
  addEventListener('keydown', (event) => {
    if (event.key === '/' && !byId('trace').open && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      byId('search').focus();
    }
  });
  document.documentElement.dataset.ready = Math.round(performance.now());
}

/** On paper the slowest requests stand open, each with its waterfall. */
function printSlowest() {
  byId('paper').replaceChildren(
    element('h2', {}, `${byId('slowest').querySelector('h2').textContent} over time`),
    ...slowest.map((record) =>
      element(
        'section',
        {},
        element('h3', {}, `${record.id} ${titleOf(record)} `, badge(record), ` ${duration(total(record))}`),
        element('p', {}, way(record)),
        drawWaterfall(record, () => {}),
      ),
    ),
  );
}

start().catch((error) => {
  byId('failure').hidden = false;
  byId('failure').textContent = `The records cannot be shown: ${error.message}`;
  throw error;
});
