import { join, resolve } from 'node:path';
import type { BuiltImage } from '../../test/support/images/build-image.ts';
import { sampleImage } from '../demo/sample-image.ts';

const CACHE = resolve(import.meta.dirname, '../../.cache/bench');

/** One image to pull. */
export interface PullCase {
  readonly name: string;
  /** Builds the image once; later calls find it in `.cache/bench`. */
  readonly build: () => Promise<BuiltImage>;
}

const CASES: readonly PullCase[] = [
  {
    // Programs, libraries, headers and documents of this machine: many small files, some large ones.
    name: 'machine-4-layers-gzip',
    build: () =>
      sampleImage({
        directory: join(CACHE, 'machine-4-layers-gzip'),
        runnable: false,
        layers: 4,
        layerUnpackedBytes: 500_000_000,
      }),
  },
];

/** The cases to run: one by name, or all. */
export function pullCases(name: string | undefined): readonly PullCase[] {
  const chosen = CASES.filter((each) => name === undefined || each.name === name);
  if (chosen.length === 0)
    throw new Error(`Cannot run case "${name}": ${CASES.map((each) => each.name).join(', ')} are known`);
  return chosen;
}
