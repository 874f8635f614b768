import { dropCodePages } from '../base/code-pages.ts';
import { isShoalError } from '../base/errors.ts';
import { FRONT_HELP, parseFrontOptions } from './front-options.ts';
import { runFront } from './run-front.ts';

/** A front is up within a fraction of it, ms. */
const START_MS = 3000;
/** Dropping takes a millisecond; what is still needed is back after the next calls, ms. */
const DROP_INTERVAL_MS = 60_000;

process.exitCode = await main();

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort());
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
  setTimeout(dropCodePages, START_MS).unref();
  setInterval(dropCodePages, DROP_INTERVAL_MS).unref();
}
