import { stringify } from 'yaml';
import { environmentName } from './load-config.ts';
import type { Section, Setting } from './setting.ts';
import { isSetting } from './setting.ts';
import { sectionHelp, settings } from './settings.ts';

const commentWidth = 100;

/** One row for people: a setting as the README and the default file show it. */
export interface SettingDescription {
  /** Place in the file, keys joined by dots. */
  readonly path: string;
  readonly accepts: string;
  readonly unit: string | undefined;
  readonly default: unknown;
  readonly environmentVariable: string;
  readonly help: string;
}

export function describeSettings(): SettingDescription[] {
  return walk(settings, []).map(({ path, setting }) => ({
    path: path.join('.'),
    accepts: setting.accepts,
    unit: setting.unit,
    default: setting.default,
    environmentVariable: environmentName(path),
    help: setting.help,
  }));
}

/** A complete file: every setting with its default, what it means, what it accepts. Parses back to the defaults. */
export function renderDefaultConfig(): string {
  const head = comment(
    'Configuration of the Shoal node agent. Every setting stands here with its default.',
    '',
  );
  return [...head, ...renderSection(settings, [])].join('\n').concat('\n');
}

/** The settings as a Markdown table. */
export function renderSettingsTable(): string {
  const rows = describeSettings().map(({ path, accepts, unit, default: value, help }) => {
    const range = unit === undefined ? accepts : `${accepts} (${unit})`;
    return [`\`${path}\``, `\`${JSON.stringify(value)}\``, range, help].map(cell).join(' | ');
  });
  return [
    '| setting | default | accepted | meaning |',
    '|---|---|---|---|',
    ...rows.map((row) => `| ${row} |`),
  ].join('\n');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function walk(section: Section, path: readonly string[]): { path: string[]; setting: Setting<unknown> }[] {
  return Object.entries(section).flatMap(([key, node]) => {
    const at = [...path, key];
    return isSetting(node) ? [{ path: at, setting: node }] : walk(node, at);
  });
}

function renderSection(section: Section, path: readonly string[]): string[] {
  const indent = '  '.repeat(path.length);
  return Object.entries(section).flatMap(([key, node]) => {
    const at = [...path, key];
    const gap = path.length === 0 ? [''] : [];
    if (isSetting(node)) return [...gap, ...renderSetting(key, node, at, indent)];
    const help = sectionHelp[at.join('.')];
    return [
      ...gap,
      ...(help === undefined ? [] : comment(help, indent)),
      `${indent}${key}:`,
      ...renderSection(node, at),
    ];
  });
}

function renderSetting(
  key: string,
  setting: Setting<unknown>,
  path: readonly string[],
  indent: string,
): string[] {
  const unit = setting.unit === undefined ? '' : `, ${setting.unit}`;
  return [
    ...comment(setting.help, indent),
    ...comment(`(${setting.accepts}${unit}; ${environmentName(path)})`, indent),
    `${indent}${stringify({ [key]: setting.default }, { defaultStringType: 'PLAIN', lineWidth: 0 }).trimEnd()}`,
  ];
}

/** Comment lines of whole words. */
function comment(text: string, indent: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= commentWidth)
      lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(`${indent}# ${word}`);
  }
  return lines;
}
