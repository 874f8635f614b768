import { Readable } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OutageGrace } from '../../../shim/agent/outage-grace.ts';
import type { RawDocument } from '../../../shim/base/descriptor.ts';
import { digestOf } from '../../../shim/base/digest.ts';
import { ErrorCode, ShoalError } from '../../../shim/base/errors.ts';
import type { Credentials, Origin } from '../../../shim/registry/origin.ts';
import type { Reference } from '../../../shim/registry/reference.ts';

const HOUR_MS = 3_600_000;
const ME: Credentials = { username: 'me', password: 'mine' };
const { signal } = new AbortController();
const manifest = documentOf('a manifest');
const config = documentOf('a config');
const byDigest: Reference = { host: 'r.test', repository: 'team/app', digest: manifest.descriptor.digest };
const byTag: Reference = { host: 'r.test', repository: 'team/app', tag: 'v1' };

function documentOf(text: string): RawDocument {
  const bytes = Buffer.from(text);
  return { descriptor: { mediaType: 'text/plain', digest: digestOf(bytes), sizeBytes: bytes.length }, bytes };
}

/** A registry that can be told to fail, and a grace in front of it. */
class Site {
  nowMs = 0;
  failure: ErrorCode | undefined;
  readonly told: string[] = [];
  readonly #grace: OutageGrace;

  constructor(withTags = false) {
    this.#grace = new OutageGrace({
      graceMs: HOUR_MS,
      withTags,
      nowMs: () => this.nowMs,
      onGrace: ({ repository }, msAgo) => this.told.push(`${repository} ${msAgo}`),
    });
  }

  open(reference: Reference, credentials: Credentials | undefined): Origin {
    const answer = async (document: RawDocument): Promise<RawDocument> => {
      if (this.failure !== undefined) throw new ShoalError(this.failure, 'Cannot read manifest: it failed');
      return document;
    };
    const origin: Origin = {
      hasCredentials: credentials !== undefined,
      isAnonymous: credentials === undefined,
      resolve: () => answer(manifest),
      document: (_kind, descriptor) =>
        answer(descriptor.digest === config.descriptor.digest ? config : manifest),
      readBlob: async () => Readable.from([]),
      close: async () => undefined,
    };
    return this.#grace.watch(origin, reference, credentials);
  }

  async pull(reference: Reference, credentials?: Credentials): Promise<string> {
    const origin = this.open(reference, credentials ?? ME);
    await origin.resolve(signal);
    return String((await origin.document('config', config.descriptor, signal)).bytes);
  }

  codeOf(reference: Reference, credentials?: Credentials): Promise<string> {
    return this.pull(reference, credentials).then(
      () => 'fine',
      (error) => error.code,
    );
  }
}

test('a digest that the same caller was given within the period is given again while the registry is down', async () => {
  const site = new Site();
  await site.pull(byTag);
  site.failure = ErrorCode.RegistryUnavailable;
  site.nowMs = HOUR_MS;
  assert.is(await site.codeOf(byDigest), 'fine');
  assert.equal(site.told, [`team/app ${HOUR_MS}`]);
  site.nowMs += 1;
  assert.is(await site.codeOf(byDigest), ErrorCode.RegistryUnavailable, 'too long ago');
});

test('an outage does not lengthen the period', async () => {
  const site = new Site();
  await site.pull(byDigest);
  site.failure = ErrorCode.RegistryUnavailable;
  site.nowMs = HOUR_MS / 2;
  assert.is(await site.codeOf(byDigest), 'fine');
  site.nowMs = HOUR_MS + 1;
  assert.is(await site.codeOf(byDigest), ErrorCode.RegistryUnavailable);
});

test('other credentials, none, and another repository have no grace', async () => {
  const site = new Site();
  await site.pull(byDigest);
  site.failure = ErrorCode.RegistryUnavailable;
  assert.is(
    await site.codeOf(byDigest, { username: 'me', password: 'wrong' }),
    ErrorCode.RegistryUnavailable,
  );
  assert.is(await site.codeOf(byDigest, {}), ErrorCode.RegistryUnavailable);
  assert.is(await site.codeOf({ ...byDigest, repository: 'team/other' }), ErrorCode.RegistryUnavailable);
  assert.is(await site.codeOf({ ...byDigest, host: 'other.test' }), ErrorCode.RegistryUnavailable);
});

test('a tag has grace only where that is allowed', async () => {
  for (const withTags of [false, true]) {
    const site = new Site(withTags);
    await site.pull(byTag);
    site.failure = ErrorCode.RegistryUnavailable;
    assert.is(await site.codeOf(byTag), withTags ? 'fine' : ErrorCode.RegistryUnavailable);
  }
});

for (const code of [ErrorCode.Unauthorized, ErrorCode.Forbidden, ErrorCode.NotFound, ErrorCode.RateLimited])
  test(`a registry that answers is believed: ${code}`, async () => {
    const site = new Site(true);
    await site.pull(byDigest);
    site.failure = code;
    assert.is(await site.codeOf(byDigest), code);
    assert.equal(site.told, []);
  });

test('in an outage nothing counts as given to everybody', async () => {
  const site = new Site();
  const before = site.open(byDigest, undefined);
  await before.resolve(signal);
  site.failure = ErrorCode.RegistryUnavailable;
  const origin = site.open(byDigest, undefined);
  assert.equal((await origin.resolve(signal)).bytes, manifest.bytes);
  assert.not(origin.isAnonymous);
});

test.run();
