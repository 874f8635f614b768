import type { Finding, SourceFile } from './source.ts';

/** Lines from which a size is told, and above which it fails. */
const functionLines = { told: 70, most: 100 };
const fileLines = { told: 350, most: 500 };

export function checkSizes(files: readonly SourceFile[]): Finding[] {
  return files.flatMap((file) => {
    const lines = file.text.split('\n').length - 1;
    const long = functionsOf(file).filter((found) => found.lines > functionLines.told);
    return [
      ...(lines > fileLines.told ? [finding(file, 1, `the file has ${lines} lines`, lines, fileLines)] : []),
      ...long.map((found) =>
        finding(file, found.line, `${found.name}() has ${found.lines} lines`, found.lines, functionLines),
      ),
    ];
  });
}

function finding(
  file: SourceFile,
  line: number,
  fact: string,
  lines: number,
  limit: { readonly told: number; readonly most: number },
): Finding {
  const message = `${fact}, ${limit.told} are wanted and ${limit.most} the most: would two names say more?`;
  return { path: file.path, line, message, onlyReported: lines <= limit.most };
}

const opening =
  /^( *)(?:export )?(?:(?:(?:static|private|protected|public|override|async|get|set) )*|async )(?:function\*? )?(?:const )?([\w$#]+|\[[\w.]+\])(?:<[^>]*>)?(?:: [^=]+)? ?(?:= )?(?:async )?(?:function\b.*)?\(/;
const notFunctions = new Set([
  'if',
  'for',
  'while',
  'switch',
  'catch',
  'return',
  'throw',
  'await',
  'super',
  'test',
  'do',
]);

/**
 * Functions with a body, by indentation: the formatter guarantees that a body's closing brace stands in the column
 * where the statement began.
 */
export function functionsOf(file: SourceFile): { name: string; line: number; lines: number }[] {
  const code = file.code.split('\n');
  return code.flatMap((text, index) => {
    const match = opening.exec(text);
    const name = match?.[2];
    if (match === null || name === undefined || notFunctions.has(name)) return [];
    const indent = match[1] ?? '';
    const bodyStart = code.findIndex((line, at) => at >= index && /\{$/.test(line));
    const sameStatement = bodyStart === index || code[bodyStart]?.startsWith(`${indent})`);
    if (bodyStart < 0 || !sameStatement || !/(?:\)|=>|[\w>\]}]) \{$/.test(code[bodyStart] ?? '')) return [];
    const end = code.findIndex((line, at) => at > bodyStart && line.startsWith(`${indent}}`));
    return end < 0 ? [] : [{ name, line: index + 1, lines: end - index + 1 }];
  });
}
