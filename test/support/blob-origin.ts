import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent, request } from 'undici';
import { type Digest, digestFromHex } from '../../shim/base/digest.ts';
import { ErrorCode, ShoalError } from '../../shim/base/errors.ts';
import type { ReadOrigin } from '../../shim/peer/transfer.ts';

export interface SampleBlob {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

export function sampleBlob(sizeBytes: number): SampleBlob {
  const bytes = randomBytes(sizeBytes);
  return { bytes, digest: digestFromHex(createHash('sha256').update(bytes).digest('hex')) };
}

/** What a test may do to one request before the usual answer; true when it has answered itself. */
export type Misbehave = (request: IncomingMessage, response: ServerResponse, count: number) => boolean;

/** A real HTTP server with one blob a digest, and range requests. */
export class BlobOrigin {
  readonly #server = createServer((incoming, response) => this.#answer(incoming, response));
  readonly #blobs = new Map<string, Buffer>();
  readonly #agent = new Agent({ connections: 64 });
  /** Body bytes that were sent. */
  bytesSent = 0;
  requests = 0;
  misbehave: Misbehave = () => false;

  static async start(...blobs: SampleBlob[]): Promise<BlobOrigin> {
    const origin = new BlobOrigin();
    for (const blob of blobs) origin.#blobs.set(`/${blob.digest}`, blob.bytes);
    await new Promise<void>((resolve) => origin.#server.listen(0, '127.0.0.1', resolve));
    return origin;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  reader(digest: Digest): ReadOrigin {
    return async (range, signal) => {
      const last = range.offsetBytes + range.lengthBytes - 1;
      const headers = { range: `bytes=${range.offsetBytes}-${last}` };
      const answer = await request(`${this.url}/${digest}`, {
        headers,
        signal,
        dispatcher: this.#agent,
      }).catch((cause) => {
        throw new ShoalError(ErrorCode.RegistryUnavailable, 'Cannot read blob: no answer', {
          cause,
          retriable: true,
        });
      });
      if (answer.statusCode === 206) return answer.body;
      await answer.body.dump();
      throw statusError(answer.statusCode);
    };
  }

  /** Ends all connections, as a registry that is stopped does. */
  hangUp(): void {
    this.#server.closeAllConnections();
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(incoming: IncomingMessage, response: ServerResponse): void {
    this.requests += 1;
    if (this.misbehave(incoming, response, this.requests)) return;
    const blob = this.#blobs.get(incoming.url ?? '');
    const range = /^bytes=(\d+)-(\d+)$/.exec(incoming.headers.range ?? '');
    if (blob === undefined || range === null) {
      response.writeHead(404).end();
      return;
    }
    const body = blob.subarray(Number(range[1]), Number(range[2]) + 1);
    this.bytesSent += body.length;
    response.writeHead(206, { 'content-length': body.length }).end(body);
  }
}

function statusError(status: number): ShoalError {
  if (status === 401) return new ShoalError(ErrorCode.Unauthorized, 'Cannot read blob: 401');
  if (status === 404) return new ShoalError(ErrorCode.NotFound, 'Cannot read blob: 404');
  return new ShoalError(ErrorCode.RegistryUnavailable, `Cannot read blob: ${status}`, { retriable: true });
}
