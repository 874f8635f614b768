import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkBans } from '../../../hack/check/bans.ts';
import { checkFolders } from '../../../hack/check/folders.ts';
import { checkImports, partOf } from '../../../hack/check/imports.ts';
import { checkSettingsTable, withSettingsTable } from '../../../hack/check/settings-table.ts';
import { checkSizes, functionsOf } from '../../../hack/check/sizes.ts';
import { sourceFile } from '../../../hack/check/source.ts';

function importsOf(path: string, text: string): string[] {
  return checkImports([sourceFile(path, text)]).map((finding) => `${finding.line}: ${finding.message}`);
}

function bansOf(path: string, text: string): string[] {
  return checkBans([sourceFile(path, text)]).map((finding) => `${finding.line}: ${finding.message}`);
}

test('checkImports() lets parts import what is below them', () => {
  assert.equal(
    importsOf('shim/pull/a.ts', "import { b } from '../registry/b.ts';\nimport '../base/errors.ts';\n"),
    [],
  );
  assert.equal(importsOf('shim/main.ts', "import { b } from './cri/b.ts';\n"), []);
  assert.equal(importsOf('test/unit/x.test.ts', "import { b } from '../../shim/cri/b.ts';\n"), []);
  assert.equal(
    importsOf('shim/swarm/a.ts', "import type { B } from './b.ts';\nimport { c } from '../base/c.ts';\n"),
    [],
  );
});

test('checkImports() names file, line, why and what to do instead', () => {
  const [found = ''] = importsOf('shim/swarm/a.ts', "\nimport { b } from '../cache/b.ts';\n");
  assert.match(
    found,
    '2: shim/swarm may not import shim/cache/b.ts: the swarm core runs unchanged in the simulator',
  );
  assert.match(found, 'Instead, declare an interface in shim/swarm');
});

test('checkImports() finds every kind of import', () => {
  const forms = [
    "import { b } from '../cri/b.ts';",
    "import type { B } from '../cri/b.ts';",
    "import {\n  b,\n} from '../cri/b.ts';",
    "import '../cri/b.ts';",
    "export * from '../cri/b.ts';",
    "const b = await import('../cri/b.ts');",
    "new Worker(new URL('../cri/b.ts', import.meta.url));",
  ];
  for (const form of forms) assert.is(importsOf('shim/store/a.ts', form).length, 1, form);
  assert.equal(
    importsOf('shim/store/a.ts', "// as in import { b } from '../cri/b.ts'\n/* from '../cri/b.ts' */"),
    [],
  );
});

test('checkImports() keeps the product off tests and helpers, and the plugin off the agent', () => {
  assert.is(importsOf('shim/cri/a.ts', "import { b } from '../../test/support/b.ts';").length, 1);
  assert.is(importsOf('shim/cri/a.ts', "import { b } from '../main.ts';").length, 1);
  assert.is(importsOf('nri/a.ts', "import { b } from '../shim/pull/b.ts';").length, 1);
  assert.equal(importsOf('nri/a.ts', "import { b } from '../shim/base/b.ts';"), []);
});

test('checkImports() wants a new part to be put into the table', () => {
  assert.match(
    importsOf('shim/new/a.ts', "import { b } from '../base/b.ts';")[0] ?? '',
    'shim/new is not in hack/check/import-table.ts',
  );
});

test('partOf() tells files from folders', () => {
  assert.is(partOf('shim/main.ts'), 'shim');
  assert.is(partOf('shim/peer/wire/frame.ts'), 'shim/peer');
  assert.is(partOf('nri/ttrpc/frame.ts'), 'nri');
});

test('checkBans() keeps clock, chance, timers, promises and node out of the swarm', () => {
  const banned = [
    'const now = Date.now();',
    'const at = new Date();',
    'performance.now();',
    'Math.random();',
    'setTimeout(f, 1);',
    'process.env;',
    'async function f() {}',
    'await f();',
    'new Promise(f);',
    "import { x } from 'node:fs';",
  ];
  for (const line of banned) {
    assert.ok(bansOf('shim/swarm/a.ts', line).length >= 1, line);
    assert.equal(bansOf('shim/peer/a.ts', line), [], line);
  }
  assert.equal(
    bansOf('shim/swarm/a.ts', '// No Date.now() and no Promise here: see setTimeout.\nconst s = "await";'),
    [],
  );
});

test('checkBans() finds leftovers', () => {
  assert.is(bansOf('shim/peer/a.ts', `// ${'TO'}${'DO'}: later`).length, 1);
  assert.is(bansOf('shim/peer/a.ts', 'console.log(1);').length, 1);
  assert.equal(bansOf('shim/cli/a.ts', 'console.log(1);'), []);
  assert.is(bansOf('test/unit/a.test.ts', `test${'.only'}('a', f);`).length, 1);
  assert.is(bansOf('shim/peer/a.ts', 'export default 1;').length, 1);
});

test('checkBans() finds paths of one machine in any text', () => {
  for (const text of ['see /work/main/x', 'cd "/home/alice/shoal/"', '(/Users/bob/x)']) {
    assert.is(bansOf('README.md', text).length, 1, text);
  }
  for (const text of ['/run/shoal/agent.sock', 'https://host/work/x', '/rootfs/x', '~/work/']) {
    assert.equal(bansOf('README.md', text), [], text);
  }
});

test('functionsOf() measures functions, methods and arrow functions by their own lines', () => {
  const body = '    work();\n'.repeat(80);
  const text =
    `export async function long<T>(\n  a: T,\n): Promise<void> {\n${body}}\n` +
    `class A {\n  async #method(a: number): Promise<void> {\n${body}  }\n\n  get short(): number {\n    return 1;\n  }\n}\n` +
    `const arrow = (a: number): number => {\n${body}};\n` +
    `for (const a of b) {\n${body}}\nconst table = {\n${body}};\n`;
  const found = functionsOf(sourceFile('a.ts', text)).map(({ name, lines }) => [name, lines]);
  assert.equal(
    found.filter(([, lines]) => Number(lines) > 70),
    [
      ['long', 84],
      ['#method', 82],
      ['arrow', 82],
    ],
  );
});

test('checkSizes() tells long functions and files, and fails only much too long ones', () => {
  const size = (lines: number) =>
    checkSizes([sourceFile('a.ts', `function f(): void {\n${'  g();\n'.repeat(lines - 2)}}\n`)]);
  assert.equal(size(70), []);
  assert.equal(
    size(71).map((finding) => finding.onlyReported),
    [true],
  );
  assert.equal(
    size(101).map((finding) => finding.onlyReported),
    [false],
  );
  const file = (lines: number) => checkSizes([sourceFile('a.ts', 'g();\n'.repeat(lines))]);
  assert.equal(file(350), []);
  assert.equal(
    file(500).map((finding) => finding.onlyReported),
    [true],
  );
  assert.equal(
    file(501).map((finding) => finding.onlyReported),
    [false],
  );
});

test('checkFolders() wants a README in each part', () => {
  assert.equal(checkFolders(['shim/a/b.ts', 'shim/a/README.md', 'test/unit/a/b.ts']), []);
  assert.equal(
    checkFolders(['shim/a/b.ts']).map((finding) => finding.path),
    ['shim/a'],
  );
});

test('checkSettingsTable() finds a table that is missing or not the one of the settings', () => {
  const begin = '<!-- settings: written by `make fix` from shim/config/settings.ts -->';
  const old = `# Shoal\n${begin}\n| old |\n<!-- settings end -->\nmore\n`;
  assert.match(checkSettingsTable('# Shoal\n')[0]?.message ?? '', 'has no settings table');
  assert.match(checkSettingsTable(old)[0]?.message ?? '', 'run `make fix`');
  const fresh = withSettingsTable(old);
  assert.equal(checkSettingsTable(fresh), []);
  assert.match(fresh, /^# Shoal\n[\s\S]*`p2p\.v2\.p2pPort`[\s\S]*\nmore\n$/);
});

test.run();
