import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const VERSION_1 = '/sys/fs/cgroup/memory';
const VERSION_2 = '/sys/fs/cgroup';

/** A memory cgroup of its own: the page cache of what its processes read and write counts, as in a pod with a limit. */
export interface MemoryLimit extends Disposable {
  /** Words before a command that make it run inside. */
  readonly enter: readonly string[];
  /** The most that was used at once, page cache included, bytes. */
  peakBytes(): number;
  /** Times that the limit was met and memory had to be found: dropped page cache, as a rule. */
  timesAtLimit(): number;
  /** Processes that the kernel ended because nothing could be dropped. */
  kills(): number;
}

/** @throws when cgroups cannot be made here */
export function memoryLimit(limitBytes: number): MemoryLimit {
  const isVersion1 = existsSync(VERSION_1);
  const path = join(isVersion1 ? VERSION_1 : VERSION_2, `shoal-bench-${process.pid}`);
  mkdirSync(path);
  writeFileSync(join(path, isVersion1 ? 'memory.limit_in_bytes' : 'memory.max'), String(limitBytes));
  const read = (name: string): string => readFileSync(join(path, name), 'utf8');
  const event = (file: string, name: string): number =>
    Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(read(file))?.[1] ?? 0);
  const shared = {
    enter: ['sh', '-c', `echo $$ >'${path}/cgroup.procs' && exec "$@"`, 'sh'],
    [Symbol.dispose]: () => rmdirSync(path),
  };
  if (isVersion1)
    return {
      ...shared,
      peakBytes: () => Number(read('memory.max_usage_in_bytes')),
      timesAtLimit: () => Number(read('memory.failcnt')),
      kills: () => event('memory.oom_control', 'oom_kill'),
    };
  return {
    ...shared,
    peakBytes: () => Number(read('memory.peak')),
    timesAtLimit: () => event('memory.events', 'max'),
    kills: () => event('memory.events', 'oom_kill'),
  };
}
