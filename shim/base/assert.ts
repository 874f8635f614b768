/** Thrown when our own code broke a rule of its own. Never caused by remote input, disk or configuration. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** States an invariant of our own code; stays on in production. Remote input never reaches it. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** Closes a switch over a tagged union: reaching it at run time is our bug. */
export function unreachable(value: never, what: string): never {
  throw new InvariantError(`Cannot handle ${what} ${JSON.stringify(value)}: no such case is known`);
}
