import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { proxyFor, proxySettingsFrom } from '../../../shim/registry/proxy-settings.ts';

const settings = { httpProxy: 'http://plain.example.com:3128', httpsProxy: 'https://tls.example.com:3129' };
const proxy = (url: string, noProxy = '') => proxyFor(new URL(url), { ...settings, noProxy });

test('proxyFor() chooses by the scheme of the request', () => {
  assert.is(proxy('https://r.example.com/v2/'), settings.httpsProxy);
  assert.is(proxy('http://r.example.com/v2/'), settings.httpProxy);
  assert.is(proxyFor(new URL('https://r.example.com'), {}), undefined);
  assert.is(proxyFor(new URL('http://r.example.com'), { httpProxy: 'p:3128' }), 'http://p:3128');
});

for (const host of ['localhost:5000', '127.0.0.1', '127.8.8.8:1', '[::1]:5000'])
  test(`proxyFor() never sends ${host} through a proxy`, () => {
    assert.is(proxy(`http://${host}/`), undefined);
  });

/** NO_PROXY as Go reads it: what is exempt, and what is not. */
const NO_PROXY: readonly (readonly [
  noProxy: string,
  exempt: readonly string[],
  proxied: readonly string[],
])[] = [
  ['*', ['a.com', '10.0.0.1'], []],
  [
    'example.com',
    ['example.com', 'a.example.com', 'EXAMPLE.com'],
    ['badexample.com', 'example.com.evil.com'],
  ],
  ['.example.com', ['a.example.com'], ['example.com']],
  ['*.example.com', ['a.example.com'], ['example.com']],
  ['a.com, b.com ,', ['a.com', 'b.com'], ['c.com']],
  ['a.com:8443', ['a.com:8443'], ['a.com', 'a.com:5000']],
  ['a.com:443', ['a.com'], ['a.com:5000']],
  ['10.0.0.0/8', ['10.1.2.3', '10.1.2.3:5000'], ['11.0.0.1', 'ten.example.com']],
  ['10.0.0.1', ['10.0.0.1'], ['10.0.0.10']],
  ['fd00::/8,fe80::1', ['[fd12::1]:5000', '[fe80::1]'], ['[fe80::2]', '10.0.0.1']],
  ['10.0.0.0/99,/', [], ['10.0.0.1']],
];

for (const [noProxy, exempt, proxied] of NO_PROXY)
  test(`proxyFor() reads NO_PROXY=${noProxy}`, () => {
    for (const host of exempt) assert.is(proxy(`https://${host}/`, noProxy), undefined, host);
    for (const host of proxied) assert.is(proxy(`https://${host}/`, noProxy), settings.httpsProxy, host);
  });

test('proxySettingsFrom() prefers upper-case names and takes the empty for unset', () => {
  assert.equal(
    proxySettingsFrom({ HTTP_PROXY: 'a', http_proxy: 'b', https_proxy: 'c', NO_PROXY: '', no_proxy: 'd' }),
    {
      httpProxy: 'a',
      httpsProxy: 'c',
      noProxy: 'd',
    },
  );
  assert.equal(proxySettingsFrom({}), {});
});

test.run();
