import { request as httpRequest, type IncomingMessage } from 'node:http';
import { ErrorCode, nodeErrorCode, ShoalError } from '../shim/base/errors.ts';

/** The agent answers at once; a longer silence is a frozen agent, ms. */
export const ANSWER_TIMEOUT_MS = 5000;
/** What is read of a refusal, bytes. */
const ANSWER_BYTES_MAX = 8 * 1024;

export interface AgentCall {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: string;
}

/**
 * One call over the agent's control socket; resolves with the answer's head when it is 200. From then on the signal has no
 * say: whoever reads on destroys what it does not want to read to the end.
 * @throws ShoalError `StoreUnavailable` (no agent, or no answer in time), `Unsupported` (refused)
 */
export async function callAgent(
  socketPath: string,
  call: AgentCall,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const over = new AbortController();
  const giveUp = (): void => over.abort();
  let isSilent = false;
  const timer = setTimeout(() => {
    isSilent = true;
    giveUp();
  }, ANSWER_TIMEOUT_MS);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    if (signal.aborted) giveUp();
    const response = await send(socketPath, call, over.signal);
    if (response.statusCode === 200) return response;
    const found = `${response.statusCode} ${(await readText(response)).trim()}`;
    throw new ShoalError(
      ErrorCode.Unsupported,
      `Cannot ask the agent "${call.path}": found ${found}, wanted 200`,
    );
  } catch (error) {
    if (error instanceof ShoalError) throw error;
    const found = isSilent
      ? `no answer within ${ANSWER_TIMEOUT_MS} ms`
      : (nodeErrorCode(error) ?? 'a broken connection');
    throw new ShoalError(
      ErrorCode.StoreUnavailable,
      `Cannot reach the agent at "${socketPath}": found ${found}, wanted an answer`,
      { cause: error, retriable: true },
    );
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', giveUp);
  }
}

/** The same for a call whose answer says nothing more. */
export async function tellAgent(socketPath: string, call: AgentCall, signal: AbortSignal): Promise<void> {
  const response = await callAgent(socketPath, call, signal);
  response.resume();
}

function send(socketPath: string, call: AgentCall, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { method, path, body } = call;
    // No pool: a connection kept from before would be that of an agent that is gone.
    const request = httpRequest({ socketPath, method, path, signal, agent: false }, resolve);
    request.on('error', reject);
    request.end(body);
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    sizeBytes += part.length;
    if (sizeBytes > ANSWER_BYTES_MAX) break;
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}
