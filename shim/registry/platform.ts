import type { Platform } from '../base/descriptor.ts';

/** Names of the same architecture that images use, by the names that containerd settles on. */
const ARCHITECTURE_ALIASES: Readonly<Record<string, string>> = {
  aarch64: 'arm64',
  i386: '386',
  x86_64: 'amd64',
  'x86-64': 'amd64',
};

/** The minor versions of arm64 v9.n and of v8.(n+5) are compatible (Arm architecture manual). */
const V9_AHEAD_OF_V8 = 5;

/**
 * How good an image of platform `offered` is on a node of platform `wanted`: 0 is exact, higher is worse, undefined is
 * of no use. The order is containerd's: arm v7 runs v6 and v5, arm64 also runs arm v8 and below, amd64 also runs 386.
 */
export function platformRank(wanted: Platform, offered: Platform): number | undefined {
  const key = platformKey(normalisePlatform(offered));
  const rank = acceptablePlatforms(normalisePlatform(wanted)).findIndex(
    (platform) => platformKey(normalisePlatform(platform)) === key,
  );
  return rank < 0 ? undefined : rank;
}

/** Lower case, one name for each architecture, and no variant where it is the default one. */
export function normalisePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase();
  const lower = platform.architecture.toLowerCase();
  const variant = (platform.variant ?? '').toLowerCase();
  if (lower === 'armhf') return withVariant(os, 'arm', 'v7');
  if (lower === 'armel') return withVariant(os, 'arm', 'v6');
  const architecture = ARCHITECTURE_ALIASES[lower] ?? lower;
  return withVariant(os, architecture, normaliseVariant(architecture, variant));
}

function normaliseVariant(architecture: string, variant: string): string {
  if (architecture === 'amd64') return variant === 'v1' ? '' : variant;
  if (architecture === 'arm64')
    return ['8', 'v8', 'v8.0'].includes(variant) ? '' : variant.replace(/^9(\.0)?$|^v9\.0$/, 'v9');
  if (architecture === 'arm') return variant === '' ? 'v7' : variant.replace(/^([5-8])$/, 'v$1');
  return variant;
}

/** Best first. */
function acceptablePlatforms(platform: Platform): Platform[] {
  const { os, architecture, variant = '' } = platform;
  if (architecture === 'amd64') return amd64Platforms(platform);
  if (architecture === 'arm') return armPlatforms(os, variant);
  if (architecture === 'arm64') return arm64Platforms(platform);
  return [platform];
}

function amd64Platforms(platform: Platform): Platform[] {
  const level = versionOf(platform.variant) ?? 1;
  const lower = countDown(level - 1, 1).map((n) => withVariant(platform.os, 'amd64', `v${n}`));
  return [platform, ...lower, withVariant(platform.os, '386', '')];
}

function armPlatforms(os: string, variant: string): Platform[] {
  const version = versionOf(variant) ?? 7;
  return [
    withVariant(os, 'arm', variant),
    ...countDown(version - 1, 5).map((n) => withVariant(os, 'arm', `v${n}`)),
  ];
}

function arm64Platforms(platform: Platform): Platform[] {
  const match = /^v([89])(?:\.(\d{1,2}))?$/.exec(platform.variant || 'v8');
  if (match === null) return [platform];
  const minor = Number(match[2] ?? 0);
  const own = countDown(minor, 0).map((n) => arm64(platform.os, match[1], n));
  const below =
    match[1] === '9' ? countDown(minor + V9_AHEAD_OF_V8, 0).map((n) => arm64(platform.os, '8', n)) : [];
  return [...own, ...below, ...armPlatforms(platform.os, 'v8')];
}

function arm64(os: string, major: string | undefined, minor: number): Platform {
  return withVariant(os, 'arm64', minor === 0 ? `v${major}` : `v${major}.${minor}`);
}

function versionOf(variant: string | undefined): number | undefined {
  const digits = /^v(\d{1,2})$/.exec(variant ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function countDown(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, from - to + 1) }, (_, index) => from - index);
}

function withVariant(os: string, architecture: string, variant: string): Platform {
  return variant === '' ? { os, architecture } : { os, architecture, variant };
}

function platformKey(platform: Platform): string {
  return `${platform.os}/${platform.architecture}/${platform.variant ?? ''}`;
}
