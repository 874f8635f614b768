import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode } from '../../shim/base/errors.ts';
import { readTlsFiles } from '../../shim/peer/tls-files.ts';
import { openTlsTransport } from '../../shim/peer/tls-transport.ts';
import { sampleBlob } from '../support/blob-origin.ts';
import { type NodeNames, PeerCertificates } from '../support/peer-certificates.ts';
import { PeerWorld, pull } from '../support/peer-nodes.ts';

const MIB = 1024 * 1024;

async function withCertificates(body: (certificates: PeerCertificates) => Promise<void>): Promise<void> {
  using certificates = await PeerCertificates.create();
  await body(certificates);
}

/** Pulls on a first node, then on a second, and gives how many bytes the second had from the first. */
async function sharedBytes(
  certificates: PeerCertificates,
  names: { readonly first?: NodeNames; readonly second?: NodeNames; readonly known?: readonly string[] },
): Promise<number> {
  const blob = sampleBlob(3 * MIB);
  let shared = 0;
  await PeerWorld.run([blob], async (world) => {
    world.memberNames = names.known ?? [];
    const first = await world.addNode({ peers: { transport: await certificates.transport(names.first) } });
    const second = await world.addNode({ peers: { transport: await certificates.transport(names.second) } });
    await pull(first, blob);
    shared = (await pull(second, blob)).peerBytes;
  });
  return shared;
}

function hungUp(socket: Socket): Promise<void> {
  socket.on('error', () => undefined).resume();
  return new Promise((resolve) => socket.on('close', () => resolve()));
}

test('nodes with certificates of one authority share a blob, all of it over TLS', async () => {
  await withCertificates(async (certificates) => {
    const blob = sampleBlob(40 * MIB + 321);
    await PeerWorld.run([blob], async (world) => {
      const transports = [
        await certificates.transport(),
        await certificates.transport(),
        await certificates.transport(),
      ];
      const nodes = [];
      for (const transport of transports)
        nodes.push(await world.addNode({ limits: { originBytesPerSecond: 40e6 }, peers: { transport } }));
      await Promise.all(nodes.map((node) => pull(node, blob)));
      assert.ok(
        world.origin.bytesSent <= 1.1 * blob.bytes.length,
        `${world.origin.bytesSent} bytes of the origin`,
      );
      for (const node of nodes) assert.is(node.engine.counters.peerBadChunks, 0);
    });
  });
});

test('a node with a certificate of another authority gets nothing', async () => {
  await withCertificates(async (certificates) => {
    const blob = sampleBlob(3 * MIB);
    await PeerWorld.run([blob], async (world) => {
      const first = await world.addNode({ peers: { transport: await certificates.transport() } });
      await pull(first, blob);
      await certificates.replaceCa();
      const second = await world.addNode({ peers: { transport: await certificates.transport() } });
      assert.is((await pull(second, blob)).peerBytes, 0);
      assert.is(first.engine.counters.servedBytes, 0);
    });
  });
});

test('a certificate is good for the addresses that it names and no other', async () => {
  await withCertificates(async (certificates) => {
    const elsewhere = { ipAddresses: ['127.0.0.9'], dnsNames: ['localhost'] };
    assert.is(await sharedBytes(certificates, {}), 3 * MIB);
    assert.is(await sharedBytes(certificates, { first: elsewhere }), 0, 'a server under a borrowed address');
    assert.is(await sharedBytes(certificates, { second: elsewhere }), 0, 'a client under a borrowed address');
  });
});

test('a certificate may also be for the name under which members are found', async () => {
  await withCertificates(async (certificates) => {
    const names = { dnsNames: ['shoal-peers.example'] };
    const both = { first: names, second: names };
    assert.is(await sharedBytes(certificates, { ...both, known: ['shoal-peers.example'] }), 3 * MIB);
    assert.is(await sharedBytes(certificates, { ...both, known: ['other.example'] }), 0);
  });
});

test('new files are taken up for new connections, and what is under way goes on', async () => {
  await withCertificates(async (certificates) => {
    const [blob, later] = [sampleBlob(24 * MIB), sampleBlob(3 * MIB)];
    const reloads: (string | undefined)[] = [];
    await PeerWorld.run([blob, later], async (world) => {
      const files = [await certificates.issue(), await certificates.issue()] as const;
      const onReload = (problem: string | undefined) => reloads.push(problem);
      const [one, other] = [
        await openTlsTransport({ files: files[0], onReload }),
        await openTlsTransport({ files: files[1], onReload }),
      ];
      const first = await world.addNode({
        limits: { uploadBytesPerSecond: 12e6 },
        peers: { transport: one },
      });
      await pull(first, blob);
      await pull(first, later);
      // What an origin gives could come before the first connection is made.
      const second = await world.addNode({ peers: { transport: other, mayReadOrigin: false } });
      const transfer = second.open(blob);
      await new Promise<void>((resolve) => transfer.onPrefix(() => resolve()));
      const dials = second.engine.counters.dials;
      await certificates.replaceCa();
      for (const each of files) await certificates.renew(each);
      await Promise.all([one.reload(), other.reload()]);
      assert.equal(reloads, [undefined, undefined]);
      await transfer.finished;
      transfer.release();
      assert.is(second.engine.counters.dials, dials, 'it had to dial again');
      const transport = await certificates.transport();
      const third = await world.addNode({ peers: { transport, mayReadOrigin: false } });
      assert.is((await pull(third, later)).peerBytes, 3 * MIB, 'the new authority is not known');
    });
  });
});

test('files that cannot be used are told, and the ones before stay in use', async () => {
  await withCertificates(async (certificates) => {
    const files = await certificates.issue();
    const reloads: (string | undefined)[] = [];
    const transport = await openTlsTransport({ files, onReload: (problem) => reloads.push(problem) });
    await transport.reload();
    assert.equal(reloads, [], 'nothing has changed');
    writeFileSync(files.key, readFileSync((await certificates.issue()).key));
    await transport.reload();
    assert.match(reloads[0] ?? '', /its key is not the one in/);
    await transport.close();
  });
});

test('readTlsFiles() says which file is missing, no PEM, no authority, or of another key', async () => {
  await withCertificates(async (certificates) => {
    const files = await certificates.issue();
    const failure = async (change: object) => readTlsFiles({ ...files, ...change }).catch((error) => error);
    for (const [change, state] of [
      [{ ca: '/nowhere' }, /"\/nowhere".*ENOENT/],
      [{ cert: files.key }, /no certificate in PEM format/],
      [{ key: files.cert }, /no private key in PEM format/],
      [{ ca: files.cert }, /no authority/],
      [{ key: (await certificates.issue()).key }, /its key is not the one/],
    ] as const) {
      const error = await failure(change);
      assert.is(error.code, ErrorCode.ConfigInvalid);
      assert.match(error.message, state);
    }
  });
});

test('who speaks plain text, TLS 1.2, or has no certificate is hung up on', async () => {
  await withCertificates(async (certificates) => {
    await PeerWorld.run([], async (world) => {
      const node = await world.addNode({ peers: { transport: await certificates.transport() } });
      const port = Number(node.self.split(':')[1]);
      const files = await readTlsFiles(await certificates.issue());
      const plain = connect(port, '127.0.0.1');
      plain.write('GET / HTTP/1.1\r\n\r\n');
      await hungUp(plain);
      await hungUp(tlsConnect({ port, host: '127.0.0.1', ca: files.ca }));
      await hungUp(tlsConnect({ port, host: '127.0.0.1', ...files, maxVersion: 'TLSv1.2' }));
      assert.is(node.engine.counters.protocolErrors, 0, 'somebody got as far as a hello');
      assert.is(node.engine.connections, 0);
    });
  });
});

test.run();
