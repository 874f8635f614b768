import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ErrorCode, isShoalError } from '../../../shim/base/errors.ts';
import { environmentName, loadConfig } from '../../../shim/config/load-config.ts';
import { metricsPlace } from '../../../shim/config/metrics-place.ts';

const file = '/etc/shoal/shoal.yaml';

/** The message with which a text (and environment) is refused. */
function refusal(text: string, environment: Record<string, string> = {}): string {
  try {
    loadConfig(text, file, environment);
  } catch (error) {
    if (isShoalError(error, ErrorCode.ConfigInvalid)) return error.message;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

test('loadConfig() fills an empty file with the defaults', () => {
  for (const text of ['', '# nothing but a comment\n', 'p2p:\n']) {
    const config = loadConfig(text, file, {});
    assert.is(config.p2p.v2.p2pPort, 65_002);
    assert.is(config.p2p.v2.proxyConcurrencyLimit, 128);
    assert.is(config.p2p.v2.cache.capacity, 4_294_967_296);
    assert.is(config.p2p.v2.throttleLimitMB, 512);
    assert.is(config.ExporterConfig.port, 65_006);
    assert.is(config.policy.mode, 'opt-in');
  }
});

test("loadConfig() reads the replaced product's own files unchanged", () => {
  const helm =
    'p2p:\n  v2:\n    image: registry.example/agent\n    imageTag: v1\n    proxyConcurrencyLimit: 64\n    p2pPort: 65012\n' +
    '    cache:\n      capacity: 1048576\n      aioEnable: 1\n    exporter:\n      enable: true\n      port: 65013\n    throttleLimitMB: 100\n';
  const own =
    'DeployConfig:\n  mode: agent\n  logDir: /dadi-p2p/log\n  logAudit: true\n  logAuditMode: file # to audit.log\n' +
    'ExporterConfig:\n  enable: true\n  port: 65006\n  standaloneExporterPort: false\n';
  const config = loadConfig(helm + own, file, {});
  assert.equal(config.p2p.v2.cache, {
    capacity: 1_048_576,
    highWaterPercent: 80,
    lowWaterPercent: 75,
    directory: '',
    aioEnable: 1,
  });
  assert.equal(config.p2p.v2.exporter, { enable: true, port: 65_013 });
  assert.equal(config.DeployConfig, {
    mode: 'agent',
    logDir: '/dadi-p2p/log',
    logAudit: true,
    logAuditMode: 'file',
  });
  assert.is(config.ExporterConfig.standaloneExporterPort, false);
});

test('loadConfig() refuses an unknown key with its line and the nearest known one', () => {
  const message = refusal('p2p:\n  v2:\n    proxyConcurencyLimit: 3\n');
  assert.match(
    message,
    `${file}:3: p2p.v2.proxyConcurencyLimit is not a setting; did you mean p2p.v2.proxyConcurrencyLimit?`,
  );
  assert.match(refusal('zzzzzz: 1\n'), 'Accepted here: DeployConfig, ExporterConfig, p2p,');
});

test('loadConfig() refuses a wrong type with file, line, key, value and what is accepted', () => {
  assert.match(
    refusal('\np2p: {v2: {p2pPort: lots}}\n'),
    `${file}:2: p2p.v2.p2pPort is "lots", an integer from 0 to 65535 is wanted`,
  );
  assert.match(
    refusal('http:\n  listen: true\n'),
    `${file}:2: http.listen is true, IP:PORT or an absolute path of at most 107 bytes is wanted`,
  );
  assert.match(
    refusal('peers:\n  static: 10.0.0.1:65002\n'),
    'peers.static is "10.0.0.1:65002", a list, each HOST:PORT is wanted',
  );
  assert.match(
    refusal('peers:\n  static: [10.0.0.1]\n'),
    'the list ["10.0.0.1"], a list, each HOST:PORT is wanted',
  );
  assert.match(refusal('p2p: 3\n'), 'p2p is 3, a map of settings is wanted');
  assert.match(refusal('- a\n'), 'the file is the list ["a"], a map of settings is wanted');
  assert.match(refusal('store: {}\n'), 'store is a map, one of containerd, layout is wanted');
  assert.match(refusal('store:\n'), 'store is without a value');
});

test('loadConfig() refuses values just outside their range and takes those on its ends', () => {
  assert.match(
    refusal('p2p:\n  v2:\n    proxyConcurrencyLimit: 0\n'),
    'is 0, an integer from 1 to 4096 (layers) is wanted',
  );
  assert.match(refusal('p2p:\n  v2:\n    proxyConcurrencyLimit: 4097\n'), 'is 4097,');
  assert.match(refusal('p2p:\n  v2:\n    throttleLimitMB: 1.5\n'), 'is 1.5,');
  assert.match(refusal('p2p:\n  v2:\n    cache: {capacity: 1e300}\n'), 'p2p.v2.cache.capacity is 1e+300');
  for (const limit of [1, 4096]) {
    const config = loadConfig(`p2p: {v2: {proxyConcurrencyLimit: ${limit}}}`, file, {});
    assert.is(config.p2p.v2.proxyConcurrencyLimit, limit);
  }
});

test('loadConfig() tells everything that is wrong at once, in the order of the file', () => {
  const message = refusal('log:\n  level: loud\nstores: x\nhttp:\n  listen: 65001\n', {
    SHOAL_NODE_ADDRESS: 'here',
  });
  assert.match(message, '4 problems found');
  const lines = message
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(': ')[0]);
  assert.equal(lines, [`${file}:2`, `${file}:3`, `${file}:5`, file]);
});

test('loadConfig() lets an environment variable override the file and names it when it is wrong', () => {
  const environment = {
    SHOAL_P2P_V2_P2P_PORT: '7000',
    SHOAL_PEERS_STATIC: '127.0.0.1:1, 127.0.0.1:2',
    SHOAL_PEERS_INSECURE: 'true',
  };
  const config = loadConfig('p2p: {v2: {p2pPort: 6000}}', file, environment);
  assert.is(config.p2p.v2.p2pPort, 7000);
  assert.equal(config.peers.static, ['127.0.0.1:1', '127.0.0.1:2']);
  const message = refusal('', { SHOAL_P2P_V2_P2P_PORT: '70000' });
  assert.match(
    message,
    'environment variable SHOAL_P2P_V2_P2P_PORT (p2p.v2.p2pPort) is "70000", an integer from 0 to 65535',
  );
});

test('loadConfig() passes over foreign variables, such as those Kubernetes sets for a service named shoal', () => {
  loadConfig('', file, { SHOAL_PORT: 'tcp://10.0.0.1:65001', SHOAL_SERVICE_HOST: '10.0.0.1' });
});

test('environmentName() divides words at capitals', () => {
  assert.is(environmentName(['p2p', 'v2', 'p2pPort']), 'SHOAL_P2P_V2_P2P_PORT');
  assert.is(environmentName(['DeployConfig', 'logAuditMode']), 'SHOAL_DEPLOY_CONFIG_LOG_AUDIT_MODE');
  assert.is(environmentName(['limits', 'originLimitMB']), 'SHOAL_LIMITS_ORIGIN_LIMIT_MB');
});

test('loadConfig() shows neither the value of an unknown key nor the password in a URL', () => {
  const message = refusal('password: hunter2\nhttp:\n  listen: https://admin:hunter2@registry.example/\n');
  assert.match(message, 'password is not a setting');
  assert.not.match(message, 'hunter2');
});

test('loadConfig() refuses what is no YAML, names a key twice, or uses an alias', () => {
  assert.match(refusal('p2p: [\n'), `${file}:`);
  assert.match(refusal('store: layout\nstore: layout\n'), `${file}:2: is no YAML: Map keys must be unique`);
  assert.match(refusal('cri: &a {}\ncontrol: *a\n'), 'a map of settings is wanted');
  assert.match(refusal('store: "layout\n'), 'is no YAML');
});

test('loadConfig() refuses plain text between peers beyond the loopback interface unless told so', () => {
  assert.match(
    refusal('peers:\n  dns: shoal.example\n'),
    'node.address is not set, a loopback address is wanted, or certificates in peers.tls, or peers.insecure: true',
  );
  assert.match(refusal('peers:\n  listen: 0.0.0.0:65002\n'), 'peers.listen is "0.0.0.0"');
  loadConfig('peers: {listen: "0.0.0.0:65002", insecure: true}', file, {});
  loadConfig('peers: {listen: "127.9.9.9:65002", static: ["127.0.0.1:2"]}', file, {});
  loadConfig('peers: {listen: "[::1]:65002"}', file, {});
  loadConfig('peers: {listen: "0.0.0.0:65002", tls: {ca: /a, cert: /b, key: /c}}', file, {});
});

test('loadConfig() refuses a part of peers.tls', () => {
  assert.match(
    refusal('peers: {tls: {ca: /a, cert: /b}}'),
    'peers.tls.key is not set, all of peers.tls or nothing',
  );
});

test('loadConfig() refuses two listeners on one port and two uses of one socket', () => {
  assert.match(
    refusal('{p2p: {v2: {p2pPort: 65001}}, http: {listen: "127.0.0.1:65001"}}'),
    'p2p.v2.p2pPort is 65001, a port other than that of http.listen is wanted',
  );
  assert.match(refusal('cri: {socket: /run/containerd/containerd.sock}'), 'cri.containerdSocket is');
  assert.match(
    refusal('http: {listen: /run/shoal/control.sock}'),
    'another path than that of control.socket is wanted',
  );
  loadConfig('{p2p: {v2: {p2pPort: 0}}, http: {listen: "127.0.0.1:0"}}', file, {});

  test('loadConfig() refuses a low water above high water', () => {
    assert.match(
      refusal('p2p: { v2: { cache: { highWaterPercent: 70 } } }\n'),
      'p2p.v2.cache.lowWaterPercent is 75, at most p2p.v2.cache.highWaterPercent (70) is wanted',
    );
  });
});

test('loadConfig() returns frozen values', () => {
  const config = loadConfig('peers: {static: ["127.0.0.1:1"], listen: "127.0.0.1:2"}', file, {});
  for (const part of [config, config.p2p.v2.cache, config.peers.static]) assert.ok(Object.isFrozen(part));
});

test('metricsPlace() lets ExporterConfig win over p2p.v2.exporter', () => {
  const place = (text: string) => metricsPlace(loadConfig(text, file, {}));
  assert.equal(place(''), { kind: 'off' });
  assert.equal(place('p2p: {v2: {exporter: {enable: true}}}'), { kind: 'port', port: 65_003 });
  assert.equal(place('{ExporterConfig: {enable: true}, p2p: {v2: {exporter: {enable: true}}}}'), {
    kind: 'port',
    port: 65_006,
  });
  assert.equal(place('ExporterConfig: {enable: true, standaloneExporterPort: false}'), { kind: 'http' });
});

test.run();
