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
