import type { Platform } from '../base/descriptor.ts';

/** Go's names for the architectures that Node runs on; others are the same in both. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** The platform of this node, in the names of image indexes. */
export function nodePlatform(architecture: string = process.arch): Platform {
  const platform = { os: 'linux', architecture: ARCHITECTURES[architecture] ?? architecture };
  return architecture === 'arm64' ? { ...platform, variant: 'v8' } : platform;
}
