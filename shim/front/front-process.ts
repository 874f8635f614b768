import { dropCodePages } from '../base/code-pages.ts';
import { isShoalError } from '../base/errors.ts';
import { FRONT_HELP, parseFrontOptions } from './front-options.ts';

/** A front is up within a fraction of it, ms. */
const START_MS = 3000;
/** Dropping takes a millisecond; what is still needed is back after the next calls, ms. */
const DROP_INTERVAL_MS = 60_000;

// Node's own start, loading the program and serving each need code that the next does not: with all of it at once the
// start would take more memory than anything after it.
dropCodePages();
process.exitCode = await main();

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort());
  // Also for `--help`: the start has all of the program compiled that way.
  const { runFront } = await import('./run-front.ts');
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  try {
    const options = parseFrontOptions(process.argv.slice(2), process.env);
    if (options === undefined) process.stdout.write(FRONT_HELP);
    else {
      keepSmall();
      await runFront({ ...options, log }, stop.signal);
    }
    return 0;
  } catch (error) {
    log(isShoalError(error) ? error.message : String(error instanceof Error ? error.stack : error));
    return 1;
  }
}

/** The start needs code that serving does not, and so does each rare event after it. */
function keepSmall(): void {
  dropCodePages();
  setTimeout(dropCodePages, START_MS).unref();
  setInterval(dropCodePages, DROP_INTERVAL_MS).unref();
}
