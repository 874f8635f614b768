/** Milliseconds that never go back. Not `performance.now()`: that loads modules which the front has no other use for. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}
