// Unpacks each layer of the corpus twice, with containerd's archive package and with ours, and compares the trees.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import { JobControl } from '../../../shim/unpack/control.ts';
import { unpackLayer } from '../../../shim/unpack/unpack-layer.ts';
import type { UnpackResult } from '../../../shim/unpack/unpack-pool.ts';
import { buildGoUntar } from '../../support/go-untar/build.ts';
import { type CorpusLayer, ordinaryLayers, refusedLayers } from './layer-corpus.ts';
import { diffTrees, listTree } from './tree-listing.ts';

const test = suite('unpack like containerd');
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'shoal-oracle-'));
test.after(() => fs.rmSync(directory, { recursive: true }));
let rounds = 0;

interface Outcome {
  readonly root: string;
  readonly error: string | undefined;
  readonly implied: readonly string[];
}

function freshRoot(lower: (root: string) => void): string {
  const root = path.join(directory, `${rounds++}`);
  fs.mkdirSync(root, { mode: 0o755 });
  lower(root);
  return root;
}

function theirs(program: string, mode: string, layer: CorpusLayer, lower: (root: string) => void): Outcome {
  const root = freshRoot(lower);
  const run = spawnSync(program, [mode, root], { input: layer.tar, encoding: 'utf8' });
  return { root, error: run.status === 0 ? undefined : run.stderr, implied: [] };
}

async function ours(
  mode: 'overlay' | 'merge',
  layer: CorpusLayer,
  lower: (root: string) => void,
): Promise<Outcome> {
  const root = freshRoot(lower);
  try {
    const { impliedDirectories } = await unpack(mode, layer, root);
    return { root, error: undefined, implied: impliedDirectories };
  } catch (error) {
    return { root, error: String(error), implied: [] };
  }
}

async function unpack(mode: 'overlay' | 'merge', layer: CorpusLayer, root: string): Promise<UnpackResult> {
  const sourcePath = `${root}.tar`;
  fs.writeFileSync(sourcePath, layer.tar);
  const control = new JobControl();
  control.advance(layer.tar.length);
  const digest = digestOf(layer.tar);
  const limits = { privileged: true, unpackedBytesMax: 1e9 };
  const what = {
    sourcePath,
    sizeBytes: layer.tar.length,
    digest,
    diffId: digest,
    compression: 'none',
  } as const;
  return await unpackLayer({ ...what, ...limits, mode, targetDirectory: root }, control);
}

/** What a lower layer left: only merging sees it. */
function lowerTree(root: string): void {
  fs.mkdirSync(path.join(root, 'd/sub'), { recursive: true });
  fs.mkdirSync(path.join(root, 'implied/deep'), { recursive: true });
  for (const name of ['d/gone', 'd/lower', 'd/sub/x', 'implied/deep/y', 'top', 'a', 'l'])
    fs.writeFileSync(path.join(root, name), 'lower');
  fs.symlinkSync('d', path.join(root, 'n'));
  fs.lutimesSync(path.join(root, 'n'), 1_000_000, 1_000_000);
  fs.chmodSync(path.join(root, 'd'), 0o2755);
  fs.chownSync(path.join(root, 'd'), 0, 77);
  for (const name of [
    'd/gone',
    'd/lower',
    'd/sub/x',
    'implied/deep/y',
    'top',
    'a',
    'l',
    'd/sub',
    'd',
    'implied/deep',
    'implied',
  ])
    fs.utimesSync(path.join(root, name), 1_000_000, 1_000_000);
}

async function compare(program: string, mode: 'overlay' | 'merge', layer: CorpusLayer): Promise<void> {
  const lower = mode === 'merge' ? lowerTree : () => {};
  const [our, their] = [await ours(mode, layer, lower), theirs(program, mode, layer, lower)];
  assert.is(our.error === undefined, their.error === undefined, `ours: ${our.error}, theirs: ${their.error}`);
  if (our.error !== undefined) return;
  const untimed = new Set(our.implied.map((each) => Buffer.from(each).toString('latin1')));
  // Lower directories that entries were put into without being named have the time of unpacking.
  if (mode === 'merge') for (const name of ['d', 'implied', 'd/sub', 'implied/deep']) untimed.add(name);
  assert.equal(diffTrees(listTree(our.root, untimed), listTree(their.root, untimed)), []);
}

const oracle = buildGoUntar(directory);
if ('reason' in oracle) {
  console.log(`SKIP unpack like containerd: ${oracle.reason}`);
  test.skip('compares trees with containerd', () => {});
} else {
  for (const layer of [...ordinaryLayers(), ...refusedLayers()])
    for (const mode of ['overlay', 'merge'] as const)
      test(`${mode}: ${layer.name}`, () => compare(oracle.program, mode, layer));
  for (const layer of refusedLayers())
    test(`containerd refuses ${layer.name}`, () => {
      assert.is.not(theirs(oracle.program, 'overlay', layer, () => {}).error, undefined);
    });
}

test.run();
