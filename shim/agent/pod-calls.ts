import type { ServerResponse } from 'node:http';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { PodWarming } from '../warm/pod-warming.ts';
import {
  CONTROL_BODY_BYTES_MAX,
  CONTROL_PATHS,
  POD_NOTICE_BYTES_MAX,
  POD_SYNC_BYTES_MAX,
  type PodNotice,
  type PodRemoved,
  type PodSync,
  type PullResult,
} from './control-protocol.ts';
import type { PullResults } from './pull-results.ts';

/** The NRI plugin is one reader; a few more may look on. */
const READERS_MAX = 8;
/** What a reader may leave unread, bytes: all recent results twice. Then it is cut off. */
const READER_LAG_BYTES_MAX = 512 * 1024;
/** Longer than any name that Kubernetes allows, characters. */
const NAME_LENGTH_MAX = 253;

/** One call that tells of pods: how long its body may be, bytes, and what it does. */
export interface PodCall {
  readonly bodyBytesMax: number;
  readonly run: (pods: PodWarming, body: unknown) => void;
}

export const podCalls: Readonly<Record<string, PodCall>> = {
  [CONTROL_PATHS.pods]: {
    bodyBytesMax: POD_NOTICE_BYTES_MAX,
    run: (pods, body) => pods.noticed(parsePodNotice(body)),
  },
  [CONTROL_PATHS.podsSync]: {
    bodyBytesMax: POD_SYNC_BYTES_MAX,
    run: (pods, body) => pods.synced(parsePodSync(body).pods),
  },
  [CONTROL_PATHS.podsRemoved]: {
    bodyBytesMax: CONTROL_BODY_BYTES_MAX,
    run: (pods, body) => {
      const { podUid, sandboxId } = parsePodRemoved(body);
      pods.removed(podUid, sandboxId);
    },
  },
};

/** Tells the recent results and then each as it ends, until the reader leaves or falls behind. */
export function streamResults(results: PullResults, response: ServerResponse): void {
  if (results.listenerCount >= READERS_MAX)
    throw new ShoalError(
      ErrorCode.LimitExceeded,
      `Cannot tell results: ${READERS_MAX} readers are told already`,
    );
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  const tell = (result: PullResult): void => {
    response.write(`${JSON.stringify(result)}\n`);
    if (response.writableLength > READER_LAG_BYTES_MAX) response.destroy();
  };
  for (const result of results.recent()) tell(result);
  response.on('close', results.subscribe(tell));
}

/** @throws ConfigInvalid */
export function parsePodNotice(value: unknown): PodNotice {
  const fields = fieldsOf(value, 'pod');
  const sandboxId = optionalText(fields, 'sandboxId');
  const runtimeHandler = optionalText(fields, 'runtimeHandler');
  if (typeof fields.warm !== 'boolean') throw invalid('warm', 'a boolean');
  return {
    podUid: text(fields, 'podUid'),
    namespace: text(fields, 'namespace'),
    name: text(fields, 'name'),
    ...(sandboxId !== undefined && { sandboxId }),
    ...(runtimeHandler !== undefined && { runtimeHandler }),
    labels: texts(fields, 'labels'),
    annotations: texts(fields, 'annotations'),
    warm: fields.warm,
  };
}

function parsePodSync(value: unknown): PodSync {
  const { pods } = fieldsOf(value, 'pods');
  if (!Array.isArray(pods)) throw invalid('pods', 'a list');
  return { pods: pods.map(parsePodNotice) };
}

function parsePodRemoved(value: unknown): PodRemoved {
  const fields = fieldsOf(value, 'pod');
  const sandboxId = optionalText(fields, 'sandboxId');
  return { podUid: text(fields, 'podUid'), ...(sandboxId !== undefined && { sandboxId }) };
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw invalid(what, 'an object');
}

function text(fields: Fields, key: string): string {
  const value = fields[key];
  if (typeof value === 'string' && value !== '' && value.length <= NAME_LENGTH_MAX) return value;
  throw invalid(key, `a text of 1 to ${NAME_LENGTH_MAX} characters`);
}

/** Empty is as good as absent. */
function optionalText(fields: Fields, key: string): string | undefined {
  return fields[key] === undefined || fields[key] === '' ? undefined : text(fields, key);
}

function texts(fields: Fields, key: string): Readonly<Record<string, string>> {
  const found = fieldsOf(fields[key], key);
  const entries = Object.entries(found).filter((entry): entry is [string, string] => {
    if (typeof entry[1] !== 'string') throw invalid(key, 'an object of texts');
    return true;
  });
  return Object.fromEntries(entries);
}

function invalid(key: string, wanted: string): ShoalError {
  return new ShoalError(
    ErrorCode.ConfigInvalid,
    `Cannot read "${key}" of a pod: it is something else, ${wanted} wanted`,
  );
}
