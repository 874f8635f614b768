import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BudgetBucket, grantBytesMax, type OriginLimits } from '../../../shim/swarm/budget-bucket.ts';
import { BudgetDesk } from '../../../shim/swarm/budget-desk.ts';
import { CHUNK_SIZE_BYTES } from '../../../shim/swarm/limits.ts';
import type { PeerId, PeerMessage } from '../../../shim/swarm/messages.ts';
import { rankByRendezvous } from '../../../shim/swarm/rendezvous.ts';
import { SwarmContext } from '../../../shim/swarm/swarm-context.ts';

const MB = 1e6;
const HOST = 'registry.test';
const LIMITS: OriginLimits = { bytesPerSecond: 8 * MB, requestsPerSecond: 0 };
const CHUNK = { bytes: CHUNK_SIZE_BYTES, requests: 1 };
/** Best candidate for keeper first. */
const PEERS = rankByRendezvous(HOST, ['a:1', 'b:1', 'c:1', 'd:1', 'e:1'], 5) as [
  PeerId,
  PeerId,
  PeerId,
  PeerId,
  PeerId,
];

type Answer = Extract<PeerMessage, { kind: 'grantBudget' }>;

/** The desk of one node, with nothing around it but what it says. */
class Bench {
  readonly context: SwarmContext;
  readonly desk: BudgetDesk;
  /** What it was itself granted. */
  readonly own: number[] = [];
  /** Wants the next chunk as soon as it has one. */
  isGreedy = false;
  nowMs = 0;

  constructor(self: PeerId, connected: readonly PeerId[], limits = LIMITS) {
    this.context = new SwarmContext({ self, zone: '', seed: 1, mayReadOrigin: true });
    this.context.peers.setMembers(PEERS.map((peer) => ({ peer, zone: '' })));
    for (const peer of connected) this.context.peers.connected(peer, '');
    const onGrant = ({ bytes }: { bytes: number }) => {
      this.own.push(bytes);
      if (this.isGreedy) this.desk.want(CHUNK);
    };
    this.desk = new BudgetDesk({ context: this.context, host: HOST, limits, onGrant });
  }

  ask(peer: PeerId, number: number, more: Partial<Extract<PeerMessage, { kind: 'askBudget' }>> = {}): void {
    const message = { kind: 'askBudget', host: HOST, number, ...CHUNK, isMoving: false, ...more } as const;
    this.desk.handleAsk(peer, message, this.nowMs);
  }

  answer(peer: PeerId, number: number, more: Partial<Answer> = {}): void {
    const message = {
      kind: 'grantBudget',
      host: HOST,
      number,
      bytes: 0,
      requests: 0,
      retryAfterMs: 0,
    } as const;
    this.desk.handleGrant(peer, { ...message, ...more }, this.nowMs);
  }

  /** Wants a chunk for itself. */
  want(): void {
    this.desk.want(CHUNK);
    this.desk.pump(this.nowMs);
  }

  /** Lets time pass to `untilMs`, doing what is due. */
  runUntil(untilMs: number): void {
    for (; this.desk.dueMs <= untilMs; this.desk.pump(this.nowMs))
      this.nowMs = Math.max(this.nowMs, this.desk.dueMs);
    this.nowMs = untilMs;
  }

  /** What it has sent since the last call. */
  sent(): { readonly to: PeerId; readonly message: PeerMessage }[] {
    const sent = [];
    for (let action = this.context.pollAction(); action !== undefined; action = this.context.pollAction())
      if (action.kind === 'send') sent.push({ to: action.peer, message: action.message });
    return sent;
  }

  /** To whom it has granted something since the last call, in order. */
  granted(): PeerId[] {
    return this.sent().flatMap(({ to, message }) =>
      message.kind === 'grantBudget' && message.requests > 0 ? [to] : [],
    );
  }
}

test('BudgetBucket.take() takes bytes and requests together or neither', () => {
  const bucket = new BudgetBucket({ bytesPerSecond: 1000, requestsPerSecond: 1 });
  assert.is(bucket.take({ bytes: 50, requests: 1 }, 0), undefined);
  assert.is(Math.round(bucket.take({ bytes: 50, requests: 1 }, 0) ?? 0), 900);
  assert.is(bucket.take({ bytes: 500, requests: 0 }, 50), undefined);
  assert.is(bucket.take({ bytes: 1, requests: 1 }, 1000), undefined);
});

test('grantBytesMax() is whole chunks, more where requests are dear', () => {
  assert.is(grantBytesMax({ bytesPerSecond: 1, requestsPerSecond: 0 }), CHUNK_SIZE_BYTES);
  assert.is(
    grantBytesMax({ bytesPerSecond: 16 * CHUNK_SIZE_BYTES, requestsPerSecond: 0 }),
    4 * CHUNK_SIZE_BYTES,
  );
  assert.is(
    grantBytesMax({ bytesPerSecond: 16 * CHUNK_SIZE_BYTES, requestsPerSecond: 2 }),
    16 * CHUNK_SIZE_BYTES,
  );
});

test('BudgetDesk: the keeper grants its rate, and askers take turns', () => {
  const [self, first, second] = PEERS;
  const bench = new Bench(self, [first, second]);
  const grants: PeerId[] = [];
  // The first asks for ten times as much, and again before the second does.
  for (let number = 1; bench.nowMs < 10_000; number++) {
    bench.ask(first, number, { bytes: 10 * CHUNK_SIZE_BYTES });
    bench.ask(second, number);
    bench.runUntil(bench.nowMs + 250);
    grants.push(...bench.granted());
  }
  const bytes = grants.length * CHUNK_SIZE_BYTES;
  assert.ok(bytes >= 76 * MB && bytes <= 84 * MB, `${bytes} bytes in 10 s`);
  const turns = grants.filter((peer) => peer === first).length;
  assert.ok(Math.abs(turns - grants.length / 2) <= 1, `${turns} of ${grants.length} for the first`);
});

test('BudgetDesk: an ask that is told again is granted once, and keeps its place', () => {
  const [self, first, second] = PEERS;
  const bench = new Bench(self, [first, second]);
  bench.ask(first, 1);
  bench.ask(first, 1);
  bench.runUntil(1000);
  assert.equal(bench.granted(), [first]);
  bench.ask(first, 2);
  bench.ask(second, 1);
  bench.ask(first, 2);
  bench.runUntil(3000);
  assert.equal(bench.granted(), [first, second]);
});

test('BudgetDesk: who waits and is not heard of for long is forgotten', () => {
  const [self, first] = PEERS;
  const bench = new Bench(self, [first], { bytesPerSecond: 100_000, requestsPerSecond: 0 });
  bench.ask(first, 1);
  bench.ask(first, 2);
  bench.runUntil(30_000);
  assert.equal(bench.granted(), [first]);
  assert.is(bench.desk.waitingCount, 0);
});

test('BudgetDesk: a keeper that takes over begins a second later, and with nothing saved up', () => {
  const [dead, self, first] = PEERS;
  const bench = new Bench(self, [first]);
  bench.context.peers.reach(dead, 0);
  bench.context.peers.disconnected(dead, 0);
  for (let number = 1; number <= 3; number++) {
    bench.ask(first, number, { isMoving: true });
    bench.runUntil(number * 300);
  }
  bench.runUntil(999);
  assert.equal(bench.granted(), []);
  bench.runUntil(1_200);
  assert.equal(bench.granted(), [first]);
});

test('BudgetDesk: asks of others are passed on to a better candidate, and its grants to them', () => {
  const [keeper, self, first] = PEERS;
  const bench = new Bench(self, [keeper, first]);
  bench.ask(first, 7);
  const [passedOn] = bench.sent().filter(({ to }) => to === keeper);
  assert.is(passedOn?.message.kind, 'askBudget');
  const number = passedOn?.message.kind === 'askBudget' ? passedOn.message.number : 0;
  bench.answer(keeper, number + 1, CHUNK);
  assert.equal(bench.granted(), [], 'an answer to what it never asked');
  bench.answer(keeper, number, CHUNK);
  assert.equal(bench.granted(), [first]);
});

test('BudgetDesk: a keeper goes on until a better candidate is there, and then asks it', () => {
  const [better, self, first] = PEERS;
  const bench = new Bench(self, [first]);
  bench.context.peers.reach(better, 0);
  bench.context.peers.disconnected(better, 0);
  bench.ask(first, 1);
  assert.equal(bench.granted(), [first]);
  bench.context.peers.connected(better, '');
  bench.ask(first, 2);
  const asks = bench.sent().filter(({ to, message }) => to === better && message.kind === 'askBudget');
  assert.is(asks.length, 1);
  assert.ok(asks[0]?.message.kind === 'askBudget' && asks[0].message.isMoving, 'it granted just now');
  bench.runUntil(1_500);
  assert.equal(bench.granted(), []);
});

test('BudgetDesk: a keeper that says nothing for 2 s is passed over until it answers a question', () => {
  const [silent, next, , self] = PEERS;
  const bench = new Bench(self, [silent, next]);
  const askedSilent = () => bench.sent().filter(({ to }) => to === silent).length;
  bench.want();
  assert.is(askedSilent(), 1);
  bench.runUntil(1_999);
  assert.is(askedSilent(), 0);
  const answerNext = (untilMs: number) => {
    let asked = 0;
    while (bench.nowMs < untilMs) {
      bench.runUntil(bench.nowMs + 100);
      for (const { to, message } of bench.sent()) {
        if (to === silent) asked++;
        if (to === next && message.kind === 'askBudget') bench.answer(next, message.number);
      }
    }
    return asked;
  };
  assert.is(answerNext(11_900), 0);
  // After 10 s, 20 s and 40 s.
  assert.is(answerNext(80_000), 3);
  bench.answer(silent, 0);
  bench.want();
  assert.is(askedSilent(), 1);
});

test('BudgetDesk: who is cut off from all takes only its part, and all of it once somebody is there', () => {
  const [self, other] = PEERS;
  const bench = new Bench(self, []);
  bench.isGreedy = true;
  const readWithin = (ms: number) => {
    bench.own.length = 0;
    bench.want();
    bench.runUntil(bench.nowMs + ms);
    return bench.own.reduce((sum, bytes) => sum + bytes, 0) / (ms / 1000) / LIMITS.bytesPerSecond;
  };
  // A fifth, for there are five members.
  const alone = readWithin(20_000);
  assert.ok(alone > 0.17 && alone <= 0.22, `${alone}`);
  bench.context.peers.connected(other, '');
  // Whether the other one stays is seen after a second.
  readWithin(3_000);
  const connected = readWithin(20_000);
  assert.ok(connected > 0.95 && connected <= 1.03, `${connected}`);
});

test('BudgetDesk: who is hung up on again and again reads its part all the same', () => {
  const [best, self] = PEERS;
  const bench = new Bench(self, []);
  bench.isGreedy = true;
  bench.want();
  for (let round = 0; round < 40; round++) {
    bench.context.peers.connected(best, '');
    bench.desk.pump(bench.nowMs);
    bench.runUntil(bench.nowMs + 20);
    bench.context.peers.disconnected(best, bench.nowMs);
    bench.desk.dropPeer(best);
    bench.desk.pump(bench.nowMs);
    bench.runUntil(bench.nowMs + 480);
  }
  const share = bench.own.reduce((sum, bytes) => sum + bytes, 0) / 20 / LIMITS.bytesPerSecond;
  assert.ok(share > 0.15 && share <= 0.22, `${share}`);
});

test('BudgetDesk: a question without an ask tells whether others wait', () => {
  const [self, first, second] = PEERS;
  const bench = new Bench(self, [first, second]);
  const isShort = () => {
    bench.ask(second, 0, { bytes: 0, requests: 0 });
    const [answer] = bench.sent().filter(({ to }) => to === second);
    return answer?.message.kind === 'grantBudget' && answer.message.retryAfterMs > 0;
  };
  assert.not(isShort());
  bench.ask(first, 1);
  bench.ask(first, 2);
  assert.ok(isShort());
  bench.runUntil(1_000);
  assert.not(isShort());
});

test('BudgetDesk: a blob is held back while the keeper says that others wait', () => {
  const [keeper, , , self] = PEERS;
  const bench = new Bench(self, [keeper]);
  assert.not(bench.desk.isShort(0));
  assert.is(bench.sent().length, 1);
  bench.answer(keeper, 0, { retryAfterMs: 3_000 });
  assert.ok(bench.desk.isShort(1_000));
  assert.not(bench.desk.isShort(20_000), 'what was said long ago');
  bench.answer(keeper, 0);
  assert.not(bench.desk.isShort(20_100));
});

test('BudgetDesk: nobody is starved by more askers than there is room for', () => {
  const [self] = PEERS;
  const bench = new Bench(self, [PEERS[1]]);
  for (let index = 0; index < 9_000; index++) bench.ask(`10.0.${index >> 8}.${index & 255}:1`, 1);
  assert.ok(bench.desk.waitingCount <= 8_192);
});

test.run();
