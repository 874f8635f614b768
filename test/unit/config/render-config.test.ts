import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../../shim/config/load-config.ts';
import {
  describeSettings,
  renderDefaultConfig,
  renderSettingsTable,
} from '../../../shim/config/render-config.ts';

test('renderDefaultConfig() parses back to the defaults', () => {
  assert.equal(loadConfig(renderDefaultConfig(), 'default.yaml', {}), loadConfig('', 'empty.yaml', {}));
});

test('renderDefaultConfig() names every setting with its help and its environment variable', () => {
  const text = renderDefaultConfig();
  const words = text.replaceAll(/\n *# /g, ' ');
  for (const { path, help, environmentVariable } of describeSettings()) {
    assert.match(text, new RegExp(`^ *${path.split('.').at(-1)}:`, 'm'), path);
    assert.ok(words.includes(help), `${path} has its help`);
    assert.ok(text.includes(environmentVariable), environmentVariable);
  }
});

test('renderDefaultConfig() keeps lines short enough to read', () => {
  for (const line of renderDefaultConfig().split('\n')) assert.ok(line.length <= 130, line);
});

test('describeSettings() gives each setting one environment variable of its own', () => {
  const names = describeSettings().map((setting) => setting.environmentVariable);
  assert.is(new Set(names).size, names.length);
});

test('renderSettingsTable() has one row a setting', () => {
  assert.is(renderSettingsTable().split('\n').length, describeSettings().length + 2);
});

test.run();
