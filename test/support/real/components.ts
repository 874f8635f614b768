import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';

const SCRIPTS = resolve(import.meta.dirname, '../../../hack/components');

export type ComponentName =
  | 'registry'
  | 'runc'
  | 'runc-1.2'
  | 'busybox'
  | 'containerd-1.7'
  | 'containerd-2.1'
  | 'containerd-2.4'
  | 'crictl-go'
  | 'kubelet'
  | 'kubernetes'
  | 'etcd'
  | 'cni-plugins'
  | 'isal'
  | 'erofs-utils'
  | 'btrfs-progs';

type Lookup = { readonly directory: string } | { readonly missing: string };

const found = new Map<ComponentName, Lookup>();

/** The folder with the component's programs. Throws with the line that tells how to get it. */
export function componentPath(name: ComponentName): string {
  const lookup = lookUp(name);
  if ('missing' in lookup) throw new Error(lookup.missing);
  return lookup.directory;
}

/** Null when every component is there, else one line for a skip message. */
export function componentsAvailable(...names: readonly ComponentName[]): string | null {
  for (const name of names) {
    const lookup = lookUp(name);
    if ('missing' in lookup) return lookup.missing;
  }
  return null;
}

/** ISA-L's shared library, where it was brought. */
export function isalLibrary(): string | undefined {
  if (componentsAvailable('isal') !== null) return undefined;
  return resolve(componentPath('isal'), '../lib/libisal.so.2');
}

/** Null for root, else one line for a skip message. */
export function requireRoot(): string | null {
  return process.getuid?.() === 0 ? null : 'needs root (mounts and containers): run it as root';
}

/**
 * The one line that says why a suite on real containerd cannot run here, or null when it can. The default is what
 * a pull through containerd needs.
 */
export function containerdSkipReason(
  version: '1.7' | '2.1' | '2.4' = '2.1',
  ...more: readonly ComponentName[]
): string | null {
  return (
    requireRoot() ?? componentsAvailable(`containerd-${version}`, 'runc', 'registry', 'busybox', ...more)
  );
}

/** True when nothing is missing; else says so in the line that the test runner counts as a skip. */
export function canRun(skipReason: string | null): boolean {
  if (skipReason !== null) process.stdout.write(`SKIP: ${skipReason}\n`);
  return skipReason === null;
}

function lookUp(name: ComponentName): Lookup {
  const known = found.get(name);
  if (known !== undefined) return known;
  const result = spawnSync('bash', [`${SCRIPTS}/path.sh`, name], { encoding: 'utf8' });
  const lookup =
    result.status === 0
      ? { directory: result.stdout.trim() }
      : { missing: result.stderr.trim() || `no bash for ${name}` };
  found.set(name, lookup);
  return lookup;
}
