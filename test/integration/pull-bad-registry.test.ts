// time limit: 240 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { freePort } from '../support/free-port.ts';
import { type BuiltImage, buildImage } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import {
  assertNothingLeft,
  eventually,
  failureOf,
  type NodeSite,
  type OriginSite,
  startNodeSite,
  startOriginSite,
} from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { type CriCallError, type CrictlOptions, pull, runCrictl } from '../support/real/crictl.ts';
import type { Fault, FaultRule } from '../support/real/gate-faults.ts';
import { testedVersion } from '../support/real/import-site.ts';

/** Of the agent; longer than it takes to give up on a registry that answers 500. */
const STALL_TIMEOUT_MS = 6_000;
/** Of the caller, where containerd itself would wait for minutes. */
const DEADLINE_MS = 9_000;
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

/** What the registry does, and what has to come of it. */
interface Case {
  readonly faults: readonly FaultRule[];
  /** The reason with which the pull is handed to containerd. Without one the agent itself ends it. */
  readonly handsOver?: RegExp;
  /** The gRPC code of the failure; without one the pull succeeds. */
  readonly fails?: string;
  readonly message?: RegExp;
  readonly deadlineMs?: number;
}

const always = (fault: Fault): FaultRule[] => [{ fault }];
const status = (code: number, retryAfterSeconds?: number): Fault =>
  retryAfterSeconds === undefined
    ? { kind: 'status', status: code }
    : { kind: 'status', status: code, retryAfterSeconds };
const replaced = (body: string): FaultRule[] => [
  { class: 'manifest', fault: { kind: 'replace', body, contentType: MANIFEST_TYPE } },
];

/** Stands in a rule for the digest of the image's only layer. */
const LAYER = 'the layer';
const onLayer = (fault: Fault, times?: number): FaultRule[] => [
  { class: 'blob', path: LAYER, fault, ...(times !== undefined && { times }) },
];

const CASES: Readonly<Record<string, Case>> = {
  'answers 401': { faults: always(status(401)), handsOver: /UNAUTHORIZED/, fails: 'Unknown', message: /401/ },
  'answers 403': { faults: always(status(403)), handsOver: /FORBIDDEN/, fails: 'Unknown', message: /403/ },
  'answers 404 for the manifest': {
    faults: [{ class: 'manifest', fault: status(404) }],
    fails: 'NotFound',
    message: /^failed to pull and unpack image .*: not found$/,
  },
  'answers 404 for a layer': { faults: onLayer(status(404)), fails: 'NotFound', message: /not found/ },
  'answers 429 once, with a second of Retry-After': {
    faults: [{ class: 'manifest', times: 1, fault: status(429, 1) }],
  },
  'answers 429 with an hour of Retry-After': {
    faults: always(status(429, 3600)),
    handsOver: /RATE_LIMITED/,
    fails: 'Unknown',
    message: /429/,
  },
  'answers 500 once': { faults: [{ class: 'manifest', times: 1, fault: status(500) }] },
  'answers 500 always': {
    faults: always(status(500)),
    handsOver: /REGISTRY_UNAVAILABLE/,
    fails: 'Unknown',
    message: /500/,
  },
  'cuts a layer off once': { faults: onLayer({ kind: 'truncate', afterBytes: 1000 }, 1) },
  'sends a manifest of another digest': {
    faults: [{ class: 'manifest', methods: ['GET'], fault: { kind: 'wrong-byte', at: 3 } }],
    handsOver: /DIGEST_MISMATCH/,
    fails: 'FailedPrecondition',
  },
  'sends a layer of another digest': {
    faults: onLayer({ kind: 'wrong-byte', at: 1000 }),
    handsOver: /DIGEST_MISMATCH/,
    fails: 'FailedPrecondition',
  },
  'announces a wrong size of a layer once': { faults: onLayer({ kind: 'wrong-length', byBytes: 10 }, 1) },
  'sends a manifest that is no JSON': {
    faults: replaced('{"schemaVersion":2,'),
    handsOver: /MANIFEST_INVALID/,
    fails: 'Unknown',
  },
  'sends a manifest of 100 MB': {
    faults: [{ class: 'manifest', fault: { kind: 'huge-manifest', sizeBytes: 100_000_000 } }],
    handsOver: /LIMIT_EXCEEDED/,
    fails: 'any',
  },
  'sends a manifest with 10,000 layers': {
    faults: replaced(manifestWithLayers(10_000)),
    handsOver: /LIMIT_EXCEEDED/,
    fails: 'NotFound',
  },
  'is silent when it is asked for the manifest': {
    faults: [{ class: 'manifest', times: 1, fault: { kind: 'hang' } }],
    handsOver: /STALLED/,
  },
  'falls silent within a layer': {
    faults: onLayer({ kind: 'hang', afterBytes: 1000 }),
    handsOver: /STALLED/,
    fails: 'DeadlineExceeded',
    deadlineMs: DEADLINE_MS,
  },
};

let origin: OriginSite;
let node: NodeSite;

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test.before(async () => {
    origin = await startOriginSite();
    node = await startNodeSite({ agent: { settings: { limits: { stallTimeoutMs: STALL_TIMEOUT_MS } } } });
  });
  test.after(async () => {
    await node[Symbol.asyncDispose]();
    await origin[Symbol.asyncDispose]();
  });

  for (const [name, each] of Object.entries(CASES))
    test(`a pull from a registry that ${name}: ${endOf(each)}, nothing left`, () => check(name, each));

  for (const [what, ruleFor] of Object.entries({
    manifest: () => ({ class: 'manifest' as const }),
    layer: (image: BuiltImage) => ({ class: 'blob' as const, path: image.layers[0]?.digest ?? '' }),
    config: (image: BuiltImage) => ({ class: 'blob' as const, path: image.config.digest }),
  }))
    test(`a pull from a registry that lacks the ${what}: containerd's error, word for word`, async () => {
      using image = await imageOf(`lacks the ${what}`);
      const { reference } = await origin.push(image, `lacks-${what}`);
      const faults = [{ ...ruleFor(image), fault: status(404) }];
      const failed = await pullUnder(faults, node.cri, reference, undefined);
      const own = await pullUnder(faults, { endpoint: node.containerd.socket }, reference, undefined);
      assert.is((failed as CriCallError).message, (own as CriCallError).message);
      assert.is((failed as CriCallError).code, 'NotFound');
      assert.not.match(logOf(reference), /"verdict":"handOver"/);
      await assertNothingLeft(node);
    });

  test('a pull from a registry that cannot be reached: the error of containerd, nothing left', async () => {
    const reference = `127.0.0.1:${await freePort()}/team/app:v1`;
    const failure = await failureOf(pull(node.cri, reference));
    const own = await failureOf(pull({ endpoint: node.containerd.socket }, reference));
    assert.equal([failure.code, failure.message], [own.code, own.message]);
    assert.match(logOf(reference), /REGISTRY_UNAVAILABLE/);
    await assertNothingLeft(node);
  });

  test('a pull of a malformed reference: the error of containerd', async () => {
    for (const reference of ['UPPER/case', 'host/a:b:c', 'a@sha256:12', '']) {
      const failure = await failureOf(pull(node.cri, reference));
      const own = await failureOf(pull({ endpoint: node.containerd.socket }, reference));
      assert.equal([failure.code, failure.message], [own.code, own.message]);
    }
  });

  test('a token that expires within a pull is replaced', async () => {
    await using guarded = await startOriginSite({
      token: { users: { kay: { password: 'token-password' } }, lifetimeSeconds: 300 },
    });
    using image = await imageOf('token');
    const { reference } = await guarded.push(image, 'team/token');
    guarded.gate.inject({ class: 'blob', times: 1, after: 1, fault: { kind: 'expire-tokens' } });
    assert.match(await pull(node.cri, reference, { creds: 'kay:token-password' }), image.config.digest);
    assert.is(guarded.gate.count({ class: 'token', method: 'GET' }).requests, 2);
    assert.match(logOf(reference), /"pulled"/);
    await assertNothingLeft(node);
  });
}

test.run();

async function check(name: string, { faults, handsOver, fails, message, deadlineMs }: Case): Promise<void> {
  using image = await imageOf(name);
  const [layer] = image.layers;
  const rules = faults.map((rule) => (rule.path === LAYER ? { ...rule, path: layer?.digest ?? '' } : rule));
  const { reference } = await origin.push(image, `team/${name.replace(/[^a-z0-9]+/gi, '-').toLowerCase()}`);
  const outcome = await pullUnder(rules, { endpoint: node.agent.criSocket }, reference, deadlineMs);
  // The answer may be here before the line that the agent wrote of it.
  const log = await eventually(
    () => logOf(reference),
    (lines) => /handing/.test(lines) === (handsOver !== undefined),
  );
  assert.is(/handing/.test(log), handsOver !== undefined, log);
  if (handsOver !== undefined) assert.match(log, handsOver);
  if (fails === undefined) assert.is(outcome, image.config.digest);
  else {
    assert.instance(outcome, Error);
    const { code, message: text } = outcome as CriCallError;
    if (message !== undefined) assert.match(text, message);
    const own = await pullUnder(rules, { endpoint: node.containerd.socket }, reference, deadlineMs);
    assert.equal([code, fails === 'any' ? code : fails], [(own as CriCallError).code, code]);
    // Client and server race to tell that the deadline has passed, in other words.
    if (handsOver !== undefined && deadlineMs === undefined) assert.is(text, (own as CriCallError).message);
  }
  await assertNothingLeft(node);
  assert.is(await pull(node.cri, reference), image.config.digest);
  await runCrictl(node.cri, 'rmi', reference);
}

async function pullUnder(
  faults: readonly FaultRule[],
  cri: CrictlOptions,
  reference: string,
  timeoutMs: number | undefined,
): Promise<string | CriCallError> {
  for (const fault of faults) origin.gate.inject(fault);
  const options = timeoutMs === undefined ? cri : { ...cri, timeoutMs };
  try {
    return await pull(options, reference).catch((error: CriCallError) => error);
  } finally {
    origin.gate.clearFaults();
  }
}

function endOf({ fails, handsOver }: Case): string {
  if (handsOver !== undefined) return 'containerd takes over';
  return fails === undefined ? 'it succeeds' : 'the error of containerd';
}

function logOf(reference: string): string {
  const lines = node.agent.log().split('\n');
  return lines.filter((line) => line.includes(`"image":"${reference}"`)).join('\n');
}

/** One layer of its own each, so that no pull finds what another left. */
function imageOf(seed: string): Promise<BuiltImage> {
  const entries = [{ name: 'data', content: randomBytes(300_000, seed) }];
  return buildImage({ layers: [{ entries }], gzipLevel: 0 });
}

function manifestWithLayers(count: number): string {
  const digest = `sha256:${'ab'.repeat(32)}`;
  const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: 1000 };
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: 1000 };
  const layers = Array.from({ length: count }, () => layer);
  return JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers });
}
