// Reads what columns.py packed. A column becomes a function from row to value; lists are built only when somebody asks for them.

/** The text of a gzip file in base64 that an element holds. */
async function unpack(id) {
  const packed = atob(byId(id).textContent.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
}

function column(packed, strings) {
  if (packed === null) return () => null;
  return SHAPES[packed.shape](packed, strings);
}

const SHAPES = {
  text:
    ({ codes }, strings) =>
    (row) =>
      codes[row] < 0 ? null : strings[codes[row]],
  values:
    ({ values }) =>
    (row) =>
      values[row],
  times: ({ steps }) => {
    let at = 0;
    const sums = steps.map((step) => (step === null ? null : (at += step)));
    return (row) => sums[row];
  },
  distinct: ({ rows, of }, strings) => {
    const value = column(of, strings);
    const kept = new Map();
    return (row) => {
      const code = rows[row];
      if (code < 0) return null;
      if (!kept.has(code)) kept.set(code, value(code));
      return kept.get(code);
    };
  },
  struct: ({ fields, present }, strings) => {
    const scalars = [];
    const prototype = {};
    for (const [key, packed] of Object.entries(fields)) {
      const value = column(packed, strings);
      if (packed?.shape === 'lists') {
        Object.defineProperty(prototype, key, {
          enumerable: true,
          get() {
            return value(this.row);
          },
        });
      } else scalars.push([key, value]);
    }
    return (row) => {
      if (present && !present[row]) return null;
      const made = Object.create(prototype);
      made.row = row;
      for (const [key, value] of scalars) made[key] = value(row);
      return made;
    };
  },
  lists: ({ lengths, items }, strings) => {
    const value = column(items, strings);
    let end = 0;
    const starts = lengths.map((length) => {
      const start = end;
      end += Math.max(0, length);
      return start;
    });
    return (row) => (lengths[row] < 0 ? null : Array.from({ length: lengths[row] }, (_, i) => value(starts[row] + i)));
  },
};
