import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { endpointSliceMembers } from '../../../shim/agent/endpoint-slice-members.ts';
import { readSlice } from '../../../shim/kubernetes/follow-endpoint-slices.ts';
import type { PeerMember } from '../../../shim/peer/membership.ts';
import { eventually } from '../../support/pull-site.ts';

const endpoint = (address: string, more: object = {}) => ({ addresses: [address], ...more });
const slice = (name: string, endpoints: object[], ports: object[] = [{ port: 65_002 }]) => ({
  metadata: { name, resourceVersion: '2' },
  endpoints,
  ports,
});
const eventOf = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`;

/** A server that gives `slices` to a list, and `events` to the watch after it. */
async function withApi(
  slices: object[],
  events: string,
  body: (api: { seen: (readonly PeerMember[])[]; errors: string[]; urls: string[] }) => Promise<void>,
): Promise<void> {
  const api = { seen: [] as (readonly PeerMember[])[], errors: [] as string[], urls: [] as string[] };
  const server = createServer((request, response) => {
    api.urls.push(request.url ?? '');
    if (request.url?.includes('watch=1')) response.write(events === '' ? '\n' : events);
    else response.end(JSON.stringify({ metadata: { resourceVersion: '1' }, items: slices }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const directory = mkdtempSync(join(tmpdir(), 'shoal-slices-'));
  const kubeconfig = join(directory, 'kubeconfig');
  writeFileSync(kubeconfig, kubeconfigOf((server.address() as AddressInfo).port));
  const log = {
    error: (_: object, text: string) => api.errors.push(text),
    info: () => undefined,
    warn: () => undefined,
  };
  const source = endpointSliceMembers({
    service: 'shoal-system/peers',
    kubeconfig,
    port: 7,
    log: log as unknown as Logger,
  });
  try {
    source.start((members) => api.seen.push(members));
    await body(api);
  } finally {
    source.close();
    server.closeAllConnections();
    server.close();
    rmSync(directory, { recursive: true });
  }
}

function kubeconfigOf(port: number): string {
  return JSON.stringify({
    clusters: [{ name: 'c', cluster: { server: `http://127.0.0.1:${port}` } }],
    users: [{ name: 'u', user: {} }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  });
}

test('endpointSliceMembers() gives the endpoints of all slices with zones and names, and what changes', async () => {
  const first = slice('one', [endpoint('10.0.0.1', { zone: 'a', nodeName: 'node-1' }), endpoint('fd00::2')]);
  const changed =
    eventOf('ADDED', slice('two', [endpoint('10.0.0.3')], [])) + eventOf('DELETED', slice('one', []));
  await withApi([first], changed, async ({ seen, urls }) => {
    await eventually(
      () => seen.length,
      (count) => count >= 3,
    );
    assert.equal(seen[0], [
      { peer: '10.0.0.1:65002', zone: 'a', names: ['node-1'] },
      { peer: '[fd00::2]:65002', zone: '', names: [] },
    ]);
    assert.equal(seen[2], [{ peer: '10.0.0.3:7', zone: '', names: [] }]);
    assert.match(urls[0] ?? '', '/apis/discovery.k8s.io/v1/namespaces/shoal-system/endpointslices?');
    assert.match(decodeURIComponent(urls[0] ?? ''), 'kubernetes.io/service-name=peers');
  });
});

test('endpointSliceMembers() refuses more than 200 nodes and says what to set instead', async () => {
  const many = Array.from({ length: 201 }, (_, index) => endpoint(`10.0.1.${index}`));
  await withApi([slice('one', many)], '', async ({ seen, errors }) => {
    await eventually(() => errors.length, Boolean);
    assert.match(errors[0] ?? '', 'peers.dns');
    assert.is(seen.length, 0);
  });
});

test('readSlice() leaves out endpoints that are being stopped, and makes sense of nonsense', () => {
  const conditions = { terminating: true };
  assert.is(readSlice(slice('one', [endpoint('10.0.0.1', { conditions }), { addresses: [] }, {}])).length, 0);
  for (const nonsense of [undefined, null, 'x', { endpoints: 'x' }, { endpoints: [null] }])
    assert.equal(readSlice(nonsense), []);
});

test.run();
