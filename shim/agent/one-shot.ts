import { resolve } from 'node:path';
import { loadConfig } from '../config/load-config.ts';
import { openDescriptorSink } from '../observe/log-sink.ts';
import { createLogger } from '../observe/logger.ts';
import { PullProgress } from '../pull/progress.ts';
import { PROGRESS_INTERVAL_MS, type PullEvent } from './control-protocol.ts';
import { endEvent } from './control-server.ts';
import { openPuller } from './puller.ts';

const STDERR = 2;

export interface OneShotTarget {
  /** Directory of an OCI image layout. */
  readonly store?: string;
  /** Socket of a containerd. */
  readonly containerd?: string;
}

/** A pull without a running agent: nothing listens, nobody is asked but the registry, the default settings hold. */
export async function* pullOnce(
  image: string,
  target: OneShotTarget,
  credentials: { readonly username: string; readonly password: string } | undefined,
  signal: AbortSignal,
): AsyncGenerator<PullEvent> {
  const config = loadConfig(settingsFor(target), 'the command line', process.env);
  const log = createLogger({ level: 'error', format: 'text', sink: openDescriptorSink(STDERR) });
  await using puller = await openPuller(config, { log, onEnd: () => undefined, stop: signal, alone: true });
  const progress = new PullProgress(image);
  const end = puller.pulls.pull({ image, credentials, runtimeHandler: undefined }, signal, progress);
  yield* progressUntil(end, progress);
  yield endEvent(await end, progress);
}

async function* progressUntil(end: Promise<unknown>, progress: PullProgress): AsyncGenerator<PullEvent> {
  let ended = false;
  const over = end.finally(() => {
    ended = true;
  });
  while (!ended) {
    const tick = new Promise((resolve) => setTimeout(resolve, PROGRESS_INTERVAL_MS));
    await Promise.race([over, tick]);
    yield { kind: 'progress', pull: progress.snapshot() };
  }
}

/** YAML is a superset of JSON. */
function settingsFor(target: OneShotTarget): string {
  const settings =
    target.store === undefined
      ? { store: 'containerd', cri: { containerdSocket: target.containerd } }
      : { store: 'layout', layout: { directory: resolve(target.store) } };
  return JSON.stringify(settings);
}
