/** Like `Promise.all`, but nothing is under way any more when it rejects: with what failed first in time, for the others failed because of it. */
export async function settleAll<const T extends readonly unknown[]>(
  running: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  let failure: { readonly error: unknown } | undefined;
  const watched = running.map((each) =>
    Promise.resolve(each).catch((error: unknown) => {
      failure ??= { error };
    }),
  );
  const values = await Promise.all(watched);
  if (failure !== undefined) throw failure.error;
  return values as { -readonly [K in keyof T]: Awaited<T[K]> };
}
