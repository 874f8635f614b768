/** What the CRI plugin's settings say about images. */
export interface CriSetup {
  /** Layers' blobs are dropped once they are unpacked. Undefined when the plugin does not tell (2.x). */
  readonly discardUnpackedLayers: boolean | undefined;
  /** The snapshotter of a pull for this runtime handler, undefined when that cannot be told for certain. */
  snapshotterOf(runtimeHandler: string | undefined): string | undefined;
}

/**
 * Reads the `config` document of a verbose CRI Status. containerd 1.7 has the default snapshotter there; 2.x tells it only through the file systems
 * that hold images (`usedSnapshotters`), which are those of all runtime handlers together.
 */
export function criSetupOf(configJson: string | undefined, usedSnapshotters: readonly string[]): CriSetup {
  const containerd = member(parse(configJson), 'containerd');
  const ofHandler = handlerSnapshotters(member(containerd, 'runtimes'));
  const named = text(member(containerd, 'snapshotter'));
  const discard = member(containerd, 'discardUnpackedLayers');
  const defaultSnapshotter = named ?? onlyOne(usedSnapshotters, ofHandler);
  return {
    discardUnpackedLayers: typeof discard === 'boolean' ? discard : undefined,
    snapshotterOf: (handler) => {
      const own = handler === undefined ? undefined : ofHandler.get(handler);
      if (own !== undefined) return own;
      // 2.x has a second place for a handler's snapshotter, which it does not show.
      const certain = !handler || named !== undefined || usedSnapshotters.length === 1;
      return certain ? defaultSnapshotter : undefined;
    },
  };
}

function handlerSnapshotters(runtimes: unknown): Map<string, string> {
  const found = new Map<string, string>();
  if (typeof runtimes !== 'object' || runtimes === null) return found;
  for (const [handler, runtime] of Object.entries(runtimes)) {
    const snapshotter = text(member(runtime, 'snapshotter'));
    if (snapshotter !== undefined) found.set(handler, snapshotter);
  }
  return found;
}

/** The default is the one in use that no handler asks for. */
function onlyOne(used: readonly string[], ofHandler: ReadonlyMap<string, string>): string | undefined {
  if (used.length === 1) return used[0];
  const asked = new Set(ofHandler.values());
  const rest = used.filter((name) => !asked.has(name));
  return rest.length === 1 ? rest[0] : undefined;
}

function parse(json: string | undefined): unknown {
  try {
    return json === undefined ? undefined : JSON.parse(json);
  } catch {
    return undefined;
  }
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
