import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { atExit } from '../../test/support/real/at-exit.ts';

/** A bridge has one /24: its own address, that of the network and that of all. */
const NODES_MAX = 253;
/** What may pass at once at full speed: some full-size segments, or TCP does not reach the rate, bytes. */
const BURST_BYTES = 256 * 1024;
/** How long a packet may wait for its turn before it is dropped: a home router's buffer, ms. */
const QUEUE_MS = 50;
const NAMESPACES = '/var/run/netns';
/** `shb4711` for a bridge, `shv4711n3` and `shoal-4711-n3` for a node: interface names have 15 characters at most. */
const OWNED = /^(?:shb|shv|shoal-)(\d+)(?:$|-?n\d+$)/;

/** Rates in bits a second; a rate that is not given is not limited. */
export interface LinkRates {
  /** From the node. */
  readonly upBitsPerSecond?: number;
  /** To the node. */
  readonly downBitsPerSecond?: number;
}

export interface NetworkOptions {
  /** One namespace each. */
  readonly nodes: readonly LinkRates[];
}

/** A network namespace with one link to a bridge that all share. */
export interface NetworkNode {
  /** Such as `shoal-4711-n1`. */
  readonly name: string;
  readonly address: string;
  /** The words that, put before a command, run it there: `nsenter --net=… COMMAND`. */
  readonly enter: readonly string[];
  /** Bytes that have passed the link since it was made, with all headers. */
  traffic(): { readonly upBytes: number; readonly downBytes: number };
  setRates(rates: LinkRates): void;
  /** Takes the link down, as a pulled cable; connections are not told. */
  cut(): void;
  mend(): void;
}

export interface Network extends Disposable {
  /** The host's address on the bridge: what servers outside of the namespaces listen on. */
  readonly address: string;
  readonly nodes: readonly NetworkNode[];
  /** Ends nothing that runs in a namespace: stop that first. Never throws. */
  destroy(): void;
}

/** Null when namespaces can be made and links limited here, else one line for a skip message. */
export function networkSkipReason(): string | null {
  if (process.getuid?.() !== 0) return 'needs root (network namespaces): run it as root';
  const missing = ['ip', 'tc', 'nsenter'].filter((tool) => spawnSync(tool, ['-V']).error !== undefined);
  if (missing.length === 0) return null;
  return `needs ${missing.join(', ')}: install the packages iproute2 and util-linux`;
}

/**
 * Makes namespaces on a bridge, each with limits of its own up and down. What a process made that is gone is removed
 * first; what this one makes is removed at the latest when it exits.
 */
export function createNetwork({ nodes }: NetworkOptions): Network {
  if (nodes.length > NODES_MAX) throw new Error(`Cannot make "${nodes.length}" nodes: ${NODES_MAX} at most`);
  sweepStaleNetworks();
  const bridge = `shb${process.pid}`;
  const subnet = subnetOf(process.pid);
  const hadNamespaces = existsSync(NAMESPACES);
  const destroy = (): void => {
    takeBack();
    removeOwned(process.pid);
    if (!hadNamespaces) removeNamespacesFolder();
  };
  const takeBack = atExit(destroy);
  try {
    ip('link', 'add', bridge, 'type', 'bridge');
    ip('address', 'add', `${subnet}.1/24`, 'dev', bridge);
    ip('link', 'set', bridge, 'up');
    const made = nodes.map((rates, index) => makeNode({ bridge, subnet, index, rates }));
    return { address: `${subnet}.1`, nodes: made, destroy, [Symbol.dispose]: destroy };
  } catch (error) {
    destroy();
    throw error;
  }
}

/** Process numbers are unique on a machine, so are these subnets among the youngest 32768 of them. */
function subnetOf(pid: number): string {
  return `10.${128 + ((pid >> 8) & 127)}.${pid & 255}`;
}

interface NodePlan {
  readonly bridge: string;
  readonly subnet: string;
  readonly index: number;
  readonly rates: LinkRates;
}

function makeNode({ bridge, subnet, index, rates }: NodePlan): NetworkNode {
  const name = `shoal-${process.pid}-n${index + 1}`;
  const outer = `shv${process.pid}n${index + 1}`;
  const address = `${subnet}.${index + 2}`;
  const inside = ['-n', name];
  ip('netns', 'add', name);
  ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  ip('link', 'set', outer, 'master', bridge, 'up');
  ip(...inside, 'link', 'set', 'lo', 'up');
  ip(...inside, 'address', 'add', `${address}/24`, 'dev', 'eth0');
  ip(...inside, 'link', 'set', 'eth0', 'up');
  ip(...inside, 'route', 'add', 'default', 'via', `${subnet}.1`);
  const setRates = ({ upBitsPerSecond, downBitsPerSecond }: LinkRates): void => {
    limit([], outer, downBitsPerSecond);
    limit(inside, 'eth0', upBitsPerSecond);
  };
  setRates(rates);
  return {
    name,
    address,
    enter: ['nsenter', `--net=${NAMESPACES}/${name}`],
    // Seen from the bridge: what it receives goes up.
    traffic: () => ({ upBytes: counter(outer, 'rx_bytes'), downBytes: counter(outer, 'tx_bytes') }),
    setRates,
    cut: () => ip('link', 'set', outer, 'down'),
    mend: () => ip('link', 'set', outer, 'up'),
  };
}

function limit(inside: readonly string[], device: string, bitsPerSecond: number | undefined): void {
  if (bitsPerSecond === undefined) {
    // There is none to be removed when there was no limit.
    spawnSync('tc', [...inside, 'qdisc', 'del', 'dev', device, 'root'], { stdio: 'ignore' });
    return;
  }
  const shape = ['tbf', 'rate', `${bitsPerSecond}bit`, 'burst', `${BURST_BYTES}`, 'latency', `${QUEUE_MS}ms`];
  run('tc', ...inside, 'qdisc', 'replace', 'dev', device, 'root', ...shape);
}

function counter(device: string, name: string): number {
  return Number(readFileSync(`/sys/class/net/${device}/statistics/${name}`, 'utf8'));
}

/** Removes what was made by processes that are gone. */
function sweepStaleNetworks(): void {
  const owners = new Set(ownedNames().map((name) => Number(OWNED.exec(name)?.[1])));
  const stale = [...owners].filter((pid) => pid !== process.pid && !existsSync(`/proc/${pid}`));
  for (const pid of stale) removeOwned(pid);
  if (stale.length > 0) removeNamespacesFolder();
}

/** A namespace takes its end of the link with it; the other end is removed by name, for a namespace lives on in its processes. */
function removeOwned(pid: number): void {
  for (const name of ownedNames()) {
    if (Number(OWNED.exec(name)?.[1]) !== pid) continue;
    const args = name.startsWith('shoal-') ? ['netns', 'delete', name] : ['link', 'delete', name];
    spawnSync('ip', args, { stdio: 'ignore' });
  }
}

/** `ip` makes the folder with its first namespace and mounts it onto itself. Both calls fail while it is in use. */
function removeNamespacesFolder(): void {
  if (!existsSync(NAMESPACES) || readdirSync(NAMESPACES).length > 0) return;
  spawnSync('umount', [NAMESPACES], { stdio: 'ignore' });
  spawnSync('rmdir', [NAMESPACES], { stdio: 'ignore' });
}

function ownedNames(): string[] {
  const namespaces = existsSync(NAMESPACES) ? readdirSync(NAMESPACES) : [];
  return [...readdirSync('/sys/class/net'), ...namespaces].filter((name) => OWNED.test(name));
}

function ip(...args: readonly string[]): void {
  run('ip', ...args);
}

function run(command: string, ...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`Cannot run "${command} ${args.join(' ')}": ${error ?? stderr.trim()}`);
}
