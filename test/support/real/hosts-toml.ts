import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'smol-toml';

export interface MirrorHost {
  /** Such as `http://127.0.0.1:5000`. */
  readonly url: string;
  readonly capabilities?: readonly ('pull' | 'resolve' | 'push')[];
  /** Paths of PEM files. */
  readonly ca?: string;
  readonly client?: readonly (readonly [cert: string, key: string])[];
  readonly skipVerify?: boolean;
  readonly overridePath?: boolean;
  readonly header?: Readonly<Record<string, string>>;
}

export interface HostsFile {
  /** The folder of all registries: containerd's `config_path`. */
  readonly configPath: string;
  /** The registry as in references, such as `registry.test`, or `_default`. */
  readonly registry: string;
  readonly server?: string;
  /** Asked in this order, before the server. */
  readonly hosts: readonly MirrorHost[];
}

/** Writes `CONFIG_PATH/REGISTRY/hosts.toml`. containerd reads it anew for each pull. */
export function writeHostsToml(file: HostsFile): void {
  // A colon is not valid in the name of a folder everywhere: containerd also looks for HOST_PORT_.
  const folder = join(file.configPath, file.registry.replace(/:(\d+)$/, '_$1_'));
  mkdirSync(folder, { recursive: true });
  const host = Object.fromEntries(file.hosts.map((each) => [each.url, table(each)]));
  writeFileSync(join(folder, 'hosts.toml'), stringify({ ...(file.server && { server: file.server }), host }));
}

function table(host: MirrorHost): Record<string, unknown> {
  const { capabilities = ['pull', 'resolve'], ca, client, skipVerify, overridePath, header } = host;
  return {
    capabilities,
    ...(ca !== undefined && { ca }),
    ...(client !== undefined && { client }),
    ...(skipVerify !== undefined && { skip_verify: skipVerify }),
    ...(overridePath !== undefined && { override_path: overridePath }),
    ...(header !== undefined && { header }),
  };
}
