import { readdirSync, readFileSync } from 'node:fs';

/** Linux counts CPU time in these; 100 a second on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** CPU seconds that a process and its living descendants have used, with those of its reaped children. */
export function cpuSecondsOfTree(pid: number): number {
  const children = childrenByParent();
  const walk = (each: number): number =>
    ownCpuSeconds(each) + (children.get(each) ?? []).reduce((sum, child) => sum + walk(child), 0);
  return walk(pid);
}

/** The largest resident set that the process has had, bytes. */
export function peakRssBytes(pid: number): number {
  return statusValue(pid, 'VmHWM') * 1024;
}

export function rssBytes(pid: number): number {
  return statusValue(pid, 'VmRSS') * 1024;
}

function statusValue(pid: number, name: string): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
}

function ownCpuSeconds(pid: number): number {
  const fields = statFields(pid);
  const [user, system, childUser, childSystem] = fields.slice(11, 15).map(Number);
  return ((user ?? 0) + (system ?? 0) + (childUser ?? 0) + (childSystem ?? 0)) / TICKS_PER_SECOND;
}

/** Fields of proc_pid_stat(5) from the third on: the second may hold blanks and brackets. */
function statFields(pid: number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

function childrenByParent(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(statFields(Number(name))[1] ?? 0);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  return children;
}
