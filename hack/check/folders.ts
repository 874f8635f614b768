import { dirname } from 'node:path/posix';
import type { Finding } from './source.ts';

/** Folders whose contract others rely on; each says in a README what it is, what it promises and its limits. */
const documented = [/^(shim|nri|webhook|hack)$/, /^shim\/[a-z]+$/];
/** Folders too small to have a contract. */
const exempt = new Set(['hack/components/kubernetes']);

export function checkFolders(paths: readonly string[]): Finding[] {
  const all = new Set(paths);
  const folders = new Set(paths.filter((path) => path.endsWith('.ts')).map((path) => dirname(path)));
  return [...folders]
    .filter((folder) => documented.some((pattern) => pattern.test(folder)) && !exempt.has(folder))
    .filter((folder) => !all.has(`${folder}/README.md`))
    .map((folder) => ({
      path: folder,
      message: 'has no README.md: say what it is, its contract, how it works and its limits',
    }));
}
