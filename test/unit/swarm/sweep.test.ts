import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { describeFailure, runCalmSeed, runSeed } from '../../sim/run-seed.ts';

/** A short sweep; `make sim-swarm SEEDS=N` runs as many as one likes. */
const SEEDS = 120;
const PARTS = 4;

for (let part = 0; part < PARTS; part++) {
  test(`SwarmNode: swarms with drawn faults keep all rules and finish once healed (${part + 1} of ${PARTS})`, () => {
    for (let seed = (part * SEEDS) / PARTS; seed < ((part + 1) * SEEDS) / PARTS; seed++) {
      const result = runSeed(seed);
      assert.is(result.failure, undefined, describeFailure(result));
    }
  });
}

/** In these a node that may not read the origin believed false hashes that a liar had published, and was cut off from all others. */
const DECEIVED = [1519, 1695, 2329, 2341];

test('SwarmNode: a node that was deceived and may not read the origin begins afresh with its neighbours', () => {
  for (const seed of DECEIVED) {
    const result = runSeed(seed);
    assert.is(result.failure, undefined, describeFailure(result));
  }
});

/** In these everybody has banned a liar, which has to help itself at the origin. */
const BANNED = [632, 658, 701];

test('SwarmNode: a node that nobody gives anything reads on at the origin once that proved quick', () => {
  for (const seed of BANNED) {
    const result = runSeed(seed);
    assert.is(result.failure, undefined, describeFailure(result));
  }
});

/** Small enough for each run of the tests; the named ones once were slow: a crowd on slow links, a lone node, a peer that was left for a minute. */
const CALM = [0, 1, 2, 4, 5, 6, 7, 8, 27, 28, 172];

test('SwarmNode: drawn swarms without faults are quick, and read the origin once', () => {
  for (const seed of CALM) {
    const result = runCalmSeed(seed);
    assert.is(result.failure, undefined, describeFailure(result));
  }
});

test('SwarmNode: a drawn swarm runs the same way each time', () => {
  for (const seed of [3, 17]) assert.is(runSeed(seed).traceHash, runSeed(seed).traceHash);
});

test.run();
