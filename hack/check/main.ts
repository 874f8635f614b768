/** `make check`: types, formatting and lint, unused files, and this repository's own rules. Prints only what is wrong. */
import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { checkBans } from './bans.ts';
import { checkFolders } from './folders.ts';
import { checkImports } from './imports.ts';
import { checkSettingsTable } from './settings-table.ts';
import { checkSizes } from './sizes.ts';
import type { Finding } from './source.ts';
import { listFiles, readSources, readText, sourceFile } from './source.ts';

const repository = resolve(import.meta.dirname, '../..');
const bin = (name: string): string => join(repository, 'node_modules/.bin', name);
/** Text that is ours to word; lock files and the like are not. */
const prose = /(?:\.(?:ts|md|sh|yaml|yml|json|toml|go)|Makefile|\.ci\/run|shim\/shoal)$/;
const generated = /package-lock\.json$/;

interface Outcome {
  readonly name: string;
  readonly failed: boolean;
  readonly text: string;
}

if (import.meta.main) process.exitCode = await main();

async function main(): Promise<number> {
  const outcomes = await Promise.all([
    command('types', bin('tsc'), ['-p', '.']),
    command('format and lint', bin('biome'), [
      'ci',
      '--colors=off',
      '--error-on-warnings',
      '--diagnostic-level=warn',
      '--max-diagnostics=100',
    ]),
    command('unused', process.execPath, [
      join(repository, 'node_modules/knip/bin/knip.js'),
      '--no-progress',
      '--no-config-hints',
    ]),
    ...ownRules(),
  ]);
  for (const outcome of outcomes) print(outcome);
  return outcomes.some((outcome) => outcome.failed) ? 1 : 0;
}

function print({ name, failed, text }: Outcome): void {
  process.stdout.write(`${failed ? 'FAIL' : 'ok  '} ${name}\n`);
  if (text !== '') process.stdout.write(`${text.trimEnd().replaceAll(/^/gm, '     ')}\n`);
}

function ownRules(): Outcome[] {
  const paths = listFiles(repository);
  const sources = readSources(repository, paths);
  const texts = paths
    .filter((path) => prose.test(path) && !path.endsWith('.ts') && !generated.test(path))
    .flatMap((path) => {
      const text = readText(join(repository, path));
      return text === undefined ? [] : [sourceFile(path, text)];
    });
  return [
    outcome('import directions', checkImports(sources)),
    outcome('bans and leftovers', checkBans([...sources, ...texts])),
    outcome('sizes', checkSizes(sources)),
    outcome('folders', checkFolders(paths)),
    outcome('settings table', checkSettingsTable(readText(join(repository, 'README.md')) ?? '')),
  ];
}

function outcome(name: string, findings: readonly Finding[]): Outcome {
  const text = findings
    .map(({ path, line, message }) => `${path}${line === undefined ? '' : `:${line}`} ${message}`)
    .join('\n');
  return { name, failed: findings.some((finding) => finding.onlyReported !== true), text };
}

function command(name: string, program: string, parameters: readonly string[]): Promise<Outcome> {
  const { promise, resolve: done } = Promise.withResolvers<Outcome>();
  const child = spawn(program, parameters, { cwd: repository, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
  child.once('error', (error) =>
    done({ name, failed: true, text: `Cannot run "${program}": ${error.message}` }),
  );
  child.once('close', (code) => done({ name, failed: code !== 0, text: code === 0 ? '' : text }));
  return promise;
}
