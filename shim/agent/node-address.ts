import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

const LOOPBACK = '127.0.0.1';

/** The first address of the interface that has the default route; loopback on a machine without a network. */
export function defaultRouteAddress(): string {
  const name = defaultRouteInterface(readRoutes());
  const addresses = name === undefined ? [] : (networkInterfaces()[name] ?? []);
  return addresses.find((address) => address.family === 'IPv4')?.address ?? LOOPBACK;
}

/** The interface of the route to everywhere in the text of `/proc/net/route` (proc(5)), with the least metric. */
export function defaultRouteInterface(routes: string): string | undefined {
  const rows = routes.split('\n').slice(1);
  const defaults = rows
    .map((row) => row.trim().split(/\s+/))
    .filter((fields) => fields[1] === '00000000' && fields[7] === '00000000')
    .sort((a, b) => Number(a[6]) - Number(b[6]));
  return defaults[0]?.[0];
}

function readRoutes(): string {
  try {
    return readFileSync('/proc/net/route', 'utf8');
  } catch {
    return '';
  }
}
