import type { Finding, SourceFile } from './source.ts';
import { lineOf } from './source.ts';

interface Ban {
  readonly under: RegExp;
  readonly not?: RegExp;
  readonly pattern: RegExp;
  /** What stands there, and what to use instead. */
  readonly message: string;
  /** Search in comments and strings, too. */
  readonly inText?: boolean;
}

const pure = /^shim\/swarm\/.*\.ts$/;
const everywhere = /./;
const checker = /^(hack\/check|test\/unit\/check)\//;

const bans: readonly Ban[] = [
  {
    under: pure,
    pattern: /\bDate\.now\b|\bnew Date\(|\bperformance\./g,
    message: 'the core has no clock: take nowMs as an argument',
  },
  {
    under: pure,
    pattern: /\bMath\.random\b|\bcrypto\./g,
    message: 'the core has no randomness of its own: take a seeded generator',
  },
  {
    under: pure,
    pattern: /\b(?:setTimeout|setInterval|setImmediate|queueMicrotask)\b/g,
    message: 'the core has no timers: tell the driver by nextWakeupMs()',
  },
  {
    under: pure,
    pattern: /\bprocess\.|\bglobalThis\b/g,
    message: 'the core sees no process: take the value as an argument',
  },
  {
    under: pure,
    pattern: /\basync\b|\bawait\b|\bPromise\b/g,
    message: 'the core is synchronous: emit an action and take its result as an input',
  },
  { under: pure, pattern: /\bBuffer\./g, message: 'the core is plain JavaScript: use Uint8Array' },
  {
    under: pure,
    pattern: /from 'node:/g,
    inText: true,
    message: 'the core imports no node module: let the driver do I/O',
  },
  {
    under: /^(shim|nri|webhook)\/.*\.ts$/,
    not: /^shim\/cli\//,
    pattern: /\bconsole\.\w+/g,
    message: 'console is banned here: log through the given Logger (only shim/cli talks to a terminal)',
  },
  { under: /\.test\.ts$/, pattern: /\.only\(/g, message: '.only( leaves the other tests out: remove it' },
  {
    under: /\.ts$/,
    not: checker,
    pattern: /\b(?:FIXME|TODO|XXX)\b/g,
    inText: true,
    message: 'leftover: do it now, or state the limit in the README',
  },
  { under: /\.ts$/, pattern: /\bexport default\b/g, message: 'no default exports: name it' },
  { under: /\.ts$/, pattern: /^\s*debugger\b/gm, message: 'leftover of debugging' },
  {
    under: everywhere,
    not: checker,
    pattern: /(?:^|[\s"'`(=:])\/(?:work|home\/[a-z]\w*|Users\/\w+|root\/\w+)\//g,
    inText: true,
    message:
      'a path of one machine: derive it from import.meta.dirname, the repository or a temporary directory',
  },
];

export function checkBans(files: readonly SourceFile[]): Finding[] {
  return files.flatMap((file) =>
    bans.filter((ban) => applies(ban, file)).flatMap((ban) => search(ban, file)),
  );
}

function applies(ban: Ban, file: SourceFile): boolean {
  return ban.under.test(file.path) && !(ban.not?.test(file.path) ?? false);
}

function search(ban: Ban, file: SourceFile): Finding[] {
  const text = ban.inText ? file.text : file.code;
  return [...text.matchAll(ban.pattern)].map((match) => ({
    path: file.path,
    line: lineOf(text, match.index),
    message: `\`${match[0].trim()}\`: ${ban.message}`,
  }));
}
