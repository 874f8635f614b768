/** Longer keys are compared by their beginning: keeps the table below small. */
const comparedLengthMax = 64;

/** The known name that `name` is most likely a slip of, if any is near enough. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((left, right) => left.distance - right.distance);
  const best = ranked[0];
  const tolerance = Math.max(1, Math.floor(name.length / 3));
  return best !== undefined && best.distance <= tolerance ? best.candidate : undefined;
}

/** Levenshtein distance: insertions, deletions and replacements of one character. */
function editDistance(left: string, right: string): number {
  const columns = right.slice(0, comparedLengthMax);
  let row = Array.from({ length: columns.length + 1 }, (_, column) => column);
  for (const [index, letter] of [...left.slice(0, comparedLengthMax)].entries()) {
    const next = [index + 1];
    for (let column = 1; column <= columns.length; column++) {
      const replaced = (row[column - 1] ?? 0) + (columns[column - 1] === letter ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
