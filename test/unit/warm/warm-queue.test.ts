import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { WARM_IMAGES_MAX, WarmQueue, type WarmWish } from '../../../shim/warm/warm-queue.ts';

const MINUTE_MS = 60_000;
const limits = { atOnce: 2, holdMs: 15 * MINUTE_MS };

test('begin() takes pods in the order of their notices and images in the order of the pod, few at once', () => {
  const queue = queueOf(wish('a', ['a1', 'a2', 'a3']), wish('b', ['b1']));
  assert.equal(queue.begin(), ['a1', 'a2']);
  assert.equal(queue.begin(), []);
  queue.held('a1', 0);
  assert.equal(queue.begin(), ['a3']);
  queue.over('a2');
  assert.equal(queue.begin(), ['b1']);
});

test("begin() keeps to a pod's own limit and lets the next pod in", () => {
  const queue = queueOf({ ...wish('a', ['a1', 'a2']), atOnce: 1 }, wish('b', ['b1']));
  assert.equal(queue.begin(), ['a1', 'b1']);
});

test('an image that several pods want is begun once, and goes when the last of them does', () => {
  const queue = queueOf(wish('a', ['shared']), wish('b', ['shared']));
  assert.equal(queue.begin(), ['shared']);
  queue.held('shared', 0);
  assert.equal(queue.forget('a'), []);
  assert.equal(queue.forget('b'), ['shared']);
  assert.is(queue.stateOf('shared'), undefined);
});

test('while anybody pulls nothing is begun; what runs is paused unless it is what is pulled', () => {
  const queue = queueOf(wish('a', ['a1', 'a2', 'a3']));
  queue.begin();
  assert.equal(queue.pullBegins('a1'), ['a2']);
  assert.ok(queue.paused('a2'));
  assert.equal(queue.begin(), []);
  assert.equal(queue.pullBegins(undefined), [], 'a second pull does not pause what the first one waits for');
  queue.pullEnds('a1');
  queue.held('a1', 0);
  assert.equal(queue.begin(), [], 'containerd pulls still');
  queue.pullEnds(undefined);
  assert.equal(queue.begin(), ['a2', 'a3']);
});

test('what a pull waits for is neither paused nor stopped', () => {
  const queue = queueOf(wish('a', ['a1']));
  queue.begin();
  queue.join('a1');
  assert.equal(queue.pullBegins('other'), []);
  assert.equal(queue.forget('a'), []);
  queue.leave('a1');
  assert.not(queue.held('a1', 0), 'nobody wants it any more');
  assert.is(queue.stateOf('a1'), undefined);
});

test('pullEnds() gives what was kept for the pull alone', () => {
  const queue = queueOf(wish('a', ['a1']), wish('b', ['b1']));
  queue.begin();
  queue.pullBegins('a1');
  queue.join('a1');
  queue.forget('a');
  queue.held('a1', 0);
  queue.held('b1', 0);
  queue.leave('a1');
  assert.is(queue.stateOf('a1'), 'held', 'until the pull has taken it over');
  assert.equal(queue.pullEnds('a1'), ['a1']);
  assert.is(queue.stateOf('b1'), 'held');
});

test('expire() ends what waited for its pull for too long, and only that', () => {
  const queue = queueOf(wish('a', ['a1', 'a2']));
  queue.begin();
  queue.held('a1', 0);
  queue.held('a2', MINUTE_MS);
  assert.is(queue.nextExpiryMs, limits.holdMs);
  assert.equal(queue.expire(limits.holdMs - 1), []);
  assert.equal(queue.expire(limits.holdMs), ['a1']);
  assert.is(queue.stateOf('a1'), 'over');
  assert.is(queue.nextExpiryMs, limits.holdMs + MINUTE_MS);
});

test('what is over is not begun again for the same pod, but for another', () => {
  const queue = queueOf(wish('a', ['a1']));
  queue.begin();
  queue.over('a1');
  queue.want(wish('a', ['a1']));
  assert.equal(queue.begin(), []);
  queue.want(wish('b', ['a1']));
  assert.equal(queue.begin(), ['a1']);
});

test('reconsider() tries what was refused once more, for that namespace and registry alone', () => {
  const queue = queueOf(wish('a', ['r/a1', 'r/a2']), { ...wish('b', ['r/b1']), namespace: 'other' });
  queue.begin();
  queue.over('r/a1', true);
  queue.over('r/a2');
  queue.begin();
  queue.over('r/b1', true);
  queue.reconsider('default', (image) => image.startsWith('s/'));
  assert.equal(queue.begin(), []);
  queue.reconsider('default', (image) => image.startsWith('r/'));
  assert.equal(queue.begin(), ['r/a1']);
});

test('images beyond the bound are dropped and counted', () => {
  const queue = new WarmQueue(limits);
  const names = Array.from({ length: WARM_IMAGES_MAX }, (_, number) => `image-${number}`);
  assert.is(queue.want(wish('a', names)), 0);
  assert.is(queue.want(wish('b', ['one', 'more', 'image-0'])), 2);
  assert.is(queue.count('waiting'), WARM_IMAGES_MAX);
});

test.run();

function wish(podUid: string, images: readonly string[]): WarmWish {
  return { podUid, namespace: 'default', images, atOnce: 16 };
}

function queueOf(...wishes: WarmWish[]): WarmQueue {
  const queue = new WarmQueue(limits);
  for (const each of wishes) queue.want(each);
  return queue;
}
