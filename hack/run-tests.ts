/**
 * Runs test files, one process a file, and tells in one line each how they went.
 *
 *   run-tests.ts [unit|fuzz|integration|e2e|kubernetes|all|FILE|GLOB]…      default: all
 *
 * uvu alone would put all files in one process, wait forever for a hung one, and call a file without tests a success.
 * Environment: `JSON=1` (one object a file and one for the sum instead of text), `CI=1` (as root, a skip in
 * test/integration is a failure), `CONCURRENCY=N` (unit files at once), `TIME_LIMIT_SECONDS=N` (default limit of a file).
 */
import { spawn } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';

const repository = resolve(import.meta.dirname, '..');
const defaultLimitSeconds = Number(process.env.TIME_LIMIT_SECONDS ?? 60);
const unitConcurrency = Number(process.env.CONCURRENCY ?? 2);
/** What is kept of one file's output; the end matters, for uvu prints its sums there. */
const outputBytesMax = 1024 * 1024;
const limitCommentLinesMax = 5;

const isRoot = process.getuid?.() === 0;
const isCi = process.env.CI === '1' || process.env.CI === 'true';
const isJson = process.env.JSON === '1';

export interface FileResult {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly skipReasons: readonly string[];
  /** Why the file counts as failed, if it does. */
  readonly problem: string | undefined;
  readonly seconds: number;
  readonly output: string;
}

interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly timedOut: boolean;
}

/** Process groups that are running, by their leader's id: killed as a whole, so that no grandchild survives. */
const groups = new Set<number>();

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));

async function main(selectors: readonly string[]): Promise<number> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stop(signal));
  const files = select(selectors.length === 0 ? ['all'] : selectors);
  if (files.length === 0) {
    process.stderr.write(`Cannot run tests "${selectors.join(' ')}": no such test file\n`);
    return 1;
  }
  const results = [
    ...(await runAll(
      files.filter((file) => !isIntegration(file)),
      unitConcurrency,
    )),
    ...(await runAll(files.filter(isIntegration), 1)),
  ];
  return summarise(results);
}

function stop(signal: NodeJS.Signals): never {
  for (const leader of groups) killGroup(leader);
  process.exit(signal === 'SIGINT' ? 130 : 143);
}

/** Test files named by sets, paths or globs, each once, in a stable order. */
function select(selectors: readonly string[]): string[] {
  const fuzz = ['test/fuzz/**/*.test.ts'];
  const sets: Record<string, readonly string[]> = {
    fuzz,
    // A few seconds of fuzzing find what a careless change breaks; \`make fuzz\` looks for the rest.
    unit: ['test/unit/**/*.test.ts', 'test/conformance/**/*.test.ts', ...fuzz],
    integration: ['test/integration/**/*.test.ts'],
  };
  sets.all = Object.values(sets).flat();
  // With components that take minutes to build.
  sets.e2e = ['test/e2e/!(kubernetes*).test.ts'];
  // The cluster has a time of its own and much to tell: hack/e2e-kubernetes.sh runs it by itself.
  sets.kubernetes = ['test/e2e/kubernetes-!(cluster).test.ts'];
  const patterns = selectors.flatMap((selector) => sets[selector] ?? [selector]);
  const found = patterns.flatMap((pattern) =>
    globSync(pattern, { cwd: repository }).map((file) => resolve(repository, file)),
  );
  return [...new Set(found)].sort();
}

function isIntegration(file: string): boolean {
  return /^test\/(?:integration|e2e)\//.test(relative(repository, file));
}

async function runAll(files: readonly string[], concurrency: number): Promise<FileResult[]> {
  const waiting = [...files];
  const results: FileResult[] = [];
  const worker = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const result = await runFile(file);
      results.push(result);
      report(result);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return results;
}

async function runFile(file: string): Promise<FileResult> {
  const limitSeconds = timeLimitSeconds(readFileSync(file, 'utf8')) ?? defaultLimitSeconds;
  const startedMs = performance.now();
  const { exit, output } = await execute(file, limitSeconds * 1000);
  const seconds = (performance.now() - startedMs) / 1000;
  return judge({ file: relative(repository, file), exit, output, seconds, limitSeconds });
}

/** The limit that a file asks for by a comment `time limit: 180 s` in its first lines. */
export function timeLimitSeconds(source: string): number | undefined {
  const head = source.split('\n', limitCommentLinesMax).join('\n');
  const match = /^\s*(?:\/\/|\*|\/\*\*?).*\btime limit: (\d+) s\b/m.exec(head);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

function execute(file: string, limitMs: number): Promise<{ exit: Exit; output: string }> {
  const { promise, resolve: done, reject } = Promise.withResolvers<{ exit: Exit; output: string }>();
  // A group of its own (`detached`), so that the time limit also ends what the test has started.
  const child = spawn(process.execPath, ['--no-warnings', file], {
    cwd: repository,
    detached: true,
    env: { ...process.env, FORCE_COLOR: '0', NO_COLOR: '1', NODE_DISABLE_COLORS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.once('error', reject);
  const leader = child.pid;
  if (leader === undefined) return promise;
  groups.add(leader);
  let output = '';
  const keep = (text: string): void => {
    output = (output + text).slice(-outputBytesMax);
  };
  child.stdout.setEncoding('utf8').on('data', keep);
  child.stderr.setEncoding('utf8').on('data', keep);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(leader);
  }, limitMs);
  // Whoever of the group outlives its leader holds the pipes open and would delay 'close' until the limit.
  child.once('exit', () => killGroup(leader));
  child.once('close', (code, signal) => {
    clearTimeout(timer);
    groups.delete(leader);
    done({ exit: { code, signal, timedOut }, output });
  });
  return promise;
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch (error) {
    // ESRCH: the whole group is gone already, as it should be.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Decides from exit and output. Trusts uvu's sums more than the exit code: uvu forgets an error in a `before` hook. */
export function judge(run: {
  readonly file: string;
  readonly exit: Exit;
  readonly output: string;
  readonly seconds: number;
  readonly limitSeconds: number;
}): FileResult {
  const { file, exit, output, seconds } = run;
  const skipReasons = [...output.matchAll(/^SKIP: (.+)$/gm)].map((match) => match[1] ?? '');
  const total = sumOf(output, 'Total');
  const passed = sumOf(output, 'Passed') ?? 0;
  const skipped = Math.max(sumOf(output, 'Skipped') ?? 0, skipReasons.length);
  const problem = problemOf({ exit, total, passed, skipped, limitSeconds: run.limitSeconds });
  const failed = Math.max((total ?? 0) - passed, problem === undefined ? 0 : 1);
  return { file, passed, failed, skipped, skipReasons, problem, seconds, output };
}

function problemOf(run: {
  readonly exit: Exit;
  readonly total: number | undefined;
  readonly passed: number;
  readonly skipped: number;
  readonly limitSeconds: number;
}): string | undefined {
  const { exit, total } = run;
  if (exit.timedOut) return `still running after ${run.limitSeconds} s`;
  if (exit.signal !== null) return `killed by ${exit.signal}`;
  if (total !== undefined && run.passed < total) return `${total - run.passed} of ${total} tests failed`;
  if (exit.code !== 0) return `exit code ${exit.code}`;
  if ((total ?? 0) === 0 && run.skipped === 0) return 'ran no test';
  return undefined;
}

/** One of uvu's closing sums; a file has one block of them however many suites it has. */
function sumOf(output: string, name: string): number | undefined {
  const match = [...output.matchAll(new RegExp(`^\\s*${name}:\\s+(\\d+)\\s*$`, 'gm'))].at(-1);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

function report(result: FileResult): void {
  const { output, ...facts } = result;
  if (isJson) {
    const line = result.problem === undefined ? facts : { ...facts, output };
    process.stdout.write(`${JSON.stringify(line)}\n`);
    return;
  }
  const state = result.problem !== undefined ? 'FAIL' : result.passed === 0 ? 'skip' : 'ok  ';
  const detail = result.problem ?? `${result.passed} passed`;
  process.stdout.write(`${state} ${result.file} (${result.seconds.toFixed(1)} s, ${detail})\n`);
  for (const reason of new Set(result.skipReasons)) process.stdout.write(`     skipped: ${reason}\n`);
  if (result.problem !== undefined)
    process.stdout.write(`${output.trimEnd().replaceAll(/^/gm, '     | ')}\n`);
}

/** Where everything can run, a suite with real components that does not is a fault of the machine's set-up. */
export function refusedSkips(
  results: readonly Pick<FileResult, 'file' | 'skipped'>[],
  everythingCanRun: boolean,
): readonly { readonly file: string }[] {
  if (!everythingCanRun) return [];
  return results.filter(({ file, skipped }) => skipped > 0 && isIntegration(resolve(repository, file)));
}

function summarise(results: readonly FileResult[]): number {
  const sum = (field: 'passed' | 'failed' | 'skipped'): number =>
    results.reduce((total, result) => total + result[field], 0);
  const refused = refusedSkips(results, isCi && isRoot);
  for (const { file } of refused) {
    if (!isJson) process.stdout.write(`FAIL ${file}: skipped, which CI=1 as root does not allow\n`);
  }
  const passed = sum('passed');
  const failed = sum('failed') + refused.length;
  const skipped = sum('skipped');
  process.stdout.write(
    isJson
      ? `${JSON.stringify({ passed, failed, skipped })}\n`
      : `${passed} passed, ${failed} failed, ${skipped} skipped\n`,
  );
  return failed === 0 ? 0 : 1;
}
