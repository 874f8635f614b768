import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { isShoalError } from '../shim/base/errors.ts';
import { readOptions } from './options.ts';
import { runWebhook } from './webhook.ts';

/** After this a process that does not end by itself is ended: kubelet's default grace time is 30 s. */
const END_MS = 25_000;

const options = readOptions(process.argv.slice(2), process.env);
const logger = makeLogger(options.logLevel);
const stop = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.once(name, () => {
    logger.info({ signal: name }, 'ending');
    stop.abort();
    sleep(END_MS, undefined, { ref: false }).then(() => process.exit(1));
  });
}

try {
  await runWebhook(options, logger, stop.signal);
  process.exit(0);
} catch (error) {
  logger.error({ reason: isShoalError(error) ? error.message : error }, 'cannot run');
  process.exit(1);
}

function makeLogger(level: string): Logger {
  return pino({
    level,
    base: null,
    messageKey: 'message',
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
}
