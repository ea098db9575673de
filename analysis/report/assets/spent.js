// Where the time of a whole tree went: every nanosecond is given once. What passes while a call is under way is the call's, of two at once
// the first's; what is left is the server's own, the network's, or not told.

/** [what, kind, ns] each, most first; kinds are those of KINDS. */
function spent(root) {
  const sums = new Map();
  const add = (what, kind, ns) => {
    if (ns > 0) sums.set(what, [kind, (sums.get(what)?.[1] ?? 0) + ns]);
  };
  const waiting = [[root, root.start_ns, root.end_ns]];
  const seen = new Set();
  while (waiting.length) {
    const [record, low, high] = waiting.pop();
    if (seen.has(record.id)) continue;
    seen.add(record.id);
    const within = (ns) => Math.min(Math.max(ns, low), high);
    const parts = record.latency?.parts ?? [];
    const server = parts.find((part) => part.kind === 'server');
    const [arrival, done] = server ? [within(server.start_ns), within(server.end_ns)] : [low, high];
    for (const [from, to] of [
      [low, arrival],
      [done, high],
    ]) {
      const again = parts.filter((part) => part.kind === 'retransmission').reduce((sum, part) => sum + overlap(part, from, to), 0);
      add('sent again', 'again', Math.min(again, to - from));
      add('network', 'network', to - from - again);
    }
    let [here, own] = [arrival, 0];
    for (const child of childrenOf(record)) {
      const [begin, finish] = [Math.max(child.start_ns, here), Math.min(child.end_ns, done)];
      if (finish <= begin) continue;
      own += begin - here;
      waiting.push([child, begin, finish]);
      here = finish;
    }
    add(...ownOf(record, record === root, Boolean(server)), own + Math.max(0, done - here));
  }
  return [...sums].map(([what, [kind, ns]]) => [what, kind, ns]).sort((one, other) => other[2] - one[2]);
}

const KINDS = ['network', 'self', 'calls', 'again', 'untold'];
const overlap = (part, from, to) => Math.max(0, Math.min(part.end_ns, to) - Math.max(part.start_ns, from));

/** What a record's own time is called, and its kind. */
function ownOf(record, isRoot, told) {
  if (told) return [serves(record), isRoot ? 'self' : 'calls'];
  return FAILED.has(record.status) ? [`no answer from ${serves(record)}`, 'again'] : [`not told, at ${serves(record)}`, 'untold'];
}

/** Time of one kind (ns). */
const spentAs = (record, kind) => spent(record).reduce((sum, part) => sum + (part[1] === kind ? part[2] : 0), 0);
