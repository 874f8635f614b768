/** Longer request heads are refused unread. */
export const REQUEST_HEAD_BYTES_MAX = 16 * 1024;

export function isHeadComplete(head: string): boolean {
  return head.includes('\r\n\r\n');
}

/**
 * The answer to one HTTP request while there is no agent. A registry client takes 404 as "not here" and asks its next
 * host, which is the origin; everybody else gets 503. The connection ends with it, so the next request finds the agent.
 */
export function answerWithoutAgent(head: string): string {
  const [method = '', target = ''] = head.slice(0, head.indexOf('\r\n') + 1).split(' ');
  const isRegistryRead =
    (method === 'GET' || method === 'HEAD') && /^\/v2(\/|$)/.test(target.split('?')[0] ?? '');
  const status = isRegistryRead ? '404 Not Found' : '503 Service Unavailable';
  const body = isRegistryRead ? NOT_HERE : 'The agent is not running\n';
  const type = isRegistryRead ? 'application/json' : 'text/plain';
  return [
    `HTTP/1.1 ${status}`,
    `Content-Type: ${type}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(isRegistryRead ? [] : ['Retry-After: 1']),
    'Connection: close',
    '',
    method === 'HEAD' ? '' : body,
  ].join('\r\n');
}

const NOT_HERE = '{"errors":[{"code":"NOT_FOUND","message":"the agent is not running"}]}\n';
