import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ShoalError } from '../../../shim/base/errors.ts';
import { backOffMs, followList } from '../../../shim/kubernetes/follow-list.ts';
import { eventually } from '../../support/pull-site.ts';

type Serve = (request: IncomingMessage, response: ServerResponse, nth: number) => void;

const named = (name: string, version = '1') => ({ metadata: { name, resourceVersion: version } });
const listOf = (version: string, ...names: string[]) =>
  JSON.stringify({ metadata: { resourceVersion: version }, items: names.map((name) => named(name)) });
const event = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`;
const isWatch = (request: IncomingMessage) => request.url?.includes('watch=1') ?? false;

test('followList() takes up a watch that broke where it ended, without a new list', async () => {
  const versions: (string | null)[] = [];
  await using site = await follow((request, response) => {
    if (!isWatch(request)) return response.end(listOf('5', 'a'));
    versions.push(new URL(request.url ?? '', 'http://x').searchParams.get('resourceVersion'));
    if (versions.length === 1) response.write(event('ADDED', named('b', '7')));
    if (versions.length === 2) response.write(event('BOOKMARK', { metadata: { resourceVersion: '9' } }));
    if (versions.length < 3) setImmediate(() => response.destroy());
    else response.write(event('DELETED', named('a', '10')));
    return undefined;
  });
  await site.until(['list a', 'put b', 'removed a']);
  assert.equal(versions, ['5', '7', '9']);
});

test('followList() lists anew when its version is too old, told by an event or by a status', async () => {
  let lists = 0;
  await using site = await follow((request, response, nth) => {
    if (!isWatch(request))
      return response.end(listOf(String(nth), ...(['a b', 'b', 'c'][lists++] ?? '').split(' ')));
    if (lists === 1) return response.end(event('ERROR', { kind: 'Status', code: 410 }));
    if (lists === 2) return response.writeHead(410).end();
    return response.flushHeaders();
  });
  await site.until(['list a,b', 'list b', 'list c']);
});

test('followList() reads long lists page by page', async () => {
  await using site = await follow((request, response) => {
    if (isWatch(request)) return response.flushHeaders();
    const at = new URL(request.url ?? '', 'http://x').searchParams.get('continue');
    const metadata = { resourceVersion: '1', ...(at !== '2' && { continue: at === '1' ? '2' : '1' }) };
    return response.end(JSON.stringify({ metadata, items: [named(`page-${at ?? 0}`)] }));
  });
  await site.until(['list page-0,page-1,page-2']);
});

test('followList() says once that the API server cannot be asked, keeps what it had, and says when it goes on', async () => {
  let isDown = false;
  const open: ServerResponse[] = [];
  await using site = await follow((request, response) => {
    if (isDown) return response.writeHead(503).end('{"token":"planted-secret"}');
    if (!isWatch(request)) return response.end(listOf('1', 'a'));
    open.push(response);
    return response.flushHeaders();
  });
  await site.until(['list a']);
  await eventually(() => open.length, Boolean);
  isDown = true;
  open[0]?.destroy();
  await eventually(site.states, (states) => states.length === 1);
  await site.requests(3);
  assert.is(site.states().length, 1);
  assert.is(site.states()[0]?.code, 'CLUSTER_UNAVAILABLE');
  assert.not.match(String(site.states()[0]?.stack), 'planted-secret');
  assert.equal(site.told(), ['list a']);
  isDown = false;
  await eventually(site.states, (states) => states.length === 2);
  assert.is(site.states()[1], undefined);
});

test('followList() survives an API server that sends nonsense', async () => {
  const lists = ['', '{', '{"metadata":{}}', listOf('1', 'a')];
  const watches = ['nonsense\n', event('ADDED', named('b'))];
  await using site = await follow((request, response) => {
    if (!isWatch(request)) return response.end(lists.shift());
    response.write(watches.shift() ?? '\n');
    return undefined;
  });
  await site.until(['list a', 'put b']);
});

test('followList() ends at once when it is stopped, also while it waits', async () => {
  const site = await follow((request, response) =>
    isWatch(request) ? response.flushHeaders() : response.end(listOf('1')),
  );
  await site.until(['list ']);
  const startMs = performance.now();
  await site[Symbol.asyncDispose]();
  assert.ok(performance.now() - startMs < 1000);
});

test('backOffMs() doubles to half a minute and spreads', () => {
  assert.equal(
    [0, 1, 2].map((failures) => backOffMs(failures, 1)),
    [500, 1000, 2000],
  );
  assert.is(backOffMs(0, 0), 250);
  assert.is(backOffMs(50, 1), 30_000);
});

test.run();

async function follow(serve: Serve) {
  let count = 0;
  const server = createServer((request, response) => {
    serve(request, response, count);
    count += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const stop = new AbortController();
  const told: string[] = [];
  const states: (ShoalError | undefined)[] = [];
  const nameOf = (item: unknown) => (item as { metadata: { name: string } }).metadata.name;
  const access = {
    server: url,
    ca: undefined,
    skipVerify: false,
    serverName: undefined,
    client: undefined,
    token: 'planted-secret',
  };
  const done = followList(
    {
      openAccess: async () => access,
      list: { path: '/api/v1/things' },
      itemsMax: 100,
      onList: (items) => told.push(`list ${items.map(nameOf)}`),
      onChange: (type, item) => told.push(`${type} ${nameOf(item)}`),
      onState: (state) => states.push(state),
      random: () => 0,
    },
    stop.signal,
  );
  return {
    told: () => told,
    states: () => states,
    until: async (wanted: readonly string[]) => {
      await eventually(
        () => told.length,
        (length) => length >= wanted.length,
      );
      assert.equal(told, wanted);
    },
    requests: async (more: number) => {
      const from = count;
      await eventually(
        () => count,
        (now) => now >= from + more,
      );
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await done;
      server.closeAllConnections();
      server.close();
    },
  };
}
