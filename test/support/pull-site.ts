import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { type Agent, type AgentOptions, startAgent } from './agent.ts';
import { freePort } from './free-port.ts';
import type { BuiltImage } from './images/build-image.ts';
import { type PushedImage, pushImage } from './images/push-image.ts';
import { buildSandboxImage } from './images/samples.ts';
import { type Containerd, type ContainerdOptions, startContainerd } from './real/containerd.ts';
import type { CrictlOptions } from './real/crictl.ts';
import { containerdState, testedVersion } from './real/import-site.ts';
import { type Registry, startRegistry } from './real/registry.ts';
import { type RegistryGate, type RegistryGateOptions, startRegistryGate } from './real/registry-gate.ts';

/** Trees are removed behind an abort, and containerd collects garbage in the background. */
const CLEAN_WAIT_MS = 10_000;
const POLL_MS = 50;

/** A registry behind a gate that counts and misbehaves. Images are pushed past the gate and pulled through it. */
export interface OriginSite extends AsyncDisposable {
  readonly registry: Registry;
  readonly gate: RegistryGate;
  /** The references name the gate. */
  push(image: BuiltImage, repository: string, tag?: string): Promise<PushedImage>;
}

export async function startOriginSite(
  options: Omit<RegistryGateOptions, 'upstream'> = {},
): Promise<OriginSite> {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const gate = stack.use(await startRegistryGate({ upstream: registry.url, ...options }));
  const owned = stack.move();
  return {
    registry,
    gate,
    push: async (image, repository, tag = 'v1') => {
      await pushImage(image, { host: registry.host, repository, tag });
      const name = `${gate.host}/${repository}`;
      const manifestUrl = `${gate.url}/v2/${repository}/manifests/${tag}`;
      return {
        reference: `${name}:${tag}`,
        digestReference: `${name}@${image.root.digest}`,
        manifestUrl,
      };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export interface NodeSiteOptions {
  /** Where the sandbox image is pushed; without it no pods run. */
  readonly origin?: OriginSite;
  readonly containerd?: ContainerdOptions;
  readonly agent?: Partial<AgentOptions>;
}

/** One node: a containerd and an agent in front of it. */
export interface NodeSite extends AsyncDisposable {
  readonly containerd: Containerd;
  readonly agent: Agent;
  /** CRI through the agent. */
  readonly cri: CrictlOptions;
}

export async function startNodeSite(options: NodeSiteOptions = {}): Promise<NodeSite> {
  await using stack = new AsyncDisposableStack();
  const sandboxImage = options.origin && (await pushSandbox(options.origin));
  const containerd = stack.use(
    await startContainerd({
      version: testedVersion,
      ...(sandboxImage && { sandboxImage }),
      ...options.containerd,
    }),
  );
  const agent = stack.use(
    await startAgent({
      name: 'node',
      containerd: containerd.socket,
      containerdConfigFile: containerd.configFile,
      ...options.agent,
    }),
  );
  const owned = stack.move();
  return {
    containerd,
    agent,
    cri: { endpoint: agent.criSocket },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function pushSandbox({ registry }: OriginSite): Promise<string> {
  using sandbox = await buildSandboxImage();
  return (await pushImage(sandbox, { host: registry.host, repository: 'pause', tag: 'v1' })).reference;
}

/** Agents with the layout store that know each other. */
export async function startPeers(
  names: readonly string[],
  options: Partial<AgentOptions> = {},
): Promise<AsyncDisposable & { readonly agents: readonly Agent[] }> {
  await using stack = new AsyncDisposableStack();
  const addresses = await Promise.all(names.map(async () => `127.0.0.1:${await freePort()}`));
  const start = async (name: string, index: number): Promise<Agent> => {
    const listen = addresses[index] ?? '';
    const peers = addresses.filter((address) => address !== listen);
    return stack.use(await startAgent({ name, listen, peers, ...options }));
  };
  const agents = await Promise.all(names.map(start));
  const owned = stack.move();
  return { agents, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Fails unless nothing half-done is left: no lease, ingest, active snapshot or staged tree. */
export async function assertNothingLeft({ containerd }: NodeSite): Promise<void> {
  const left = await eventually(
    () => leftBehind(containerd),
    (found) => found.every((list) => list.length === 0),
  );
  assert.equal(left, [[], [], [], []], 'leases, ingests, active snapshots, staged trees');
}

async function leftBehind(containerd: Containerd): Promise<string[][]> {
  const { leases, ingests } = await containerdState(containerd);
  const snapshots = (await containerd.ctr('snapshots', 'ls')).split('\n');
  const active = snapshots.filter((line) => /\bActive\s*$/.test(line));
  // What containerd itself could not finish it keeps for its next try, under names of its own.
  const ours = ingests.filter((line) => line.startsWith('shoal-'));
  return [leases, ours, active, stagedTrees(containerd)];
}

function stagedTrees({ root }: Containerd): string[] {
  const staging = join(root, 'io.containerd.snapshotter.v1.overlayfs/shoal-staging');
  return readdirSync(staging).filter((name) => !name.endsWith('.lock'));
}

/** Reads until the value is as wanted, or gives the last one when time is up. */
export async function eventually<T>(
  read: () => Promise<T> | T,
  wanted: (value: T) => boolean,
  timeoutMs = CLEAN_WAIT_MS,
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const value = await read();
    if (wanted(value) || performance.now() > deadlineMs) return value;
    await sleep(POLL_MS);
  }
}

/** The rejection of a promise; fails when there is none. */
export async function failureOf(promise: Promise<unknown>): Promise<Error & { readonly code?: string }> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error as Error & { readonly code?: string },
  );
  if (outcome === undefined) throw new Error('Cannot take the failure: the call succeeded');
  return outcome;
}
