import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { listenUnix } from '../../../shim/cri/unix-listener.ts';
import { socketDirectory } from './grpc-peer.ts';

const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);
const close = (server: Server): Promise<void> => new Promise((resolve) => void server.close(() => resolve()));

async function refusal(socketPath: string): Promise<string> {
  const server = createServer();
  try {
    await listenUnix(server, socketPath);
  } catch (error) {
    assert.ok(isShoalError(error, ErrorCode.ListenFailed), String(error));
    return error.message;
  }
  await close(server);
  return '';
}

test('listenUnix() makes a private directory and a private socket', async () => {
  await using directory = await socketDirectory();
  const socketPath = join(directory.path, 'run', 'cri.sock');
  const server = createServer();
  await listenUnix(server, socketPath);
  assert.is(await mode(join(directory.path, 'run')), '700');
  assert.is(await mode(socketPath), '600');
  await close(server);
});

test('listenUnix() replaces the socket of a process that was killed', async () => {
  await using directory = await socketDirectory();
  const socketPath = join(directory.path, 'cri.sock');
  const script = `require('net').createServer().listen(${JSON.stringify(socketPath)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  assert.match(await refusal(socketPath), /^Cannot listen on ".*cri\.sock": another process listens there$/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok((await stat(socketPath)).isSocket());
  assert.is(await refusal(socketPath), '');
});

test('listenUnix() refuses the socket of a process that is frozen', async () => {
  await using directory = await socketDirectory();
  const socketPath = join(directory.path, 'cri.sock');
  const script = `require('net').createServer().listen(${JSON.stringify(socketPath)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGSTOP');
  assert.match(await refusal(socketPath), /another process listens there/);
  child.kill('SIGKILL');
  await once(child, 'exit');
});

test('listenUnix() refuses a path where there is a file, and leaves the file alone', async () => {
  await using directory = await socketDirectory();
  const path = join(directory.path, 'precious');
  await writeFile(path, 'data');
  assert.match(await refusal(path), /not a socket/);
  assert.is((await stat(path)).size, 4);
});

test('listenUnix() keeps the mode of a directory that was there', async () => {
  await using directory = await socketDirectory();
  const run = join(directory.path, 'run');
  await mkdir(run);
  await chmod(run, 0o755);
  assert.is(await refusal(join(run, 'cri.sock')), '');
  assert.is(await mode(run), '755');
});

test('listenUnix() refuses a path that is too long for a socket', async () => {
  assert.match(await refusal(`/tmp/${'x'.repeat(120)}`), /longer than 107 bytes/);
});

test.run();
