import { glob, readdir, readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { parse } from 'smol-toml';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** Where containerd looks unless its configuration says otherwise. */
const DEFAULT_DIRECTORY = '/opt/containerd/image-verifier/bin';
/** `version = 1` names plugins by the last part alone. */
const PLUGIN_NAMES = ['io.containerd.image-verifier.v1.bindir', 'bindir'];
/** Read by newer containerds when the file imports nothing. */
const DEFAULT_IMPORT = 'conf.d/*.toml';
/** Configurations are a few kB in a few files; more than this is a mistake, such as an import of a whole disk. */
const FILES_MAX = 256;
const FILE_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Refuses when containerd would have a program judge the image: only containerd's own pull runs it. `configFile` is the file
 * that containerd was started with. What cannot be read counts as a verifier: nobody may get past one by our mistake.
 * @throws Unsupported
 */
export async function refuseImageVerifiers(configFile: string): Promise<void> {
  for (const directory of await verifierDirectories(configFile)) {
    const programs = await programsIn(directory);
    if (programs > 0)
      throw unsupported(`containerd has ${programs} image verifier(s) in "${directory}"`, undefined);
  }
}

/**
 * Every directory that the configuration names anywhere; containerd's default when it names none. Which of several counts depends on
 * containerd's version, so each does.
 */
export async function verifierDirectories(configFile: string): Promise<readonly string[]> {
  const found = new Set<string>();
  const files = new Set([configFile]);
  for (const file of files) {
    const table = await readTable(file);
    for (const directory of directoriesIn(table)) found.add(directory);
    for (const imported of await importsOf(table, file)) files.add(imported);
    if (files.size > FILES_MAX)
      throw unsupported(`its configuration "${configFile}" imports more than ${FILES_MAX} files`, undefined);
  }
  return found.size === 0 ? [DEFAULT_DIRECTORY] : [...found];
}

type Table = Readonly<Record<string, unknown>>;

/** Empty for a file that is not there: then containerd runs on its defaults, or is not on this side of a mount. */
async function readTable(file: string): Promise<Table> {
  try {
    const text = await readFile(file, 'utf8');
    if (text.length > FILE_BYTES_MAX)
      throw unsupported(`"${file}" is larger than ${FILE_BYTES_MAX} bytes`, undefined);
    return parse(text);
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return {};
    if (error instanceof ShoalError) throw error;
    throw unsupported(
      `its configuration "${file}" cannot be read (${nodeErrorCode(error) ?? 'no valid TOML'})`,
      error,
    );
  }
}

function directoriesIn(table: Table): string[] {
  const plugins = member(table, 'plugins');
  const named = PLUGIN_NAMES.map((name) => member(member(plugins, name), 'bin_dir'));
  return named.filter((directory): directory is string => typeof directory === 'string' && directory !== '');
}

/** Relative to the file that imports; names with `*` are patterns. */
async function importsOf(table: Table, file: string): Promise<string[]> {
  const named = member(table, 'imports');
  const wanted = Array.isArray(named) ? named : [DEFAULT_IMPORT];
  const found: string[] = [];
  for (const each of wanted) {
    if (typeof each !== 'string') continue;
    const path = isAbsolute(each) ? each : join(dirname(file), each);
    if (path.includes('*')) found.push(...(await Array.fromAsync(glob(path))));
    else found.push(path);
  }
  return found;
}

async function programsIn(directory: string): Promise<number> {
  try {
    return (await readdir(directory)).length;
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return 0;
    const found = nodeErrorCode(error) ?? 'unknown error';
    throw unsupported(`its directory of image verifiers "${directory}" cannot be read (${found})`, error);
  }
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function unsupported(found: string, cause: unknown): ShoalError {
  const message = `Cannot import an image into containerd: ${found}, so containerd has to pull`;
  return new ShoalError(ErrorCode.Unsupported, message, { cause });
}
