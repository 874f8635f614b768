import { dropCodePages } from '../shim/base/code-pages.ts';
import { isShoalError } from '../shim/base/errors.ts';
import { AgentLink } from './agent-link.ts';
import { type NriOptions, parseNriOptions } from './nri-options.ts';
import { Plugin } from './plugin.ts';
import { type PluginConfig, parsePluginConfig } from './plugin-config.ts';
import type { PluginEvents } from './plugin-service.ts';
import { runRuntimeLink } from './runtime-link.ts';

/** The composition root of the NRI plugin: its flags, its two connections, and the plugin between them. */

/** A plugin is registered within a fraction of it, ms. */
const START_MS = 3000;
/** Dropping takes a millisecond; what is still needed is back after the next events, ms. */
const DROP_INTERVAL_MS = 60_000;

process.exitCode = await main();

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort());
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  try {
    keepSmall();
    await runPlugin(parseNriOptions(process.argv.slice(2), process.env), log, stop);
    return 0;
  } catch (error) {
    log(isShoalError(error) ? error.message : String(error instanceof Error ? error.stack : error));
    return 1;
  }
}

async function runPlugin(
  options: NriOptions,
  log: (line: string) => void,
  stop: AbortController,
): Promise<void> {
  const plugin = new Plugin(options.keyPrefix);
  const agent = new AgentLink({
    socketPath: options.agentSocketPath,
    snapshot: () => plugin.snapshot(Date.now()),
    onResult: (result) => plugin.addResult(result),
    log,
  });
  const events = pluginEvents({ plugin, agent, options, log });
  // A plugin that the runtime started ends with its connection.
  const runtime = runRuntimeLink({ ...options, events, log }, stop.signal).finally(() => stop.abort());
  await Promise.all([runtime, agent.run(stop.signal)]);
}

/** The start needs code that serving does not. */
function keepSmall(): void {
  setTimeout(dropCodePages, START_MS).unref();
  setInterval(dropCodePages, DROP_INTERVAL_MS).unref();
}

interface Parts {
  readonly plugin: Plugin;
  readonly agent: AgentLink;
  readonly options: NriOptions;
  readonly log: (line: string) => void;
}

function pluginEvents({ plugin, agent, options, log }: Parts): PluginEvents {
  return {
    configure: ({ config, runtimeName, runtimeVersion }) => {
      log(`Configured by ${runtimeName} ${runtimeVersion}`);
      const { agentSocket, keyPrefix } = readConfig(config, 'fd' in options.runtime, log);
      agent.setSocketPath(agentSocket ?? options.agentSocketPath);
      plugin.setKeyPrefix(keyPrefix ?? options.keyPrefix);
    },
    synchronize: (pods) => {
      plugin.synchronize(pods);
      agent.resync();
      log(`Synchronized: ${pods.length} pods, ${plugin.podCount} of them of interest`);
    },
    runPodSandbox: (pod) => {
      const message = plugin.runPodSandbox(pod, Date.now());
      if (message !== undefined) agent.tell(message);
    },
    removePodSandbox: (pod) => {
      const message = plugin.removePodSandbox(pod);
      if (message !== undefined) agent.tell(message);
    },
    createContainer: (pod, container) =>
      plugin.createContainer(pod, container, { nowMs: Date.now(), isAgentConnected: agent.isConnected }),
  };
}

/**
 * The runtime closes the connection over a wrong configuration, and its log tells why. A plugin that it started itself goes
 * on without: containerd 1.7 would end instead of starting.
 */
function readConfig(text: string, isPreInstalled: boolean, log: (line: string) => void): PluginConfig {
  try {
    return parsePluginConfig(text);
  } catch (error) {
    if (!isPreInstalled || !isShoalError(error)) throw error;
    log(`${error.message}: the configuration is left out`);
    return {};
  }
}
