import { parentPort } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import { ShoalError } from '../base/errors.ts';
import { JobControl } from './control.ts';
import type { ZstdBackend } from './inflate.ts';
import { unpackLayer } from './unpack-layer.ts';
import type { UnpackJob, UnpackResult } from './unpack-pool.ts';

/** One job at a time; ahead of its answer come messages about how far it has read. */
export interface WorkerRequest {
  readonly job: UnpackJob;
  readonly control: SharedArrayBuffer;
  readonly zstd: ZstdBackend | undefined;
}

export type WorkerAnswer =
  | { readonly readBytes: number }
  | { readonly result: UnpackResult }
  | { readonly failure: Pick<ShoalError, 'code' | 'message' | 'facts'> }
  | { readonly bug: string };

assert(parentPort !== null, 'the unpack worker runs in a worker thread');
const port = parentPort;

port.on('message', async (request: WorkerRequest) => {
  port.postMessage(await answerTo(request));
});

async function answerTo({ job, control, zstd }: WorkerRequest): Promise<WorkerAnswer> {
  try {
    const onRead = (readBytes: number): void => port.postMessage({ readBytes } satisfies WorkerAnswer);
    return { result: await unpackLayer(job, new JobControl(control, onRead), zstd) };
  } catch (error) {
    if (error instanceof ShoalError)
      return { failure: { code: error.code, message: error.message, facts: error.facts } };
    return { bug: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
