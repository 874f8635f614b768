const cleanups = new Set<() => void>();

/**
 * Calls the function when the process exits without having taken it back; the last added first. One listener for all,
 * since many handles may be open at once. The function must be synchronous.
 *
 * @returns Takes the function back.
 */
export function atExit(cleanup: () => void): () => void {
  if (cleanups.size === 0) process.once('exit', runAll);
  cleanups.add(cleanup);
  return () => {
    cleanups.delete(cleanup);
    if (cleanups.size === 0) process.off('exit', runAll);
  };
}

function runAll(): void {
  for (const cleanup of [...cleanups].reverse()) cleanup();
}
