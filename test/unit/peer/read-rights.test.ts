import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { digestOf } from '../../../shim/base/digest.ts';
import { choosePieces, pieceAt } from '../../../shim/peer/blob-pieces.ts';
import {
  blobSecretOf,
  isSameProof,
  proofByPieces,
  proofBySecret,
  readRightOf,
  type Session,
} from '../../../shim/peer/read-right.ts';
import { ReadRights } from '../../../shim/peer/read-rights.ts';
import { PIECE_BYTES } from '../../../shim/peer/right-messages.ts';

const key = { host: 'registry.test', digest: digestOf('layer') };
const other = { host: 'registry.test', digest: digestOf('other layer') };
const [manifest, config] = [Buffer.from('a manifest'), Buffer.from('a config')];
const right = readRightOf([manifest, config], false);
const session: Session = {
  asker: '10.0.0.1:65002',
  holder: '10.0.0.2:65002',
  askerNonce: randomBytes(16),
  holderNonce: randomBytes(16),
  binding: randomBytes(32),
};
const MINUTE_MS = 60_000;

/** Both ends of a connection; each knows what `rights` says. */
function pair(asked = right, held = right): { asker: ReadRights; holder: ReadRights } {
  const [asker, holder] = [new ReadRights(), new ReadRights()];
  asker.learn(key, asked, 0);
  holder.learn(key, held, 0);
  return { asker, holder };
}

test('a node that read the same manifest and config may have the blob', () => {
  const { asker, holder } = pair();
  assert.not(holder.mayServe(session.asker, key, 0));
  const proofs = asker.proofsFor(key, session, 0);
  assert.ok(proofs && holder.handleProofs(proofs, key, session, 0));
  assert.ok(holder.mayServe(session.asker, key, 0));
  assert.not(holder.mayServe(session.asker, other, 0), 'another blob');
  assert.not(holder.mayServe('10.0.0.3:65002', key, 0), 'another node');
});

test('all that follows from digests proves nothing', () => {
  const fromDigests = readRightOf([manifest, Buffer.from(digestOf(config))], false);
  const { asker, holder } = pair(fromDigests);
  assert.not(holder.handleProofs(asker.proofsFor(key, session, 0) ?? [], key, session, 0));
  assert.not(holder.handleProofs([new Uint8Array(32)], key, session, 0));
  assert.not(holder.handleProofs([], key, session, 0));
  assert.not(holder.mayServe(session.asker, key, 0));
});

test('a proof is good for one blob, between two nodes, on one connection', () => {
  const { asker, holder } = pair();
  const proofs = asker.proofsFor(key, session, 0) ?? [];
  const elsewhere: Partial<Session>[] = [
    { asker: '10.0.0.9:65002' },
    { holder: '10.0.0.9:65002' },
    { askerNonce: randomBytes(16) },
    { holderNonce: randomBytes(16) },
    { binding: randomBytes(32) },
    { binding: new Uint8Array(0) },
    // The same proof sent back to who made it.
    { asker: session.holder, holder: session.asker },
  ];
  for (const change of elsewhere) assert.not(holder.handleProofs(proofs, key, { ...session, ...change }, 0));
  holder.learn(other, right, 0);
  assert.not(holder.handleProofs(proofs, other, session, 0));
  assert.ok(holder.handleProofs(proofs, key, session, 0), 'the proof itself is right');
});

test('a right is forgotten after ten minutes and proven again before', () => {
  const { asker, holder } = pair();
  holder.handleProofs(asker.proofsFor(key, session, 0) ?? [], key, session, 0);
  assert.is(asker.proofsFor(key, session, MINUTE_MS), undefined, 'it was shown a minute ago');
  assert.ok(asker.proofsFor(key, session, 5 * MINUTE_MS));
  assert.ok(holder.mayServe(session.asker, key, 9 * MINUTE_MS));
  assert.not(holder.mayServe(session.asker, key, 11 * MINUTE_MS));
});

test('what was shown over a connection ends with it', () => {
  const { asker, holder } = pair();
  holder.handleProofs(asker.proofsFor(key, session, 0) ?? [], key, session, 0);
  holder.handleDisconnected(session.asker);
  asker.handleDisconnected(session.holder);
  assert.not(holder.mayServe(session.asker, key, 1));
  assert.ok(asker.proofsFor(key, session, 1));
});

test('a blob of several images is proven by any of them, also one that is learned later', () => {
  const second = readRightOf([manifest, Buffer.from('another config')], false);
  const { asker, holder } = pair(right, second);
  assert.not(holder.handleProofs(asker.proofsFor(key, session, 0) ?? [], key, session, 0));
  assert.ok(asker.learn(key, second, 1));
  assert.not(asker.learn(key, second, 1), 'it was known');
  const proofs = asker.proofsFor(key, session, 1) ?? [];
  assert.is(proofs.length, 2);
  assert.ok(holder.handleProofs(proofs, key, session, 1));
});

test('what the registry gave to everybody needs no proof for an hour', () => {
  const holder = new ReadRights();
  assert.ok(holder.learn(key, { ...right, isAnonymous: true }, 0));
  assert.ok(holder.mayServe('anybody:1', key, 59 * MINUTE_MS));
  assert.not(holder.mayServe('anybody:1', key, 61 * MINUTE_MS));
  assert.not(holder.mayServe('anybody:1', other, 0));
});

test('a restart keeps rights, and forgetting a blob drops them', () => {
  const { asker, holder } = pair();
  const again = new ReadRights();
  for (const kept of holder.kept()) again.restore(kept);
  assert.ok(again.handleProofs(asker.proofsFor(key, session, 0) ?? [], key, session, 0));
  assert.ok(again.forget(key));
  assert.not(again.handleProofs(asker.proofsFor(key, session, 5 * MINUTE_MS) ?? [], key, session, 0));
});

test('a challenge is answered once, in time, and is not asked too often', () => {
  const { holder } = pair();
  const challenge = { kind: 'challenge', key, nonce: randomBytes(16), pieces: [1] } as const;
  assert.ok(holder.mayChallenge(session.asker, key, 0));
  holder.challenged(session.asker, challenge, 0);
  assert.not(holder.mayChallenge(session.asker, key, 1000));
  assert.is(holder.takeChallenge(session.asker, key, randomBytes(16), 1000), undefined, 'another nonce');
  assert.is(holder.takeChallenge('10.0.0.9:65002', key, challenge.nonce, 1000), undefined, 'another node');
  assert.is(holder.takeChallenge(session.asker, key, challenge.nonce, 1000), challenge);
  assert.is(holder.takeChallenge(session.asker, key, challenge.nonce, 1000), undefined, 'the second time');
  assert.not(holder.mayChallenge(session.asker, key, 1000), 'a wrong answer earns no new challenge at once');
  assert.ok(holder.mayChallenge(session.asker, key, 4000));
  holder.challenged(session.asker, challenge, 4000);
  assert.is(holder.takeChallenge(session.asker, key, challenge.nonce, 60_000), undefined, 'too late');
});

test('a holder cannot make a node read its registry again and again', () => {
  const { asker } = pair();
  assert.ok(asker.mayAnswer(session.holder, key, 0));
  assert.not(asker.mayAnswer(session.holder, key, 1000));
  assert.ok(asker.mayAnswer(session.holder, key, 3000));
});

test('ReadRights remembers no more than its bounds', () => {
  const rights = new ReadRights();
  const keys = Array.from({ length: 9000 }, (_, index) => ({ host: 'h', digest: digestOf(String(index)) }));
  for (const each of keys) rights.learn(each, right, 0);
  assert.is(rights.kept().length, 8192);
  for (const each of keys.slice(0, 1100)) rights.grant('p:1', each, 0);
  assert.is(keys.slice(0, 1100).filter((each) => rights.mayServe('p:1', each, 1)).length, 1024);
});

test('proofByPieces() differs by pieces, challenge and connection', () => {
  const [one, two] = [randomBytes(PIECE_BYTES), randomBytes(PIECE_BYTES)];
  const nonce = randomBytes(16);
  const proof = proofByPieces([one, two], nonce, key, session);
  assert.ok(isSameProof(proof, proofByPieces([one, two], nonce, key, session)));
  for (const wrong of [
    proofByPieces([two, one], nonce, key, session),
    proofByPieces([Buffer.concat([one, two])], nonce, key, session),
    proofByPieces([one, two], randomBytes(16), key, session),
    proofByPieces([one, two], nonce, other, session),
    proofByPieces([one, two], nonce, key, { ...session, holder: 'x:1' }),
    proofBySecret(blobSecretOf(right, key), key, session),
  ])
    assert.not(isSameProof(proof, wrong));
});

test('pieceAt() gives whole pieces, and a short one only for a blob that has no other', () => {
  assert.equal(pieceAt(1, 3 * PIECE_BYTES), { offsetBytes: PIECE_BYTES, lengthBytes: PIECE_BYTES });
  assert.is(pieceAt(2, 2 * PIECE_BYTES + 5), undefined, 'five bytes could be guessed');
  assert.is(pieceAt(3, 3 * PIECE_BYTES), undefined);
  assert.is(pieceAt(0xffffffff, 3 * PIECE_BYTES), undefined);
  assert.equal(pieceAt(0, 100), { offsetBytes: 0, lengthBytes: 100 });
});

test('choosePieces() takes pieces of chunks that are held, and none twice', () => {
  const chunkBytes = 8 * PIECE_BYTES;
  const blobBytes = 4 * chunkBytes + 5;
  const choose = (isHeld: (chunk: number) => boolean) =>
    choosePieces({
      count: 3,
      blobBytes,
      chunkBytes,
      isHeld,
      randomBelow: (limit) => randomBytes(1).readUInt8() % limit,
    });
  for (let round = 0; round < 50; round++) {
    const pieces = choose((chunk) => chunk === 2);
    assert.ok(pieces.length > 0 && new Set(pieces).size === pieces.length);
    for (const piece of pieces) assert.is(Math.floor(piece / 8), 2);
  }
  assert.equal(
    choose(() => false),
    [],
  );
  assert.equal(
    choose((chunk) => chunk === 4),
    [],
    'the end is too short',
  );
});

test.run();
