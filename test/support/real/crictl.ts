import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { componentPath } from './components.ts';
import { makeTemporaryRoot } from './temporary-root.ts';

const TIMEOUT_MS = 120_000;
const OUTPUT_BYTES_MAX = 64 << 20;

export interface CrictlOptions {
  /** CRI endpoint for both services, such as `unix:///run/containerd/containerd.sock`, or a socket path. */
  readonly endpoint: string;
  /** Where pulls go, when that is another socket. */
  readonly imageEndpoint?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The gRPC error of a CRI call, as the Go client saw it. */
export class CriCallError extends Error {
  /** Name of the gRPC code, such as `NotFound`. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = 'CriCallError';
    this.code = code;
  }
}

export interface ContainerRun {
  /** A local image's reference or ID. */
  readonly image: string;
  readonly command: readonly string[];
  readonly podName?: string;
  readonly podAnnotations?: Readonly<Record<string, string>>;
}

export interface ContainerResult {
  readonly exitCode: number;
  readonly reason: string;
  readonly imageRef: string;
  readonly podId: string;
}

/** Runs the Go client and gives what it printed as JSON, or undefined when it printed nothing. Throws CriCallError. */
export function runCrictl<T = unknown>(options: CrictlOptions, ...args: readonly string[]): Promise<T> {
  const program = `${componentPath('crictl-go')}/crictl-go`;
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const all = [...endpointFlags(options), '--timeout', `${timeoutMs}ms`, ...args];
  const limits = { maxBuffer: OUTPUT_BYTES_MAX, ...(options.signal && { signal: options.signal }) };
  return new Promise((resolve, reject) => {
    execFile(program, all, limits, (error, stdout, stderr) => {
      if (error) reject(callError(error, stderr));
      else resolve((stdout === '' ? undefined : JSON.parse(stdout)) as T);
    });
  });
}

/** The real crictl, where one is in PATH: for the pulls that people make. Throws with its standard error. */
export function runRealCrictl(options: CrictlOptions, ...args: readonly string[]): Promise<string> {
  const program = findCrictl();
  if (program === null) throw new Error('crictl is not in PATH');
  const limits = { maxBuffer: OUTPUT_BYTES_MAX, timeout: options.timeoutMs ?? TIMEOUT_MS };
  return new Promise((resolve, reject) => {
    execFile(program, [...endpointFlags(options), ...args], limits, (error, stdout, stderr) => {
      if (error) reject(new Error(stderr.trim() || error.message));
      else resolve(stdout);
    });
  });
}

/** The path of crictl when it is in PATH, else null. */
export function findCrictl(): string | null {
  const candidates = (process.env.PATH ?? '').split(':').map((folder) => `${folder}/crictl`);
  return candidates.find(isExecutable) ?? null;
}

/** Pulls and gives the image reference that the runtime answered. */
export async function pull(
  options: CrictlOptions,
  image: string,
  request: { creds?: string; annotations?: Readonly<Record<string, string>>; podConfigPath?: string } = {},
): Promise<string> {
  const flags = Object.entries(request.annotations ?? {}).flatMap(([key, value]) => [
    '--annotation',
    `${key}=${value}`,
  ]);
  if (request.creds !== undefined) flags.push('--creds', request.creds);
  if (request.podConfigPath !== undefined) flags.push('--pod-config', request.podConfigPath);
  const { imageRef } = await runCrictl<{ imageRef: string }>(options, 'pull', ...flags, image);
  return imageRef;
}

/** Runs one container of an image in a pod on the host network, waits for its end and removes the pod. */
export async function runContainer(
  options: CrictlOptions,
  run: ContainerRun,
): Promise<ContainerResult & { output: string }> {
  using folder = makeTemporaryRoot('run');
  const name = run.podName ?? 'sample';
  const logPath = 'container.log';
  writeFileSync(
    `${folder.path}/pod.json`,
    JSON.stringify(podConfig(name, folder.path, run.podAnnotations ?? {})),
  );
  const container = {
    metadata: { name },
    image: { image: run.image },
    command: run.command,
    log_path: logPath,
  };
  writeFileSync(`${folder.path}/container.json`, JSON.stringify({ ...container, linux: {} }));
  const args = ['run', `${folder.path}/pod.json`, `${folder.path}/container.json`];
  const result = await runCrictl<ContainerResult>(options, ...args);
  return { ...result, output: containerOutput(`${folder.path}/${logPath}`) };
}

function endpointFlags({ endpoint, imageEndpoint }: CrictlOptions): string[] {
  const asUrl = (address: string) => (address.startsWith('/') ? `unix://${address}` : address);
  return ['--runtime-endpoint', asUrl(endpoint), '--image-endpoint', asUrl(imageEndpoint ?? endpoint)];
}

function callError(error: Error, stderr: string): Error {
  try {
    const { code, message } = JSON.parse(stderr) as { code: string; message: string };
    return new CriCallError(code, message);
  } catch {
    return new Error(`Cannot run "crictl-go": ${stderr.trim() || error.message}`);
  }
}

/** Network 2 is the node's: it needs no CNI. */
function podConfig(
  name: string,
  logDirectory: string,
  annotations: Readonly<Record<string, string>>,
): object {
  return {
    metadata: { name, uid: `${name}-uid`, namespace: 'default', attempt: 0 },
    log_directory: logDirectory,
    annotations,
    linux: { security_context: { namespace_options: { network: 2 } } },
  };
}

/** Lines of a CRI log are `TIME STREAM P|F TEXT`; P is a part of a longer line. */
function containerOutput(logPath: string): string {
  if (!existsSync(logPath)) return '';
  const lines = [...readFileSync(logPath, 'utf8').matchAll(/^\S+ std(?:out|err) ([PF]) (.*)$/gm)];
  return lines.map(([, tag, text]) => (tag === 'P' ? text : `${text}\n`)).join('');
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
