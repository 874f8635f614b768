import { dirname, join } from 'node:path/posix';
import { importTable, unlimited } from './import-table.ts';
import type { Finding, SourceFile } from './source.ts';
import { lineOf } from './source.ts';

const importStatement = /(?:\bfrom|\bimport|\bnew URL\()\s*\(?\s*'(\.[^']*)'/g;

/** Relative imports that leave their part of the table, or reach tests and helpers from the product. */
export function checkImports(files: readonly SourceFile[]): Finding[] {
  return files.flatMap((file) => {
    const from = partOf(file.path);
    if (unlimited.includes(from)) return [];
    return (
      [...file.text.matchAll(importStatement)]
        // A specifier inside a comment is no import: there the code is blank.
        .filter((match) => file.code[match.index] !== ' ')
        .flatMap((match) => judge(file, from, match[1] ?? '', lineOf(file.text, match.index)))
    );
  });
}

function judge(file: SourceFile, from: string, specifier: string, line: number): Finding[] {
  const target = join(dirname(file.path), specifier);
  const to = partOf(target);
  if (to === from) return [];
  const rule = importTable[from];
  if (rule === undefined) {
    return [
      {
        path: file.path,
        line,
        message: `${from} is not in hack/check/import-table.ts: add it with what it may import`,
      },
    ];
  }
  if (rule.may.includes(to) || rule.may.includes(target)) return [];
  const allowed = rule.may.length === 0 ? 'nothing' : rule.may.join(', ');
  const message =
    `${from} may not import ${target}: ${rule.why}. Instead, declare an interface in ${from} and let ` +
    `shim/agent hand in the implementation, or move what both need into shim/base. ${from} may import: ${allowed}`;
  return [{ path: file.path, line, message }];
}

/** `shim/peer/x/y.ts` is of part `shim/peer`, `shim/main.ts` of `shim`, `nri/a/b.ts` of `nri`. */
export function partOf(path: string): string {
  const [top = '', second] = path.split('/');
  const isFile = second === undefined || second.includes('.');
  return top === 'shim' && !isFile ? `shim/${second}` : top;
}
