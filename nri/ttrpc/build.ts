/**
 * Writes the package as it is published into a folder: JavaScript with types instead of TypeScript, which Node does not
 * strip below node_modules.
 *
 *   node build.ts [FOLDER]      default: dist; then `npm publish FOLDER`
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';

const source = import.meta.dirname;
const folder = resolve(process.argv[2] ?? join(source, 'dist'));
const BUILD_ONLY = ['build.ts'];

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
compile();
writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest(), undefined, 2)}\n`);
cpSync(join(source, 'README.md'), join(folder, 'README.md'));

function compile(): void {
  const files = readdirSync(source).filter((name) => name.endsWith('.ts') && !BUILD_ONLY.includes(name));
  const flags = '--target es2024 --lib esnext --module nodenext --types node --strict --skipLibCheck'.split(
    ' ',
  );
  const output = [
    '--outDir',
    folder,
    '--rootDir',
    source,
    '--declaration',
    '--rewriteRelativeImportExtensions',
  ];
  const compiler = join(
    dirname(createRequire(import.meta.url).resolve('typescript/package.json')),
    'bin/tsc',
  );
  const args = [compiler, '--ignoreConfig', ...flags, ...output, ...files.map((name) => join(source, name))];
  execFileSync(process.execPath, args, { cwd: source, stdio: 'inherit' });
}

/** The same, with what there is now: nothing to build, and JavaScript to import. */
function manifest(): object {
  const {
    scripts: _scripts,
    exports: paths,
    ...rest
  } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8')) as {
    scripts: unknown;
    exports: Record<string, string>;
  };
  const compiled = Object.entries(paths).map(([name, path]) => {
    const base = path.replace(/\.ts$/, '');
    return [name, { types: `${base}.d.ts`, default: `${base}.js` }];
  });
  return { ...rest, exports: Object.fromEntries(compiled) };
}
