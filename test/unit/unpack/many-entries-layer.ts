import { type EntryFields, entry } from './tar-builder.ts';

/** Entries of one top directory, and what is made and written at once. */
const BLOCK_ENTRIES = 1000;
/** Names repeat their pattern after as many entries: `g` below. */
const GROUP_ENTRIES = 20;
const OLDEST_SECONDS = 1_600_000_000;
const END_OF_ARCHIVE_BYTES = 1024;

/**
 * The tar of a layer with exactly `entries` entries, piece by piece. About two fifths are still files of their own at the end: the others
 * are hard links (within their directory and into the one before), or names that later entries replace or remove, so that the trees of
 * 10^7 entries fit into memory. Owners, modes and times differ from entry to entry.
 *
 * @param mode Whiteouts of names that the layer itself has are for `merge` alone; `overlay` refuses them.
 */
export function* manyEntriesTar(entries: number, mode: 'overlay' | 'merge'): Generator<Buffer> {
  for (let first = 0; first < entries; first += BLOCK_ENTRIES) {
    const count = Math.min(BLOCK_ENTRIES, entries - first);
    yield Buffer.concat(Array.from({ length: count }, (_, at) => entry(entryAt(first + at, mode))));
  }
  yield Buffer.alloc(END_OF_ARCHIVE_BYTES);
}

function entryAt(index: number, mode: 'overlay' | 'merge'): EntryFields {
  const block = Math.floor(index / BLOCK_ENTRIES);
  const group = Math.floor((index % BLOCK_ENTRIES) / GROUP_ENTRIES);
  const varied = {
    mode: 0o600 + (index % 128),
    uid: index % 7,
    gid: index % 1009,
    mtime: OLDEST_SECONDS + (index % 100_000_007),
  };
  return { ...varied, ...groupEntry({ block, group, index, mode }) };
}

interface Place {
  readonly block: number;
  readonly group: number;
  readonly index: number;
  readonly mode: 'overlay' | 'merge';
}

/** The order matters: links come after their targets, and what is replaced before what replaces it. */
function groupEntry(place: Place): EntryFields {
  const { block, group, index, mode } = place;
  const file = (number: number) => `d${block}/f${group}-${number}`;
  const link = (number: number, linkName: string) => ({ name: file(number), type: '1', linkName });
  const directory = group === 0 ? `d${block}/` : `d${block}/g${group}/`;
  switch (index % GROUP_ENTRIES) {
    case 0:
      return { name: directory, type: '5', mode: 0o700 + (index % 64) + (group % 3 === 0 ? 0o2000 : 0) };
    case 1:
      return { name: file(1), data: group % 4 === 0 ? `content of ${index}` : '' };
    case 2:
      return { name: file(2), mode: 0o4755 };
    case 3:
      return { name: file(3), type: '2', linkName: `../elsewhere/${index}` };
    case 4:
      return link(4, file(1));
    case 5:
      return link(5, file(2));
    case 6:
      return { name: `${directory}h`, type: '1', linkName: file(2) };
    case 7:
      return link(7, block > 0 ? `d${block - 1}/f${group}-1` : file(1));
    case 8:
      return link(8, file(1));
    case 9:
      return { name: file(9), data: group % 4 === 0 ? 'replaced by the next' : '' };
    default:
      return laterEntry(place, { file, link, directory, mode });
  }
}

interface Names {
  readonly file: (number: number) => string;
  readonly link: (number: number, linkName: string) => EntryFields;
  readonly directory: string;
  readonly mode: 'overlay' | 'merge';
}

function laterEntry({ group, index }: Place, { file, link, directory, mode }: Names): EntryFields {
  switch (index % GROUP_ENTRIES) {
    case 10:
      return { name: file(9), data: group % 4 === 1 ? `content of ${index}` : '' };
    case 11:
      // A file takes the place of a hard link, whose other names stay.
      return { name: file(8) };
    case 12:
      return overFile(file(9), group);
    case 13:
      return link(4, file(2));
    case 14:
      // A file over a directory that holds a link, or a directory over itself.
      if (group === 0) return { name: `${directory}h` };
      return group % 2 === 0 ? { name: directory, type: '5', mode: 0o711 } : { name: directory.slice(0, -1) };
    case 15:
      return { name: file(mode === 'merge' ? 5 : 15).replace(/([^/]+)$/, '.wh.$1') };
    case 16:
      return group % 10 === 0 ? { name: file(16), type: '6' } : link(16, file(2));
    case 17:
      return { name: file(17), pax: { mtime: `${OLDEST_SECONDS + index}.123456789`, uid: '3000000' } };
    case 18:
      return link(18, file(2));
    default:
      if (group === 1) return { name: `${file(1).slice(0, file(1).indexOf('/'))}/.wh..wh..opq` };
      return { name: `${file(19)}\xff` };
  }
}

function overFile(name: string, group: number): EntryFields {
  if (group % 3 === 0) return { name, type: '2', linkName: 'f0-1' };
  if (group % 3 === 1) return { name, type: '5', mode: 0o755 };
  return { name };
}
