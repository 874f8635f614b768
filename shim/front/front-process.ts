import { isShoalError } from '../base/errors.ts';
import { FRONT_HELP, parseFrontOptions } from './front-options.ts';
import { runFront } from './run-front.ts';

process.exitCode = await main();

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort());
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  try {
    const options = parseFrontOptions(process.argv.slice(2), process.env);
    if (options === undefined) process.stdout.write(FRONT_HELP);
    else await runFront({ ...options, log }, stop.signal);
    return 0;
  } catch (error) {
    log(isShoalError(error) ? error.message : String(error instanceof Error ? error.stack : error));
    return 1;
  }
}
