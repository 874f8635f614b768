import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const repository = resolve(import.meta.dirname, '../../..');
const echo = (name: string): string =>
  `console.log(JSON.stringify({ name: '${name}', given: process.argv.slice(2), cache: process.env.NODE_COMPILE_CACHE }));\n`;
let root = '';
let environment: NodeJS.ProcessEnv = {};

test.before.each(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'shoal-start-')));
  mkdirSync(join(root, 'app/shim/front'), { recursive: true });
  cpSync(join(repository, 'shim/shoal'), join(root, 'app/shim/shoal'));
  symlinkSync(join(repository, 'node_modules'), join(root, 'app/node_modules'));
  writeFileSync(join(root, 'app/package.json'), '{"type":"module"}');
  writeFileSync(join(root, 'app/shim/main.ts'), echo('main'));
  writeFileSync(join(root, 'app/shim/front/main.ts'), echo('front'));
  const { NODE_COMPILE_CACHE: _, ...rest } = process.env;
  environment = { ...rest, XDG_CACHE_HOME: join(root, 'cache') };
});
test.after.each(() => rmSync(root, { recursive: true, force: true }));

interface Started {
  readonly name: string;
  readonly given: readonly string[];
  readonly cache?: string;
}

function start(program: string, given: readonly string[], extra: NodeJS.ProcessEnv = {}): Started {
  return JSON.parse(
    execFileSync(program, given, { env: { ...environment, ...extra }, cwd: '/', encoding: 'utf8' }),
  );
}

test('shoal passes its arguments on as they are', () => {
  const given = ['pull', 'a b', '', '--creds', 'u:p$x'];
  const started = start(join(root, 'app/shim/shoal'), given);
  assert.is(started.name, 'main');
  assert.equal(started.given, given);
});

test('shoal finds itself through relative and absolute links', () => {
  mkdirSync(join(root, 'bin'));
  symlinkSync('../app/shim/shoal', join(root, 'bin/first'));
  symlinkSync(join(root, 'bin/first'), join(root, 'bin/second'));
  assert.is(start(join(root, 'bin/second'), []).name, 'main');
});

test('shoal front starts the program of the front, from a cache as well', () => {
  const started = start(join(root, 'app/shim/shoal'), ['front', '--socket', '/x']);
  assert.is(started.name, 'front');
  assert.equal(started.given, ['--socket', '/x']);
  assert.match(started.cache ?? '', /\/shoal\/node$/);
});

test('shoal leaves a compile cache that was chosen as it is, and works without any', () => {
  const program = join(root, 'app/shim/shoal');
  assert.is(start(program, [], { NODE_COMPILE_CACHE: join(root, 'mine') }).cache, join(root, 'mine'));
  const nowhere = { XDG_CACHE_HOME: '/proc/none', HOME: '/proc/none' };
  assert.is(start(program, [], nowhere).name, 'main');
});

test('shoal agent compiles ahead of its first start, with the flags that it runs with', () => {
  const program = join(root, 'app/shim/shoal');
  mkdirSync(join(root, 'app/shim/config'));
  mkdirSync(join(root, 'app/shim/agent'));
  writeFileSync(join(root, 'app/shim/config/load-config.ts'), '');
  const seen = join(root, 'seen');
  const note = `import { appendFileSync } from 'node:fs';\nappendFileSync('${seen}', JSON.stringify(process.execArgv.filter((each) => /^--(?!import)/.test(each))) + '\\n');\n`;
  writeFileSync(join(root, 'app/shim/agent/agent.ts'), note);
  writeFileSync(join(root, 'app/shim/main.ts'), note + echo('main'));
  const own = { NODE_COMPILE_CACHE: join(root, 'mine') };
  mkdirSync(own.NODE_COMPILE_CACHE);
  assert.equal(start(program, ['agent', '--config', '/x y'], own).given, ['agent', '--config', '/x y']);
  assert.ok(existsSync(join(root, 'mine/compiled')));
  const runs = readFileSync(seen, 'utf8').trim().split('\n');
  assert.is(runs.length, 3, 'agent.ts and main.ts ahead, then main.ts');
  assert.is(new Set(runs).size, 1, runs.join());
  start(program, ['agent'], own);
  assert.is(readFileSync(seen, 'utf8').trim().split('\n').length, 4, 'once');
});

test('shoal says in one line what to do when Node is not there', () => {
  rmSync(join(root, 'app/node_modules'));
  const { status, stderr } = spawnSync(join(root, 'app/shim/shoal'), ['version'], {
    encoding: 'utf8',
    env: environment,
  });
  assert.is(status, 1);
  assert.match(stderr, /^Cannot start shoal: there is no .*; run `make setup`/);
  assert.is(stderr.trimEnd().split('\n').length, 1);
});

test('shoal is a file that runs', () => {
  assert.ok(existsSync(join(repository, 'shim/shoal')));
  execFileSync('sh', ['-n', join(repository, 'shim/shoal')]);
});

test.run();
