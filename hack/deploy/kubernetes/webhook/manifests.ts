import { OWNER } from '../../../../webhook/secret-copy.ts';
import { ADMISSION_PATHS } from '../../../../webhook/server.ts';

export interface ManifestOptions {
  /** Where the webhook runs. It admits nothing there. */
  readonly ownNamespace: string;
  /** Namespaces in which it may read and copy pull secrets. */
  readonly namespaces: readonly string[];
  readonly image: string;
  readonly keyPrefix: string;
  /** Further arguments of the webhook. */
  readonly args: readonly string[];
}

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

const NAME = OWNER;
const CERTIFICATES = 'shoal-webhook-certificates';
const COPIER_ROLE = 'shoal-webhook-secret-copier';
const LABELS = { 'app.kubernetes.io/name': NAME };
const HTTPS_PORT = 8443;
const HEALTH_PORT = 8080;
/** Any user but root. */
const USER_ID = 65_532;

/** Everything that a cluster needs for the webhook, in the order in which it is to be applied. */
export function makeManifests(options: ManifestOptions): Manifest[] {
  const { ownNamespace: namespace } = options;
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: NAME, namespace } },
    ...ownRights(namespace),
    ...copierRights(options),
    service(namespace),
    deployment(options),
    disruptionBudget(namespace),
    configuration(options),
  ];
}

/** Its certificate and its lease; and of all that is not in a namespace, the one object that names whom to trust. */
function ownRights(namespace: string): Manifest[] {
  const configurationRole = `${NAME}-configuration`;
  return [
    role('ClusterRole', { name: configurationRole }, [
      rule('admissionregistration.k8s.io', 'mutatingwebhookconfigurations', ['get', 'patch'], [NAME]),
    ]),
    binding('ClusterRoleBinding', { name: configurationRole }, 'ClusterRole', configurationRole, namespace),
    role('Role', { name: NAME, namespace }, [
      rule('', 'secrets', ['get', 'update'], [CERTIFICATES]),
      rule('coordination.k8s.io', 'leases', ['get', 'update'], [NAME]),
      // What is to be created has no name yet, as far as rights go.
      rule('', 'secrets', ['create']),
      rule('coordination.k8s.io', 'leases', ['create']),
    ]),
    binding('RoleBinding', { name: NAME, namespace }, 'Role', NAME, namespace),
  ];
}

/** A list of rights that alone gives none, and one RoleBinding a namespace that gives them there. */
function copierRights({ namespaces, ownNamespace }: ManifestOptions): Manifest[] {
  return [
    role('ClusterRole', { name: COPIER_ROLE }, [
      rule('', 'secrets', ['get', 'list', 'watch', 'create', 'update', 'delete']),
      rule('', 'pods', ['list', 'watch']),
      rule('', 'events', ['create']),
    ]),
    ...namespaces.map((namespace) =>
      binding('RoleBinding', { name: COPIER_ROLE, namespace }, 'ClusterRole', COPIER_ROLE, ownNamespace),
    ),
  ];
}

function service(namespace: string): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: NAME, namespace },
    spec: { selector: LABELS, ports: [{ name: 'https', port: 443, targetPort: 'https' }] },
  };
}

function disruptionBudget(namespace: string): Manifest {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name: NAME, namespace },
    spec: { maxUnavailable: 1, selector: { matchLabels: LABELS } },
  };
}

function deployment(options: ManifestOptions): Manifest {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: NAME, namespace: options.ownNamespace },
    spec: {
      replicas: 2,
      selector: { matchLabels: LABELS },
      // Two go on answering while a new one comes up.
      strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      template: {
        metadata: { labels: LABELS },
        spec: {
          serviceAccountName: NAME,
          terminationGracePeriodSeconds: 30,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: USER_ID,
            runAsGroup: USER_ID,
            fsGroup: USER_ID,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          topologySpreadConstraints: [
            {
              maxSkew: 1,
              topologyKey: 'kubernetes.io/hostname',
              whenUnsatisfiable: 'ScheduleAnyway',
              labelSelector: { matchLabels: LABELS },
            },
          ],
          containers: [container(options)],
          volumes: [{ name: 'cache', emptyDir: { sizeLimit: '64Mi' } }],
        },
      },
    },
  };
}

function container({ image, keyPrefix, namespaces, ownNamespace, args }: ManifestOptions): object {
  const probe = (path: string) => ({ httpGet: { path, port: 'health' }, periodSeconds: 5 });
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  return {
    name: 'webhook',
    image,
    command: ['/opt/shoal/webhook/shoal-webhook'],
    args: [
      `--key-prefix=${keyPrefix}`,
      `--own-namespace=${ownNamespace}`,
      ...namespaces.map((namespace) => `--namespace=${namespace}`),
      ...args,
    ],
    env: [
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      { name: 'NODE_COMPILE_CACHE', value: '/cache' },
    ],
    ports: [
      { name: 'https', containerPort: HTTPS_PORT },
      { name: 'health', containerPort: HEALTH_PORT },
    ],
    readinessProbe: { ...probe('/readyz'), failureThreshold: 2 },
    livenessProbe: { ...probe('/healthz'), initialDelaySeconds: 10, failureThreshold: 6 },
    resources: { requests: { cpu: '50m', memory: '160Mi' }, limits: { memory: '384Mi' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [{ name: 'cache', mountPath: '/cache' }],
  };
}

/**
 * Two entries, since the selectors of one are both to be met: pods of labelled namespaces, and labelled pods of the others.
 * No caBundle: the webhook writes it, and applying this again leaves it as it is.
 */
function configuration({ ownNamespace, keyPrefix }: ManifestOptions): Manifest {
  const key = `${keyPrefix}/image-accelerate-mode`;
  const elsewhere = { key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: [ownNamespace] };
  const labelled = { key, operator: 'In', values: ['p2p'] };
  const unlabelled = { ...labelled, operator: 'NotIn' };
  const notOff = { key, operator: 'NotIn', values: ['off'] };
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: NAME },
    webhooks: [
      entry('namespaces', ADMISSION_PATHS.namespace, ownNamespace, {
        namespaceSelector: { matchExpressions: [labelled, elsewhere] },
        objectSelector: { matchExpressions: [notOff] },
      }),
      entry('pods', ADMISSION_PATHS.pod, ownNamespace, {
        namespaceSelector: { matchExpressions: [unlabelled, elsewhere] },
        objectSelector: { matchExpressions: [labelled] },
      }),
    ],
  };
}

function entry(name: string, path: string, namespace: string, selectors: object): object {
  return {
    name: `${name}.${NAME}.svc`,
    clientConfig: { service: { name: NAME, namespace, path, port: 443 } },
    rules: [
      {
        apiGroups: [''],
        apiVersions: ['v1'],
        operations: ['CREATE'],
        resources: ['pods'],
        scope: 'Namespaced',
      },
    ],
    ...selectors,
    matchPolicy: 'Equivalent',
    admissionReviewVersions: ['v1'],
    // Without an answer the pod is created as it is: it pulls from the registry, as before.
    failurePolicy: 'Ignore',
    timeoutSeconds: 5,
    sideEffects: 'None',
    // A later webhook may add containers, whose images are to be listed too; asked again, this one completes its list.
    reinvocationPolicy: 'IfNeeded',
  };
}

function role(
  kind: 'Role' | 'ClusterRole',
  metadata: Manifest['metadata'],
  rules: readonly object[],
): Manifest {
  return { apiVersion: 'rbac.authorization.k8s.io/v1', kind, metadata, rules };
}

function rule(
  apiGroup: string,
  resource: string,
  verbs: readonly string[],
  resourceNames?: readonly string[],
): object {
  return { apiGroups: [apiGroup], resources: [resource], verbs, ...(resourceNames && { resourceNames }) };
}

function binding(
  kind: 'RoleBinding' | 'ClusterRoleBinding',
  metadata: Manifest['metadata'],
  roleKind: 'Role' | 'ClusterRole',
  roleName: string,
  ownNamespace: string,
): Manifest {
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind,
    metadata,
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: roleKind, name: roleName },
    subjects: [{ kind: 'ServiceAccount', name: NAME, namespace: ownNamespace }],
  };
}
