import { ErrorCode, ShoalError } from '../base/errors.ts';
import { type P2pHostRule, parseP2pHostRule } from '../base/p2p-address.ts';
import type { FrontOptions } from './run-front.ts';

export const FRONT_HELP = `Usage: shoal front [options]

Owns kubelet's CRI socket and the node's HTTP port; passes pulls to the agent while it is healthy and all else to containerd.

  --socket PATH        CRI socket for kubelet (default /run/shoal/cri.sock; SHOAL_FRONT_SOCKET)
  --containerd PATH    containerd's socket (default /run/containerd/containerd.sock; SHOAL_FRONT_CONTAINERD)
  --agent PATH         the agent's CRI socket (default /run/shoal/agent/cri.sock; SHOAL_FRONT_AGENT)
  --http HOST:PORT     HTTP port for containerd and overlaybd (default 127.0.0.1:65001; "off" for none; SHOAL_FRONT_HTTP)
  --agent-http ADDRESS the agent's HTTP service: a socket path or HOST:PORT (default /run/shoal/agent/http.sock; SHOAL_FRONT_AGENT_HTTP)
  --p2p-addresses RULE,… registries that have P2P addresses, as the agent's p2p.addresses (default *.cr.aliyuncs.com; "off" for none; SHOAL_FRONT_P2P_ADDRESSES)
`;

const DEFAULTS = {
  socket: '/run/shoal/cri.sock',
  containerd: '/run/containerd/containerd.sock',
  agent: '/run/shoal/agent/cri.sock',
  http: '127.0.0.1:65001',
  'agent-http': '/run/shoal/agent/http.sock',
  'p2p-addresses': '*.cr.aliyuncs.com',
} as const;
type Name = keyof typeof DEFAULTS;

/**
 * The front's settings from flags, then environment, then defaults; undefined when help was asked for.
 * @throws ShoalError `ConfigInvalid`.
 */
export function parseFrontOptions(args: readonly string[], env: NodeJS.ProcessEnv): FrontOptions | undefined {
  const flags = readFlags(args);
  if (flags.has('help')) return undefined;
  const value = (name: Name): string => {
    return flags.get(name) || env[`SHOAL_FRONT_${name.toUpperCase().replaceAll('-', '_')}`] || DEFAULTS[name];
  };
  const paths = {
    socketPath: socketPath('socket', value('socket')),
    containerdSocketPath: socketPath('containerd', value('containerd')),
    agentSocketPath: socketPath('agent', value('agent')),
  };
  const p2pRules = readP2pRules(value('p2p-addresses'));
  if (value('http') === 'off') return { ...paths, p2pRules };
  const agentHttp = value('agent-http');
  const agent = agentHttp.startsWith('/') ? { path: agentHttp } : hostAndPort('agent-http', agentHttp);
  return { ...paths, p2pRules, http: { listen: hostAndPort('http', value('http')), agent } };
}

function readP2pRules(value: string): P2pHostRule[] {
  return value === 'off' ? [] : value.split(',').map((rule) => parseP2pHostRule(rule.trim()));
}

/** `--name value` and `--name=value`. By hand: `parseArgs` is memory that this process does without. */
function readFlags(args: readonly string[]): ReadonlyMap<string, string> {
  const flags = new Map<string, string>();
  for (let index = 0; index < args.length; index += 1) {
    const [, name = '', inline] = /^--?([a-z0-9-]+)(?:=(.*))?$/s.exec(args[index] ?? '') ?? [];
    if (name === 'help' || name === 'h') flags.set('help', '');
    else if (!Object.hasOwn(DEFAULTS, name)) throw wrongFlags(`"${args[index]}"`);
    else {
      if (inline === undefined) index += 1;
      const value = inline ?? args[index];
      if (!value) throw wrongFlags(`"--${name}" without a value`);
      flags.set(name, value);
    }
  }
  return flags;
}

function wrongFlags(found: string): ShoalError {
  const wanted = `one of ${Object.keys(DEFAULTS)
    .map((name) => `--${name}`)
    .join(', ')} with a value`;
  return new ShoalError(
    ErrorCode.ConfigInvalid,
    `Cannot read the flags of "front": found ${found}, wanted ${wanted}`,
  );
}

/** Takes `unix:///run/x.sock`, as kubelet writes it, and `/run/x.sock`. */
function socketPath(name: Name, value: string): string {
  const path = value.replace(/^unix:\/\//, '');
  if (!path.startsWith('/')) throw invalid(name, value, 'an absolute path of a socket');
  return path;
}

function hostAndPort(name: Name, value: string): { readonly host: string; readonly port: number } {
  const match = /^(.+):(\d{1,5})$/.exec(value);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) throw invalid(name, value, 'HOST:PORT');
  return { host: match[1].replace(/^\[(.*)\]$/, '$1'), port };
}

function invalid(name: Name, found: string, wanted: string): ShoalError {
  return new ShoalError(
    ErrorCode.ConfigInvalid,
    `Cannot use "--${name}": found "${found}", wanted ${wanted}`,
  );
}
