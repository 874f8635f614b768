import cliProgress from 'cli-progress';
import type { LayerProgress, PullSnapshot } from '../pull/progress.ts';
import { formatBytes, shortDigest } from './format.ts';

/** Shows one pull's progress. `show` may be called as often as one likes. */
export interface ProgressView {
  show(pull: PullSnapshot): void;
  close(): void;
}

const BAR_FORMAT = '{name}  {bar}  {done} / {size}  {note}';
const PLAIN_INTERVAL_MS = 2000;

/** Bars on a terminal, a line now and then elsewhere. */
export function createProgressView(stream: NodeJS.WriteStream, nowMs: () => number): ProgressView {
  return stream.isTTY ? new BarView(stream) : new LineView(stream, nowMs);
}

class BarView implements ProgressView {
  readonly #bars: cliProgress.MultiBar;
  readonly #layers: cliProgress.SingleBar[] = [];

  constructor(stream: NodeJS.WriteStream) {
    const options = { stream, format: BAR_FORMAT, hideCursor: true, clearOnComplete: false, barsize: 30 };
    this.#bars = new cliProgress.MultiBar(options, cliProgress.Presets.shades_classic);
  }

  show(pull: PullSnapshot): void {
    for (const [index, layer] of pull.layers.entries()) {
      const payload = barPayload(layer);
      this.#layers[index] ??= this.#bars.create(Math.max(layer.sizeBytes, 1), 0, payload);
      this.#layers[index].update(shownBytes(layer), payload);
    }
  }

  close(): void {
    this.#bars.stop();
  }
}

class LineView implements ProgressView {
  readonly #stream: NodeJS.WriteStream;
  readonly #nowMs: () => number;
  #nextMs = 0;

  constructor(stream: NodeJS.WriteStream, nowMs: () => number) {
    this.#stream = stream;
    this.#nowMs = nowMs;
  }

  show(pull: PullSnapshot): void {
    const nowMs = this.#nowMs();
    if (nowMs < this.#nextMs || pull.layers.length === 0) return;
    this.#nextMs = nowMs + PLAIN_INTERVAL_MS;
    const total = pull.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
    const done = pull.layers.reduce((sum, layer) => sum + shownBytes(layer), 0);
    const left = pull.layers.filter((layer) => layer.phase !== 'done' && layer.phase !== 'present').length;
    this.#stream.write(
      `${pull.reference}: ${formatBytes(done)} / ${formatBytes(total)}, ${left} layers to go\n`,
    );
  }

  close(): void {}
}

function barPayload(layer: LayerProgress): Record<string, string> {
  return {
    name: shortDigest(layer.digest),
    done: formatBytes(shownBytes(layer)).padStart(8),
    size: formatBytes(layer.sizeBytes).padStart(8),
    note: noteOf(layer),
  };
}

function shownBytes(layer: LayerProgress): number {
  return layer.phase === 'done' || layer.phase === 'present' ? layer.sizeBytes : layer.fetchedBytes;
}

function noteOf(layer: LayerProgress): string {
  if (layer.phase === 'present') return 'already there';
  const { originBytes, peerBytes, cacheBytes } = layer.counts;
  const sources = [
    ['origin', originBytes],
    ['peers', peerBytes],
    ['cache', cacheBytes],
  ] as const;
  const shown = sources
    .filter(([, bytes]) => bytes > 0)
    .map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  return [layer.phase, ...shown].join(', ');
}
