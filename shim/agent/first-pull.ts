import type { Config } from '../config/settings.ts';
import { prepareCodecs } from '../containerd/api.ts';
import { readConfigTables } from '../containerd/containerd-config.ts';
import { prepareTls } from '../registry/transport.ts';

/**
 * Does before the first pull what would else be done in it, once in a process's life: reading what the node trusts,
 * generating codecs, loading what finds containerd's configuration. Some 0.2 s in all on a slow node. Never
 * rejects: what fails here fails in the pull that needs it, which says so.
 */
export async function prepareFirstPull({ store, containerd }: Config): Promise<void> {
  const steps =
    store === 'containerd'
      ? [prepareTls, prepareCodecs, () => readConfigTables(containerd.configFile)]
      : [prepareTls];
  await Promise.allSettled(steps.map(async (step) => step()));
}
