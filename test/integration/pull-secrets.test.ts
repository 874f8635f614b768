// time limit: 90 s
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Agent, pullToEnd, startAgent } from '../support/agent.ts';
import { type CapturingProxy, startCapturingProxy } from '../support/capturing-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { pushImage } from '../support/images/push-image.ts';
import { buildSampleImage } from '../support/images/samples.ts';
import { eventually, failureOf, startOriginSite } from '../support/pull-site.ts';
import { canRun, componentsAvailable } from '../support/real/components.ts';
import { writeHostsToml } from '../support/real/hosts-toml.ts';
import { makeTemporaryRoot } from '../support/real/temporary-root.ts';

const LAUNCHER = resolve(import.meta.dirname, '../../shim/shoal');
const USER = 'planted-user';
const PASSWORD = 'planted-password-7d1f0c55';
const HEADER_SECRET = 'planted-header-93ab5e02';
const URL_SECRET = 'planted-userinfo-c0ffee11';
/** What a careless registry says when it fails. */
const ECHO = JSON.stringify({
  errors: [{ code: 'UNKNOWN', message: `no ${USER}:${PASSWORD}, ${PASSWORD}, ${HEADER_SECRET} here` }],
});
const QUERY_SECRET = 'planted-signature-5eed5eed';

if (canRun(componentsAvailable('registry'))) {
  test('no secret is found in logs, metrics, status, errors, files, peer traffic and process arguments', async () => {
    await using site = await startSecretSite();
    const { agents, gate, reference, tokens } = site;
    const told: unknown[] = [];
    const user = { username: USER, password: PASSWORD };
    for (const agent of agents) {
      told.push(await pullToEnd(agent.pull(reference, undefined, user)));
      // What the origin takes longer to give is taken from the peer.
      gate.setRate(1_000_000);
      const wrong = { ...user, password: `${PASSWORD}-wrong` };
      told.push((await failureOf(pullToEnd(agent.pull(reference, undefined, wrong)))).message);
    }
    const elsewhere = `http://x:${URL_SECRET}@127.0.0.1:1/${QUERY_SECRET}?sig=${QUERY_SECRET}&path=`;
    gate.inject({ class: 'blob', fault: { kind: 'redirect', to: elsewhere } });
    const [first, second] = agents;
    told.push((await failureOf(pullToEnd(first.pull(site.other, undefined, user)))).message);
    gate.clearFaults();
    gate.inject({ class: 'manifest', fault: { kind: 'status', status: 500, body: ECHO } });
    told.push((await failureOf(pullToEnd(second.pull(site.other, undefined, user)))).message);
    told.push(await Promise.all(agents.map((agent) => agent.status())));

    const found = tokens();
    assert.ok(found.length >= 3, `${found.length} tokens were given out`);
    const secrets = [
      PASSWORD,
      HEADER_SECRET,
      URL_SECRET,
      QUERY_SECRET,
      ...found.map((token) => token.slice(0, 24)),
    ].flatMap(formsOf);
    assert.ok(
      secrets.some((secret) => site.toOrigin.captured().includes(secret)),
      'the search finds what was sent to the registry',
    );
    assert.ok(site.betweenPeers.captured().length > 1_000_000, 'the peers did talk');
    const places: Record<string, Buffer | string> = {
      told: JSON.stringify(told),
      metrics: (await Promise.all(site.metricsUrls.map(async (url) => (await fetch(url)).text()))).join(),
      log: agents.map((agent) => agent.log()).join(),
      peers: Buffer.concat([site.betweenPeers.captured(), site.betweenPeers.captured()]),
      arguments: allCommandLines(agents.map((agent) => agent.pid)),
      ...filesBelow(agents.map((agent) => agent.directory)),
    };
    assert.match(String(places.metrics), 'DADIP2P_Count');
    assert.ok(Object.keys(places).some((name) => name.endsWith('audit.log')));
    for (const [place, content] of Object.entries(places))
      for (const secret of secrets) assert.not(content.includes(secret), `"${secret}" is in ${place}`);
  });

  test('shoal pull --creds takes the password out of its arguments', async () => {
    await using site = await startSecretSite();
    using folder = makeTemporaryRoot('out');
    site.gate.setRate(500_000);
    const args = ['pull', '--store', folder.path, '--creds', `${USER}:${PASSWORD}`, site.reference];
    const child = spawn(LAUNCHER, args, { stdio: 'ignore' });
    try {
      const blobs = await eventually(
        () => site.gate.count({ class: 'blob' }).requests,
        (requests) => requests > 0,
      );
      assert.ok(blobs > 0, 'the pull goes on');
      const lines = allCommandLines([]);
      assert.match(lines, 'shoal pull');
      assert.not(lines.includes(PASSWORD));
    } finally {
      await endOf(child);
    }
  });
}

test.run();

/** A registry that wants tokens, and two agents whose every word to it and to each other is kept. */
async function startSecretSite() {
  await using stack = new AsyncDisposableStack();
  const registryPort = await freePort();
  const host = `127.0.0.1:${registryPort}`;
  const users = { [USER]: { password: PASSWORD } };
  const origin = stack.use(await startOriginSite({ token: { users, realm: `http://${host}/token` } }));
  const { gate } = origin;
  const toOrigin = stack.use(await startCapturingProxy(gate.host, registryPort));
  const folder = stack.use(makeTemporaryRoot('cfg'));
  const mirror = { url: `http://${host}`, header: { 'x-secret': HEADER_SECRET } };
  writeHostsToml({ configPath: folder.path, registry: host, server: `http://${host}`, hosts: [mirror] });
  const push = async (repository: string, seed: string): Promise<string> => {
    using image = await buildSampleImage({ layerSizesBytes: [6_000_000], seed });
    await pushImage(image, { host: origin.registry.host, repository, tag: 'v1' });
    return `${host}/${repository}:v1`;
  };
  const reference = await push('team/app', 'one');
  const other = await push('team/other', 'two');
  const names = (await Promise.all(['first', 'second'].map(() => freePort()))).map(
    (port) => `127.0.0.1:${port}`,
  );
  const [one = '', two = ''] = names;
  // Each is known to the other by the name of the proxy before it.
  const toOne = stack.use(await startCapturingProxy(one));
  const toTwo = stack.use(await startCapturingProxy(two));
  const ports = [await freePort(), await freePort()];
  const start = async (name: string, links: Links, port: number): Promise<Agent> =>
    stack.use(
      await startAgent({
        name,
        containerdConfigPath: folder.path,
        directory: `${folder.path}/${name}`,
        settings: {
          ...settingsOf(`${folder.path}/${name}`, port),
          peers: { listen: links.listen, advertise: links.own.host, static: [links.other.host] },
        },
      }),
    );
  const first = await start('first', { listen: one, own: toOne, other: toTwo }, ports[0] ?? 0);
  const second = await start('second', { listen: two, own: toTwo, other: toOne }, ports[1] ?? 0);
  const owned = stack.move();
  return {
    gate,
    reference,
    other,
    toOrigin,
    betweenPeers: { captured: () => Buffer.concat([toOne.captured(), toTwo.captured()]) },
    agents: [first, second] as const,
    metricsUrls: ports.map((port) => `http://127.0.0.1:${port}/metrics`),
    tokens: () => tokensIn(toOrigin.captured()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface Links {
  readonly listen: string;
  readonly own: CapturingProxy;
  readonly other: CapturingProxy;
}

function settingsOf(directory: string, port: number): Record<string, unknown> {
  return {
    http: { listen: `127.0.0.1:${port}` },
    ExporterConfig: { enable: true, standaloneExporterPort: false },
    DeployConfig: { logDir: `${directory}/logs`, logAudit: true, logAuditMode: 'file' },
    log: { level: 'debug' },
  };
}

/** The secret as it may be written: as it is, in Basic authentication, in a URL. */
function formsOf(secret: string): string[] {
  return [secret, Buffer.from(`${USER}:${secret}`).toString('base64'), encodeURIComponent(secret)];
}

function tokensIn(traffic: Buffer): string[] {
  const found = traffic.toString('latin1').matchAll(/"(?:access_)?token":"([^"]+)"/g);
  return [...new Set([...found].map(([, token]) => token ?? ''))];
}

function filesBelow(directories: readonly string[]): Record<string, Buffer> {
  const files: Record<string, Buffer> = {};
  for (const directory of directories)
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true }))
      if (entry.isFile())
        files[`${entry.parentPath}/${entry.name}`] = readFileSync(`${entry.parentPath}/${entry.name}`);
  return files;
}

/** Of the processes given and of every other that may be read. */
function allCommandLines(pids: readonly number[]): string {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const lines = all.map((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return '';
    }
  });
  for (const pid of pids) assert.ok(all.includes(String(pid)));
  return lines.join('\n');
}

async function endOf(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGINT');
  await ended;
}
