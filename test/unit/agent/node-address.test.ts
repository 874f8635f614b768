import { isIPv4 } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultRouteAddress, defaultRouteInterface } from '../../../shim/agent/node-address.ts';

const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';
const route = (name: string, destination: string, mask: string, metric = 0): string =>
  `${name}\t${destination}\t0100A8C0\t0003\t0\t0\t${metric}\t${mask}\t0\t0\t0   \n`;

test('defaultRouteInterface() takes the route to everywhere', () => {
  const routes = HEAD + route('eth1', '0000A8C0', '00FFFFFF') + route('eth0', '00000000', '00000000', 100);
  assert.is(defaultRouteInterface(routes), 'eth0');
});

test('defaultRouteInterface() takes the least metric of several', () => {
  const routes =
    HEAD +
    route('wlan0', '00000000', '00000000', 600) +
    route('eth0', '00000000', '00000000', 100) +
    route('ppp0', '00000000', '00000000', 1000);
  assert.is(defaultRouteInterface(routes), 'eth0');
});

test('defaultRouteInterface() does not take half of everywhere for everywhere', () => {
  assert.is(defaultRouteInterface(HEAD + route('tun0', '00000000', '00000080')), undefined);
});

test('defaultRouteInterface() gives nothing for a machine without routes', () => {
  for (const text of [HEAD, '', '\n']) assert.is(defaultRouteInterface(text), undefined);
});

test('defaultRouteAddress() is an IPv4 address on any machine', () => {
  assert.ok(isIPv4(defaultRouteAddress()));
});

test.run();
