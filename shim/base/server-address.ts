/** The host, with its port, that a CRI `server_address` or a key of docker's config names: `https://host:port/v1/`, or only `host:port`. */
export function hostOfServerAddress(address: string): string | undefined {
  const match = /^(?:[a-z][a-z0-9+.-]*:\/\/)?(?:[^/@]*@)?([^/?#@\s]+)(?:[/?#].*)?$/i.exec(address.trim());
  return match?.[1]?.toLowerCase();
}
