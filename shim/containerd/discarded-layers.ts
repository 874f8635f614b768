import { configValue, readConfigTables } from './containerd-config.ts';

/** Where containerd's versions have the option: 2.x, 1.7, and files of version 1. */
const PLACES = [
  ['io.containerd.cri.v1.images'],
  ['io.containerd.grpc.v1.cri', 'containerd'],
  ['cri', 'containerd'],
] as const;

/**
 * Whether containerd's configuration says that layers' blobs are dropped once they are unpacked: 2.x does not tell it through CRI. True
 * when any of the files says so; false when they cannot be read, for then blobs are kept as in any other cluster.
 */
export async function discardsUnpackedLayers(configFile: string): Promise<boolean> {
  const tables = await readConfigTables(configFile).catch(() => []);
  return tables.some((table) =>
    PLACES.some((place) => configValue(table, 'plugins', ...place, 'discard_unpacked_layers') === true),
  );
}
