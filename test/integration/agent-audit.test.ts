import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pullToEnd, startAgent } from '../support/agent.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { startOriginSite } from '../support/pull-site.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const MB = 1_000_000;

if (canRun(componentsAvailable('registry'))) {
  test('an agent writes what it downloads and caches into audit.log', async () => {
    const logs = makeTemporaryRoot('aud');
    try {
      await using origin = await startOriginSite();
      using image = await buildSampleImage({ layerSizesBytes: [5 * MB, 3 * MB], seed: 'audit' });
      const { reference } = await origin.push(image, 'team/app');
      const DeployConfig = { mode: 'root', logDir: logs.path, logAudit: true, logAuditMode: 'file' };
      const agent = await startAgent({ name: 'audited', settings: { DeployConfig } });
      await pullToEnd(agent.pull(reference)).finally(() => agent.stop());
      const text = readFileSync(join(logs.path, 'audit.log'), 'utf8');
      for (const operation of ['download', 'filewrite'])
        for (const { digest, size } of image.layers)
          assert.is(sumOfSizes(text, `${operation}[pathname=/https://${origin.gate.host}/${digest}]`), size);
    } finally {
      logs.remove();
    }
  });
}

function sumOfSizes(text: string, marker: string): number {
  const lines = text.split('\n').filter((line) => line.includes(`|${marker}`));
  return lines.reduce((sum, line) => sum + Number(/\[size=(-?\d+)\]/.exec(line)?.[1]), 0);
}

test.run();
