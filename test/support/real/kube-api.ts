import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { freePort } from '../free-port.ts';
import { componentPath, componentsAvailable } from './components.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { type Etcd, startEtcd } from './etcd.ts';
import { type Kubectl, makeKubectl } from './kubectl.ts';
import { makeTemporaryRoot, type TemporaryRoot } from './temporary-root.ts';

/** Two to five seconds on an idle machine. */
const READY_TIMEOUT_MS = 90_000;

export interface KubeApiOptions {
  /** Where it listens, and what it tells others. Default 127.0.0.1. */
  readonly address?: string;
  /** Known by a token besides the administrator: the components of a cluster. */
  readonly users?: readonly KubeUser[];
  readonly extraArgs?: readonly string[];
}

export interface KubeUser {
  /** Such as `system:node:node-1`. */
  readonly name: string;
  /** Such as `system:nodes`. */
  readonly groups?: readonly string[];
}

/** A real etcd and a real kube-apiserver: RBAC, the node authorizer, service accounts, and no nodes. */
export interface KubeApi extends AsyncDisposable {
  /** `https://ADDRESS:PORT` */
  readonly url: string;
  /** PEM file of the certificate authority. */
  readonly caFile: string;
  /** The administrator's (group system:masters). */
  readonly token: string;
  readonly kubeconfig: string;
  /** kubectl as the administrator. */
  readonly kubectl: Kubectl;
  /** PEM files of the key that signs tokens of service accounts: the controller manager's. */
  readonly serviceAccountKeyFile: string;
  readonly pid: number;
  /** Writes a kubeconfig for a user that was named at the start, and gives its path. */
  kubeconfigOf(user: string): string;
  /** Writes a kubeconfig that carries the token, such as one of a service account, and gives its path. */
  kubeconfigWith(token: string): string;
  /** A token of the service account, by the TokenRequest API. */
  serviceAccountToken(namespace: string, name: string): Promise<string>;
  log(): string;
  /** Ends the server and starts it again, on the same port and with all that etcd has. */
  restart(whileDown?: () => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

/** Null when an API server can be started here, else one line for a skip message. It needs no root. */
export function kubeApiSkipReason(): string | null {
  return componentsAvailable('etcd', 'kubernetes');
}

export async function startKubeApi(options: KubeApiOptions = {}): Promise<KubeApi> {
  await using stack = new AsyncDisposableStack();
  const root = stack.adopt(makeTemporaryRoot('api'), (made) => made.remove());
  const etcd = stack.use(await startEtcd());
  const files = writeFiles(root, options.users ?? []);
  const address = options.address ?? '127.0.0.1';
  const port = await freePort();
  const url = `https://${address}:${port}`;
  const launch = (): Daemon =>
    startDaemon({
      name: 'kube-apiserver',
      command: `${componentPath('kubernetes')}/kube-apiserver`,
      args: [...serverArgs({ root, etcd, address, port }), ...(options.extraArgs ?? [])],
      logPath: `${root.path}/kube-apiserver.log`,
    });
  let daemon = launch();
  stack.defer(() => daemon.stop());
  const caFile = `${root.path}/pki/apiserver.crt`;
  const kubeconfigs = new KubeconfigWriter(root, url, caFile);
  const kubeconfig = kubeconfigs.write(files.tokens.get(ADMIN) as string);
  const kubectl = makeKubectl({ kubeconfig, cacheDirectory: `${root.path}/kubectl` });
  await waitUntilReady(daemon, kubectl);
  const owned = stack.move();
  const stop = () => owned.disposeAsync();
  return {
    url,
    caFile,
    token: files.tokens.get(ADMIN) as string,
    kubeconfig,
    kubectl,
    serviceAccountKeyFile: `${root.path}/service-account.key`,
    get pid() {
      return daemon.pid;
    },
    kubeconfigOf: (user) => kubeconfigs.write(tokenOf(files.tokens, user)),
    kubeconfigWith: (token) => kubeconfigs.write(token),
    serviceAccountToken: async (namespace, name) =>
      (await kubectl.run('create', 'token', name, '-n', namespace)).trim(),
    log: () => daemon.log(),
    restart: async (whileDown) => {
      await daemon.stop();
      await whileDown?.();
      daemon = launch();
      await waitUntilReady(daemon, kubectl);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

const ADMIN = 'admin';

/** Keys for service accounts, and a token for every user, in the file that the server reads. */
function writeFiles(root: TemporaryRoot, users: readonly KubeUser[]) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const write = (name: string, text: string) => writeFileSync(`${root.path}/${name}`, text, { mode: 0o600 });
  write('service-account.key', privateKey.export({ type: 'sec1', format: 'pem' }) as string);
  write('service-account.pub', publicKey.export({ type: 'spki', format: 'pem' }) as string);
  const all: readonly KubeUser[] = [{ name: ADMIN, groups: ['system:masters'] }, ...users];
  const tokens = new Map(all.map(({ name }) => [name, randomBytes(16).toString('hex')]));
  const line = ({ name, groups = [] }: KubeUser) =>
    `${tokens.get(name)},${name},${name},"${groups.join(',')}"`;
  write('tokens.csv', `${all.map(line).join('\n')}\n`);
  mkdirSync(`${root.path}/pki`);
  return { tokens };
}

function tokenOf(tokens: ReadonlyMap<string, string>, user: string): string {
  const token = tokens.get(user);
  if (token === undefined)
    throw new Error(`Cannot act as user "${user}": name it when the server is started`);
  return token;
}

interface Places {
  readonly root: TemporaryRoot;
  readonly etcd: Etcd;
  readonly address: string;
  readonly port: number;
}

function serverArgs({ root, etcd, address, port }: Places): string[] {
  return [
    `--etcd-servers=${etcd.url}`,
    `--bind-address=${address}`,
    `--advertise-address=${address}`,
    `--secure-port=${port}`,
    // It makes a certificate authority and a certificate for its address here.
    `--cert-dir=${root.path}/pki`,
    `--token-auth-file=${root.path}/tokens.csv`,
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-signing-key-file=${root.path}/service-account.key`,
    `--service-account-key-file=${root.path}/service-account.pub`,
    '--service-cluster-ip-range=10.96.0.0/16',
    // Loopback is no valid endpoint, and nobody here asks for the kubernetes service.
    '--endpoint-reconciler-type=none',
    // Without kube-proxy no cluster IP answers: webhooks and aggregated APIs are called at their endpoints.
    '--enable-aggregator-routing=true',
  ];
}

/** The default service account is there only when a controller manager runs; roles are made by the server itself. */
async function waitUntilReady(daemon: Daemon, kubectl: Kubectl): Promise<void> {
  const ready = async () => (await kubectl.run('get', '--raw', '/readyz')) === 'ok';
  await daemon.waitUntil('to be ready', ready, READY_TIMEOUT_MS);
}

class KubeconfigWriter {
  readonly #root: TemporaryRoot;
  readonly #url: string;
  readonly #caFile: string;
  #count = 0;

  constructor(root: TemporaryRoot, url: string, caFile: string) {
    this.#root = root;
    this.#url = url;
    this.#caFile = caFile;
  }

  write(token: string): string {
    const path = `${this.#root.path}/kubeconfig-${this.#count++}`;
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: this.#url, 'certificate-authority': this.#caFile } }],
      users: [{ name: 'user', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'user' } }],
      'current-context': 'test',
    };
    writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
    return path;
  }
}
