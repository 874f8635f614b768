/** What the run did and what it cost, told while it goes on and as a table at the end. */
export class Ledger {
  readonly #rows: (readonly [what: string, seconds: string, cost: string])[] = [];
  readonly #skipped: string[] = [];

  /** @param cost What it cost against the same with nothing broken, or what it took from the registry. */
  add(what: string, seconds: number, cost = ''): void {
    this.#rows.push([what, seconds.toFixed(1), cost]);
    process.stdout.write(`     ${what}: ${seconds.toFixed(1)} s${cost === '' ? '' : `, ${cost}`}\n`);
  }

  /** Told, but no row of its own. */
  note(text: string): void {
    process.stdout.write(`     ${text}\n`);
  }

  skip(what: string, why: string): void {
    this.#skipped.push(`${what}: ${why}`);
    process.stdout.write(`SKIP: ${what}: ${why}\n`);
  }

  print(): void {
    const head = ['what', 'seconds', 'cost'] as const;
    const width = (column: 0 | 1) => Math.max(...[head, ...this.#rows].map((row) => row[column].length));
    const line = (row: readonly [string, string, string]) =>
      `${row[0].padEnd(width(0))}  ${row[1].padStart(width(1))}  ${row[2]}`.trimEnd();
    const skipped =
      this.#skipped.length === 0 ? ['nothing was skipped'] : this.#skipped.map((one) => `skipped: ${one}`);
    process.stdout.write(`\n${[line(head), ...this.#rows.map(line), ...skipped].join('\n')}\n`);
  }
}
