// time limit: 180 s
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startAgent } from '../support/agent.ts';
import { freePort } from '../support/free-port.ts';
import { type BuiltImage, buildImage } from '../support/images/build-image.ts';
import { randomBytes } from '../support/images/samples.ts';
import { eventually, type OriginSite, startNodeSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, componentsAvailable, containerdSkipReason } from '../support/real/components.ts';
import { pull } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../shim/shoal');
const LAYER_BYTES = 3_000_000;
const USER = { user: 'kay', password: 'a:pass:word' };

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

if (canRun(componentsAvailable('registry'))) {
  test('shoal pull --store makes an image layout with an unpacked root, and a second pull fetches nothing', async () => {
    await using site = await startCliSite();
    const first = await shoal('pull', '--store', site.store, site.reference);
    assert.is(first.code, 0, first.stderr);
    assert.match(first.stdout, site.image.config.digest);
    assert.match(first.stdout, /origin 3\.0 MB, peers 0 B, cache 0 B/);
    const index = JSON.parse(readFileSync(join(site.store, 'index.json'), 'utf8'));
    const names = index.manifests.map(
      (each: { annotations: Record<string, string> }) =>
        each.annotations['org.opencontainers.image.ref.name'],
    );
    assert.equal(
      names.sort(),
      [site.reference, `${site.reference.split(':v1')[0]}@${site.image.root.digest}`].sort(),
    );
    const root = join(site.store, 'rootfs', site.image.config.digest.slice('sha256:'.length));
    assert.is(readFileSync(join(root, 'data')).length, LAYER_BYTES);
    site.origin.gate.reset();
    const second = await shoal('pull', '--store', site.store, site.reference, '--json');
    assert.equal(JSON.parse(second.stdout).counts, { originBytes: 0, peerBytes: 0, cacheBytes: 0 });
    assert.ok(site.origin.gate.count({ class: 'manifest' }).requests > 0);
  });

  test('--json prints one object, also for a failure, and nothing else', async () => {
    await using site = await startCliSite();
    const done = await shoal('pull', '--store', site.store, '--json', site.reference);
    assert.equal([done.code, done.stderr], [0, '']);
    const { kind, imageId, digest, imageBytes, counts } = JSON.parse(done.stdout);
    assert.equal(
      { kind, imageId, digest, imageBytes, counts },
      {
        kind: 'done',
        imageId: site.image.config.digest,
        digest: site.image.root.digest,
        imageBytes: site.image.layerBytes,
        counts: { originBytes: site.image.layerBytes, peerBytes: 0, cacheBytes: 0 },
      },
    );
    const failed = await shoal('pull', '--store', site.store, '--json', `${site.origin.gate.host}/none:v1`);
    assert.is(failed.code, 3);
    assert.equal([JSON.parse(failed.stdout).kind, JSON.parse(failed.stdout).code], ['failed', 'NOT_FOUND']);
  });

  test('exit codes: 2 wrong use, 3 no such image, 4 denied, 5 unreachable, 0 with credentials', async () => {
    await using site = await startCliSite({ basic: USER });
    const into = ['pull', '--store', site.store] as const;
    const { host } = site.origin.gate;
    const creds = `${USER.user}:${USER.password}`;
    const cases: readonly [number, RegExp, readonly string[]][] = [
      [2, /Cannot parse|INVALID_REFERENCE/, [...into, 'app/UPPER']],
      [2, /missing required argument/, ['pull']],
      [2, /unknown option/, [...into, '--no-such-option', site.reference]],
      [2, /unknown command/, ['no-such-command']],
      [2, /USER:PASSWORD wanted/, [...into, '--creds', 'nocolon', site.reference]],
      [2, /one of them wanted/, [...into, '--containerd', '/x', site.reference]],
      [3, /NOT_FOUND/, [...into, '--creds', creds, `${host}/none:v1`]],
      [4, /UNAUTHORIZED/, [...into, site.reference]],
      [4, /UNAUTHORIZED/, [...into, '--creds', 'kay:wrong', site.reference]],
      [5, /REGISTRY_UNAVAILABLE/, [...into, `127.0.0.1:${await freePort()}/app:v1`]],
      [5, /Cannot reach the agent at .*ENOENT/, ['pull', '--socket', `${site.store}.none`, site.reference]],
      [5, /Cannot reach the agent at .*ENOENT/, ['status', '--socket', `${site.store}.none`]],
      [0, /^$/, [...into, '--quiet', '--creds', creds, site.reference]],
    ];
    for (const [code, words, args] of cases) {
      const ended = await shoal(...args);
      assert.is(ended.code, code, `${args.join(' ')}: ${ended.stderr}`);
      assert.match(ended.stderr, words);
    }
    const denied = await shoal(...into, '--creds', 'kay:wrong', site.reference);
    assert.not(denied.stderr.includes('wrong'));
  });

  test('two pulls at once into one directory: the second refuses and says why', async () => {
    await using site = await startCliSite({ rateBytesPerSecond: 1_000_000 });
    const first = shoal('pull', '--store', site.store, site.reference);
    await eventually(
      () => existsSync(join(site.store, 'index.json')),
      (there) => there,
    );
    const second = await shoal('pull', '--store', site.store, site.reference);
    assert.is(second.code, 5);
    assert.match(second.stderr, /Cannot open image layout ".*": another process has it open/);
    assert.is((await first).code, 0);
    assert.equal(readdirSync(join(site.store, '.staging')), []);
  });

  test('an interrupted pull ends with 130, leaves no image, and goes on where it was', async () => {
    await using site = await startCliSite({ rateBytesPerSecond: 2_000_000 }, 20_000_000);
    const running = execFile(LAUNCHER, ['pull', '--store', site.store, site.reference]);
    const ended = new Promise<number | null>((done) => running.once('exit', done));
    await eventually(
      () => site.origin.gate.count({ class: 'blob' }).bytes,
      (bytes) => bytes > 6_000_000,
    );
    running.kill('SIGINT');
    assert.is(await ended, 130);
    assert.equal(readdirSync(join(site.store, 'rootfs')), []);
    assert.equal(readdirSync(join(site.store, '.staging')), []);
    site.origin.gate.setRate(undefined);
    const again = await shoal('pull', '--store', site.store, '--json', site.reference);
    const { counts } = JSON.parse(again.stdout);
    assert.ok(counts.cacheBytes >= 2 ** 21, `${counts.cacheBytes} bytes from the cache`);
    assert.is(counts.cacheBytes + counts.originBytes, site.image.layerBytes);
  });

  test('through a running agent: pull, status, and progress without a terminal', async () => {
    await using site = await startCliSite({ rateBytesPerSecond: 1_000_000 });
    await using agent = await startAgent({ name: 'cli' });
    const socket = ['--socket', agent.controlSocket];
    const pulled = await shoal('pull', ...socket, site.reference);
    assert.is(pulled.code, 0, pulled.stderr);
    assert.match(pulled.stderr, /v1: [\d.]+ k?M?B \/ 3\.0 MB, 1 layers? to go/);
    const { stdout } = await shoal('status', ...socket);
    assert.match(stdout, /^version .*\nnode .*\nmode .*root\n/);
    const { totals, pulls } = JSON.parse((await shoal('status', ...socket, '--json')).stdout);
    assert.equal([totals.originBytes, pulls], [site.image.layerBytes, []]);
  });

  test('shoal config check names file, line, key, value and what is wanted; default is fine', async () => {
    using folder = makeTemporaryRoot('cfg');
    const file = join(folder.path, 'config.yaml');
    writeFileSync(file, 'policy:\n  mode: sometimes\n');
    const wrong = await shoal('config', 'check', file);
    assert.is(wrong.code, 2);
    for (const part of [file, '2', 'policy.mode', 'sometimes', 'opt-in'])
      assert.ok(wrong.stderr.includes(part), `"${part}" is missing: ${wrong.stderr}`);
    writeFileSync(file, 'polcy: {}\n');
    assert.match((await shoal('config', 'check', file)).stderr, /polcy/);
    assert.is((await shoal('config', 'check', join(folder.path, 'none.yaml'))).code, 2);
    writeFileSync(file, (await shoal('config', 'default')).stdout);
    assert.equal(await shoal('config', 'check', file), { code: 0, stdout: `${file}: fine\n`, stderr: '' });
    const agent = await shoal('agent', '--config', join(folder.path, 'none.yaml'));
    assert.is(agent.code, 2);
  });
}

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('shoal pull --containerd imports without an agent, beside a running one too', async () => {
    await using site = await startCliSite();
    await using node = await startNodeSite();
    const ended = await shoal('pull', '--containerd', node.containerd.socket, '--json', site.reference);
    assert.is(ended.code, 0, ended.stdout + ended.stderr);
    assert.is(await pull({ endpoint: node.containerd.socket }, site.reference), site.image.config.digest);
    const missing = await shoal('pull', '--containerd', `${site.store}.sock`, '--json', site.reference);
    assert.is(missing.code, 5, missing.stdout + missing.stderr);
  });
}

test.run();

interface CliSite extends AsyncDisposable {
  readonly origin: OriginSite;
  readonly image: BuiltImage;
  readonly reference: string;
  /** A directory that is not there yet. */
  readonly store: string;
}

async function startCliSite(
  options: Parameters<typeof startOriginSite>[0] = {},
  layerBytes = LAYER_BYTES,
): Promise<CliSite> {
  await using stack = new AsyncDisposableStack();
  const origin = stack.use(await startOriginSite(options));
  const entries = [{ name: 'data', content: randomBytes(layerBytes, 'cli') }];
  const image = stack.use(await buildImage({ layers: [{ entries }], gzipLevel: 0 }));
  const { reference } = await origin.push(image, 'team/app');
  const folder = stack.use(makeTemporaryRoot('cli'));
  const owned = stack.move();
  const store = join(folder.path, 'store');
  return { origin, image, reference, store, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function shoal(...args: readonly string[]): Promise<Ended> {
  return new Promise((done) => {
    execFile(LAUNCHER, args, { timeout: 60_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      done({ code, stdout, stderr });
    });
  });
}
