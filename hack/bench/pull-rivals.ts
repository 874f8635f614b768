import { dirname } from 'node:path';
import { componentPath, componentsAvailable, isalLibrary } from '../../test/support/real/components.ts';
import type { ContainerdOptions } from '../../test/support/real/containerd.ts';
import type { ContainerdVersion } from '../../test/support/real/containerd-config.ts';

/** One containerd that Shoal is compared with, and put in front of. */
export interface Rival {
  readonly name: string;
  readonly containerd: ContainerdOptions & { readonly version: ContainerdVersion };
  /** Of the agent beside it: on the same node it finds the same libraries. */
  readonly agentEnv: NodeJS.ProcessEnv;
}

/** As it comes. */
export function plainRival(version: ContainerdVersion): Rival {
  return { name: `containerd ${version}`, containerd: { version }, agentEnv: {} };
}

/**
 * The best that tuning gives: 2.4 with more downloads and unpacks at once, on a node with ISA-L: with igzip in PATH containerd
 * inflates gzip faster than it does itself, and the agent takes the library.
 */
export function tunedRival(): Rival {
  const platform = `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`;
  const hasIgzip = componentsAvailable('isal') === null;
  const library = isalLibrary();
  return {
    name: `containerd 2.4 tuned${hasIgzip ? ', igzip' : ''}`,
    agentEnv: library === undefined ? {} : { LD_LIBRARY_PATH: dirname(library) },
    containerd: {
      version: '2.4',
      ...(hasIgzip && { programs: [componentPath('isal')] }),
      extraConfig: {
        plugins: {
          'io.containerd.transfer.v1.local': {
            max_concurrent_downloads: 8,
            max_concurrent_unpacks: 4,
            unpack_config: [{ platform, snapshotter: 'overlayfs', differ: 'walking' }],
          },
        },
      },
    },
  };
}
