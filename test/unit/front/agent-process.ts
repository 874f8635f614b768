import { startCriServer } from '../../../shim/cri/cri-server.ts';
import { createPullService } from '../../../shim/cri/pull-service.ts';
import { Upstream } from '../../../shim/cri/upstream.ts';

/**
 * An agent reduced to its CRI endpoint, for a process of its own: `agent-process.ts SOCKET CONTAINERD DELAY_MS`.
 * It answers every pull after the delay with `sha256:agent`.
 */
const [socketPath = '', containerdPath = '', delay = '0'] = process.argv.slice(2);
const containerd = new Upstream('containerd', containerdPath);
const service = createPullService({
  containerd,
  handler: {
    pull: (_request, signal) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => resolve({ kind: 'pulled', imageRef: 'sha256:agent' }), Number(delay));
        signal.addEventListener('abort', () => {
          clearTimeout(timer);
          reject(signal.reason);
        });
      }),
  },
});
const server = await startCriServer({ socketPath, containerd, onPullImage: service.onPullImage });
process.stdout.write('listening\n');
process.once('SIGTERM', async () => {
  await service.close();
  await server.close();
  containerd.close();
});
