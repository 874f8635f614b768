import { spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { dirname, join } from 'node:path';

/**
 * Entry of the front. Has the program compiled into a cache by a process of its own, and then becomes it (`execve`,
 * same process ID): a process that strips types itself keeps 25 MB of compiler for life, and this one is to be small.
 */

/** No optimising compilers and small heaps: a node sees tens of calls a second, and memory is what counts here. */
const NODE_FLAGS = [
  '--optimize-for-size',
  '--no-opt',
  '--no-maglev',
  '--no-sparkplug',
  '--single-threaded-gc',
  '--v8-pool-size=0',
  '--min-semi-space-size=1',
  '--max-semi-space-size=1',
  '--max-old-space-size=16',
];
/** Compiling takes 0.1 to 0.3 s; without the cache the front works the same. */
const WARM_UP_TIMEOUT_MS = 5000;
const PROGRAM = join(import.meta.dirname, 'front-process.ts');
const args = process.argv.slice(2);
const cache = cacheDirectory();
const env: Record<string, string> = { ...(process.env as Record<string, string>), MALLOC_ARENA_MAX: '1' };
const command = [process.execPath, ...NODE_FLAGS, PROGRAM];

if (cache !== undefined) {
  env.NODE_COMPILE_CACHE = cache;
  const mark = join(cache, 'compiled');
  const wanted = fingerprint();
  if (readMark(mark) !== wanted) {
    const warmUp = [...command.slice(1), '--help'];
    spawnSync(process.execPath, warmUp, { env, stdio: 'ignore', timeout: WARM_UP_TIMEOUT_MS });
    writeFileSync(mark, wanted);
  }
}
// What a process compiled is kept when it ends, and this one does not end.
flushCompileCache();
process.execve?.(process.execPath, [...command, ...args], env);

/** Beside the CRI socket, and private: what is in the cache gets executed. */
function cacheDirectory(): string | undefined {
  const flag = args.findIndex((arg) => arg === '--socket' || arg.startsWith('--socket='));
  const given = flag < 0 ? process.env.SHOAL_FRONT_SOCKET : args[flag]?.split('=')[1] || args[flag + 1];
  const socketPath = (given || '/run/shoal/cri.sock').replace(/^unix:\/\//, '');
  const directory = join(dirname(socketPath), 'front-cache');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const { uid, mode } = lstatSync(directory);
    return uid === process.getuid?.() && (mode & 0o077) === 0 ? directory : undefined;
  } catch {
    return undefined;
  }
}

/** Changes with the program's files, its Node and its flags. A wrong one costs memory, never more: Node checks each entry. */
function fingerprint(): string {
  const shim = dirname(import.meta.dirname);
  const changed = ['base', 'cri', 'front'].flatMap((folder) =>
    readdirSync(join(shim, folder)).map((name) => statSync(join(shim, folder, name)).mtimeMs),
  );
  return [process.version, changed.length, Math.max(...changed), ...NODE_FLAGS].join(' ');
}

function readMark(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
