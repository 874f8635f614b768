import { readdir } from 'node:fs/promises';
import { nodeErrorCode } from '../base/errors.ts';
import { type ConfigTable, configValue, containerdHasToPull, readConfigTables } from './containerd-config.ts';

/** Where containerd looks unless its configuration says otherwise. */
const DEFAULT_DIRECTORY = '/opt/containerd/image-verifier/bin';
/** `version = 1` names plugins by the last part alone. */
const PLUGIN_NAMES = ['io.containerd.image-verifier.v1.bindir', 'bindir'];

/**
 * Refuses when containerd would have a program judge the image: only containerd's own pull runs it. `configFile` is the file
 * that containerd was started with. What cannot be read counts as a verifier: nobody may get past one by our mistake.
 * @throws Unsupported
 */
export async function refuseImageVerifiers(configFile: string): Promise<void> {
  for (const directory of await verifierDirectories(configFile)) {
    const programs = await programsIn(directory);
    if (programs > 0)
      throw containerdHasToPull(`containerd has ${programs} image verifier(s) in "${directory}"`, undefined);
  }
}

/**
 * Every directory that the configuration names anywhere; containerd's default when it names none. Which of several counts depends on
 * containerd's version, so each does.
 */
export async function verifierDirectories(configFile: string): Promise<readonly string[]> {
  const found = new Set((await readConfigTables(configFile)).flatMap(directoriesIn));
  return found.size === 0 ? [DEFAULT_DIRECTORY] : [...found];
}

function directoriesIn(table: ConfigTable): string[] {
  const named = PLUGIN_NAMES.map((name) => configValue(table, 'plugins', name, 'bin_dir'));
  return named.filter((directory): directory is string => typeof directory === 'string' && directory !== '');
}

async function programsIn(directory: string): Promise<number> {
  try {
    return (await readdir(directory)).length;
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return 0;
    const found = nodeErrorCode(error) ?? 'unknown error';
    throw containerdHasToPull(
      `its directory of image verifiers "${directory}" cannot be read (${found})`,
      error,
    );
  }
}
