import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { refusedSkips, timeLimitSeconds } from '../../../hack/run-tests.ts';

const repository = resolve(import.meta.dirname, '../../..');
const runner = join(repository, 'hack/run-tests.ts');
const head = `import { test } from 'uvu';\nimport * as assert from 'uvu/assert';\n`;
let directory = '';

test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoal-run-'));
  symlinkSync(join(repository, 'node_modules'), join(directory, 'node_modules'));
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
});
test.after.each(() => rmSync(directory, { recursive: true, force: true }));

interface Run {
  readonly status: number | null;
  readonly lines: readonly string[];
  readonly text: string;
}

/** Runs the runner over one file of this text. */
function run(source: string, extra: NodeJS.ProcessEnv = {}, name = 'sample.test.ts'): Run {
  const file = join(directory, name);
  mkdirSync(resolve(file, '..'), { recursive: true });
  writeFileSync(file, source);
  const { CI: _, JSON: __, ...environment } = process.env;
  const { status, stdout } = spawnSync(process.execPath, [runner, file], {
    encoding: 'utf8',
    env: { ...environment, ...extra },
    timeout: 30_000,
  });
  return { status, text: stdout, lines: stdout.trimEnd().split('\n') };
}

test('run-tests counts what passed and ends with the sums', () => {
  const { status, lines } = run(`${head}test('a', () => {});\ntest('b', () => {});\ntest.run();\n`);
  assert.is(status, 0);
  assert.match(lines[0] ?? '', /^ok {3}.*sample\.test\.ts \(\d+\.\d s, 2 passed\)$/);
  assert.is(lines.at(-1), '2 passed, 0 failed, 0 skipped');
});

test('run-tests shows the output of a failing file', () => {
  const { status, lines, text } = run(
    `${head}test('a', () => {});\ntest('b', () => assert.is(1, 2, 'sums'));\ntest.run();\n`,
  );
  assert.is(status, 1);
  assert.match(text, 'sums');
  assert.is(lines.at(-1), '1 passed, 1 failed, 0 skipped');
});

test('run-tests fails a file that runs no test', () => {
  for (const source of ['export {};\n', `${head}test('never run', () => {});\n`, `${head}test.run();\n`]) {
    const { status, lines, text } = run(source);
    assert.is(status, 1, source);
    assert.match(text, 'ran no test');
    assert.is(lines.at(-1), '0 passed, 1 failed, 0 skipped');
  }
});

test('run-tests fails a file whose process ends before its tests do', () => {
  const { status, text } = run(`${head}test('waits forever', () => new Promise(() => {}));\ntest.run();\n`);
  assert.is(status, 1);
  assert.match(text, 'FAIL');
});

test('run-tests fails a file whose hook throws, which uvu itself calls a success', () => {
  const { status, lines } = run(
    `${head}test.before(() => { throw new Error('hook'); });\ntest('a', () => {});\ntest.run();\n`,
  );
  assert.is(status, 1);
  assert.is(lines.at(-1), '0 passed, 1 failed, 0 skipped');
});

test('run-tests fails a file that crashes after its tests have passed', () => {
  const crash = `process.on('exit', () => process.kill(process.pid, 'SIGKILL'));\n`;
  const { status, text } = run(`${head}${crash}test('a', () => {});\ntest.run();\n`);
  assert.is(status, 1);
  assert.match(text, 'killed by SIGKILL');
});

test('run-tests fails a file with a syntax error and shows it', () => {
  const { status, text } = run('const = 1;\n');
  assert.is(status, 1);
  assert.match(text, 'exit code 1');
  assert.match(text, 'SyntaxError');
});

test('run-tests ends a file that hangs, with all processes it has started', () => {
  const note = join(directory, 'child');
  const { status, text } = run(
    `// time limit: 1 s\n${head}import { spawn } from 'node:child_process';\nimport { writeFileSync } from 'node:fs';\n` +
      `writeFileSync('${note}', String(spawn('sleep', ['600']).pid));\ntest('a', () => {});\ntest.run();\n`,
  );
  assert.is(status, 1);
  assert.match(text, 'still running after 1 s');
  assert.not.ok(isRunning(Number(readFileSync(note, 'utf8'))));
});

test('run-tests ends processes that a finished file has left behind', () => {
  const note = join(directory, 'child');
  const { status } = run(
    `${head}import { spawn } from 'node:child_process';\nimport { writeFileSync } from 'node:fs';\n` +
      `const child = spawn('sleep', ['600'], { stdio: 'inherit' });\nchild.unref();\nwriteFileSync('${note}', String(child.pid));\n` +
      `test('a', () => {});\ntest.run();\n`,
  );
  assert.is(status, 0);
  assert.not.ok(isRunning(Number(readFileSync(note, 'utf8'))));
});

test('run-tests stops what is running when it is interrupted', async () => {
  const note = join(directory, 'test');
  const file = join(directory, 'sample.test.ts');
  writeFileSync(
    file,
    `import { writeFileSync } from 'node:fs';\nwriteFileSync('${note}', String(process.pid));\nsetInterval(() => {}, 1000);\n`,
  );
  const child = spawn(process.execPath, [runner, file], { stdio: 'ignore' });
  const ended = new Promise((resolveEnd) => child.once('exit', resolveEnd));
  while (!existsSync(note) || readFileSync(note, 'utf8') === '')
    await new Promise((next) => setTimeout(next, 20));
  child.kill('SIGINT');
  assert.is(await ended, 130);
  assert.ok(await isGone(Number(readFileSync(note, 'utf8'))));
});

test('run-tests tells skips with their reason', () => {
  const { status, lines, text } = run(`${head}console.log('SKIP: needs root');\ntest.run();\n`);
  assert.is(status, 0);
  assert.match(text, 'skipped: needs root');
  assert.is(lines.at(-1), '0 passed, 0 failed, 1 skipped');
  const skipped = run(`${head}test('a', () => {});\ntest.skip('b', () => {});\ntest.run();\n`);
  assert.is(skipped.lines.at(-1), '1 passed, 0 failed, 1 skipped');
});

test('run-tests gives one object a file and one for the sums with JSON=1', () => {
  const { lines } = run(`${head}test('a', () => {});\ntest.run();\n`, { JSON: '1' });
  const objects = lines.map((line) => JSON.parse(line));
  assert.is(objects[0].passed, 1);
  assert.equal(objects.at(-1), { passed: 1, failed: 0, skipped: 0 });
});

test('run-tests fails when no file matches', () => {
  const { status } = spawnSync(process.execPath, [runner, 'test/unit/none/*.test.ts']);
  assert.is(status, 1);
});

test('refusedSkips() refuses skips of integration tests where everything can run', () => {
  const results = [
    { file: 'test/integration/a.test.ts', skipped: 1 },
    { file: 'test/integration/b.test.ts', skipped: 0 },
    { file: 'test/unit/c.test.ts', skipped: 1 },
  ];
  assert.equal(
    refusedSkips(results, true).map(({ file }) => file),
    ['test/integration/a.test.ts'],
  );
  assert.equal(refusedSkips(results, false), []);
});

test('timeLimitSeconds() reads the comment in the first lines only', () => {
  assert.is(timeLimitSeconds('// time limit: 180 s\n'), 180);
  assert.is(timeLimitSeconds('/**\n * Pulls.\n * time limit: 90 s, for the slow disk\n */\n'), 90);
  assert.is(timeLimitSeconds(`${'\n'.repeat(5)}// time limit: 180 s\n`), undefined);
  assert.is(timeLimitSeconds("const text = 'time limit: 180 s';\n"), undefined);
});

/** Who kills and ends does not wait until the killed is gone. */
async function isGone(pid: number): Promise<boolean> {
  for (let tries = 0; tries < 100 && isRunning(pid); tries++)
    await new Promise((next) => setTimeout(next, 20));
  return !isRunning(pid);
}

function isRunning(pid: number): boolean {
  try {
    // A zombie counts as ended: nobody may be there to reap it.
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test.run();
