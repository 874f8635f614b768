/** Starts tasks in order, at most `limit` of them at a time. */
export function startInOrder<T>(tasks: readonly (() => Promise<T>)[], limit: number): Promise<T>[] {
  let running = 0;
  const waiting: (() => void)[] = [];
  const enter = async (): Promise<void> => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
  };
  const leave = (): void => {
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  };
  return tasks.map(async (task) => {
    await enter();
    return task().finally(leave);
  });
}

/** Waits until all have settled, then throws what failed first in time: the others failed because of it. */
export async function firstFailure(running: readonly Promise<unknown>[]): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  const watched = running.map((each) =>
    each.catch((error: unknown) => {
      failure ??= { error };
    }),
  );
  await Promise.all(watched);
  if (failure !== undefined) throw failure.error;
}
