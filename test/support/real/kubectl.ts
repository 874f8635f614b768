import { execFile } from 'node:child_process';
import { componentPath } from './components.ts';

const TIMEOUT_MS = 120_000;
const OUTPUT_BYTES_MAX = 64 << 20;

/** What a user has of a cluster: kubectl and a kubeconfig file. */
export interface Kubectl {
  /** Gives the standard output; throws with the standard error. */
  run(...args: readonly string[]): Promise<string>;
  /** `kubectl get … -o json`, parsed. */
  get<T = KubeObject>(...args: readonly string[]): Promise<T>;
  /** `kubectl apply -f -` with the objects as one list. Gives what kubectl said. */
  apply(...objects: readonly object[]): Promise<string>;
  /** Any command that reads objects from its standard input: `pipe(objects, 'create', '-f', '-')`. */
  pipe(objects: readonly object[], ...args: readonly string[]): Promise<string>;
}

export interface KubeObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

export interface KubectlOptions {
  readonly kubeconfig: string;
  /** kubectl keeps what it found out about the API here, not below the home directory. */
  readonly cacheDirectory: string;
}

export function makeKubectl(options: KubectlOptions): Kubectl {
  const run = (...args: readonly string[]) => runKubectl(options, args);
  const pipe = (objects: readonly object[], ...args: readonly string[]) =>
    runKubectl(options, args, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  return {
    run,
    pipe,
    get: async (...args) => JSON.parse(await run('get', ...args, '-o', 'json')),
    apply: (...objects) => pipe(objects, 'apply', '-f', '-'),
  };
}

function runKubectl(options: KubectlOptions, args: readonly string[], input = ''): Promise<string> {
  const flags = [`--kubeconfig=${options.kubeconfig}`, `--cache-dir=${options.cacheDirectory}`];
  return new Promise((resolve, reject) => {
    const child = execFile(
      `${componentPath('kubernetes')}/kubectl`,
      [...flags, ...args],
      { timeout: TIMEOUT_MS, maxBuffer: OUTPUT_BYTES_MAX },
      (error, stdout, stderr) => {
        if (error) reject(new Error(`Cannot run "kubectl ${args[0]}": ${stderr.trim() || error.message}`));
        else resolve(stdout);
      },
    );
    // A kubectl that refuses its arguments has closed its input before it is written.
    child.stdin?.once('error', () => {}).end(input);
  });
}
