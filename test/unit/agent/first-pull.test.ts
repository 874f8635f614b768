import { writeFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { prepareFirstPull } from '../../../shim/agent/first-pull.ts';
import { loadConfig } from '../../../shim/config/load-config.ts';
import { api } from '../../../shim/containerd/api.ts';
import { makeTemporaryRoot } from '../../support/real/temporary-root.ts';

test('a configuration of containerd that cannot be read stops no agent, and no message is left to the first pull', async () => {
  using folder = makeTemporaryRoot('cfg');
  const configFile = `${folder.path}/config.toml`;
  writeFileSync(configFile, 'this is [no TOML');
  const setUp: string[] = [];
  const { setup } = protobuf.Type.prototype;
  protobuf.Type.prototype.setup = function remember(this: protobuf.Type) {
    setUp.push(this.name);
    return setup.call(this);
  };
  try {
    await prepareFirstPull(loadConfig(`containerd: {configFile: ${configFile}}`, 'test.yaml', {}));
    assert.ok(setUp.includes('InfoRequest'), setUp.join());
    const before = setUp.length;
    api.content.info.encode({ digest: `sha256:${'a'.repeat(64)}` });
    api.leases.create.encode({ id: 'a', labels: {} } as never);
    assert.is(setUp.length, before, setUp.slice(before).join());
  } finally {
    protobuf.Type.prototype.setup = setup;
  }
});

test.run();
