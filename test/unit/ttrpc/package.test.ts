// time limit: 120 s
// The package as it would be published: packed, unpacked where nothing else is, and used by plain Node and by the compiler.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

const repository = resolve(import.meta.dirname, '../../..');
const npmEnv = {
  ...process.env,
  npm_config_offline: 'true',
  npm_config_audit: 'false',
  npm_config_fund: 'false',
};

const program = `
import { createConnection, createServer } from 'node:net';
import { Code, serve, TtrpcClient } from 'ttrpc';
import { stringField } from 'ttrpc/protobuf';
const server = createServer((socket) => {
  serve(socket, { 'test.Echo': { Echo: (payload) => payload } });
}).listen(0, '127.0.0.1', async () => {
  const client = new TtrpcClient(createConnection(server.address().port, '127.0.0.1'));
  const answer = await client.call('test.Echo', 'Echo', stringField(1, 'packed'), { timeoutMs: 5000 });
  const refused = await client.call('test.Echo', 'None', answer).catch((error) => error.code === Code.Unimplemented);
  client.close();
  server.close();
  console.log(answer.toString('hex'), refused);
});
`;

const typed = `
import { TtrpcClient } from 'ttrpc';
export const call = (client: TtrpcClient): Promise<Buffer> => client.call('a', 'b', Buffer.alloc(0), { timeoutMs: 1 });
`;

test('the packed package works where nothing but Node is installed', () => {
  using folder = makeTemporaryRoot('pkg');
  const [built, user] = [join(folder.path, 'built'), join(folder.path, 'user')];
  const run = (command: string, ...args: string[]): string =>
    execFileSync(command, args, {
      cwd: user,
      env: npmEnv,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  mkdirSync(user);
  run(process.execPath, '--no-warnings', join(repository, 'nri/ttrpc/build.ts'), built);
  assert.not(
    readdirSync(built).some((name) => /(?<!\.d)\.ts$/.test(name)),
    'no TypeScript to strip',
  );
  run('npm', 'pack', built, '--pack-destination', folder.path, '--silent');
  const tarball = readdirSync(folder.path).find((name) => name.endsWith('.tgz')) ?? '';
  writeFileSync(join(user, 'package.json'), '{"name":"user","private":true,"type":"module"}');
  run('npm', 'install', join(folder.path, tarball), '--silent');
  assert.equal(
    readdirSync(join(user, 'node_modules')).filter((name) => !name.startsWith('.')),
    ['ttrpc'],
  );
  writeFileSync(join(user, 'program.mjs'), program);
  assert.is(run(process.execPath, 'program.mjs').trim(), '0a067061636b6564 true');
  writeFileSync(join(user, 'typed.ts'), typed);
  const compiler = join(repository, 'node_modules/typescript/bin/tsc');
  const types = join(repository, 'node_modules/@types');
  const flags = ['--noEmit', '--strict', '--module', 'nodenext', '--types', 'node', '--typeRoots', types];
  run(process.execPath, compiler, ...flags, 'typed.ts');
});

test.run();
