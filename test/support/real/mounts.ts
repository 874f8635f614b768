import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Mount points at or below a folder, deepest first, each as often as it is mounted. */
export function mountsBelow(folder: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescapeOctal(line.split(' ')[4] ?? ''))
    .filter((point) => point === folder || point.startsWith(`${folder}/`))
    .reverse();
}

/** Unmounts everything at or below the folder; lazily what is still in use. Never throws. */
export function unmountBelow(folder: string): void {
  for (const point of mountsBelow(folder)) {
    if (spawnSync('umount', [point], { stdio: 'ignore' }).status === 0) continue;
    spawnSync('umount', ['-l', point], { stdio: 'ignore' });
  }
}

/** mountinfo writes blanks and backslashes in paths as three octal digits. */
function unescapeOctal(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
