import type { Document } from 'yaml';
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { ErrorCode, ShoalError } from '../base/errors.ts';
import { contradictions } from './contradictions.ts';
import { nearest } from './nearest.ts';
import type { Section, Setting } from './setting.ts';
import { isSetting } from './setting.ts';
import type { Config } from './settings.ts';
import { settings } from './settings.ts';

/** A complete file with all comments has 15 KB; nobody writes 1 MB of settings by hand. */
const textLengthMax = 1024 * 1024;
/** What is shown of a refused value. */
const shownLengthMax = 80;
/** Beyond this many problems the file is no configuration of ours. */
const problemsMax = 50;

export type Environment = Readonly<Record<string, string | undefined>>;

/** What is read so far, and everything that is wrong with it. */
interface Reading {
  readonly environment: Environment;
  readonly lineOf: (node: unknown) => number;
  readonly problems: Problem[];
}

interface Problem {
  /** 0 for environment variables, which come last. */
  readonly line: number;
  readonly message: string;
}

/**
 * Reads settings from YAML; environment variables override the file, defaults fill the rest.
 *
 * @throws ShoalError ConfigInvalid that lists all problems at once, each with file, line, key, value and what is accepted
 */
export function loadConfig(text: string, fileName: string, environment: Environment): Config {
  const lineCounter = new LineCounter();
  if (text.length > textLengthMax)
    refuse(fileName, [{ line: 1, message: `it is longer than ${textLengthMax} characters` }]);
  const document = parseDocument(text, {
    lineCounter,
    prettyErrors: false,
    uniqueKeys: true,
    stringKeys: true,
  });
  const reading: Reading = {
    environment,
    lineOf: (node) => lineCounter.linePos(rangeStart(node)).line,
    problems: document.errors.map((error) => ({
      line: lineCounter.linePos(error.pos[0]).line,
      message: `is no YAML: ${error.message}`,
    })),
  };
  if (reading.problems.length > 0) refuse(fileName, reading.problems);
  const config = readSection(reading, rootOf(document), settings, []) as Config;
  if (reading.problems.length === 0) {
    reading.problems.push(...contradictions(config).map((message) => ({ line: 0, message })));
  }
  if (reading.problems.length > 0) refuse(fileName, reading.problems);
  return config;
}

/** The environment variable of a setting: its path in capitals, words divided by underscores. */
export function environmentName(path: readonly string[]): string {
  const words = path.flatMap((key) => key.replaceAll(/(?<=[a-z0-9])(?=[A-Z])/g, '_').split('_'));
  return ['SHOAL', ...words].join('_').toUpperCase();
}

function refuse(fileName: string, problems: readonly Problem[]): never {
  const lines = [...problems]
    .sort((left, right) => (left.line || Number.POSITIVE_INFINITY) - (right.line || Number.POSITIVE_INFINITY))
    .slice(0, problemsMax)
    .map(({ line, message }) => `  ${line === 0 ? fileName : `${fileName}:${line}`}: ${message}`);
  const hidden = problems.length - lines.length;
  if (hidden > 0) lines.push(`  and ${hidden} more`);
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
  throw new ShoalError(
    ErrorCode.ConfigInvalid,
    `Cannot use configuration "${fileName}": ${count} found, none wanted\n${lines.join('\n')}`,
    { facts: { file: fileName, problems: problems.length } },
  );
}

/** An empty file is a configuration: everything is left at its default. */
function rootOf(document: Document.Parsed): unknown {
  return isScalar(document.contents) && document.contents.value === null
    ? undefined
    : (document.contents ?? undefined);
}

function readSection(reading: Reading, node: unknown, section: Section, path: readonly string[]): object {
  const given = mapOf(reading, node, path);
  for (const [key, { keyNode }] of given) {
    if (!Object.hasOwn(section, key)) reading.problems.push(unknownKey(reading, keyNode, key, section, path));
  }
  const values = Object.entries(section).map(([key, child]) => {
    const at = [...path, key];
    const value = given.get(key)?.value;
    return [
      key,
      isSetting(child) ? readSetting(reading, value, child, at) : readSection(reading, value, child, at),
    ];
  });
  return Object.freeze(Object.fromEntries(values));
}

function mapOf(
  reading: Reading,
  node: unknown,
  path: readonly string[],
): Map<string, { keyNode: unknown; value: unknown }> {
  const found = new Map<string, { keyNode: unknown; value: unknown }>();
  if (node === undefined || node === null || (isScalar(node) && node.value === null)) return found;
  if (!isMap(node)) {
    const name = path.length === 0 ? 'the file' : path.join('.');
    reading.problems.push({
      line: reading.lineOf(node),
      message: `${name} is ${show(node)}, a map of settings is wanted`,
    });
    return found;
  }
  for (const { key, value } of node.items) {
    const name = isScalar(key) ? String(key.value) : String(key);
    found.set(name, { keyNode: key, value });
  }
  return found;
}

/** The value of an unknown key is not shown: nobody knows whether it is a secret. */
function unknownKey(
  reading: Reading,
  keyNode: unknown,
  key: string,
  section: Section,
  path: readonly string[],
): Problem {
  const near = nearest(key, Object.keys(section));
  const accepted = Object.keys(section).join(', ');
  const name = [...path, shorten(key)].join('.');
  const hint = near === undefined ? '' : `did you mean ${[...path, near].join('.')}? `;
  const message = `${name} is not a setting; ${hint}Accepted here: ${accepted}`;
  return { line: reading.lineOf(keyNode), message };
}

function readSetting<T>(reading: Reading, node: unknown, setting: Setting<T>, path: readonly string[]): T {
  const variable = environmentName(path);
  const fromEnvironment = reading.environment[variable];
  const inFile = node === undefined ? setting.default : setting.read(plain(node));
  if (inFile === undefined) {
    const message = `${path.join('.')} is ${show(node)}, ${wanted(setting)} is wanted`;
    reading.problems.push({ line: reading.lineOf(node), message });
  }
  if (fromEnvironment === undefined) return inFile ?? setting.default;
  const value = setting.read(setting.parse(fromEnvironment));
  if (value === undefined) {
    const shown = quote(fromEnvironment);
    const message = `environment variable ${variable} (${path.join('.')}) is ${shown}, ${wanted(setting)} is wanted`;
    reading.problems.push({ line: 0, message });
  }
  return value ?? setting.default;
}

function wanted(setting: Setting<unknown>): string {
  return setting.unit === undefined ? setting.accepts : `${setting.accepts} (${setting.unit})`;
}

/** Aliases and tagged or nested nodes are no plain value, which no setting accepts. */
function plain(node: unknown): unknown {
  if (isScalar(node)) return node.value;
  if (isSeq(node)) return node.items.map(plain);
  return null;
}

function show(node: unknown): string {
  if (isMap(node)) return 'a map';
  if (isSeq(node)) return `the list [${shorten(node.items.map((item) => show(item)).join(', '))}]`;
  const value = plain(node);
  if (value === null) return 'without a value';
  return typeof value === 'string' ? quote(value) : shorten(String(value));
}

function quote(value: string): string {
  return `"${shorten(value)}"`;
}

/** What a person pasted into the wrong place may be a URL with a password: userinfo is never shown. */
function shorten(value: string): string {
  const safe = value.replaceAll(/[^\s/:@"]*:[^\s/@"]*@/g, '***@');
  return safe.length > shownLengthMax ? `${safe.slice(0, shownLengthMax)}…` : safe;
}

function rangeStart(node: unknown): number {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return 0;
  return typeof node.range[0] === 'number' ? node.range[0] : 0;
}
