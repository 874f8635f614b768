import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Services } from 'ttrpc';
import {
  type ConfigureRequest,
  type Container,
  decodeConfigure,
  decodePodEvent,
  decodeStateChange,
  decodeSynchronize,
  encodeConfigureResponse,
  encodeCreateContainerResponse,
  encodeSynchronizeResponse,
  eventMask,
  NriEvent,
  PLUGIN_SERVICE,
  type PodSandbox,
  type TextMap,
} from './nri-messages.ts';

/** What the plugin does at each event. Synchronous on purpose: every pod of the node waits for the answer. */
export interface PluginEvents {
  /** Throws what is wrong with the configuration. */
  configure(request: ConfigureRequest): void;
  /** All pods that run already, once a connection. */
  synchronize(pods: readonly PodSandbox[]): void;
  runPodSandbox(pod: PodSandbox): void;
  removePodSandbox(pod: PodSandbox): void;
  /** The annotations to add. */
  createContainer(pod: PodSandbox, container: Container): TextMap;
}

/** Pods are far fewer; a runtime that lists more is not believed. */
const SYNCHRONIZED_PODS_MAX = 10_000;

const SUBSCRIBED = eventMask([NriEvent.RunPodSandbox, NriEvent.RemovePodSandbox, NriEvent.CreateContainer]);
const EMPTY = Buffer.alloc(0);

/**
 * NRI's Plugin service, for one connection. It knows both styles: `StateChange` with the event's number, and a call of
 * its own for each event (NRI 0.12). Methods that are not here are answered `Unimplemented` by the server. Only
 * `configure` may fail: an error at any other event would fail the pod.
 */
export function pluginServices(events: PluginEvents, onProblem: (error: unknown) => void): Services {
  const pods: PodSandbox[] = [];
  const attempt = <T>(otherwise: T, act: () => T): T => {
    try {
      return act();
    } catch (error) {
      onProblem(error);
      return otherwise;
    }
  };
  const quietly = (act: () => void) => {
    attempt(undefined, act);
    return EMPTY;
  };
  const runPod = (pod: PodSandbox): Buffer => quietly(() => events.runPodSandbox(pod));
  const removePod = (pod: PodSandbox): Buffer => quietly(() => events.removePodSandbox(pod));
  return {
    [PLUGIN_SERVICE]: {
      Configure: (bytes) => {
        events.configure(decodeConfigure(bytes));
        return encodeConfigureResponse(SUBSCRIBED);
      },
      Synchronize: (bytes) => {
        const { pods: part, more } = decodeSynchronize(bytes);
        pods.push(...part.slice(0, SYNCHRONIZED_PODS_MAX - pods.length));
        if (!more) quietly(() => events.synchronize(pods.splice(0)));
        return encodeSynchronizeResponse(more);
      },
      StateChange: (bytes) =>
        quietly(() => {
          const { event, pod } = decodeStateChange(bytes);
          if (event === NriEvent.RunPodSandbox) runPod(pod);
          if (event === NriEvent.RemovePodSandbox) removePod(pod);
        }),
      RunPodSandbox: (bytes) => quietly(() => void runPod(decodePodEvent(bytes).pod)),
      RemovePodSandbox: (bytes) => quietly(() => void removePod(decodePodEvent(bytes).pod)),
      // After a turn of the event loop: the agent has told the result before PullImage was answered, so that it has
      // arrived by now, but perhaps on a socket that is read after this one.
      CreateContainer: async (bytes) => {
        await nextTurn();
        return attempt(EMPTY, () => {
          const { pod, container } = decodePodEvent(bytes);
          return encodeCreateContainerResponse(events.createContainer(pod, container));
        });
      },
      Shutdown: () => EMPTY,
    },
  };
}
