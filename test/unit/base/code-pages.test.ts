import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { codeMappings, dropCodePages } from '../../../shim/base/code-pages.ts';

const MAPS = [
  '00400000-00500000 r--p 00000000 fe:00 4711                               /usr/bin/node',
  '00500000-02500000 r-xp 00100000 fe:00 4711                               /usr/bin/node',
  '02500000-02600000 rw-p 02100000 fe:00 4711                               /usr/bin/node',
  '3a2b00000000-3a2b00040000 r-xp 00000000 00:00 0 ',
  '7ffc1c9f5000-7ffc1c9f7000 r-xp 00000000 00:00 0                          [vdso]',
  '',
].join('\n');

test('codeMappings() takes code of files and leaves data, jitted code and the kernel alone', () => {
  assert.equal(codeMappings(MAPS), [{ address: 0x500000n, lengthBytes: 0x2000000 }]);
});

test('dropCodePages() makes the process smaller, and it goes on', () => {
  const before = fileRssKib();
  dropCodePages();
  const after = fileRssKib();
  assert.ok(after < before - 4096, `${before} KiB before, ${after} KiB after`);
  assert.is(JSON.parse('{"a": [1, 2]}').a[1], 2);
});

function fileRssKib(): number {
  return Number(/^RssFile:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}

test.run();
