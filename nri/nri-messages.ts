import { bytesField, mapField, readFields, readMapEntry, stringField, varintField } from 'ttrpc/protobuf';

/** The messages of package `nri.pkg.api.v1alpha1`, as far as this plugin looks at them. Decoders skip the rest. */
export const PLUGIN_SERVICE = 'nri.pkg.api.v1alpha1.Plugin';
export const RUNTIME_SERVICE = 'nri.pkg.api.v1alpha1.Runtime';

/** Numbers of `Event`. Only those that every NRI knows: a bit that it does not know makes it end the connection. */
export const NriEvent = {
  RunPodSandbox: 1,
  StopPodSandbox: 2,
  RemovePodSandbox: 3,
  CreateContainer: 4,
  PostCreateContainer: 5,
  StartContainer: 6,
  PostStartContainer: 7,
  UpdateContainer: 8,
  PostUpdateContainer: 9,
  StopContainer: 10,
  RemoveContainer: 11,
} as const;
export type NriEvent = (typeof NriEvent)[keyof typeof NriEvent];

export type TextMap = Readonly<Record<string, string>>;

export interface PodSandbox {
  readonly id: string;
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly labels: TextMap;
  readonly annotations: TextMap;
  readonly runtimeHandler: string;
}

export interface Container {
  readonly id: string;
  readonly podSandboxId: string;
  readonly name: string;
  readonly annotations: TextMap;
  /** Only NRI 0.12.2 and later tell it, else empty. */
  readonly imageName: string;
}

export interface ConfigureRequest {
  /** The text of the plugin's configuration file; empty when there is none. */
  readonly config: string;
  readonly runtimeName: string;
  readonly runtimeVersion: string;
}

export interface SynchronizeRequest {
  readonly pods: readonly PodSandbox[];
  /** Another part follows. */
  readonly more: boolean;
}

export function eventMask(events: readonly NriEvent[]): number {
  return events.reduce((mask, event) => mask | (1 << (event - 1)), 0);
}

export function encodeRegisterPlugin(name: string, index: string): Buffer {
  return Buffer.concat([stringField(1, name), stringField(2, index)]);
}

export function decodeConfigure(bytes: Buffer): ConfigureRequest {
  const texts = new Map<number, string>();
  readFields(bytes, ({ number, bytes: content }) => {
    if (number <= 3) texts.set(number, content.toString());
  });
  return {
    config: texts.get(1) ?? '',
    runtimeName: texts.get(2) ?? '',
    runtimeVersion: texts.get(3) ?? '',
  };
}

export function encodeConfigureResponse(events: number): Buffer {
  return varintField(2, events);
}

export function decodeSynchronize(bytes: Buffer): SynchronizeRequest {
  const pods: PodSandbox[] = [];
  let more = false;
  readFields(bytes, ({ number, value, bytes: content }) => {
    if (number === 1) pods.push(decodePod(content));
    if (number === 3) more = value !== 0;
  });
  return { pods, more };
}

/** A part that is followed by another has to be answered with the same `more`. */
export function encodeSynchronizeResponse(more: boolean): Buffer {
  return varintField(2, more ? 1 : 0);
}

/** Every request about a pod has it in field 1, and every one about a container has that in field 2. */
export function decodePodEvent(bytes: Buffer): { readonly pod: PodSandbox; readonly container: Container } {
  let pod = decodePod(Buffer.alloc(0));
  let container = decodeContainer(Buffer.alloc(0));
  readFields(bytes, ({ number, bytes: content }) => {
    if (number === 1) pod = decodePod(content);
    if (number === 2) container = decodeContainer(content);
  });
  return { pod, container };
}

/** What runtimes before NRI 0.12 send instead of a call of its own for each event. */
export function decodeStateChange(bytes: Buffer): { readonly event: number; readonly pod: PodSandbox } {
  let event = 0;
  let pod = decodePod(Buffer.alloc(0));
  readFields(bytes, ({ number, value, bytes: content }) => {
    if (number === 1) event = value;
    if (number === 2) pod = decodePod(content);
  });
  return { event, pod };
}

/** `CreateContainerResponse` that adds these annotations; empty when there are none. */
export function encodeCreateContainerResponse(annotations: TextMap): Buffer {
  const entries = Object.entries(annotations);
  return entries.length === 0 ? Buffer.alloc(0) : bytesField(1, mapField(2, entries));
}

function decodePod(bytes: Buffer): PodSandbox {
  const texts = new Map<number, string>();
  const labels = new Map<string, string>();
  const annotations = new Map<string, string>();
  readFields(bytes, ({ number, bytes: content }) => {
    if (number <= 4 || number === 7) texts.set(number, content.toString());
    if (number === 5) labels.set(...readMapEntry(content));
    if (number === 6) annotations.set(...readMapEntry(content));
  });
  return {
    id: texts.get(1) ?? '',
    name: texts.get(2) ?? '',
    uid: texts.get(3) ?? '',
    namespace: texts.get(4) ?? '',
    labels: Object.fromEntries(labels),
    annotations: Object.fromEntries(annotations),
    runtimeHandler: texts.get(7) ?? '',
  };
}

function decodeContainer(bytes: Buffer): Container {
  const texts = new Map<number, string>();
  const annotations = new Map<string, string>();
  let imageName = '';
  readFields(bytes, ({ number, bytes: content }) => {
    if (number <= 3) texts.set(number, content.toString());
    if (number === 6) annotations.set(...readMapEntry(content));
    if (number === 22) imageName = decodeImageName(content);
  });
  return {
    id: texts.get(1) ?? '',
    podSandboxId: texts.get(2) ?? '',
    name: texts.get(3) ?? '',
    annotations: Object.fromEntries(annotations),
    imageName,
  };
}

function decodeImageName(bytes: Buffer): string {
  let name = '';
  readFields(bytes, ({ number, bytes: content }) => {
    if (number === 1) name = content.toString();
  });
  return name;
}
