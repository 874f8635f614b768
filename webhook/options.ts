import { Command, InvalidArgumentError, Option } from 'commander';
import type { ListenAddress } from '../shim/base/listen-tcp.ts';
import { DEFAULT_P2P_HOST_RULES, type P2pHostRule } from '../shim/base/p2p-address.ts';
import type { P2pConfigLimits } from '../shim/base/p2p-config.ts';
import { DEFAULT_KEY_PREFIX } from './annotation-keys.ts';
import type { CertificateFiles } from './certificate-files.ts';
import { type CertificateTimes, DEFAULT_CERTIFICATE_TIMES } from './certificate-plan.ts';

export interface WebhookOptions {
  readonly listen: ListenAddress;
  readonly healthListen: ListenAddress;
  /** Given by whoever runs the webhook; undefined: made by itself. */
  readonly certificateFiles: CertificateFiles | undefined;
  readonly certificateTimes: CertificateTimes;
  /** Names besides those of the Service. */
  readonly certificateHosts: readonly string[];
  readonly certificatePollMs: number;
  /** Namespaces in which pull secrets are copied. */
  readonly namespaces: readonly string[];
  readonly copyGraceMs: number;
  readonly ownNamespace: string;
  readonly serviceName: string;
  readonly configurationName: string;
  readonly identity: string;
  readonly kubeconfig: string | undefined;
  readonly keyPrefix: string;
  readonly hostRules: readonly P2pHostRule[];
  readonly limits: P2pConfigLimits;
  readonly rewriteImages: boolean;
  readonly drainMs: number;
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug';
}

interface Flags {
  readonly listen: ListenAddress;
  readonly healthListen: ListenAddress;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly authorityDays: number;
  readonly certificateDays: number;
  readonly settleSeconds: number;
  readonly pollSeconds: number;
  readonly certificateHost?: string[];
  readonly namespace?: string[];
  readonly copyGraceSeconds: number;
  readonly ownNamespace: string;
  readonly service: string;
  readonly configuration: string;
  readonly identity: string;
  readonly kubeconfig?: string;
  readonly keyPrefix: string;
  readonly p2pHost?: P2pHostRule[];
  readonly warmAtOnce?: number;
  readonly throttleLimitMb?: number;
  readonly rewriteImages?: boolean;
  readonly drainSeconds: number;
  readonly logLevel: WebhookOptions['logLevel'];
}

const DAY_MS = 86_400_000;
const NAMESPACES_MAX = 1_000;

/**
 * Reads the command line. Prints what is wrong or the help, and exits, where there is something wrong or asked for.
 *
 * @param environment `POD_NAMESPACE` and `POD_NAME`, from the downward API.
 */
export function readOptions(args: readonly string[], environment: Environment): WebhookOptions {
  const command = makeCommand(environment);
  const flags = command.parse(args, { from: 'user' }).opts<Flags>();
  if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined))
    command.error('error: --tls-cert and --tls-key belong together');
  if (flags.authorityDays < 3 * flags.certificateDays)
    command.error('error: --authority-days must be at least three times --certificate-days');
  return toOptions(flags);
}

type Environment = Readonly<Record<string, string | undefined>>;

function makeCommand(environment: Environment): Command {
  const command = new Command('shoal-webhook')
    .description('Adds annotations and peer-to-peer pull secrets to opted-in pods, and nothing else.')
    .addOption(addressOption('--listen <HOST:PORT>', 'where the API server asks', '0.0.0.0:8443'))
    .addOption(addressOption('--health-listen <HOST:PORT>', 'probes and metrics', '0.0.0.0:8080'))
    .option('--drain-seconds <SECONDS>', 'from SIGTERM until no more connections are taken', readAmount, 10)
    .option('--log-level <LEVEL>', 'error, warn, info or debug', readLevel, 'info');
  addPlace(command, environment);
  addCertificates(command);
  addAdmission(command);
  return command;
}

function addPlace(command: Command, { POD_NAME, POD_NAMESPACE = 'shoal-system' }: Environment): void {
  const copyHere = 'copy pull secrets here; may be repeated';
  command
    .option('--namespace <NAME>', copyHere, collect(readName, NAMESPACES_MAX))
    .option('--copy-grace-seconds <SECONDS>', 'how long a copy stays when no pod names it', readAmount, 60)
    .option('--own-namespace <NAME>', 'where this runs', readName, POD_NAMESPACE)
    .option('--service <NAME>', 'the Service in front of this', readName, 'shoal-webhook')
    .option('--configuration <NAME>', 'the MutatingWebhookConfiguration', readName, 'shoal-webhook')
    .option('--identity <NAME>', 'of this replica, among the others', POD_NAME ?? `process-${process.pid}`)
    .option('--kubeconfig <FILE>', 'instead of the service account of this pod');
}

function addCertificates(command: Command): void {
  const { authorityMs, servingMs, settleMs } = DEFAULT_CERTIFICATE_TIMES;
  const settle = 'until every API server knows a new authority';
  const host = 'a further name or address that the certificate is for; may be repeated';
  command
    .option('--tls-cert <FILE>', 'certificate (PEM), read again when it changes; without it one is made')
    .option('--tls-key <FILE>', 'its key (PEM)')
    .option('--authority-days <DAYS>', 'life of an authority that is made', readAmount, authorityMs / DAY_MS)
    .option('--certificate-days <DAYS>', 'life of a certificate that is made', readAmount, servingMs / DAY_MS)
    .option('--settle-seconds <SECONDS>', settle, readAmount, settleMs / 1000)
    .option('--poll-seconds <SECONDS>', 'between two looks at the certificates', readAmount, 15)
    .option('--certificate-host <NAME>', host, collect(readName, 10));
}

function addAdmission(command: Command): void {
  const hosts = 'registries with a peer-to-peer form, instead of the default; may be repeated';
  const warmAtOnce = 'images of a pod warmed at a time, where it does not say itself';
  const throttle = 'throughput of warming a pod, where it does not say itself';
  command
    .option('--key-prefix <PREFIX>', 'of the keys of labels and annotations', readName, DEFAULT_KEY_PREFIX)
    .option('--p2p-host <GLOB=LABEL:PORT>', hosts, collect(readHostRule, 100))
    .option('--warm-at-once <COUNT>', warmAtOnce, readWhole(1, 16))
    .option('--throttle-limit-mb <MB>', throttle, readWhole(1, 100_000))
    .option('--rewrite-images', 'change image addresses to their peer-to-peer form');
}

function toOptions(flags: Flags): WebhookOptions {
  const { warmAtOnce, throttleLimitMb: throttleLimitMB, tlsCert, tlsKey } = flags;
  return {
    listen: flags.listen,
    healthListen: flags.healthListen,
    certificateFiles:
      tlsCert === undefined || tlsKey === undefined
        ? undefined
        : { certificatePath: tlsCert, keyPath: tlsKey },
    certificateTimes: {
      authorityMs: flags.authorityDays * DAY_MS,
      servingMs: flags.certificateDays * DAY_MS,
      settleMs: flags.settleSeconds * 1000,
    },
    certificateHosts: flags.certificateHost ?? [],
    certificatePollMs: flags.pollSeconds * 1000,
    namespaces: [...new Set(flags.namespace ?? [])],
    copyGraceMs: flags.copyGraceSeconds * 1000,
    ownNamespace: flags.ownNamespace,
    serviceName: flags.service,
    configurationName: flags.configuration,
    identity: flags.identity,
    kubeconfig: flags.kubeconfig,
    keyPrefix: flags.keyPrefix,
    hostRules: flags.p2pHost ?? DEFAULT_P2P_HOST_RULES,
    limits: {
      ...(warmAtOnce !== undefined && { warmAtOnce }),
      ...(throttleLimitMB !== undefined && { throttleLimitMB }),
    },
    rewriteImages: flags.rewriteImages ?? false,
    drainMs: flags.drainSeconds * 1000,
    logLevel: flags.logLevel,
  };
}

function addressOption(flags: string, description: string, otherwise: string): Option {
  const option = new Option(flags, description).argParser(readAddress);
  return option.default(readAddress(otherwise), otherwise);
}

function readAddress(text: string): ListenAddress {
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1) || Number.NaN);
  const host = text.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  if (colon < 1 || !Number.isInteger(port) || port < 0 || port > 65_535)
    throw new InvalidArgumentError('wanted HOST:PORT.');
  return { host, port };
}

function readAmount(text: string): number {
  const amount = Number(text);
  if (text.trim() === '' || !Number.isFinite(amount) || amount < 0)
    throw new InvalidArgumentError('wanted a number from 0 on.');
  return amount;
}

function readWhole(min: number, max: number): (text: string) => number {
  return (text) => {
    const amount = readAmount(text);
    if (Number.isInteger(amount) && amount >= min && amount <= max) return amount;
    throw new InvalidArgumentError(`wanted an integer from ${min} to ${max}.`);
  };
}

function readName(text: string): string {
  if (text.length <= 253 && /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(text)) return text;
  throw new InvalidArgumentError('wanted lower-case letters, digits, dots and hyphens.');
}

function readLevel(text: string): string {
  if (['error', 'warn', 'info', 'debug'].includes(text)) return text;
  throw new InvalidArgumentError('wanted error, warn, info or debug.');
}

function readHostRule(text: string): P2pHostRule {
  const [, hosts, label, port] = /^([a-z0-9*.-]+)=([a-z0-9-]+):(\d{1,5})$/.exec(text) ?? [];
  if (hosts === undefined || label === undefined || Number(port) > 65_535)
    throw new InvalidArgumentError('wanted GLOB=LABEL:PORT, such as "*.registry.example=distributed:65001".');
  return { hosts, label, port: Number(port) };
}

function collect<T>(read: (text: string) => T, most: number): (text: string, before?: T[]) => T[] {
  return (text, before = []) => {
    if (before.length >= most) throw new InvalidArgumentError(`at most ${most} are taken.`);
    return [...before, read(text)];
  };
}
