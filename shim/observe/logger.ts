import type { Logger } from 'pino';
import { pino } from 'pino';
import { isShoalError } from '../base/errors.ts';
import type { LogSink } from './log-sink.ts';
import { redact } from './redact.ts';

export interface LoggerOptions {
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  /** `json`: one object a line. `text`: for people. */
  readonly format: 'json' | 'text';
  readonly sink: Pick<LogSink, 'write'>;
}

/** Causes of causes are told to this depth. */
const causesMax = 5;

/** The logger that `main` hands to the parts. Every line passes `redact` on its way out. */
export function createLogger({ level, format, sink }: LoggerOptions): Logger {
  const finish = format === 'json' ? (line: string) => line : renderText;
  return pino(
    {
      level,
      base: null,
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError, error: describeError },
      redact: {
        paths: ['credentials', '*.credentials', 'headers', '*.headers', 'auth', '*.auth'],
        censor: '[hidden]',
      },
    },
    { write: (line: string) => sink.write(redact(finish(line))) },
  );
}

/** What a log tells about an error: ours by code and facts, foreign ones with their stack, for those are bugs. */
function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return error;
  const cause =
    error.cause === undefined || depth >= causesMax ? {} : { cause: describeError(error.cause, depth + 1) };
  if (isShoalError(error)) return { code: error.code, message: error.message, facts: error.facts, ...cause };
  const code = 'code' in error ? { code: error.code } : {};
  return { type: error.name, message: error.message, ...code, stack: error.stack, ...cause };
}

/** `15:44:52.123 info  pulled image=… seconds=1.2`, from the JSON line. */
function renderText(line: string): string {
  const { time, level, message, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const clock = String(time).slice(11, 23);
  const details = Object.entries(fields).map(([key, value]) => ` ${key}=${renderValue(value)}`);
  return `${clock} ${String(level).padEnd(5)} ${String(message ?? '')}${details.join('')}\n`;
}

function renderValue(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
