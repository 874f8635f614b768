import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isShoalError } from '../../../shim/base/errors.ts';
import { TarDecoder, type TarSink } from '../../../shim/unpack/tar-decoder.ts';
import type { TarHeader } from '../../../shim/unpack/tar-header.ts';
import { ordinaryLayers, refusedLayers } from './layer-corpus.ts';
import { archive, entry, paxRecords } from './tar-builder.ts';

const test = suite('tar decoder');
/** Cutting a longer tar everywhere takes too long. */
const CUT_BYTES_MAX = 20_000;

/** Writes down all calls; data of one stretch is joined, since its pieces depend on how the tar was cut. */
class Recorder implements TarSink {
  readonly calls: unknown[] = [];
  #data: { offset: number; bytes: Buffer } | undefined;

  begin(header: TarHeader): void {
    this.calls.push({ ...header, pax: header.pax === undefined ? undefined : [...header.pax] });
  }

  data(chunk: Buffer, from: number, to: number, offset: number): void {
    const bytes = Buffer.from(chunk.subarray(from, to));
    const previous = this.#data;
    if (previous !== undefined && previous.offset + previous.bytes.length === offset) {
      previous.bytes = Buffer.concat([previous.bytes, bytes]);
      return;
    }
    this.#data = { offset, bytes };
    this.calls.push(this.#data);
  }

  end(): void {
    this.#data = undefined;
    this.calls.push('end');
  }
}

function decode(tar: Buffer, cuts: readonly number[]): unknown[] {
  const recorder = new Recorder();
  const decoder = new TarDecoder(recorder);
  let at = 0;
  for (const cut of [...cuts, tar.length]) {
    decoder.feed(Buffer.from(tar.subarray(at, cut)));
    at = cut;
  }
  decoder.finish();
  return recorder.calls;
}

function decodeBytewise(tar: Buffer): unknown[] {
  return decode(
    tar,
    Array.from({ length: tar.length }, (_, i) => i),
  );
}

for (const { name, tar } of ordinaryLayers().filter((layer) => layer.tar.length < CUT_BYTES_MAX))
  test(`feed() reads the same however the tar is cut: ${name}`, () => {
    const whole = decode(tar, []);
    assert.equal(decodeBytewise(tar), whole);
    for (let cut = 1; cut < tar.length; cut += tar.length < 6_000 ? 1 : 37)
      assert.equal(decode(tar, [cut]), whole);
  });

for (const { name, tar } of refusedLayers().filter((layer) => layer.tar.length < CUT_BYTES_MAX))
  test(`feed() fails the same however the tar is cut: ${name}`, () => {
    const outcome = (run: () => unknown[]): unknown => {
      try {
        return run();
      } catch (error) {
        assert.ok(isShoalError(error, 'UNPACK_INVALID', 'LIMIT_EXCEEDED'), String(error));
        return String(error);
      }
    };
    assert.equal(
      outcome(() => decodeBytewise(tar)),
      outcome(() => decode(tar, [])),
    );
  });

test('feed() never hands out a body larger than the header says', () => {
  const calls = decode(archive({ name: 'a', data: 'x'.repeat(700) }), [600, 1_100]);
  const bodies = calls.filter((call) => typeof call === 'object' && call !== null && 'bytes' in call);
  assert.equal(bodies, [{ offset: 0, bytes: Buffer.from('x'.repeat(700)) }]);
});

test('finish() refuses a tar that ends inside a body', () => {
  const decoder = new TarDecoder(new Recorder());
  decoder.feed(entry({ name: 'a', data: 'x'.repeat(2_000) }).subarray(0, 1_000));
  assert.throws(
    () => decoder.finish(),
    (error: unknown) => isShoalError(error, 'UNPACK_INVALID'),
  );
});

test('feed() refuses an extended header of more than 1 MiB before its body arrives', () => {
  const decoder = new TarDecoder(new Recorder());
  const header = entry({ name: 'p', type: 'x', size: 2 ** 20 + 1 });
  assert.throws(
    () => decoder.feed(header),
    (error: unknown) => isShoalError(error, 'LIMIT_EXCEEDED'),
  );
});

test('feed() reads a sparse map of a megabyte in linear time', () => {
  const pairs = 40_000;
  const map = `${pairs}\n${Array.from({ length: pairs }, (_, i) => `${i * 100}\n1\n`).join('')}`;
  const body = Buffer.concat([
    Buffer.from(map),
    Buffer.alloc((512 - (map.length % 512)) % 512),
    Buffer.alloc(pairs, 'x'),
  ]);
  const pax = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': `${pairs * 100}` };
  const startedMs = performance.now();
  const calls = decode(archive({ name: 'a', data: body, pax }), []);
  assert.is(calls.length, pairs + 2);
  assert.ok(performance.now() - startedMs < 3_000, `${performance.now() - startedMs} ms`);
});

test('decoded records keep bytes that are no UTF-8', () => {
  const pax = Buffer.concat([paxRecords({ 'SCHILY.xattr.user.a': '\xff\0=\n' })]);
  const [header] = decode(archive(entry({ name: 'p', type: 'x', data: pax }), { name: 'a' }), []) as [
    TarHeader,
  ];
  assert.equal(header.pax, [['SCHILY.xattr.user.a', '\xff\0=\n']]);
});

test.run();
