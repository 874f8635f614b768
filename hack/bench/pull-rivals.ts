import { componentPath, componentsAvailable } from '../../test/support/real/components.ts';
import type { ContainerdOptions } from '../../test/support/real/containerd.ts';
import type { ContainerdVersion } from '../../test/support/real/containerd-config.ts';

/** One containerd that Shoal is compared with, and put in front of. */
export interface Rival {
  readonly name: string;
  readonly containerd: ContainerdOptions & { readonly version: ContainerdVersion };
}

/** As it comes. */
export function plainRival(version: ContainerdVersion): Rival {
  return { name: `containerd ${version}`, containerd: { version } };
}

/**
 * The best that tuning gives: 2.4 with more downloads and unpacks at once, and igzip in PATH, with which containerd inflates
 * gzip faster than it does itself.
 */
export function tunedRival(): Rival {
  const platform = `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`;
  const hasIgzip = componentsAvailable('isal') === null;
  return {
    name: `containerd 2.4 tuned${hasIgzip ? ', igzip' : ''}`,
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
