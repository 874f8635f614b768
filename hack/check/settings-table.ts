import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { renderSettingsTable } from '../../shim/config/render-config.ts';
import type { Finding } from './source.ts';
import { readText } from './source.ts';

/** The README's table of settings is written by this program (`make fix`), between these lines. */
const begin = '<!-- settings: written by `make fix` from shim/config/settings.ts -->';
const end = '<!-- settings end -->';
const path = 'README.md';

if (import.meta.main) {
  const file = join(resolve(import.meta.dirname, '../..'), path);
  writeFileSync(file, withSettingsTable(readText(file) ?? ''));
}

export function checkSettingsTable(readme: string): Finding[] {
  if (!readme.includes(begin) || !readme.includes(end)) {
    return [
      { path, message: `has no settings table: put the lines "${begin}" and "${end}" where it belongs` },
    ];
  }
  if (withSettingsTable(readme) === readme) return [];
  return [{ path, message: 'its settings table is not that of shim/config/settings.ts: run `make fix`' }];
}

export function withSettingsTable(readme: string): string {
  const from = readme.indexOf(begin);
  const to = readme.indexOf(end);
  if (from < 0 || to < from) return readme;
  return `${readme.slice(0, from + begin.length)}\n${renderSettingsTable()}\n${readme.slice(to)}`;
}
