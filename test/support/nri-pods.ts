import { writeFileSync } from 'node:fs';
import type { Containerd } from './real/containerd.ts';
import { runCrictl } from './real/crictl.ts';
import { makeTemporaryRoot } from './real/temporary-root.ts';

export interface PodMarks {
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A pod on the host's network, in namespace `team`, with uid `NAME-uid`. */
export interface TestPod extends AsyncDisposable {
  readonly id: string;
  /** Creates a container of an image that is there, and gives the annotations of its runtime specification. */
  createContainer(image: string): Promise<Readonly<Record<string, string>>>;
  remove(): Promise<void>;
}

/** The configuration of a pod's sandbox as a file, for pulls that name it. */
export function podFile(name: string, marks: PodMarks): Disposable & { readonly path: string } {
  return jsonFile(podConfig(name, marks));
}

export async function startTestPod({ socket }: Containerd, name: string, marks: PodMarks): Promise<TestPod> {
  const cri = { endpoint: socket };
  using file = podFile(name, marks);
  const { podId: id } = await runCrictl<{ podId: string }>(cri, 'runp', file.path);
  let isThere = true;
  const remove = async (): Promise<void> => {
    if (!isThere) return;
    isThere = false;
    await runCrictl(cri, 'stopp', id);
    await runCrictl(cri, 'rmp', id);
  };
  const createContainer = async (image: string): Promise<Readonly<Record<string, string>>> => {
    using pod = podFile(name, marks);
    using container = jsonFile({
      metadata: { name: 'app' },
      // kubelet names the image by its ID here, and tells what the pod says besides.
      image: { image, user_specified_image: image },
      command: ['/bin/busybox', 'sleep', '60'],
      linux: {},
    });
    const args = ['create', id, container.path, pod.path];
    const { containerId } = await runCrictl<{ containerId: string }>(cri, ...args);
    const { info } = await runCrictl<{ info: { info: string } }>(cri, 'inspect', containerId);
    return (JSON.parse(info.info) as { runtimeSpec: { annotations: Record<string, string> } }).runtimeSpec
      .annotations;
  };
  return { id, createContainer, remove, [Symbol.asyncDispose]: remove };
}

function podConfig(name: string, marks: PodMarks): object {
  const metadata = { name, uid: `${name}-uid`, namespace: 'team', attempt: 0 };
  // Network 2 is the node's: it needs no CNI.
  return { metadata, ...marks, linux: { security_context: { namespace_options: { network: 2 } } } };
}

function jsonFile(value: unknown): Disposable & { readonly path: string } {
  const folder = makeTemporaryRoot('pod');
  const path = `${folder.path}/config.json`;
  writeFileSync(path, JSON.stringify(value));
  return { path, [Symbol.dispose]: () => folder.remove() };
}
