import { type FollowOptions, followList } from './follow-list.ts';
import { listOf, memberOf, textOf } from './json.ts';

/** One address behind a service. */
export interface ServiceEndpoint {
  readonly address: string;
  /** The first port of its slice, if it has one. */
  readonly port: number | undefined;
  readonly zone: string;
  readonly nodeName: string;
}

export interface EndpointSlicesOptions extends Pick<FollowOptions, 'openAccess' | 'onState' | 'random'> {
  readonly namespace: string;
  readonly service: string;
  /** Told all endpoints each time that they change. */
  readonly onEndpoints: (endpoints: readonly ServiceEndpoint[]) => void;
}

/** A slice has up to 100 endpoints by default, and rarely few; more slices than this are no service of agents. */
const SLICES_MAX = 1000;

/** Follows the endpoints of one service until `signal` aborts. */
export async function followEndpointSlices(
  options: EndpointSlicesOptions,
  signal: AbortSignal,
): Promise<void> {
  const slices = new Map<string, readonly ServiceEndpoint[]>();
  const tell = (): void => options.onEndpoints([...slices.values()].flat());
  const put = (slice: unknown): void => {
    const name = nameOf(slice);
    if (name !== undefined && (slices.has(name) || slices.size < SLICES_MAX))
      slices.set(name, readSlice(slice));
  };
  await followList(
    {
      ...options,
      list: {
        path: `/apis/discovery.k8s.io/v1/namespaces/${options.namespace}/endpointslices`,
        query: { labelSelector: `kubernetes.io/service-name=${options.service}` },
      },
      itemsMax: SLICES_MAX,
      onList: (items) => {
        slices.clear();
        for (const item of items) put(item);
        tell();
      },
      onChange: (type, item) => {
        if (type === 'put') put(item);
        else slices.delete(nameOf(item) ?? '');
        tell();
      },
    },
    signal,
  );
}

/** Endpoints that may be talked to: those that are starting count, those that are being stopped do not. */
export function readSlice(slice: unknown): ServiceEndpoint[] {
  const first = memberOf(listOf(slice, 'ports')[0], 'port');
  const port = typeof first === 'number' ? first : undefined;
  return listOf(slice, 'endpoints').flatMap((endpoint) => {
    const [address] = listOf(endpoint, 'addresses');
    if (typeof address !== 'string' || memberOf(memberOf(endpoint, 'conditions'), 'terminating') === true)
      return [];
    const [zone, nodeName] = [textOf(endpoint, 'zone') ?? '', textOf(endpoint, 'nodeName') ?? ''];
    return [{ address, port, zone, nodeName }];
  });
}

function nameOf(slice: unknown): string | undefined {
  return textOf(memberOf(slice, 'metadata'), 'name');
}
