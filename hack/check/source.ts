import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface SourceFile {
  /** Path from the repository's root. */
  readonly path: string;
  readonly text: string;
  /** The text with comments and the insides of strings blanked out; same lines, same columns. */
  readonly code: string;
}

/** What one rule found: where, what, why it is not wanted, and what to do instead. */
export interface Finding {
  readonly path: string;
  readonly line?: number;
  readonly message: string;
  /** Reported findings are told; the others also fail the check. */
  readonly onlyReported?: boolean;
}

/** Every file that is in git or could be added to it. */
export function listFiles(repository: string): string[] {
  const listing = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
  });
  return listing.split('\0').filter((path) => path !== '');
}

/** Reads the TypeScript among `paths`; a file that is listed but deleted is passed over. */
export function readSources(repository: string, paths: readonly string[]): SourceFile[] {
  return paths
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => {
      const text = readText(join(repository, path));
      return text === undefined ? [] : [sourceFile(path, text)];
    });
}

export function sourceFile(path: string, text: string): SourceFile {
  return { path, text, code: blank(text) };
}

export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'EISDIR') return undefined;
    throw error;
  }
}

const lexemes =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\[\s\S]|[^`\\])*`|(?<=[=(,:!&|?;{}\s])\/(?![/*\s])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[dgimsuvy]*/g;

/** Good enough for formatted code: a template's `${…}` counts as text. */
function blank(text: string): string {
  return text.replaceAll(lexemes, (match) => {
    const isComment = match.startsWith('//') || match.startsWith('/*');
    const inside = (isComment ? match : match.slice(1, -1)).replaceAll(/[^\n]/g, ' ');
    return isComment ? inside : `${match[0]}${inside}${match.at(-1)}`;
  });
}

export function lineOf(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}
