import { dirname } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pullToEnd, startAgent } from '../support/agent.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { startOriginSite } from '../support/pull-site.ts';
import { canRun, componentsAvailable, isalLibrary } from '../support/real/components.ts';

const MB = 1_000_000;

const library = isalLibrary();

if (canRun(componentsAvailable('registry', 'isal')) && library !== undefined) {
  // One layer leaves a core to inflate beside the worker; three do not.
  for (const layers of [1, 3])
    test(`an agent takes the ISA-L that the node has, with ${layers} layer(s) at once`, async () => {
      await using origin = await startOriginSite();
      using image = await buildSampleImage({
        layerSizesBytes: Array.from({ length: layers }, () => 9 * MB),
        seed: `isal-${layers}`,
      });
      const { reference } = await origin.push(image, 'team/app');
      await using agent = await startAgent({
        name: 'isal',
        env: { LD_LIBRARY_PATH: dirname(library) },
      });
      assert.match(agent.log(), /"inflater":"isal"/);
      const { imageId } = await pullToEnd(agent.pull(reference));
      assert.is(imageId, image.config.digest);
    });
}

test.run();
