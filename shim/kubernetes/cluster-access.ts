import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { ErrorCode, ShoalError } from '../base/errors.ts';

/** Where an API server is and how it knows us. Read anew for each connection, for tokens and certificates are rotated. */
export interface ClusterAccess {
  readonly server: URL;
  /** PEM. Undefined: the authorities that Node trusts. */
  readonly ca: string | undefined;
  readonly skipVerify: boolean;
  /** Name in the server's certificate, where it is not that of the URL. */
  readonly serverName: string | undefined;
  /** PEM. */
  readonly client: { readonly cert: string; readonly key: string } | undefined;
  readonly token: string | undefined;
}

/** Opens the way to the API server: a kubeconfig, or the service account of the pod that we run in. */
export type OpenAccess = () => Promise<ClusterAccess>;

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A kubeconfig holds a few certificates. */
const FILE_BYTES_MAX = 1024 * 1024;

/** @param kubeconfig Path of a kubeconfig; empty: the service account of the pod. */
export function accessFrom(kubeconfig: string, env: NodeJS.ProcessEnv): OpenAccess {
  return kubeconfig === '' ? () => readServiceAccount(env) : () => readKubeconfig(kubeconfig);
}

async function readServiceAccount(env: NodeJS.ProcessEnv): Promise<ClusterAccess> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = env;
  if (!host)
    throw unusable(
      'the service account',
      'KUBERNETES_SERVICE_HOST is not set, a pod or kubernetes.kubeconfig wanted',
    );
  return {
    server: new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`),
    ca: await read(`${SERVICE_ACCOUNT}/ca.crt`),
    skipVerify: false,
    serverName: undefined,
    client: undefined,
    token: (await read(`${SERVICE_ACCOUNT}/token`)).trim(),
  };
}

/**
 * Reads the current context of a kubeconfig: certificates and tokens, inline or in files. Programs that make credentials (`exec`)
 * and user names with passwords are not for a node agent.
 * @throws ShoalError ConfigInvalid
 */
async function readKubeconfig(path: string): Promise<ClusterAccess> {
  const file = member(parseYaml(await read(path), path));
  const context = named(file('contexts'), text(file('current-context')), 'context');
  const cluster = named(file('clusters'), text(context('cluster')), 'cluster');
  const user = named(file('users'), text(context('user')), 'user');
  if (user('exec') !== undefined || user('auth-provider') !== undefined)
    throw unusable(path, 'its credentials come from a program, a token or certificate wanted');
  const pem = async (from: Member, name: string): Promise<string | undefined> => {
    const inline = text(from(`${name}-data`));
    const place = text(from(name));
    if (inline !== undefined) return Buffer.from(inline, 'base64').toString();
    return place === undefined ? undefined : await read(resolve(dirname(path), place));
  };
  const cert = await pem(user, 'client-certificate');
  const key = await pem(user, 'client-key');
  const tokenFile = text(user('tokenFile'));
  return {
    server: serverUrl(path, text(cluster('server'))),
    ca: await pem(cluster, 'certificate-authority'),
    skipVerify: cluster('insecure-skip-tls-verify') === true,
    serverName: text(cluster('tls-server-name')),
    client: cert === undefined || key === undefined ? undefined : { cert, key },
    token:
      tokenFile === undefined ? text(user('token')) : (await read(resolve(dirname(path), tokenFile))).trim(),
  };
}

type Member = (name: string) => unknown;

function member(value: unknown): Member {
  return (name) => (typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined);
}

/** The entry of that name, by what is under its kind: `{name, cluster: {…}}`. An absent one has no members. */
function named(list: unknown, name: string | undefined, kind: string): Member {
  const entries: unknown[] = Array.isArray(list) ? list : [];
  return member(member(entries.find((entry) => member(entry)('name') === name))(kind));
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function serverUrl(path: string, server: string | undefined): URL {
  const url = URL.parse(server ?? '');
  if (url?.protocol === 'https:' || url?.protocol === 'http:') return url;
  throw unusable(path, 'its current context names no server');
}

function parseYaml(content: string, path: string): unknown {
  try {
    return parse(content);
  } catch {
    // What the parser says quotes the file, which holds credentials.
    throw unusable(path, 'it is no YAML');
  }
}

async function read(path: string): Promise<string> {
  const content = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw unusable(path, `reading it failed with ${cause.code}`);
  });
  if (content.length > FILE_BYTES_MAX) throw unusable(path, `it has more than ${FILE_BYTES_MAX} characters`);
  return content;
}

function unusable(what: string, found: string): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot ask the API server by "${what}": ${found}`);
}
