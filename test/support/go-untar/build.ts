import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/** Builds `go-untar` into `directory`, or says in one line why there is none. */
export function buildGoUntar(directory: string): { readonly program: string } | { readonly reason: string } {
  if (process.getuid?.() !== 0) return { reason: 'needs root: owners and devices are compared' };
  const program = join(directory, 'go-untar');
  const build = spawnSync('go', ['build', '-o', program, '.'], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  if (build.error !== undefined) return { reason: 'needs Go (https://go.dev/dl)' };
  return build.status === 0 ? { program } : { reason: `go build failed: ${build.stderr.split('\n')[0]}` };
}
