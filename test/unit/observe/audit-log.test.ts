import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { AuditOperation, createAuditLog, formatAuditLine } from '../../../shim/observe/audit-log.ts';
import { openFileSink } from '../../../shim/observe/log-sink.ts';

const at = new Date(2022, 7, 30, 15, 44, 52);
let directory = '';

test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoal-audit-'));
});
test.after.each(() => rmSync(directory, { recursive: true, force: true }));

test('formatAuditLine() writes the line of the guide, to the letter', () => {
  const entry = {
    operation: AuditOperation.Download,
    url: 'https://host/path',
    offsetBytes: 125_829_120,
    sizeBytes: 2_097_152,
    latencyUs: 267_172,
  };
  const expected =
    '2022/08/30 15:44:52|AUDIT|th=00007FBA247C5280|download[pathname=/https://host/path][offset=125829120][size=2097152][latency=267172]\n';
  assert.is(formatAuditLine(entry, 0x7fba247c5280, at), expected);
});

test('formatAuditLine() has a name for each operation, and a negative size for a failed one', () => {
  const lines = Object.values(AuditOperation).map((operation) =>
    formatAuditLine({ operation, url: 'http://h/p', sizeBytes: -1, latencyUs: 1.6 }, 1, at),
  );
  const names = lines.map((line) => line.slice(line.lastIndexOf('|') + 1, line.indexOf('[')));
  assert.equal(names, ['http:pread', 'rpc:stat', 'rpc:pread', 'download', 'filewrite', 'fileread']);
  assert.ok(lines.every((line) => line.endsWith('[pathname=/http://h/p][size=-1][latency=2]\n')));
});

test('formatAuditLine() leaves out query and userinfo, and keeps a hostile URL on its line', () => {
  const url = 'https://user:hunter2@host/a\n2022/|AUDIT|b]c[d\u2028?X-Amz-Signature=hunter2';
  const line = formatAuditLine(
    { operation: AuditOperation.Download, url, sizeBytes: 1, latencyUs: 1 },
    1,
    at,
  );
  assert.not.match(line, 'hunter2');
  assert.is(line.split('\n').length, 2);
  assert.match(line, '[pathname=/https://host/a%0A2022/%7CAUDIT%7Cb%5Dc%5Bd%E2%80%A8][size=1]');
});

test('formatAuditLine() keeps a line within what a pipe writes at once', () => {
  const url = `https://host/${'€'.repeat(9000)}`;
  const line = formatAuditLine({ operation: AuditOperation.RpcStat, url, sizeBytes: 1, latencyUs: 1 }, 1, at);
  assert.ok(Buffer.byteLength(line) <= 4096, String(Buffer.byteLength(line)));
});

test('createAuditLog() appends to audit.log in the log directory', async () => {
  const nested = join(directory, 'log');
  for (const size of [1, 2]) {
    const sink = openFileSink(nested, 'audit.log');
    const audit = createAuditLog(sink, 7, () => at);
    audit.write({
      operation: AuditOperation.FileRead,
      url: 'https://h/p',
      offsetBytes: 0,
      sizeBytes: size,
      latencyUs: 3,
    });
    await sink.close();
  }
  const lines = readFileSync(join(nested, 'audit.log'), 'utf8').trimEnd().split('\n');
  assert.equal(
    lines.map((line) => /size=(\d)/.exec(line)?.[1]),
    ['1', '2'],
  );
});

test('openFileSink() keeps one older file and starts anew when the file is long', async () => {
  const sink = openFileSink(directory, 'audit.log', 1000);
  for (let index = 0; index < 25; index++) {
    const line = `${String(index).padStart(99, '0')}\n`;
    sink.write(line);
    await until(() => logs().includes(line));
  }
  await sink.close();
  const older = readFileSync(join(directory, 'audit.log.1'), 'utf8');
  const newer = readFileSync(join(directory, 'audit.log'), 'utf8');
  assert.is(older.length, 1000);
  assert.is(newer.length, 500);
  assert.match(newer, '24\n');
  assert.is(sink.droppedLines, 0);
});

test('openFileSink() refuses a directory that cannot be made', async () => {
  writeFileSync(join(directory, 'file'), '');
  try {
    openFileSink(join(directory, 'file', 'log'), 'audit.log');
    assert.unreachable();
  } catch (error) {
    assert.ok(isShoalError(error, ErrorCode.ConfigInvalid));
    assert.match(error.message, 'Cannot open log file');
  }
});

test('a sink drops and counts lines beyond its buffer instead of growing', async () => {
  const sink = openFileSink(directory, 'audit.log');
  const line = `${'x'.repeat(1023)}\n`;
  // Nothing is written while this loop holds the thread: all of it would have to wait.
  for (let index = 0; index < 10_000; index++) sink.write(line);
  await sink.close();
  const kept = readFileSync(join(directory, 'audit.log'), 'utf8').length / 1024;
  assert.is(kept + sink.droppedLines, 10_000);
  assert.ok(kept <= 4 * 1024 + 64, `${kept} lines of 1 KiB kept`);
  assert.ok(kept >= 1024);
});

test('a sink writes what is waiting when told to at once', async () => {
  const sink = openFileSink(directory, 'shoal.log');
  sink.write('last words\n');
  sink.flushSync();
  assert.is(readFileSync(join(directory, 'shoal.log'), 'utf8'), 'last words\n');
  await sink.close();
});

test('a closed sink counts what comes too late as dropped', async () => {
  const sink = openFileSink(directory, 'audit.log');
  await sink.close();
  sink.write('late\n');
  assert.is(sink.droppedLines, 1);
});

/** Everything that is in the log files now. */
function logs(): string {
  const files = readdirSync(directory).map((name) => join(directory, name));
  return files.map((file) => readFileSync(file, 'utf8')).join('');
}

/** The time limit of the file ends this when the condition never holds. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((next) => setImmediate(next));
}

test.run();
