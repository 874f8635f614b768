import {
  ApiException,
  type ConfigurationOptions,
  KubeConfig,
  Observable,
  type ObservableMiddleware,
  type RequestContext,
  setHeaderMiddleware,
} from '@kubernetes/client-node';
import { ErrorCode, ShoalError } from '../shim/base/errors.ts';

/** No single call takes longer; the API server itself gives up after 60 s. */
const CALL_TIMEOUT_MS = 20_000;
/** Certificates of the API server and of users change on disk; connections with the old ones are not kept longer. */
const DISPATCHER_AGE_MS = 10 * 60_000;

type Dispatcher = ReturnType<RequestContext['getDispatcher']>;

/** The official client's configuration, with connections that are used again: by itself it makes a pool for each call. */
export class PooledKubeConfig extends KubeConfig {
  #dispatcher: Dispatcher;
  #madeAtMs = Number.NEGATIVE_INFINITY;

  override async applySecurityAuthentication(context: RequestContext): Promise<void> {
    await super.applySecurityAuthentication(context);
    const nowMs = performance.now();
    if (nowMs - this.#madeAtMs > DISPATCHER_AGE_MS) {
      this.#dispatcher = context.getDispatcher();
      this.#madeAtMs = nowMs;
    }
    if (this.#dispatcher !== undefined) context.setDispatcher(this.#dispatcher);
  }
}

/** From the file, or from the pod's service account where none is given. @throws ShoalError ConfigInvalid */
export function loadKubeConfig(path: string | undefined): PooledKubeConfig {
  const config = new PooledKubeConfig();
  try {
    if (path === undefined) config.loadFromCluster();
    else config.loadFromFile(path);
  } catch (cause) {
    const where = path ?? 'the service account of this pod';
    throw new ShoalError(ErrorCode.ConfigInvalid, `Cannot read "${where}": it is no kubeconfig`, { cause });
  }
  return config;
}

/** What each call of the client is given: an end in time, and the media type to ask for. */
export function callOptions(
  signal: AbortSignal,
  accept?: string,
): ConfigurationOptions<ObservableMiddleware> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]);
  const middleware: ObservableMiddleware[] = [
    {
      pre: (context) => {
        context.setSignal(bounded);
        return new Observable(Promise.resolve(context));
      },
      post: (context) => new Observable(Promise.resolve(context)),
    },
  ];
  if (accept !== undefined) middleware.push(setHeaderMiddleware('Accept', accept));
  return { middleware, middlewareMergeStrategy: 'append' };
}

/** The HTTP status that the API server answered with; undefined where it did not answer. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof ApiException) return error.code;
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number'
    ? error.statusCode
    : undefined;
}

/** Undefined where there is no such object. */
export async function orUndefined<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}

/**
 * What may be told about a failed call. The client's own error holds the whole answer, secrets and all, and one of JSON a
 * piece of it; only a TypeError is sure to speak of the connection or of our own code.
 */
export function describeCallError(error: unknown): string {
  const status = statusOf(error);
  if (status !== undefined) return `the API server answered ${status}`;
  if (!(error instanceof Error)) return 'failed';
  const { cause } = error;
  const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : '';
  return error instanceof TypeError ? `${error.message}${code}` : `${error.name}${code}`;
}
