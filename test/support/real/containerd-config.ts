import { stringify } from 'smol-toml';
import { componentPath } from './components.ts';
import type { ContainerdLayout, ContainerdOptions } from './containerd.ts';

export type ContainerdVersion = '1.7' | '2.1' | '2.4';

/** A TOML table: numbers, strings, booleans, lists, and tables by name. */
export type ConfigTable = { readonly [key: string]: unknown };

/**
 * A configuration that keeps to folders of its own and can run pods on a machine without CAP_SYS_RESOURCE
 * (`restrict_oom_score_adj`: without it runc dies while it starts a container).
 */
export function containerdConfig(
  version: ContainerdVersion,
  layout: ContainerdLayout,
  options: ContainerdOptions,
): string {
  const criPlugins =
    version === '1.7' ? criPluginsOfVersion1(layout, options) : criPluginsOfVersion2(layout, options);
  const config = {
    version: version === '1.7' ? 2 : 3,
    root: layout.root,
    state: layout.state,
    temp: layout.temp,
    // Their probes load kernel modules or write outside of the root.
    disabled_plugins: ['io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.zfs'],
    grpc: { address: layout.socket },
    ttrpc: { address: `${layout.socket}.ttrpc` },
    debug: { level: 'info' },
    plugins: {
      ...criPlugins,
      'io.containerd.internal.v1.opt': { path: `${layout.own}/opt` },
      'io.containerd.nri.v1.nri': {
        disable: false,
        socket_path: `${layout.own}/nri.sock`,
        plugin_path: `${layout.own}/nri/plugins`,
        plugin_config_path: `${layout.own}/nri/conf.d`,
      },
    },
  };
  return stringify(merge(config, options.extraConfig ?? {}));
}

/** Tables are merged; other values of the second take the place of the first's. */
function merge(base: ConfigTable, extra: ConfigTable): ConfigTable {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(extra)) {
    const before = merged[key];
    merged[key] = isTable(before) && isTable(value) ? merge(before, value) : value;
  }
  return merged;
}

function isTable(value: unknown): value is ConfigTable {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function criPluginsOfVersion1(layout: ContainerdLayout, options: ContainerdOptions) {
  return {
    'io.containerd.grpc.v1.cri': {
      ...runtimeSettings,
      ...(options.sandboxImage && { sandbox_image: options.sandboxImage }),
      registry: { config_path: options.configPath ?? '' },
      cni: cniFolders(layout, options),
      containerd: { snapshotter: options.snapshotter ?? 'overlayfs', runtimes: runtimes(layout, options) },
    },
  };
}

function criPluginsOfVersion2(layout: ContainerdLayout, options: ContainerdOptions) {
  return {
    'io.containerd.cri.v1.images': {
      snapshotter: options.snapshotter ?? 'overlayfs',
      ...(options.sandboxImage && { pinned_images: { sandbox: options.sandboxImage } }),
      registry: { config_path: options.configPath ?? '' },
    },
    'io.containerd.cri.v1.runtime': {
      ...runtimeSettings,
      cni: cniFolders(layout, options),
      containerd: { runtimes: runtimes(layout, options) },
    },
    'io.containerd.image-verifier.v1.bindir': { bin_dir: `${layout.own}/image-verifier` },
  };
}

const runtimeSettings = { restrict_oom_score_adj: true, netns_mounts_under_state_dir: true };

/** 2.4 reads `bin_dirs` alone, the others `bin_dir`; both together are refused. */
function cniFolders(layout: ContainerdLayout, { version, cniPlugins = '/usr/lib/cni' }: ContainerdOptions) {
  const plugins = version === '2.4' ? { bin_dirs: [cniPlugins] } : { bin_dir: cniPlugins };
  return { ...plugins, conf_dir: `${layout.own}/cni` };
}

/** A root of its own for runc: the default is shared by all containerds of the machine. */
function runtimes(layout: ContainerdLayout, { userNamespaces = false }: ContainerdOptions) {
  const runtime = (program: string) => ({
    runtime_type: 'io.containerd.runc.v2',
    options: { Root: layout.runcRoot, BinaryName: program },
  });
  return {
    runc: runtime(layout.runc),
    ...(userNamespaces && { 'user-namespaces': runtime(`${componentPath('runc-1.2')}/runc`) }),
  };
}
