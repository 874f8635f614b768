import { freePort } from '../free-port.ts';
import { componentPath } from './components.ts';
import { startDaemon } from './daemon.ts';
import { makeTemporaryRoot } from './temporary-root.ts';

const READY_TIMEOUT_MS = 30_000;

export interface Etcd extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`, without authentication. */
  readonly url: string;
  readonly pid: number;
  log(): string;
  stop(): Promise<void>;
}

/** Starts a single etcd on loopback with an empty store. */
export async function startEtcd(): Promise<Etcd> {
  const root = makeTemporaryRoot('etcd');
  const [url, peerUrl] = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`];
  const daemon = startDaemon({
    name: 'etcd',
    command: `${componentPath('etcd')}/etcd`,
    args: [
      '--name=test',
      `--data-dir=${root.path}/data`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=test=${peerUrl}`,
      // A machine whose disk is busy with images must not cost etcd its leadership of itself.
      '--heartbeat-interval=500',
      '--election-timeout=5000',
    ],
    logPath: `${root.path}/etcd.log`,
  });
  const stop = async (): Promise<void> => {
    await daemon.stop();
    root.remove();
  };
  try {
    const healthy = async () => (await fetch(`${url}/health`)).status === 200;
    await daemon.waitUntil('to be healthy', healthy, READY_TIMEOUT_MS);
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, pid: daemon.pid, log: () => daemon.log(), stop, [Symbol.asyncDispose]: stop };
}
