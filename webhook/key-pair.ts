import { createPrivateKey, X509Certificate } from 'node:crypto';
import { ErrorCode, ShoalError } from '../shim/base/errors.ts';

/** What a server proves itself with. */
export interface KeyPair {
  /** PEM, the leaf first. */
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** @throws ShoalError ConfigInvalid where the two are not a certificate and its key. */
export function checkKeyPair({ certificatePem, keyPem }: KeyPair): void {
  let fits: boolean;
  try {
    fits = new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem));
  } catch (cause) {
    throw invalid('they are not a certificate and a private key in PEM', cause);
  }
  if (!fits) throw invalid('the key is not the one of the certificate');
}

/** When the leaf ends, ms since the epoch. Only for a checked pair. */
export function notAfterMs({ certificatePem }: Pick<KeyPair, 'certificatePem'>): number {
  return new X509Certificate(certificatePem).validToDate.getTime();
}

function invalid(found: string, cause?: unknown): ShoalError {
  const message = `Cannot use "certificate and key": ${found}`;
  return new ShoalError(ErrorCode.ConfigInvalid, message, cause === undefined ? {} : { cause });
}
