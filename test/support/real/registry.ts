import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { componentPath } from './components.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { makeTemporaryRoot, type TemporaryRoot } from './temporary-root.ts';

const READY_TIMEOUT_MS = 15_000;

export interface RegistryOptions {
  /** Asks for these by Basic authentication. */
  readonly auth?: { readonly user: string; readonly password: string };
  /** Accepts DELETE of manifests and blobs. Default true. */
  readonly delete?: boolean;
  /** Default: one that is free. */
  readonly port?: number;
}

export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:PORT`, as in image references. */
  readonly host: string;
  readonly url: string;
  readonly pid: number;
  /** The access log's lines so far, such as `127.0.0.1 - - […] "GET /v2/app/manifests/v1 HTTP/1.1" 200 …`. */
  accessLog(): string[];
  log(): string;
  stop(): Promise<void>;
}

/** Starts a real registry on loopback with an empty store of its own. */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const program = `${componentPath('registry')}/docker-registry`;
  const root = makeTemporaryRoot('reg');
  const configPath = `${root.path}/config.yml`;
  writeFileSync(configPath, stringify(configuration(options, root)), { mode: 0o600 });
  const daemon = startDaemon({
    name: 'registry',
    command: program,
    args: ['serve', configPath],
    logPath: `${root.path}/registry.log`,
  });
  try {
    return await registryHandle(daemon, root);
  } catch (error) {
    await daemon.stop();
    root.remove();
    throw error;
  }
}

async function registryHandle(daemon: Daemon, root: TemporaryRoot): Promise<Registry> {
  const host = await daemon.waitUntil('to listen', () => listenAddress(daemon.log()), READY_TIMEOUT_MS);
  const url = `http://${host}`;
  await daemon.waitUntil('to answer', async () => (await fetch(`${url}/v2/`)).status < 500, READY_TIMEOUT_MS);
  const stop = async () => {
    await daemon.stop();
    root.remove();
  };
  return {
    host,
    url,
    pid: daemon.pid,
    accessLog: () =>
      daemon
        .log()
        .split('\n')
        .filter((line) => /"(GET|HEAD|PUT|POST|PATCH|DELETE) /.test(line)),
    log: () => daemon.log(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function configuration(options: RegistryOptions, root: TemporaryRoot): object {
  return {
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: false } },
    storage: {
      filesystem: { rootdirectory: `${root.path}/store` },
      delete: { enabled: options.delete ?? true },
      // The default purges uploads by a timer; nothing here lives that long.
      maintenance: { uploadpurging: { enabled: false } },
    },
    http: {
      addr: `127.0.0.1:${options.port ?? 0}`,
      // Upload locations then stay right behind a proxy.
      relativeurls: true,
      secret: randomBytes(16).toString('hex'),
    },
    ...(options.auth && { auth: { htpasswd: { realm: 'test', path: writeHtpasswd(options.auth, root) } } }),
  };
}

function writeHtpasswd(auth: { user: string; password: string }, root: TemporaryRoot): string {
  const path = `${root.path}/htpasswd`;
  writeFileSync(path, `${auth.user}:${bcrypt(auth.password)}\n`, { mode: 0o600 });
  return path;
}

/** The registry takes bcrypt only. perl is part of every Debian and asks libcrypt; the password goes by stdin. */
function bcrypt(password: string): string {
  const salt = `$2b$04$${randomBytes(16).toString('hex').slice(0, 22)}`;
  const script = 'my $p = <STDIN>; print crypt($p, $ARGV[0])';
  const hash = spawnSync('perl', ['-e', script, salt], { input: password, encoding: 'utf8' }).stdout;
  if (!hash?.startsWith('$2b$'))
    throw new Error('Cannot hash "password": perl with a libcrypt that knows bcrypt is wanted');
  return hash;
}

function listenAddress(log: string): string | undefined {
  return /msg="listening on (127\.0\.0\.1:\d+)"/.exec(log)?.[1];
}
