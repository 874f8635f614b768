import { setTimeout as sleep } from 'node:timers/promises';
import { isShoalError, ShoalError } from '../base/errors.ts';
import { ApiClient, type ApiRequest, unavailable } from './api-client.ts';
import type { OpenAccess } from './cluster-access.ts';
import { listOf, memberOf, textOf } from './json.ts';

/** Pause before the first new attempt, ms; each further one doubles it. */
const BACK_OFF_FIRST_MS = 500;
/** An API server that comes back is noticed within this, ms; a thousand nodes must not storm it. */
const BACK_OFF_MAX_MS = 30_000;
/** Objects asked for at a time. */
const PAGE_ITEMS = 100;
/** HTTP status and code of an event: the resource version is too old to go on from. */
const GONE = 410;

export interface FollowOptions {
  readonly openAccess: OpenAccess;
  readonly list: ApiRequest;
  /** For the watch, where its answers are asked for in another form. Default: that of the list. */
  readonly watchAccept?: string;
  /** Objects held at once; what a list has beyond is left out. */
  readonly itemsMax: number;
  /** All there is, after each list. */
  readonly onList: (items: readonly unknown[]) => void;
  readonly onChange: (type: 'put' | 'removed', item: unknown) => void;
  /** Told when following begins to fail, and with undefined when it goes on. */
  readonly onState: (failure: ShoalError | undefined) => void;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/**
 * Lists objects and follows their changes until `signal` aborts. Never rejects: while the API server cannot be asked it tries
 * again, and what was told before stands.
 */
export async function followList(options: FollowOptions, signal: AbortSignal): Promise<void> {
  let failures = 0;
  let failing = false;
  const onOpen = (): void => {
    if (failing) options.onState(undefined);
    failing = false;
  };
  const onEvent = (): void => {
    failures = 0;
  };
  const follower = new Follower(options, onOpen, onEvent);
  while (!signal.aborted) {
    try {
      await follower.follow(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!failing) options.onState(asShoalError(error, options.list.path));
      failing = true;
    }
    await sleep(backOffMs(failures, options.random()), undefined, { signal }).catch(() => undefined);
    failures += 1;
  }
}

/** Doubles from half a second to half a minute; of each, between half and all. */
export function backOffMs(failures: number, random: number): number {
  const fullMs = Math.min(BACK_OFF_MAX_MS, BACK_OFF_FIRST_MS * 2 ** Math.min(failures, 16));
  return (fullMs * (1 + random)) / 2;
}

class Follower {
  readonly #options: FollowOptions;
  readonly #onOpen: () => void;
  readonly #onEvent: () => void;
  /** Where the next watch takes up; undefined: a list comes first. */
  #version: string | undefined;

  constructor(options: FollowOptions, onOpen: () => void, onEvent: () => void) {
    this.#options = options;
    this.#onOpen = onOpen;
    this.#onEvent = onEvent;
  }

  /** One connection: a list if one is needed, and watches until one fails. */
  async follow(signal: AbortSignal): Promise<void> {
    const client = new ApiClient(await this.#options.openAccess());
    try {
      this.#version ??= await this.#list(client, signal);
      await this.#watch(client, this.#version, signal);
    } catch (error) {
      if (isShoalError(error) && error.facts.status === GONE) this.#version = undefined;
      throw error;
    } finally {
      await client.close();
    }
  }

  async #list(client: ApiClient, signal: AbortSignal): Promise<string> {
    const { list, itemsMax, onList } = this.#options;
    const items: unknown[] = [];
    let next = '';
    let version: string | undefined;
    do {
      const query = { ...list.query, limit: String(PAGE_ITEMS), ...(next && { continue: next }) };
      const page = await client.get({ ...list, query }, signal);
      items.push(...listOf(page, 'items'));
      const metadata = memberOf(page, 'metadata');
      version = textOf(metadata, 'resourceVersion');
      next = textOf(metadata, 'continue') ?? '';
    } while (next !== '' && items.length < itemsMax);
    if (version === undefined) throw unavailable(list.path, 'its list has no resource version', {});
    onList(items.slice(0, itemsMax));
    return version;
  }

  async #watch(client: ApiClient, from: string, signal: AbortSignal): Promise<void> {
    const { list, watchAccept, onChange } = this.#options;
    const asked = watchAccept === undefined ? list : { ...list, accept: watchAccept };
    for await (const event of client.watch(asked, from, this.#onOpen, signal)) {
      const type = textOf(event, 'type');
      const object = memberOf(event, 'object');
      if (type === 'ERROR') throw failureOf(list.path, object);
      this.#onEvent();
      this.#version = textOf(memberOf(object, 'metadata'), 'resourceVersion') ?? this.#version;
      if (type === 'ADDED' || type === 'MODIFIED') onChange('put', object);
      if (type === 'DELETED') onChange('removed', object);
    }
  }
}

function failureOf(path: string, status: unknown): ShoalError {
  const code = memberOf(status, 'code');
  const known = typeof code === 'number' ? code : 0;
  return unavailable(path, `the watch ended with code ${known}`, { status: known });
}

function asShoalError(error: unknown, path: string): ShoalError {
  return error instanceof ShoalError ? error : unavailable(path, 'an internal failure', {}, error);
}
