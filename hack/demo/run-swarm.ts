import type { PullEvent } from '../../shim/agent/control-protocol.ts';
import type { TransferCounts } from '../../shim/peer/transfer.ts';
import { NO_BYTES, type PullSnapshot } from '../../shim/pull/progress.ts';
import type { NodeTrace } from './picture.ts';
import type { NodeLine, Screen } from './screen.ts';

/** A node that can be asked to pull. */
export interface DemoNode {
  readonly name: string;
  pull(image: string, signal: AbortSignal): AsyncIterable<PullEvent>;
  /** Runs a command in a container of the image and gives its output; absent where nothing can run. */
  run?(image: string, command: readonly string[]): Promise<string>;
}

export interface NodeRun extends NodeTrace {
  readonly counts: TransferCounts;
}

/** Lets all nodes pull at once and shows them. Throws when one of them fails. */
export async function runSwarm(
  nodes: readonly DemoNode[],
  image: { readonly reference: string; readonly imageBytes: number },
  screen: Screen,
  signal: AbortSignal,
): Promise<NodeRun[]> {
  const lines = new Map<string, NodeLine>(
    nodes.map(({ name }) => [name, { name, fetchedBytes: 0, counts: NO_BYTES }]),
  );
  screen.begin([...lines.keys()], image.imageBytes);
  const show = (line: NodeLine): void => {
    lines.set(line.name, line);
    screen.show([...lines.values()], image.imageBytes);
  };
  try {
    return await Promise.all(nodes.map((node) => runNode(node, image.reference, show, signal)));
  } finally {
    screen.end();
  }
}

async function runNode(
  node: DemoNode,
  reference: string,
  show: (line: NodeLine) => void,
  signal: AbortSignal,
): Promise<NodeRun> {
  const startedMs = performance.now();
  const points: NodeTrace['points'][number][] = [];
  for await (const event of node.pull(reference, signal)) {
    if (event.kind === 'failed') throw new Error(`Cannot pull on "${node.name}": ${event.message}`);
    const { originBytes, peerBytes } = event.pull.counts;
    points.push({ seconds: (performance.now() - startedMs) / 1000, originBytes, peerBytes });
    const line = { name: node.name, fetchedBytes: fetchedOf(event.pull), counts: event.pull.counts };
    if (event.kind === 'progress') show(line);
    else {
      show({ ...line, seconds: event.seconds });
      return { name: node.name, seconds: event.seconds, points, counts: event.counts };
    }
  }
  throw new Error(`Cannot pull on "${node.name}": its agent went away`);
}

/** Bytes that have arrived, in order or not. */
function fetchedOf(pull: PullSnapshot): number {
  const { originBytes, peerBytes, cacheBytes } = pull.counts;
  return originBytes + peerBytes + cacheBytes;
}
