// time limit: 120 s
import * as fs from 'node:fs';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import * as zlib from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createUnpackPool } from '../../../shim/unpack/create-unpack-pool.ts';
import type { UnpackJob, UnpackRun } from '../../../shim/unpack/unpack-pool.ts';
import { archive } from './tar-builder.ts';
import { assertFiles, failure, makeJobs, startWhole, tar } from './unpack-jobs.ts';

const test = suite('workers of the unpack pool');
const never = new AbortController().signal;
const pool = createUnpackPool({ workersMax: 2 });
const { jobFor, remove } = makeJobs();
const startAll = (job: UnpackJob, signal?: AbortSignal): UnpackRun => startWhole(pool, job, signal);
let workersStarted = 0;
process.on('worker', () => {
  workersStarted += 1;
});
test.after(async () => {
  await pool.close();
  remove();
});

test('a run reads no further than announced', async () => {
  const layer = zlib.gzipSync(tar, { level: 0 });
  const job = jobFor({ layer, tar });
  // What is not announced is not there yet; reading it early would give a wrong digest.
  fs.writeFileSync(job.sourcePath, Buffer.alloc(layer.length, 0xee));
  const fd = fs.openSync(job.sourcePath, 'r+');
  const run = pool.start(job, never);
  let isDone = false;
  void run.result.then(() => {
    isDone = true;
  });
  const stepBytes = Math.ceil(layer.length / 40);
  for (let at = 0; at < layer.length; at += stepBytes) {
    assert.not(isDone);
    fs.writeSync(fd, layer, at, Math.min(stepBytes, layer.length - at), at);
    run.advance(Math.min(layer.length, at + stepBytes));
    await new Promise((resolve) => setImmediate(resolve));
  }
  fs.closeSync(fd);
  await run.result;
  assertFiles(job.targetDirectory);
});

test('a run that waits for bytes is cancelled within a second, and its worker serves the next', async () => {
  const layer = zlib.gzipSync(tar);
  const controller = new AbortController();
  const run = pool.start(jobFor({ layer, tar }), controller.signal);
  run.advance(1_000);
  const startedMs = performance.now();
  setImmediate(() => controller.abort());
  await failure(run.result, 'CANCELLED');
  assert.ok(performance.now() - startedMs < 1_000);
  await startAll(jobFor({ layer, tar })).result;
});

test('a run in the middle of its work is cancelled within a second', async () => {
  const bomb = zlib.gzipSync(Buffer.concat([archive({ name: 'a', data: Buffer.alloc(200_000_000) })]), {
    level: 1,
  });
  const controller = new AbortController();
  const run = startAll(jobFor({ layer: bomb, tar }), controller.signal);
  await new Promise((resolve) => setImmediate(resolve));
  const startedMs = performance.now();
  controller.abort();
  await failure(run.result, 'CANCELLED');
  assert.ok(performance.now() - startedMs < 1_000);
});

test('runs above the number of workers wait in the order of start()', async () => {
  const own = createUnpackPool({ workersMax: 1 });
  const layer = zlib.gzipSync(tar);
  const done: number[] = [];
  const all = [0, 1, 2, 3].map(async (i) => {
    const job = jobFor({ layer, tar });
    const run = own.start(job, never);
    run.advance(job.sizeBytes);
    await run.result;
    done.push(i);
  });
  await Promise.all(all);
  await own.close();
  assert.equal(done, [0, 1, 2, 3]);
});

test('a waiting run is cancelled at once', async () => {
  const own = createUnpackPool({ workersMax: 1 });
  const layer = zlib.gzipSync(tar);
  const first = own.start(jobFor({ layer, tar }), never);
  const controller = new AbortController();
  const second = own.start(jobFor({ layer, tar }), controller.signal);
  controller.abort();
  await failure(second.result, 'CANCELLED');
  await own.close();
  await failure(first.result, 'CANCELLED');
  await failure(own.start(jobFor({ layer, tar }), never).result, 'CANCELLED');
});

test('UnpackPool.start() tells how far the layer file was read, and never more than was allowed', async () => {
  const data = Buffer.alloc(7 * 2 ** 20, 1);
  const plain = archive({ name: 'large', data });
  const job = jobFor({ layer: plain, tar: plain, compression: 'none' });
  const run = pool.start(job, never);
  const told: number[] = [];
  const half = Promise.withResolvers<void>();
  run.onRead((readBytes) => {
    told.push(readBytes);
    if (readBytes === 4 * 2 ** 20) half.resolve();
  });
  run.advance(4 * 2 ** 20);
  await half.promise;
  assert.equal(told, [2 * 2 ** 20, 4 * 2 ** 20]);
  run.advance(job.sizeBytes);
  await run.result;
  assert.is(told.at(-1), job.sizeBytes);
});

test('prepare() starts threads that the jobs then find, and no more than may run', async () => {
  const own = createUnpackPool({ workersMax: 1 });
  const before = workersStarted;
  own.prepare(0);
  await turn();
  assert.is(workersStarted, before);
  own.prepare(5);
  own.prepare(5);
  await turn();
  assert.is(workersStarted, before + 1);
  await startWhole(own, jobFor({ layer: zlib.gzipSync(tar), tar })).result;
  assert.is(workersStarted, before + 1);
  await own.close();
  own.prepare(1);
  await turn();
  assert.is(workersStarted, before + 1);
});

test('prepare() starts threads that end by themselves when no job comes', async () => {
  const own = createUnpackPool({ workersMax: 1, idleMs: 50 });
  const ended = new Promise((resolve) => process.once('worker', (worker) => worker.once('exit', resolve)));
  own.prepare(1);
  // An idle worker keeps no process alive.
  await Promise.race([ended, sleep(10_000).then(() => assert.unreachable('the worker stays'))]);
  await startWhole(own, jobFor({ layer: zlib.gzipSync(tar), tar })).result;
  await own.close();
});

test.run();
