// time limit: 120 s
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildSampleImage } from '../support/images/samples.ts';
import { assertNothingLeft, startNodeSite, startOriginSite } from '../support/pull-site.ts';
import { canRun, containerdSkipReason } from '../support/real/components.ts';
import { pull } from '../support/real/crictl.ts';
import { testedVersion } from '../support/real/import-site.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

/** 1.7 runs none. */
const RUNS_VERIFIERS = testedVersion !== '1.7';

if (canRun(containerdSkipReason(testedVersion, 'crictl-go'))) {
  test('an image verifier in a directory that an imported file names: containerd pulls, and asks it', async () => {
    await using origin = await startOriginSite();
    using folder = makeTemporaryRoot('verify');
    const programs = join(folder.path, 'programs');
    const asked = join(folder.path, 'asked');
    const plugins = { 'io.containerd.image-verifier.v1.bindir': { bin_dir: programs } };
    writeFileSync(join(folder.path, 'verifiers.toml'), stringify({ version: 2, plugins }));
    const extraConfig = { imports: [join(folder.path, '*.toml')] };
    await using node = await startNodeSite({ containerd: { extraConfig } });
    const pullNew = async (name: string) => {
      using image = await buildSampleImage({ layerSizesBytes: [50_000], seed: name });
      const { reference } = await origin.push(image, name);
      const outcome = await pull(node.cri, reference).catch((error: Error) => error.message);
      return { outcome, wanted: image.config.digest, log: linesOf(node.agent.log(), reference) };
    };

    const none = await pullNew('none');
    assert.is(none.outcome, none.wanted);
    assert.match(none.log, /"message":"pulled"/);

    writeVerifier(programs, `touch ${asked}; exit 0`);
    const allowed = await pullNew('allowed');
    assert.is(allowed.outcome, allowed.wanted);
    assert.is(existsSync(asked), RUNS_VERIFIERS);
    assert.match(allowed.log, RUNS_VERIFIERS ? /"handOver","reason":"UNSUPPORTED"/ : /"message":"pulled"/);

    writeVerifier(programs, 'echo not this one; exit 1');
    const denied = await pullNew('denied');
    if (RUNS_VERIFIERS) assert.match(denied.outcome, /not this one/);
    else assert.is(denied.outcome, denied.wanted);

    rmSync(programs, { recursive: true });
    const again = await pullNew('again');
    assert.match(again.log, /"message":"pulled"/);
    await assertNothingLeft(node);
  });
}

test.run();

function linesOf(log: string, word: string): string {
  return log
    .split('\n')
    .filter((line) => line.includes(word))
    .join('\n');
}

function writeVerifier(directory: string, script: string): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'verify'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}
