/**
 * The registry host of an image reference, with its port; undefined where it names none, which means Docker Hub. The
 * rule is Docker's: the part before the first slash is a host if it has a dot or a colon, or is `localhost`.
 */
export function hostOfImage(image: string): string | undefined {
  const slash = image.indexOf('/');
  if (slash < 1) return undefined;
  const first = image.slice(0, slash);
  return first === 'localhost' || /[.:]/.test(first) ? first : undefined;
}

/** The same reference at another host. Only for one that names a host. */
export function withHost(image: string, host: string): string {
  return `${host}${image.slice(image.indexOf('/'))}`;
}
