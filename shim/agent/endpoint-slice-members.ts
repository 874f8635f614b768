import type { Logger } from 'pino';
import { accessFrom } from '../kubernetes/cluster-access.ts';
import { followEndpointSlices, type ServiceEndpoint } from '../kubernetes/follow-endpoint-slices.ts';
import type { MembershipSource, PeerMember } from '../peer/membership.ts';
import { peerIdOf } from '../peer/peer-address.ts';

/**
 * Every change of a slice is sent to everybody who watches: with n nodes a rolling update of the agents sends n² slices of
 * some 20 KB, 0.8 GB from the API server at 200 nodes, 20 GB at 1000. DNS answers from caches near the nodes.
 */
export const WATCHED_NODES_MAX = 200;

export interface EndpointSliceMembersOptions {
  /** `NAMESPACE/SERVICE`. */
  readonly service: string;
  readonly kubeconfig: string;
  /** Where slices name no port. */
  readonly port: number;
  readonly log: Logger;
}

/** The members are the endpoints of a service, with their zones. Above 200 nodes what was known before stays. */
export function endpointSliceMembers(options: EndpointSliceMembersOptions): MembershipSource {
  const { service, kubeconfig, port, log } = options;
  const [namespace = '', name = ''] = service.split('/');
  const stop = new AbortController();
  return {
    start: (onMembers) => {
      const onEndpoints = (endpoints: readonly ServiceEndpoint[]): void => {
        if (endpoints.length <= WATCHED_NODES_MAX) {
          onMembers(membersOf(endpoints, port));
          return;
        }
        log.error(
          { service, nodes: endpoints.length, nodesMax: WATCHED_NODES_MAX },
          'peers.endpointSlices: too many nodes to watch from each of them without loading the API server; set peers.dns to the name of the headless service instead',
        );
        stop.abort();
      };
      const onState = (failure: Error | undefined): void =>
        failure === undefined
          ? log.info({ service }, 'the API server answers again')
          : log.warn(
              { service, error: failure },
              'cannot ask for peers at the API server; those known before stand',
            );
      const openAccess = accessFrom(kubeconfig, process.env);
      const asked = { openAccess, namespace, service: name, random: Math.random, onEndpoints, onState };
      void followEndpointSlices(asked, stop.signal);
    },
    close: () => stop.abort(),
  };
}

function membersOf(endpoints: readonly ServiceEndpoint[], port: number): PeerMember[] {
  return endpoints.map((endpoint) => ({
    peer: peerIdOf(endpoint.address, endpoint.port ?? port),
    zone: endpoint.zone,
    names: endpoint.nodeName === '' ? [] : [endpoint.nodeName],
  }));
}
