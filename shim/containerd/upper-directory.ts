import { ErrorCode, ShoalError } from '../base/errors.ts';
import type { Mount } from './messages.ts';

/** Where a prepared overlayfs snapshot takes its files. */
export interface UpperDirectory {
  readonly upper: string;
  /** Trees of the layers below, the nearest first. */
  readonly lowers: readonly string[];
}

/**
 * Reads an overlayfs snapshotter's mounts: one bind mount of the tree itself for the lowest layer, else one overlay mount.
 * @throws Unsupported for anything else, and for user extended attributes (rootless), which change how whiteouts are written
 */
export function upperDirectoryOf(mounts: readonly Mount[]): UpperDirectory {
  const [mount] = mounts;
  if (mount === undefined || mounts.length !== 1) throw unsupported(`${mounts.length} mounts`);
  if (mount.type === 'bind') return { upper: mount.source, lowers: [] };
  if (mount.type !== 'overlay') throw unsupported(`a mount of type "${mount.type}"`);
  if (mount.options.includes('userxattr')) throw unsupported('the option "userxattr"');
  const upper = option(mount, 'upperdir=');
  const lowers = option(mount, 'lowerdir=');
  if (upper === undefined || lowers === undefined) throw unsupported('no upperdir or no lowerdir');
  return { upper, lowers: lowers.split(':') };
}

function option(mount: Mount, prefix: string): string | undefined {
  return mount.options.find((each) => each.startsWith(prefix))?.slice(prefix.length);
}

function unsupported(found: string): ShoalError {
  return new ShoalError(
    ErrorCode.Unsupported,
    `Cannot use snapshot "overlayfs": ${found} found, one bind or overlay mount wanted`,
  );
}
