import type { Config } from './settings.ts';

/** Where metrics are served: nowhere, on the agent's HTTP port, or on a port of their own. */
export type MetricsPlace =
  | { readonly kind: 'off' }
  | { readonly kind: 'http' }
  | { readonly kind: 'port'; readonly port: number };

/** Two places can turn metrics on: the agent's own file (`ExporterConfig`, which wins) and the Helm values. */
export function metricsPlace({ ExporterConfig, p2p }: Pick<Config, 'ExporterConfig' | 'p2p'>): MetricsPlace {
  if (ExporterConfig.enable) {
    return ExporterConfig.standaloneExporterPort
      ? { kind: 'port', port: ExporterConfig.port }
      : { kind: 'http' };
  }
  return p2p.v2.exporter.enable ? { kind: 'port', port: p2p.v2.exporter.port } : { kind: 'off' };
}
