import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlobKey } from '../../../shim/base/blob-key.ts';
import type { Digest } from '../../../shim/base/digest.ts';
import { CHUNK_SIZE_BYTES, DEFAULT_LIMITS } from '../../../shim/swarm/limits.ts';
import type { Action, HashRun, Holder } from '../../../shim/swarm/messages.ts';
import { SwarmNode } from '../../../shim/swarm/swarm-node.ts';
import { drain, runUntil, sent } from '../../support/drive-swarm-node.ts';

const key: BlobKey = { host: 'registry.test', digest: `sha256:${'2'.repeat(64)}` as Digest };
const sizeBytes = 4 * CHUNK_SIZE_BYTES;
const hashes: HashRun[] = [{ firstChunk: 2, hashes: [new Uint8Array(32).fill(3)] }];
const TTL_MS = 2_000;

/** A node of zone `near`, in which it has a neighbour, that was told at 1 ms to fetch chunk 2 from `far:1`; what it did then. */
function toldToImport(known: readonly HashRun[]): { node: SwarmNode; actions: Action[] } {
  const node = new SwarmNode({ self: 'self:1', zone: 'near', seed: 1, mayReadOrigin: true });
  const members = ['near', 'far'].map((zone) => ({ peer: `${zone}:1`, zone }));
  node.handleMembers(members, 0);
  for (const { peer, zone } of members) node.handleConnected(peer, { zone }, 0);
  node.join({ key, sizeBytes, held: undefined, hashes: [] }, 0);
  const told = { kind: 'directory', key, leases: [], hashes: known } as const;
  const [near, far] = members.map((member) => ({ ...member, complete: false })) as [Holder, Holder];
  node.handleMessage('near:1', { ...told, holders: [near], imports: [] }, 1);
  drain(node);
  const imports = [{ firstChunk: 2, chunkCount: 1, ttlMs: TTL_MS }];
  node.handleMessage('near:1', { ...told, holders: [far], imports }, 1);
  return { node, actions: drain(node) };
}

test('ImportTasks: a source is asked for the chunk without being followed: it may have no place for followers', () => {
  const { actions } = toldToImport(hashes);
  assert.equal(
    sent(actions, 'request').map(({ chunk }) => chunk),
    [2],
  );
  assert.not(actions.some((action) => action.kind === 'send' && action.message.kind === 'follow'));
});

test('ImportTasks: a busy source is asked again after a pause, until the import expires', () => {
  const { node, actions } = toldToImport(hashes);
  const [first] = sent(actions, 'request');
  node.handleMessage('far:1', { kind: 'busy', requestId: first?.requestId ?? 0, retryAfterMs: 50 }, 2);
  assert.equal(sent(drain(node), 'request'), []);
  const [second] = sent(runUntil(node, 2 + 50 * 1.3), 'request');
  assert.is(second?.chunk, 2);
  const afterMs = TTL_MS + 200;
  runUntil(node, afterMs);
  node.handleMessage('far:1', { kind: 'busy', requestId: second?.requestId ?? 0, retryAfterMs: 10 }, afterMs);
  assert.equal(sent(runUntil(node, afterMs + 2 * DEFAULT_LIMITS.busyHintMaxMs), 'request'), []);
});

test('ImportTasks: a chunk of unknown hash is not asked for before the source has told the hash', () => {
  const { node, actions } = toldToImport([]);
  assert.equal(sent(actions, 'request'), []);
  node.handleMessage('far:1', { kind: 'bitmap', key, held: new Uint8Array([4]), hashes }, 5);
  assert.is(sent(drain(node), 'request')[0]?.chunk, 2);
});

test.run();
