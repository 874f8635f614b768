import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { ErrorCode, isShoalError, nodeErrorCode, ShoalError } from './base/errors.ts';
import { exitCodeOf, exitCodeOfCode } from './cli/exit-codes.ts';
import type { PullCommandOptions } from './cli/pull-command.ts';
import type { Config } from './config/settings.ts';

/** The composition root: every other module is told what to use; only this one reads arguments, and decides exit codes. */
const DEFAULT_CONTROL_SOCKET = '/run/shoal/control.sock';

async function main(argv: readonly string[]): Promise<void> {
  const stop = stopOnSignals();
  const program = new Command('shoal');
  program
    .description('Lets Kubernetes nodes pull container images from each other')
    .version(version(), '-V, --version')
    .showHelpAfterError('(add --help for usage)')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : exitCodeOfCode('CONFIG_INVALID')));
  addAgent(program, stop);
  addPull(program, stop);
  addStatus(program, stop);
  addConfig(program);
  addCerts(program);
  program
    .command('front')
    .description("own kubelet's socket while agents come and go (options: shoal front --help)");
  program
    .command('version')
    .description('print the version')
    .action(() => {
      process.stdout.write(`${version()}\n`);
    });
  await program.parseAsync([...argv], { from: 'user' });
}

function addAgent(program: Command, stop: AbortSignal): void {
  program
    .command('agent')
    .description('run the node agent')
    .requiredOption('-c, --config <file>', 'configuration, YAML')
    .action(async (options: { config: string }) => {
      const { runAgent } = await import('./agent/agent.ts');
      await runAgent(await readConfig(options.config), version(), stop);
    });
}

function addPull(program: Command, stop: AbortSignal): void {
  program
    .command('pull <image>')
    .description('pull an image through the running agent, or without one into a directory or a containerd')
    .option(
      '--socket <path>',
      "the agent's control socket",
      process.env.SHOAL_CONTROL_SOCKET ?? DEFAULT_CONTROL_SOCKET,
    )
    .option('--store <dir>', 'pull without an agent into an OCI image layout with unpacked roots')
    .option('--containerd <socket>', 'pull without an agent into the containerd at this socket')
    .option(
      '--creds <user:password>',
      'credentials for the registry; SHOAL_CREDS in the environment does the same',
    )
    .option('--json', 'print the result as one JSON object')
    .option('-q, --quiet', 'show no progress')
    .action(async (image: string, options: PullCommandOptions) => {
      // The command line is readable by every user of the machine, the new title is all they see from here on.
      if (options.creds !== undefined) process.title = 'shoal pull';
      const { runPullCommand } = await import('./cli/pull-command.ts');
      const { pullOnce } = await import('./agent/one-shot.ts');
      process.exitCode = await runPullCommand(image, options, pullOnce, stop);
    });
}

function addStatus(program: Command, stop: AbortSignal): void {
  program
    .command('status')
    .description('what the running agent is doing')
    .option(
      '--socket <path>',
      "the agent's control socket",
      process.env.SHOAL_CONTROL_SOCKET ?? DEFAULT_CONTROL_SOCKET,
    )
    .option('--json', 'print it as one JSON object')
    .action(async (options: { socket: string; json?: boolean }) => {
      const { runStatusCommand } = await import('./cli/status-command.ts');
      process.exitCode = await runStatusCommand(options, stop);
    });
}

function addConfig(program: Command): void {
  const config = program.command('config').description('check a configuration, or print the default one');
  config
    .command('check <file>')
    .description('read a configuration as the agent would, and tell what is wrong with it')
    .action(async (file: string) => {
      await readConfig(file);
      process.stdout.write(`${file}: fine\n`);
    });
  config
    .command('default')
    .description('print the complete default configuration, with comments')
    .action(async () => {
      const { renderDefaultConfig } = await import('./config/render-config.ts');
      process.stdout.write(renderDefaultConfig());
    });
}

function addCerts(program: Command): void {
  program
    .command('certs')
    .description('certificates with which peers know each other, where nothing else makes them')
    .command('init')
    .description('make an authority and a certificate for each node; run again for more nodes')
    .requiredOption(
      '--nodes <list>',
      'nodes with commas between: ADDRESS, NAME, or NAME=ADDRESS+NAME for several',
    )
    .requiredOption('--out <dir>', 'directory for the files: ca.crt, ca.key, NODE/{ca.crt,tls.crt,tls.key}')
    .option('--days <n>', 'how long the certificates of nodes are valid', '365')
    .action(async (options: { nodes: string; out: string; days: string }) => {
      const { runCertsInit } = await import('./cli/certs-command.ts');
      process.exitCode = await runCertsInit(options);
    });
}

async function readConfig(file: string): Promise<Config> {
  const { loadConfig } = await import('./config/load-config.ts');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    const found = nodeErrorCode(cause) ?? 'unreadable';
    throw new ShoalError(ErrorCode.ConfigInvalid, `Cannot read configuration "${file}": ${found}`, { cause });
  }
  return loadConfig(text, file, process.env);
}

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return String((JSON.parse(text) as { version: string }).version);
}

/** The first SIGINT or SIGTERM asks everything to end in order, the second ends it. */
function stopOnSignals(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      stop.abort();
      process.once(signal, () => process.exit(130));
    });
  }
  return stop.signal;
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const text = isShoalError(error)
    ? `${error.message} (${error.code})`
    : String((error as Error)?.stack ?? error);
  process.stderr.write(`shoal: ${text}\n`);
  process.exit(exitCodeOf(error));
});
