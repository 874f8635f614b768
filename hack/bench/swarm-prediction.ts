import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import type { BuiltImage } from '../../test/support/images/build-image.ts';

const SIMULATION = resolve(import.meta.dirname, '../../test/sim');
/** Ethernet, IP and TCP take this part of a link; what is left carries bytes of layers. */
const HEADER_PART = 0.06;
const GB = 1e9;

export interface SwarmSetting {
  readonly nodes: number;
  readonly linkBitsPerSecond: number;
  readonly originBitsPerSecond: number;
  readonly image: BuiltImage;
  /** What one node alone takes to pull the image, agent and containerd. */
  readonly aloneCpuSeconds: number;
}

/**
 * What the simulator says of nodes that share this machine: each has its part of the processors, and takes the processor time that one
 * node was seen to take alone. It moves bytes of layers, so that its links are as wide as what headers leave.
 */
export function predictP95Seconds(setting: SwarmSetting): number {
  const { nodes, linkBitsPerSecond, originBitsPerSecond, image } = setting;
  const megabytes = (bits: number): string => String(bits / 8e6);
  const unpackedOverPacked = contentBytes(image) / image.layerBytes;
  const { stdout, status } = spawnSync(
    process.execPath,
    [
      resolve(SIMULATION, 'main.ts'),
      `--nodes=${nodes}`,
      `--size-mb=${image.layerBytes / 1e6}`,
      `--blobs=${image.layers.length}`,
      `--link-mb=${megabytes(linkBitsPerSecond * (1 - HEADER_PART))}`,
      `--origin-mb=${megabytes(originBitsPerSecond)}`,
      '--spread-ms=0',
      `--cores=${availableParallelism() / nodes}`,
      `--costs=${JSON.stringify(costsHere(setting, unpackedOverPacked))}`,
      `--unpacked-over-packed=${unpackedOverPacked}`,
      '--json',
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (status !== 0) throw new Error(`Cannot simulate: exit code ${status}`);
  const line = stdout.trim().split('\n').at(-1) ?? '{}';
  return (JSON.parse(line) as { p95Seconds: number }).p95Seconds;
}

/** The costs that other simulations use, all times the same, so that they add up to what was seen here. */
function costsHere({ image, aloneCpuSeconds }: SwarmSetting, unpackedOverPacked: number) {
  const known = JSON.parse(readFileSync(resolve(SIMULATION, 'costs.json'), 'utf8')) as Record<string, number>;
  const { receiveSecondsPerGb = 0, serveSecondsPerGb = 0, unpackSecondsPerGb = 0 } = known;
  const knownSeconds =
    ((receiveSecondsPerGb + unpackSecondsPerGb * unpackedOverPacked) * image.layerBytes) / GB;
  const factor = aloneCpuSeconds / knownSeconds;
  return {
    receiveSecondsPerGb: receiveSecondsPerGb * factor,
    serveSecondsPerGb: serveSecondsPerGb * factor,
    unpackSecondsPerGb: unpackSecondsPerGb * factor,
  };
}

/** By the last four bytes of each layer, where gzip has the size of its content (RFC 1952, ISIZE). */
function contentBytes(image: BuiltImage): number {
  return image.layers.reduce((sum, { digest }) => sum + inflatedSize(image.blobPath(digest)), 0);
}

function inflatedSize(path: string): number {
  const file = openSync(path, 'r');
  try {
    const end = Buffer.alloc(4);
    readSync(file, end, 0, end.length, fstatSync(file).size - end.length);
    return end.readUInt32LE(0);
  } finally {
    closeSync(file);
  }
}
