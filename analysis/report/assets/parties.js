// Who talks to whom: a box is a workload with its pods, a line what one asked of another through one door (a Service's port, an Ingress, or
// the pod itself).

const BOXES = 15; // what a picture can hold; the rest is one box

/** Boxes and lines from all groups. */
function gather() {
  const boxes = new Map();
  const lines = new Map();
  const sizes = new Map();
  const homes = homesOf();
  for (const { like, count } of page.groups) {
    for (const party of [caller(like), server(like, homes)]) sizes.set(party.key, (sizes.get(party.key) ?? 0) + count);
  }
  const kept = new Set(
    [...sizes]
      .sort((one, other) => other[1] - one[1])
      .slice(0, BOXES)
      .map(([key]) => key),
  );
  const rest = { key: 'rest', title: 'others', under: plural(sizes.size - kept.size, 'workload') };
  for (const group of page.groups) {
    const { like: record, count, rows } = group;
    const [from, to] = [caller(record), server(record, homes)].map((party) => {
      const { key, title, under, name, node } = kept.has(party.key) ? party : { ...party, ...rest };
      if (!boxes.has(key)) boxes.set(key, { key, title, under, pods: new Map(), rows: [], count: 0, called: 0 });
      const box = boxes.get(key);
      if (!box.pods.has(name)) box.pods.set(name, { name, node, rows: [], count: 0 });
      for (const each of [box, box.pods.get(name)]) {
        each.rows.push(...rows);
        each.count += count;
      }
      return box;
    });
    to.called += count;
    const door = doorOf(record);
    const key = JSON.stringify([from.key, to.key, door.name]);
    if (!lines.has(key))
      lines.set(key, {
        from,
        to,
        door: door.name,
        shown: door.shown,
        like: record,
        ports: new Map(),
        nat: new Map(),
        rows: [],
        count: 0,
        errors: 0,
        totals: new Samples(),
      });
    const line = lines.get(key);
    line.rows.push(...rows);
    line.count += count;
    if (isError(record)) line.errors += count;
    if (door.ports) line.ports.set(door.ports, (line.ports.get(door.ports) ?? 0) + count);
    for (const { node, kinds } of record.translations ?? []) {
      const what = `${kinds.join('+')} on ${node}`;
      line.nat.set(what, (line.nat.get(what) ?? 0) + count);
    }
    eachTotal(group, (ns, times) => line.totals.add(ns, times));
  }
  picture.boxes = [...boxes.values()];
  picture.lines = [...lines.values()];
}

function caller(record) {
  return party(record.client, 'clients') ?? { key: 'unknown-client', title: 'client not told', under: '', name: '?', node: null };
}

/** Where the calls of every Service end, so that one without an answer is drawn with the others. */
function homesOf() {
  const homes = new Map();
  for (const { like: record } of page.groups)
    if (record.service?.name && record.server)
      homes.set(`${record.service.namespace}/${record.service.name}`, party(record.server, 'servers'));
  return homes;
}

function server(record, homes) {
  const { service, original } = record;
  const name = `${service?.namespace}/${service?.name}`;
  const none = service?.name
    ? { ...(homes.get(name) ?? { key: `none ${name}`, title: service.name, under: service.namespace }), name: 'no pod seen', node: null }
    : { key: 'unknown-server', title: 'server not told', under: '', name: original ? original.dst : '?', node: null };
  return party(record.server, 'servers') ?? none;
}

function party(end, role) {
  if (!end) return null;
  if (end.kind === 'pod') {
    const title = workload(end.name);
    return { key: `pod ${end.namespace}/${title}`, title, under: end.namespace, name: end.name, node: end.node };
  }
  if (end.kind === 'node')
    return { key: `node ${role}`, title: 'nodes', under: 'of the cluster', name: end.name ?? host(end.address), node: end.name };
  const under = end.kind === 'external' ? 'the cluster' : 'owner not known';
  return {
    key: `${end.kind} ${role}`,
    title: end.kind === 'external' ? 'outside' : 'addresses',
    under,
    name: end.address === null ? 'all of them' : host(end.address),
    node: null,
  };
}

/** Through which door a record went in, and its ports. */
function doorOf(record) {
  const { service } = record;
  const ports = fourPorts(record);
  if (service?.name) return { name: `${servicePort(service)} ${service.via}`, shown: [service.name, service.via], ports };
  const rule = parentOf(record)?.ingress;
  const shown = rule ? [rule.name, rule.kind] : ['direct', ''];
  return { name: shown.join(' ').trim(), shown, ports: ports || (record.translated?.dst.match(/\d+$/)?.[0] ?? '') };
}
