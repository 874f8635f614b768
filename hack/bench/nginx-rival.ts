import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../test/support/free-port.ts';
import { cpuSecondsOfTree } from './process-usage.ts';

const START_TRIES = 50;
const START_PAUSE_MS = 100;

/** What `connections` curls get of nginx on loopback, each a part of `bytes`; a line that says why not where one is missing. */
export async function benchNginx(bytes: number, connections: number): Promise<object> {
  const missing = ['nginx', 'curl'].filter((name) => !isInstalled(name));
  if (missing.length > 0)
    return {
      case: 'nginx',
      skipped: `${missing.join(' and ')} not installed (apt-get install ${missing.join(' ')})`,
    };
  const directory = mkdtempSync(join(tmpdir(), 'shoal-bench-nginx-'));
  const port = await freePort();
  const part = Math.floor(bytes / connections);
  writeFileSync(join(directory, 'blob'), Buffer.alloc(part, 'x'));
  writeFileSync(join(directory, 'nginx.conf'), configOf(directory, port));
  const nginx = spawn('nginx', ['-p', directory, '-c', 'nginx.conf', '-g', 'daemon off;'], {
    stdio: 'ignore',
  });
  try {
    const url = `http://127.0.0.1:${port}/blob`;
    await untilAnswered(url);
    return {
      case: 'nginx',
      bytes: part * connections,
      ...(await measure(url, part * connections, connections, nginx)),
    };
  } finally {
    nginx.kill();
    rmSync(directory, { recursive: true });
  }
}

async function measure(
  url: string,
  bytes: number,
  connections: number,
  nginx: ChildProcess,
): Promise<object> {
  const cpuBefore = cpuSecondsOfTree(nginx.pid ?? 0);
  const startMs = performance.now();
  await Promise.all(Array.from({ length: connections }, () => run('curl', ['-s', '-o', '/dev/null', url])));
  const seconds = (performance.now() - startMs) / 1000;
  const cpuSeconds = cpuSecondsOfTree(nginx.pid ?? 0) - cpuBefore;
  const senderCpuSecondsPerGB = Number(((cpuSeconds / bytes) * 1e9).toFixed(2));
  return { client: 'curl', connections, bytesPerSecond: Math.round(bytes / seconds), senderCpuSecondsPerGB };
}

function configOf(directory: string, port: number): string {
  return `worker_processes auto;
error_log ${directory}/error.log;
pid ${directory}/nginx.pid;
events {}
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  server { listen 127.0.0.1:${port}; root ${directory}; }
}
`;
}

async function untilAnswered(url: string): Promise<void> {
  for (let attempt = 0; attempt < START_TRIES; attempt++) {
    const isUp = await run('curl', ['-s', '-I', '-o', '/dev/null', url]).then(
      () => true,
      () => false,
    );
    if (isUp) return;
    await new Promise((resolve) => setTimeout(resolve, START_PAUSE_MS));
  }
  throw new Error('Cannot bench nginx: it does not answer');
}

function isInstalled(name: string): boolean {
  const paths = `${process.env.PATH}:/usr/sbin`.split(':');
  return paths.some((path) => existsSync(join(path, name)));
}

function run(command: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'ignore' });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${command} ended with ${code}`))));
  });
}
