import { componentPath } from './components.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import type { KubeApi } from './kube-api.ts';
import { makeTemporaryRoot } from './temporary-root.ts';

const READY_TIMEOUT_MS = 60_000;

/** Users that startKubeApi() has to know. */
export const CONTROL_USERS = {
  controllerManager: { name: 'system:kube-controller-manager' },
  scheduler: { name: 'system:kube-scheduler' },
} as const;

export interface KubeControl extends AsyncDisposable {
  readonly pids: readonly number[];
  log(): string;
  stop(): Promise<void>;
}

/** Starts what makes pods of Deployments and gives them nodes: controller manager and scheduler. */
export async function startKubeControl(api: KubeApi): Promise<KubeControl> {
  await using stack = new AsyncDisposableStack();
  const root = stack.adopt(makeTemporaryRoot('kctl'), (made) => made.remove());
  const start = (name: string, user: string, args: readonly string[]): Daemon =>
    stack.use(
      startDaemon({
        name,
        command: `${componentPath('kubernetes')}/${name}`,
        args: [`--kubeconfig=${api.kubeconfigOf(user)}`, '--leader-elect=false', '--secure-port=0', ...args],
        logPath: `${root.path}/${name}.log`,
      }),
    );
  const manager = start('kube-controller-manager', CONTROL_USERS.controllerManager.name, [
    // Each controller then has the rights of its own role only, as in clusters.
    '--use-service-account-credentials=true',
    `--service-account-private-key-file=${api.serviceAccountKeyFile}`,
    `--root-ca-file=${api.caFile}`,
    // It makes the folder, by default below /usr.
    `--flex-volume-plugin-dir=${root.path}/volume-plugins`,
  ]);
  const scheduler = start('kube-scheduler', CONTROL_USERS.scheduler.name, []);
  const ready = async () =>
    (await api.kubectl.run('get', 'serviceaccount', 'default', '-o', 'name').catch(() => '')) !== '';
  await manager.waitUntil('to make service accounts', ready, READY_TIMEOUT_MS);
  const owned = stack.move();
  const stop = () => owned.disposeAsync();
  return {
    pids: [manager.pid, scheduler.pid],
    log: () => manager.log() + scheduler.log(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
