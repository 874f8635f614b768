import { setTimeout as sleep } from 'node:timers/promises';
import { isShoalError } from '../base/errors.ts';
import type { ImagePlan } from '../store/image-store.ts';
import { api } from './api.ts';
import type { ContainerdClient } from './containerd-client.ts';
import { recordNames } from './image-records.ts';
import type { CriImage } from './messages.ts';

/** CRI hears of new records through events, some milliseconds later. */
const POLL_FIRST_MS = 1;
const POLL_MAX_MS = 100;
/** After that the pull is told as done all the same: a CRI that hears nothing reads the records when it starts. */
const VISIBLE_WAIT_MAX_MS = 2_000;

/** Waits until the CRI plugin shows the image under all its names, so that a client may ask for it right after its pull. */
export async function waitForCri(
  client: ContainerdClient,
  plan: ImagePlan,
  signal: AbortSignal,
): Promise<void> {
  const id = plan.config.descriptor.digest;
  const deadlineMs = performance.now() + VISIBLE_WAIT_MAX_MS;
  for (
    let waitMs = POLL_FIRST_MS;
    performance.now() < deadlineMs;
    waitMs = Math.min(waitMs * 2, POLL_MAX_MS)
  ) {
    const image = await askForImage(client, id, signal);
    if (image === 'no CRI' || showsAll(image, recordNames(plan).flat())) return;
    await sleep(waitMs, undefined, { signal }).catch(() => undefined);
  }
}

async function askForImage(
  client: ContainerdClient,
  id: string,
  signal: AbortSignal,
): Promise<CriImage | null | 'no CRI'> {
  try {
    const options = { signal, doing: `ask for image "${id}"` };
    return (await client.call(api.cri.imageStatus, { image: { image: id } }, options)).image;
  } catch (error) {
    if (isShoalError(error, 'STORE_FAILED')) return 'no CRI';
    throw error;
  }
}

function showsAll(image: CriImage | null, names: readonly string[]): boolean {
  if (image === null) return false;
  const shown = new Set([image.id, ...image.repoTags, ...image.repoDigests]);
  return names.every((name) => shown.has(name));
}
