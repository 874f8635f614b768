import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import { createLogger } from '../../../shim/observe/logger.ts';

function memorySink(): { lines: string[]; write: (text: string) => void } {
  const lines: string[] = [];
  return { lines, write: (text) => lines.push(text) };
}

test('createLogger() writes one JSON object a line with time, level and message', () => {
  const sink = memorySink();
  createLogger({ level: 'info', format: 'json', sink }).info({ image: 'a/b:1' }, 'pulled');
  const entry = JSON.parse(sink.lines[0] ?? '');
  assert.is(entry.level, 'info');
  assert.is(entry.message, 'pulled');
  assert.is(entry.image, 'a/b:1');
  assert.match(entry.time, /^\d{4}-\d\d-\d\dT/);
});

test('createLogger() writes nothing below its level', () => {
  const sink = memorySink();
  const log = createLogger({ level: 'warn', format: 'json', sink });
  log.info('quiet');
  log.warn('loud');
  assert.is(sink.lines.length, 1);
});

test('createLogger() writes text for people', () => {
  const sink = memorySink();
  createLogger({ level: 'info', format: 'text', sink }).warn({ image: 'a b', seconds: 1.5 }, 'slow');
  assert.match(sink.lines[0] ?? '', /^\d\d:\d\d:\d\d\.\d{3} warn {2}slow image="a b" seconds=1\.5\n$/);
});

test('createLogger() tells our errors by code and facts, without a stack, down to the cause', () => {
  const sink = memorySink();
  const error = new ShoalError(ErrorCode.Stalled, 'Cannot fetch', {
    facts: { host: 'h' },
    cause: new TypeError('bug'),
  });
  createLogger({ level: 'info', format: 'json', sink }).error({ err: error }, 'pull failed');
  const { err } = JSON.parse(sink.lines[0] ?? '');
  assert.is(err.code, 'STALLED');
  assert.equal(err.facts, { host: 'h' });
  assert.is(err.stack, undefined);
  assert.match(err.cause.stack, 'TypeError: bug');
});

test('createLogger() ends with causes that go in circles', () => {
  const sink = memorySink();
  const error = new Error('round');
  error.cause = error;
  createLogger({ level: 'info', format: 'json', sink }).error({ err: error }, 'x');
  assert.is(sink.lines.length, 1);
});

for (const format of ['json', 'text'] as const) {
  test(`createLogger() hides credentials in ${format} lines, wherever they stand`, () => {
    const sink = memorySink();
    const log = createLogger({ level: 'info', format, sink });
    log.info({ credentials: { user: 'u', password: 'hunter2' } }, 'a');
    log.info({ request: { headers: { cookie: 'hunter2' } } }, 'b');
    log.info({ err: new Error('GET https://u:hunter2@h/x?sig=hunter2 with Bearer hunter2') }, 'c');
    assert.is(sink.lines.length, 3);
    assert.not.match(sink.lines.join(''), 'hunter2');
  });
}

test.run();
