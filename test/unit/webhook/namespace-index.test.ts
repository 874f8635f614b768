import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NamespaceIndex } from '../../../webhook/namespace-index.ts';

const copy = (source: string) => `acr-credential-${source}-p2p`;

test('NamespaceIndex tells a source when the first pod names it and when the last one went', () => {
  const index = new NamespaceIndex(10);
  assert.equal(index.setPod('p1', [copy('a'), copy('b')], 0), ['a', 'b']);
  assert.equal(index.setPod('p2', [copy('a')], 0), ['a']);
  assert.equal(index.removePod('p1', 5), ['b']);
  assert.equal(index.removePod('p1', 5), [], 'twice is once');
  assert.equal(index.removePod('p2', 7), ['a']);
  assert.equal(index.sources(), []);
});

test('NamespaceIndex keeps a source named for a grace time', () => {
  const index = new NamespaceIndex(10);
  index.setPod('p', [copy('a')], 0);
  assert.equal(index.naming('a', 0, 60), { named: true });
  index.removePod('p', 100);
  assert.equal(index.naming('a', 159, 60), { named: true, until: 160 });
  index.setPod('q', [copy('a')], 150);
  assert.equal(index.naming('a', 500, 60), { named: true });
  index.removePod('q', 500);
  assert.equal(index.naming('a', 560, 60), { named: false });
  assert.equal(index.naming('never', 0, 60), { named: false });
});

test('NamespaceIndex follows a pod whose secrets change', () => {
  const index = new NamespaceIndex(10);
  index.setPod('p', [copy('a'), copy('b')], 0);
  assert.equal(index.setPod('p', [copy('b'), copy('c')], 1), ['c', 'a']);
  assert.equal(index.sources(), ['b', 'c']);
});

test('NamespaceIndex has to do with secrets that pods name and with copies, and no others', () => {
  const index = new NamespaceIndex(10);
  assert.equal(index.setSecret('a'), []);
  index.setPod('p', [copy('a')], 0);
  assert.equal(index.setSecret('a'), ['a']);
  assert.equal(index.setSecret(copy('a')), ['a']);
  assert.ok(index.hasCopy('a'));
  index.removePod('p', 0);
  assert.equal(index.removeSecret('a'), ['a'], 'its copy is there');
  assert.equal(index.removeSecret(copy('a')), ['a']);
  assert.equal(index.removeSecret('a'), []);
});

test('NamespaceIndex finds copies that nobody names any more', () => {
  const index = new NamespaceIndex(10);
  index.setSecret(copy('left'));
  assert.equal(index.sources(), ['left']);
});

test('NamespaceIndex makes no copies of copies', () => {
  const index = new NamespaceIndex(10);
  assert.equal(index.setPod('p', [copy(copy('a')), 'other', copy('a')], 0), ['a']);
  assert.equal(index.setSecret(copy(copy('a'))), []);
});

test('NamespaceIndex counts no more pods than it is allowed to, and forgets those that went', () => {
  const index = new NamespaceIndex(2);
  for (const pod of ['1', '2', '3']) index.setPod(pod, [copy('a')], 0);
  assert.is(index.podsLeftOut, 1);
  index.setPod('plain', [], 0);
  assert.is(index.podsLeftOut, 1, 'pods without secrets take no room');
  index.removePod('1', 0);
  index.setPod('3', [copy('b')], 0);
  assert.equal(index.sources(), ['a', 'b']);
});

test.run();
