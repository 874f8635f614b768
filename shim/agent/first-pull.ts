import type { Config } from '../config/settings.ts';
import { prepareCodecs } from '../containerd/api.ts';
import { readConfigTables } from '../containerd/containerd-config.ts';
import { prepareTls } from '../registry/transport.ts';

/**
 * Does before the first pull what would else be done in it, once in a process's life: reading what the node trusts,
 * generating codecs, loading what finds containerd's configuration. A quarter of a second in all on a slow node.
 */
export async function prepareFirstPull({ store, containerd }: Config): Promise<void> {
  prepareTls();
  if (store !== 'containerd') return;
  prepareCodecs();
  // Each pull reads it, and says what is wrong with it.
  await readConfigTables(containerd.configFile).catch(() => []);
}
