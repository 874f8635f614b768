import { glob, readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { parse } from 'smol-toml';
import { ErrorCode, nodeErrorCode, ShoalError } from '../base/errors.ts';

/** What containerd reads when it is started without `--config`. */
export const DEFAULT_CONFIG_FILE = '/etc/containerd/config.toml';
/** Read by newer containerds when the file imports nothing. */
const DEFAULT_IMPORT = 'conf.d/*.toml';
/** Configurations are a few kB in a few files; more than this is a mistake, such as an import of a whole disk. */
const FILES_MAX = 256;
const FILE_BYTES_MAX = 4 * 1024 * 1024;

/** A TOML table. */
export type ConfigTable = Readonly<Record<string, unknown>>;

/**
 * Every file of containerd's configuration: the one that it was started with, and what that imports, in no order that counts.
 * @throws Unsupported when one cannot be read
 */
export async function readConfigTables(configFile: string): Promise<readonly ConfigTable[]> {
  const tables: ConfigTable[] = [];
  const files = new Set([configFile]);
  for (const file of files) {
    const table = await readTable(file);
    tables.push(table);
    for (const imported of await importsOf(table, file)) files.add(imported);
    if (files.size > FILES_MAX)
      throw containerdHasToPull(
        `its configuration "${configFile}" imports more than ${FILES_MAX} files`,
        undefined,
      );
  }
  return tables;
}

/** What is at a path of names in a table; undefined where it ends. */
export function configValue(table: unknown, ...path: readonly string[]): unknown {
  let value = table;
  for (const name of path)
    value = typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  return value;
}

export function containerdHasToPull(found: string, cause: unknown): ShoalError {
  const message = `Cannot import an image into containerd: ${found}, so containerd has to pull`;
  return new ShoalError(ErrorCode.Unsupported, message, { cause });
}

/** Empty for a file that is not there: then containerd runs on its defaults, or is not on this side of a mount. */
async function readTable(file: string): Promise<ConfigTable> {
  try {
    const text = await readFile(file, 'utf8');
    if (text.length > FILE_BYTES_MAX)
      throw containerdHasToPull(`"${file}" is larger than ${FILE_BYTES_MAX} bytes`, undefined);
    return parse(text);
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return {};
    if (error instanceof ShoalError) throw error;
    const found = nodeErrorCode(error) ?? 'no valid TOML';
    throw containerdHasToPull(`its configuration "${file}" cannot be read (${found})`, error);
  }
}

/** Relative to the file that imports; names with `*` are patterns. */
async function importsOf(table: ConfigTable, file: string): Promise<string[]> {
  const named = table.imports;
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
