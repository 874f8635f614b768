import { writeFileSync } from 'node:fs';
import { noticePod, readPullResults, removePod, syncPods } from '../../shim/agent/control-client.ts';
import type { PodNotice, PullResult } from '../../shim/agent/control-protocol.ts';
import { formatP2pConfig, type P2pConfigLimits } from '../../shim/base/p2p-config.ts';
import type { Agent } from './agent.ts';

const PREFIX = 'k8s.aliyun.com';
const never = new AbortController().signal;

/** A pod as the webhook leaves it: opted in, with its images in an annotation. */
export function podNotice(
  name: string,
  images: readonly string[],
  options: { readonly limits?: P2pConfigLimits; readonly mode?: string; readonly warm?: boolean } = {},
): PodNotice {
  const config = formatP2pConfig({ version: 1, images, secrets: [], limits: options.limits ?? {} });
  return {
    podUid: `${name}-uid`,
    namespace: 'default',
    name,
    sandboxId: `${name}-sandbox`,
    labels: { [`${PREFIX}/image-accelerate-mode`]: options.mode ?? 'p2p' },
    annotations: { [`${PREFIX}/p2p-config`]: config },
    warm: options.warm ?? true,
  };
}

/** What a runtime plugin tells a running agent. */
export function tellOfPods({ controlSocket }: Agent) {
  return {
    notice: (notice: PodNotice) => noticePod(controlSocket, notice, never),
    sync: (...pods: PodNotice[]) => syncPods(controlSocket, { pods }, never),
    remove: (podUid: string) => removePod(controlSocket, { podUid }, never),
  };
}

/** Reads results as they come, until disposed. */
export function watchResults({ controlSocket }: Agent): AsyncDisposable & { readonly seen: PullResult[] } {
  const seen: PullResult[] = [];
  const stop = new AbortController();
  const reading = (async () => {
    for await (const result of readPullResults(controlSocket, stop.signal)) seen.push(result);
  })().catch(() => undefined);
  return {
    seen,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await reading;
    },
  };
}

/** A pod's sandbox config for crictl, as kubelet sends it with PullImage. */
export function writePodConfig(path: string, notice: PodNotice): string {
  const { name, namespace, podUid: uid, labels, annotations } = notice;
  writeFileSync(path, JSON.stringify({ metadata: { name, namespace, uid }, labels, annotations }));
  return path;
}
