import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { StreamTable } from '../../../nri/ttrpc/stream-table.ts';

test('open() gives odd ids that rise, also after streams were closed', () => {
  const table = new StreamTable<string>(10);
  assert.equal([table.open('a'), table.open('b')], [1, 3]);
  assert.is(table.close(3), 'b');
  assert.is(table.open('c'), 5);
  assert.is(table.get(3), undefined);
  assert.is(table.size, 2);
});

test('open() gives nothing when too many are open, and goes on when one was closed', () => {
  const table = new StreamTable<string>(2);
  table.open('a');
  table.open('b');
  assert.is(table.open('c'), undefined);
  table.close(1);
  assert.is(table.open('c'), 5);
});

test('open() gives nothing when all ids are used', () => {
  const table = new StreamTable<string>(10);
  table.accept(0xffff_fffd, 'near the end');
  assert.is(table.open('last'), 0xffff_ffff);
  assert.is(table.open('none'), undefined);
});

test('accept() takes odd ids that rise, with gaps', () => {
  const table = new StreamTable<string>(2);
  assert.equal(
    [1, 7, 2, 7, 3].map((id) => table.accept(id, `${id}`)),
    ['accepted', 'accepted', 'even', 'reused', 'reused'],
  );
  assert.is(table.accept(9, 'too many'), 'full');
  table.close(1);
  assert.is(table.accept(9, 'a refused id is used up'), 'reused');
  assert.is(table.accept(11, 'next'), 'accepted');
});

test('closeAll() gives every open stream once', () => {
  const table = new StreamTable<string>(5);
  table.open('a');
  table.open('b');
  assert.equal(table.closeAll(), ['a', 'b']);
  assert.equal(table.closeAll(), []);
});

test.run();
