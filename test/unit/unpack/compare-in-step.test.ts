import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { compareInStep } from './compare-in-step.ts';

const changes: Readonly<Record<string, (root: string) => void>> = {
  'a mode': (root) => fs.chmodSync(`${root}/d/file`, 0o600),
  'a modification time': (root) => fs.utimesSync(`${root}/d/file`, 1_000_000, 1_000_001),
  'the time of a directory': (root) => fs.utimesSync(`${root}/d`, 1_000_000, 1_000_001),
  'content of the same size': (root) => writeTimed(`${root}/d/file`, 'CONTENT'),
  'a size': (root) => writeTimed(`${root}/d/file`, 'contents'),
  'the target of a link': (root) => {
    fs.rmSync(`${root}/link`);
    symlink('e', `${root}/link`);
  },
  'which file a hard link is to': (root) => {
    for (const name of ['first-2', 'second-2']) fs.rmSync(`${root}/${name}`);
    fs.linkSync(`${root}/first`, `${root}/second-2`);
    fs.linkSync(`${root}/second`, `${root}/first-2`);
  },
  'a file too much': (root) => fs.writeFileSync(`${root}/more`, ''),
  'a file too few': (root) => fs.rmSync(`${root}/link`),
};

test('compareInStep() finds two equal trees equal', () => {
  assert.equal(
    compare(() => {}),
    { paths: 7, differences: 0, examples: [] },
  );
});

for (const [name, change] of Object.entries(changes))
  test(`compareInStep() sees ${name}`, () => {
    assert.ok(compare(change).differences > 0);
  });

test.run();

function compare(change: (root: string) => void) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'shoal-step-'));
  try {
    const [one, other] = [makeTree(`${directory}/one`), makeTree(`${directory}/other`)];
    change(other);
    return compareInStep(one, other);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

function makeTree(root: string): string {
  fs.mkdirSync(`${root}/d`, { recursive: true });
  writeTimed(`${root}/d/file`, 'content');
  for (const name of ['first', 'second']) {
    writeTimed(`${root}/${name}`, '');
    fs.linkSync(`${root}/${name}`, `${root}/${name}-2`);
  }
  symlink('d', `${root}/link`);
  fs.utimesSync(`${root}/d`, 1_000_000, 1_000_000);
  return root;
}

function writeTimed(file: string, text: string): void {
  fs.writeFileSync(file, text);
  fs.utimesSync(file, 1_000_000, 1_000_000);
}

function symlink(target: string, at: string): void {
  fs.symlinkSync(target, at);
  fs.lutimesSync(at, 1_000_000, 1_000_000);
}
