import { request as httpRequest, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';
import {
  type AgentStatus,
  CONTROL_PATHS,
  type PodNotice,
  type PodRemoved,
  type PodSync,
  type PullCommand,
  type PullEvent,
  type PullResult,
} from './control-protocol.ts';

/** Asks the running agent to pull; yields its events, the last of which is `done` or `failed`. @throws StoreUnavailable */
export async function* pullThroughAgent(
  socketPath: string,
  command: PullCommand,
  signal: AbortSignal,
): AsyncGenerator<PullEvent> {
  const response = await call(socketPath, {
    method: 'POST',
    path: CONTROL_PATHS.pull,
    body: JSON.stringify(command),
    signal,
  });
  for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY }))
    yield JSON.parse(line) as PullEvent;
}

export async function readStatus(socketPath: string, signal: AbortSignal): Promise<AgentStatus> {
  const response = await call(socketPath, {
    method: 'GET',
    path: CONTROL_PATHS.status,
    body: undefined,
    signal,
  });
  return JSON.parse(await text(response)) as AgentStatus;
}

/** Tells the agent of a pod; warming it goes on in the background. @throws StoreUnavailable, ConfigInvalid */
export function noticePod(socketPath: string, notice: PodNotice, signal: AbortSignal): Promise<void> {
  return tell(socketPath, CONTROL_PATHS.pods, notice, signal);
}

/** Replaces all pods that the agent remembers from the node's runtime. */
export function syncPods(socketPath: string, pods: PodSync, signal: AbortSignal): Promise<void> {
  return tell(socketPath, CONTROL_PATHS.podsSync, pods, signal);
}

export function removePod(socketPath: string, pod: PodRemoved, signal: AbortSignal): Promise<void> {
  return tell(socketPath, CONTROL_PATHS.podsRemoved, pod, signal);
}

/** The recent results, then each as it ends, until the agent leaves or cuts a reader off that does not keep up. */
export async function* readPullResults(socketPath: string, signal: AbortSignal): AsyncGenerator<PullResult> {
  const path = CONTROL_PATHS.podsResults;
  const response = await call(socketPath, { method: 'GET', path, body: undefined, signal });
  for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY }))
    yield JSON.parse(line) as PullResult;
}

async function tell(socketPath: string, path: string, body: unknown, signal: AbortSignal): Promise<void> {
  const response = await call(socketPath, { method: 'POST', path, body: JSON.stringify(body), signal });
  await text(response);
}

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body: string | undefined;
  readonly signal: AbortSignal;
}

async function call(socketPath: string, { method, path, body, signal }: Call): Promise<IncomingMessage> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = httpRequest({ socketPath, method, path, signal }, resolve);
    request.on('error', (cause) => reject(unreachableAgent(socketPath, cause)));
    request.end(body);
  });
  if (response.statusCode === 200) return response;
  const answer = JSON.parse(await text(response)) as { code: ErrorCode; message: string };
  throw new ShoalError(answer.code, answer.message);
}

async function text(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

function unreachableAgent(socketPath: string, cause: unknown): ShoalError {
  const found = nodeErrorCode(cause) ?? 'failed';
  return new ShoalError(
    ErrorCode.StoreUnavailable,
    `Cannot reach the agent at "${socketPath}": ${found}; start it with "shoal agent", or pull without one with --store DIR`,
    { cause },
  );
}
