import { accessSync, constants, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { LayerEntry, LayerSource } from '../../test/support/images/layer-tar.ts';

/** What every machine with a system on it has. */
const SOURCES: readonly string[] = [
  '/usr/bin',
  '/usr/lib',
  '/usr/share',
  '/usr/local',
  '/usr/include',
  '/opt',
];
/** Larger files would make layers of very different sizes. */
const FILE_BYTES_MAX = 64_000_000;
/** A directory deeper than this is no program's or library's. */
const DEPTH_MAX = 12;

export interface MachineFilesOptions {
  readonly sources?: readonly string[];
  readonly fileBytesMin?: number;
  readonly fileBytesMax?: number;
  /** Give directories entries of their own. */
  readonly directories?: boolean;
}

interface MachineFile {
  readonly layerEntry: LayerEntry;
  readonly sizeBytes: number;
}

/** Files of this machine in sorted order, dealt to layers by size; the rest is left out. */
export function layersOfMachine(
  count: number,
  layerUnpackedBytes: number,
  options: MachineFilesOptions = {},
): LayerSource[] {
  const layers: LayerEntry[][] = [];
  let room = 0;
  for (const { layerEntry, sizeBytes } of machineFiles(options)) {
    if (room <= 0) {
      if (layers.length === count) break;
      layers.push([]);
      room = layerUnpackedBytes;
    }
    layers.at(-1)?.push(layerEntry);
    room -= sizeBytes;
  }
  return layers.map((entries) => ({ entries }));
}

function* machineFiles(options: MachineFilesOptions): Generator<MachineFile> {
  for (const source of options.sources ?? SOURCES) yield* filesBelow(source, 0, options);
}

function* filesBelow(directory: string, depth: number, options: MachineFilesOptions): Generator<MachineFile> {
  if (depth > DEPTH_MAX || !isReadable(directory)) return;
  const { fileBytesMin = 1, fileBytesMax = FILE_BYTES_MAX } = options;
  const children = readdirSync(directory, { withFileTypes: true });
  for (const child of children.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, child.name);
    if (child.isDirectory()) {
      if (options.directories)
        yield { layerEntry: { name: `${path.slice(1)}/`, type: 'directory' }, sizeBytes: 0 };
      yield* filesBelow(path, depth + 1, options);
    }
    if (!child.isFile()) continue;
    const { size, mode } = lstatSync(path);
    if (size < fileBytesMin || size > fileBytesMax || !isReadable(path)) continue;
    yield {
      layerEntry: { name: path.slice(1), mode: mode & 0o777, content: { file: path } },
      sizeBytes: size,
    };
  }
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
