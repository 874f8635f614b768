import { Command, Option } from 'commander';
import { ErrorCode, ShoalError } from '../shim/base/errors.ts';
import { checkKeyPrefix, checkSocketPath } from './plugin-config.ts';

export interface NriOptions {
  /** How the runtime is reached: its socket, or a file descriptor that it has opened for a plugin that it started. */
  readonly runtime: { readonly socketPath: string } | { readonly fd: number };
  readonly agentSocketPath: string;
  readonly keyPrefix: string;
  readonly name: string;
  /** Two digits. */
  readonly index: string;
}

/** What NRI 0.12 and later take as a name. */
const PLUGIN_NAME = /^[A-Za-z0-9._+-]+$/;
const FD_MIN = 3;

/**
 * Settings from flags, then environment, then defaults. The runtime's own variables decide when it has started the plugin
 * (`NRI_PLUGIN_SOCKET` is a file descriptor then). Exits for `--help`.
 * @throws ShoalError `ConfigInvalid`
 */
export function parseNriOptions(args: readonly string[], env: NodeJS.ProcessEnv): NriOptions {
  const program = command(env);
  program.parse([...args], { from: 'user' });
  const flags = program.opts<Record<'socket' | 'agent' | 'keyPrefix' | 'name' | 'index', string>>();
  const { NRI_PLUGIN_SOCKET: fd, NRI_PLUGIN_NAME: name, NRI_PLUGIN_IDX: index } = env;
  const isPreInstalled = fd !== undefined && fd !== '';
  return {
    runtime: isPreInstalled ? { fd: checkFd(fd) } : { socketPath: checkSocketPath('--socket', flags.socket) },
    agentSocketPath: checkSocketPath('--agent', flags.agent),
    keyPrefix: checkKeyPrefix('--key-prefix', flags.keyPrefix),
    name: check('--name', (isPreInstalled && name) || flags.name, PLUGIN_NAME, 'letters, digits and . _ + -'),
    index: check('--index', (isPreInstalled && index) || flags.index, /^\d\d$/, 'two digits'),
  };
}

function command(env: NodeJS.ProcessEnv): Command {
  const option = (name: string, variable: string, value: string, help: string): Option => {
    // An empty variable is as good as none.
    const set = env[variable] === '' ? undefined : env[variable];
    return new Option(name, `${help} (${variable})`).default(set ?? value);
  };
  return new Command('shoal-nri')
    .description('Tells the agent of pods as they start, and containers how their images came: an NRI plugin')
    .addOption(option('--socket <path>', 'SHOAL_NRI_SOCKET', '/var/run/nri/nri.sock', 'NRI socket'))
    .addOption(
      option('--agent <path>', 'SHOAL_NRI_AGENT', '/run/shoal/control.sock', "the agent's control socket"),
    )
    .addOption(
      option('--key-prefix <prefix>', 'SHOAL_NRI_KEY_PREFIX', 'k8s.aliyun.com', 'prefix of the keys of pods'),
    )
    .addOption(option('--name <name>', 'SHOAL_NRI_NAME', 'shoal', 'name among the plugins'))
    .addOption(option('--index <NN>', 'SHOAL_NRI_INDEX', '40', 'place among the plugins, two digits'))
    .showHelpAfterError('(add --help for usage)');
}

function checkFd(value: string): number {
  const fd = Number(value);
  if (Number.isInteger(fd) && fd >= FD_MIN) return fd;
  throw invalid('NRI_PLUGIN_SOCKET', value, 'the number of an open file descriptor');
}

function check(where: string, value: string, pattern: RegExp, wanted: string): string {
  if (pattern.test(value)) return value;
  throw invalid(where, value, wanted);
}

function invalid(where: string, found: string, wanted: string): ShoalError {
  return new ShoalError(ErrorCode.ConfigInvalid, `Cannot use "${where}": found "${found}", wanted ${wanted}`);
}
