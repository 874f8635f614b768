import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Below what Linux gives to connections and to listeners that name no port (from 32768 on, `ip_local_port_range`):
 * nobody is given one of these between the look here and the moment its user listens, or while an agent restarts.
 */
const PORTS = { from: 12_000, below: 30_000 };
const ATTEMPTS_MAX = 100;
const given = new Set<number>();

/** A port of 127.0.0.1 that nobody listens on, and that this process is not given twice. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const port = randomInt(PORTS.from, PORTS.below);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
  throw new Error(`Cannot find a free port: ${ATTEMPTS_MAX} from ${PORTS.from} to ${PORTS.below} are in use`);
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, () => server.close(() => resolve(true)));
  });
}
