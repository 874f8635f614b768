import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { drawOptions } from '../../sim/draw-options.ts';
import { World } from '../../sim/world.ts';

const SEEDS = 150;
/** Model time in which every drawn swarm must be done, s: the slowest needs about 50 s without faults. */
const LIMIT_SECONDS = 400;

for (let part = 0; part < 3; part++) {
  test(`SwarmNode: swarms with drawn faults always finish (${part + 1} of 3)`, () => {
    for (let seed = part * (SEEDS / 3); seed < (part + 1) * (SEEDS / 3); seed++) {
      const options = drawOptions(seed);
      const world = new World(options);
      const isDone = world.run(LIMIT_SECONDS * 1000);
      const open = world.nodes.filter((node) => node.isAlive && node.openBlobs.size > 0);
      const state = open.map((node) => [node.index, node.core.snapshot()]);
      assert.ok(isDone, `seed ${seed}: ${JSON.stringify(options)} ${JSON.stringify(state)}`);
    }
  });
}

test.run();
