// What the views share: the records, their tree, and what can be said of one of them.

const FAILED = new Set(['refused', 'timeout', 'reset']);
const WHOLE = new Set(['tcp', 'udp', 'sctp', 'icmp', 'icmpv6', 'tls', 'websocket']); // connections, not requests inside them
const SLOWEST = 0.95; // "slow" is slower than this share of its protocol

// `groups` are what sums are made of: a record, how many there are like it, and which rows of the table these are. Where a page has all
// records, each is its own group; else each group is a kind of them (analysis/kinds.py), with its times as histograms, off by a share of
// `error` at most.
const page = {
  base_ns: '0',
  modes: {},
  records: [],
  groups: [],
  total: 0,
  error: 0,
  children: new Map(),
  index: new Map(),
  word: 'request',
  slowAbove: new Map(),
};

function read(packed) {
  page.base_ns = packed.base_ns;
  page.modes = packed.modes;
  const record = column(packed.records, packed.strings);
  page.records = Array.from({ length: packed.count }, (_, row) => record(row));
  page.records.forEach((each, row) => page.index.set(each.id, row));
  page.groups = groupsOf(packed);
  page.error = packed.kinds?.error ?? 0;
  page.records.forEach((each, row) => {
    if (each.parent !== null && page.index.has(each.parent)) append(page.children, each.parent, row);
  });
  const totals = new Map();
  for (const group of page.groups) {
    page.total += group.count;
    eachTotal(group, (ns, times) => sampled(totals, group.like.protocol).add(ns, times));
  }
  for (const rows of page.children.values()) rows.sort((one, other) => page.records[one].start_ns - page.records[other].start_ns);
  for (const [protocol, found] of totals) page.slowAbove.set(protocol, found.quantile(SLOWEST));
  if (page.records.length && page.records.every((each) => !each.connection)) page.word = 'connection';
}

function groupsOf(packed) {
  if (!packed.kinds) return page.records.map((like, row) => ({ like, count: 1, rows: [row] }));
  const kind = column(packed.kinds.records, packed.strings);
  const groups = packed.kinds.counts.map((count, at) => ({ like: kind(at), count, rows: [] }));
  packed.kinds.of.forEach((at, row) => groups[at].rows.push(row));
  return groups;
}

/** Every total of a group, and how often it occurs there. */
function eachTotal({ like }, use) {
  if (like.times) eachIn(like.times.total, use);
  else if (total(like) !== null) use(total(like), 1);
}

const eachIn = (histogram, use) => histogram?.at.forEach((ns, i) => use(ns, histogram.counts[i]));

/** The samples of a name in a map of them. */
function sampled(map, name) {
  if (!map.has(name)) map.set(name, new Samples());
  return map.get(name);
}

function append(map, key, value) {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
}

const total = (record) => record.latency?.total_ns ?? null;
const parentOf = (record) => (record.parent === null ? null : (page.records[page.index.get(record.parent)] ?? null));
const childrenOf = (record) => (page.children.get(record.id) ?? []).map((row) => page.records[row]);
const isSlow = (record) => total(record) !== null && total(record) >= page.slowAbove.get(record.protocol);
// Whole connections last as long as their ends like; what was asked and answered, or attempted in vain, is slow or quick.
const isExchange = (record) =>
  record.status === 'timeout' ||
  record.status === 'refused' ||
  record.protocol === 'exchange' ||
  !(WHOLE.has(record.protocol) || record.unread);

const ERRORS = {
  http: (status) => Number(status) >= 400,
  grpc: (status) => status !== 'OK' && status !== '0',
  dns: (status) => status !== 'NOERROR' && status !== 'NXDOMAIN', // a search list asks for many names that do not exist
};
ERRORS.http2 = ERRORS.http;

function isError(record) {
  const { status } = record;
  if (FAILED.has(status)) return true;
  if (status === null || status === 'open' || status === 'closed') return false;
  return ERRORS[record.protocol]?.(status) ?? /^error/i.test(status);
}

/** The root of a record's tree, and the tree in the order of its calls: [record, depth] each. */
function rootOf(record) {
  const seen = new Set();
  while (parentOf(record) && !seen.has(record.id)) {
    seen.add(record.id);
    record = parentOf(record);
  }
  return record;
}

function tree(root, depth = 0, found = [], seen = new Set()) {
  if (seen.has(root.id)) return found;
  seen.add(root.id);
  found.push([root, depth]);
  for (const child of childrenOf(root)) tree(child, depth + 1, found, seen);
  return found;
}

const SAFE = '[bcdfghjklmnpqrstvwxz2456789]'; // the letters of names that Kubernetes makes up (apimachinery, util/rand)
const MADE_UP = new RegExp(`(-${SAFE}{6,10}-${SAFE}{5}|-${SAFE}{5}|-\\d+)$`);

/** A pod's name without what its ReplicaSet, DaemonSet or StatefulSet added. */
const workload = (pod) => pod.replace(MADE_UP, '') || pod;
const host = (address) => address.replace(/:\d+$/, '');

/** One end: namespace/pod, a node's name, else the address. */
function who(end) {
  if (!end) return '?';
  if (end.kind === 'pod') return `${end.namespace}/${end.name}`;
  return end.kind === 'node' ? `node ${end.name ?? end.address}` : end.address;
}

/** The same in short: the workload of a pod, an address without its port. */
function whoBriefly(end) {
  if (!end) return '?';
  if (end.kind === 'pod') return workload(end.name);
  return end.kind === 'node' ? `node ${end.name ?? end.address}` : host(end.address);
}

/** A Service and its port; one that is only a name (ExternalName) has none. */
const servicePort = (service) => (service.port === null ? service.name : `${service.name}:${service.port}`);

/** What was asked for: namespace/service:port, direct, or ?. */
function asked(record) {
  const { service } = record;
  if (!service) return '?';
  return service.name ? `${service.namespace}/${servicePort(service)}` : 'direct';
}

/** Who serves it, for sums: the workload, else the Service, else the address. */
const serves = (record) =>
  record.server
    ? (record.server.kind === 'external' && record.host) || whoBriefly(record.server)
    : (record.service?.name ?? (record.original ? host(record.original.dst) : '?'));
const operation = (record) =>
  record.operation ?? (record.unread ? `${record.host ?? record.protocol} (${record.unread})` : (record.host ?? record.protocol));
/** The same where it stands alone: what has no operation is named after what it asked for. */
const titleOf = (record) => {
  const name = operation(record);
  return name === record.protocol ? `${name} to ${record.service?.name ? asked(record) : serves(record)}` : name;
};
const nodesOf = (record) =>
  [record.client?.node, record.server?.node, ...(record.translations ?? []).map((each) => each.node)].filter(Boolean);

/** nodePort → port → targetPort → containerPort, each where it applies; '' where none does. */
function fourPorts(record, named = false) {
  const { ports } = record;
  const steps = ports
    ? [
        ['nodePort', ports.node_port],
        ['port', ports.port],
        ['targetPort', ports.target_port],
        ['containerPort', ports.container_port],
      ]
    : [];
  return steps
    .filter(([, port]) => port !== null && port !== undefined)
    .map(([name, port]) => (named ? `${name} ${port}` : port))
    .join(' → ');
}
