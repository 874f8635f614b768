/**
 * `make bench-webhook`: pod creations (`dryRun=All`) on a real API server in a namespace whose pods go through the webhook
 * and in one whose pods do not, in pairs, at a fixed rate whatever comes back. One JSON line; what is added is the median
 * of ten rounds, since a busy machine stalls both by more than a webhook takes.
 * RATE=200 (creations a second; less where the API server alone gives less), SECONDS=30, REPLICAS=2.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { canRun } from '../../test/support/real/components.ts';
import { type KubeApi, startKubeApi } from '../../test/support/real/kube-api.ts';
import {
  CONFIG_KEY,
  installWebhook,
  MODE_KEY,
  podManifest,
  type Replica,
  startReplica,
  webhookSkipReason,
} from '../../test/support/webhook.ts';
import { median, percentile } from './median.ts';

const [WITH, WITHOUT] = ['with', 'without'] as const;
const CONNECTIONS = 64;
const WARM_UP_PAIRS = 200;
/** Of what the API server gives alone: beyond that a bench measures its queue. */
const CAPACITY_SHARE = 0.5;
const CAPACITY_WORKERS = 8;
const CAPACITY_MS = 4_000;
const ROUNDS = 10;
const REPLICA_NAMES = ['one', 'two', 'three', 'four'];

type Place = typeof WITH | typeof WITHOUT;
interface Creation {
  readonly ms: number;
  /** Whether the webhook has changed the pod. */
  readonly admitted: boolean;
}
type Create = (place: Place) => Promise<Creation>;

async function main(): Promise<void> {
  const [rate, seconds, count] = [setting('RATE', 200), setting('SECONDS', 30), setting('REPLICAS', 2)];
  await using api = await startKubeApi();
  const webhook = await installWebhook(api, { namespaces: [WITH], others: [WITHOUT] });
  await api.kubectl.run('label', 'namespace', WITH, `${MODE_KEY}=p2p`);
  await using replicas = new AsyncDisposableStack();
  const started: Replica[] = [];
  for (const name of REPLICA_NAMES.slice(0, count))
    started.push(replicas.use(await startReplica(webhook, name)));
  await using pool = makePool(api);
  const create = makeCreate(pool, api.token);
  for (let pair = 0; pair < WARM_UP_PAIRS; pair++) await Promise.all([create(WITH), create(WITHOUT)]);
  const capacity = await measureCapacity(create);
  const used = Math.min(rate, capacity * CAPACITY_SHARE);
  const rounds: Pair[][] = [];
  for (let round = 0; round < ROUNDS; round++)
    rounds.push(await measurePairs(create, used, seconds / ROUNDS));
  const rss = await Promise.all(started.map((each) => each.metric('shoal_webhook_resident_memory_bytes')));
  const figures = { case: 'webhook', replicas: count, perSecond: Math.round(used), ...figuresOf(rounds) };
  const capacityPerSecond = Math.round(capacity);
  console.log(
    JSON.stringify({ ...figures, capacityPerSecond, rssBytes: Math.max(...rss.map((each) => each ?? 0)) }),
  );
}

interface Pair {
  readonly through: Creation;
  readonly past: Creation;
}

function figuresOf(rounds: readonly (readonly Pair[])[]) {
  const pairs = rounds.flat();
  const timesOf = (some: readonly Pair[]) => ({
    through: some.map((pair) => pair.through.ms),
    past: some.map((pair) => pair.past.ms),
  });
  const added = (part: number) =>
    rounds.map(timesOf).map(({ through, past }) => percentile(through, part) - percentile(past, part));
  const round = (value: number) => Number(value.toFixed(2));
  const { through, past } = timesOf(pairs);
  return {
    pairs: pairs.length,
    // Created unchanged, because the API server did not wait for the webhook any longer.
    missed: pairs.filter((pair) => !pair.through.admitted).length,
    withoutMs: { p50: round(median(past)), p99: round(percentile(past, 0.99)) },
    withMs: { p50: round(median(through)), p99: round(percentile(through, 0.99)) },
    addedP50Ms: round(median(added(0.5))),
    addedP99Ms: round(median(added(0.99))),
    addedP99MsByRound: added(0.99).map((each) => Math.round(each)),
  };
}

/** What comes back from as many as ask at a time, past the webhook. */
async function measureCapacity(create: Create): Promise<number> {
  const startedMs = performance.now();
  let created = 0;
  const worker = async () => {
    for (; performance.now() - startedMs < CAPACITY_MS; created++) await create(WITHOUT);
  };
  await Promise.all(Array.from({ length: CAPACITY_WORKERS }, worker));
  return (created / (performance.now() - startedMs)) * 1000;
}

/** Pairs start at fixed moments; the two of a pair half a step apart, in an order that changes. */
async function measurePairs(create: Create, perSecond: number, seconds: number): Promise<Pair[]> {
  const stepMs = 2000 / perSecond;
  const startedMs = performance.now();
  const pairs: Promise<Pair>[] = [];
  for (let index = 0; index * stepMs < seconds * 1000; index++) {
    await sleep(Math.max(0, startedMs + index * stepMs - performance.now()));
    pairs.push(measurePair(create, index % 2 === 0, stepMs / 2));
  }
  return Promise.all(pairs);
}

async function measurePair(create: Create, withFirst: boolean, gapMs: number): Promise<Pair> {
  const [first, second]: [Place, Place] = withFirst ? [WITH, WITHOUT] : [WITHOUT, WITH];
  const [one, other] = await Promise.all([create(first), sleep(gapMs).then(() => create(second))]);
  return withFirst ? { through: one, past: other } : { through: other, past: one };
}

/** Fails where a pod is not created, or changed where no webhook is to be asked. */
function makeCreate(pool: Pool, token: string): Create {
  const bodies = {
    [WITH]: JSON.stringify(podManifest(WITH, 'dry', { secrets: ['reg'] })),
    [WITHOUT]: JSON.stringify(podManifest(WITHOUT, 'dry', { secrets: ['reg'] })),
  };
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  return async (place) => {
    const startedMs = performance.now();
    const path = `/api/v1/namespaces/${place}/pods?dryRun=All`;
    const { statusCode, body } = await pool.request({ path, method: 'POST', headers, body: bodies[place] });
    const text = await body.text();
    const ms = performance.now() - startedMs;
    const admitted = text.includes(CONFIG_KEY);
    if (statusCode !== 201 || (admitted && place === WITHOUT))
      throw new Error(`Cannot create a pod "${place}" the webhook: status ${statusCode}`);
    return { ms, admitted };
  };
}

function makePool(api: KubeApi): Pool & AsyncDisposable {
  const pool = new Pool(api.url, { connections: CONNECTIONS, connect: { ca: readFileSync(api.caFile) } });
  return Object.assign(pool, { [Symbol.asyncDispose]: () => pool.close() });
}

function setting(name: string, otherwise: number): number {
  return Number(process.env[name] ?? otherwise);
}

if (canRun(webhookSkipReason())) await main();
