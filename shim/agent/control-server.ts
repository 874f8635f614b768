import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { ErrorCode, isShoalError, ShoalError } from '../base/errors.ts';
import { PullProgress } from '../pull/progress.ts';
import type { PodWarming } from '../warm/pod-warming.ts';
import {
  type AgentStatus,
  CONTROL_BODY_BYTES_MAX,
  CONTROL_PATHS,
  PROGRESS_INTERVAL_MS,
  type PullCommand,
  type PullEvent,
} from './control-protocol.ts';
import { type PodCall, podCalls, streamResults } from './pod-calls.ts';
import type { PullResults } from './pull-results.ts';
import type { PullEnd, PullService } from './pull-service.ts';

export interface ControlOptions {
  readonly pulls: PullService;
  readonly pods: PodWarming;
  readonly results: PullResults;
  readonly status: () => AgentStatus;
}

/** The agent's side of the control protocol. The caller listens. */
export function createControlServer(options: ControlOptions): Server {
  return createServer((request, response) => {
    route(options, request, response).catch((error: unknown) => answerError(response, error));
  });
}

async function route(
  options: ControlOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method, url } = request;
  if (method === 'GET' && url === CONTROL_PATHS.status) return answerJson(response, 200, options.status());
  if (method === 'POST' && url === CONTROL_PATHS.pull) return runPull(options.pulls, request, response);
  if (method === 'GET' && url === CONTROL_PATHS.podsResults) return streamResults(options.results, response);
  const podCall = method === 'POST' ? podCalls[url ?? ''] : undefined;
  if (podCall !== undefined) return tellOfPods(options.pods, podCall, request, response);
  return answerJson(response, 404, {
    code: ErrorCode.NotFound,
    message: `Cannot serve "${method} ${url}": no such call`,
  });
}

async function tellOfPods(
  pods: PodWarming,
  { bodyBytesMax, run }: PodCall,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  run(pods, parseJson(await readBody(request, bodyBytesMax)));
  answerJson(response, 200, {});
}

async function runPull(
  pulls: PullService,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const command = parseCommand(await readBody(request));
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  const progress = new PullProgress(command.image);
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const tell = (event: PullEvent): void => {
    // A reader that does not keep up misses progress, never the end.
    if (event.kind !== 'progress' || !response.writableNeedDrain)
      response.write(`${JSON.stringify(event)}\n`);
  };
  const timer = setInterval(
    () => tell({ kind: 'progress', pull: progress.snapshot() }),
    PROGRESS_INTERVAL_MS,
  );
  try {
    const { image, username, password } = command;
    const credentials = username === undefined ? undefined : { username, password: password ?? '' };
    const end = await pulls.pull({ image, credentials, runtimeHandler: undefined }, gone.signal, progress);
    tell(endEvent(end, progress));
  } finally {
    clearInterval(timer);
    response.end();
  }
}

export function endEvent(end: PullEnd, progress: PullProgress): PullEvent {
  if (end.kind === 'failed') {
    const code = isShoalError(end.error) ? end.error.code : 'INTERNAL';
    const message = end.error instanceof Error ? end.error.message : String(end.error);
    return { kind: 'failed', code, message, seconds: end.seconds };
  }
  const { imageId, digest, imageBytes, counts } = end.result;
  return {
    kind: 'done',
    imageId,
    digest,
    imageBytes,
    counts,
    seconds: end.seconds,
    pull: progress.snapshot(),
  };
}

async function readBody(
  request: IncomingMessage,
  sizeBytesMax: number = CONTROL_BODY_BYTES_MAX,
): Promise<string> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of request) {
    sizeBytes += part.length;
    if (sizeBytes > sizeBytesMax)
      throw new ShoalError(ErrorCode.LimitExceeded, `Cannot read the command: over ${sizeBytesMax} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseCommand(text: string): PullCommand {
  const invalid = new ShoalError(
    ErrorCode.InvalidReference,
    'Cannot read the command: JSON with a string "image" wanted',
  );
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw invalid;
  }
  if (typeof parsed !== 'object' || parsed === null) throw invalid;
  const { image, username, password } = parsed as Record<string, unknown>;
  if (typeof image !== 'string') throw invalid;
  return {
    image,
    ...(typeof username === 'string' ? { username } : {}),
    ...(typeof password === 'string' ? { password } : {}),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ShoalError(ErrorCode.ConfigInvalid, 'Cannot read what was sent: it is not JSON');
  }
}

function answerError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const code = isShoalError(error) ? error.code : 'INTERNAL';
  answerJson(response, 400, { code, message: error instanceof Error ? error.message : String(error) });
}

function answerJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}
