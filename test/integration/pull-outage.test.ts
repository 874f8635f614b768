// time limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Agent, pullToEnd, startAgent } from '../support/agent.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { startOriginSite } from '../support/pull-site.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';

const ME = { username: 'me', password: 'my-password' };

/** The code of a pull that failed, or `done`. */
function outcome(agent: Agent, image: string, credentials = ME): Promise<string> {
  return pullToEnd(agent.pull(image, undefined, credentials)).then(
    () => 'done',
    (error: Error) => /Cannot pull: (\w+)/.exec(error.message)?.[1] ?? error.message,
  );
}

if (canRun(componentsAvailable('registry')))
  test('while the registry is down an image is given again by its digest, to the same caller, and where that is set', async () => {
    await using origin = await startOriginSite({ basic: { user: ME.username, password: ME.password } });
    using image = await buildSampleImage({ layerSizesBytes: [3_000_000] });
    const { reference, digestReference } = await origin.push(image, 'team/app');
    await using strict = await startAgent({ name: 'strict' });
    await using lenient = await startAgent({ name: 'lenient', settings: { originDown: { mode: 'grace' } } });
    for (const agent of [strict, lenient]) assert.is(await outcome(agent, reference), 'done');
    await origin.gate.stop();
    assert.is(await outcome(lenient, digestReference), 'done');
    assert.match(lenient.log(), 'the registry does not answer: going by what it answered before');
    const denied = [
      outcome(strict, digestReference),
      outcome(lenient, reference),
      outcome(lenient, digestReference, { username: 'me', password: 'other' }),
    ];
    assert.equal(
      await Promise.all(denied),
      denied.map(() => 'REGISTRY_UNAVAILABLE'),
    );
  });

test.run();
