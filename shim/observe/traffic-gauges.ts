import type { Registry } from 'prom-client';
import { Gauge } from 'prom-client';
import type { CacheTotals } from './metric-sources.ts';
import type { TrafficMeter, TrafficReading, TrafficType } from './traffic-meter.ts';

export interface TrafficGaugesOptions {
  readonly registry: Registry;
  readonly labels: { readonly node: string; readonly mode: 'agent' | 'root' };
  readonly meters: ReadonlyMap<TrafficType, TrafficMeter>;
  readonly cache: () => CacheTotals;
  readonly nowMs: () => number;
}

/**
 * The gauges of the product that Shoal replaces. Names, labels and kinds are kept to the letter, the misspelling and
 * the cumulative gauge included: dashboards are built on them.
 */
export function registerTrafficGauges(options: TrafficGaugesOptions): void {
  const { registry, labels } = options;
  const registers = [registry];
  const base = { registers, labelNames: ['node', 'type', 'mode'] };
  new Gauge({
    name: 'DADIP2P_Alive',
    help: 'Whether the service is up',
    labelNames: ['node', 'mode'],
    registers,
  }).set(labels, 1);
  perType(options, 'DADIP2P_Read_Throughtput', 'Bytes / sec', (reading) => reading.bytesPerSecond);
  perType(options, 'DADIP2P_QPS', 'Requests / sec', (reading) => reading.operationsPerSecond);
  perType(options, 'DADIP2P_MaxLatency', 'us', (reading) => reading.latencyUsMax);
  perType(options, 'DADIP2P_Count', 'Bytes', (reading) => reading.bytes);
  new Gauge({
    ...base,
    name: 'DADIP2P_Cache',
    help: 'Bytes of the disk cache',
    collect() {
      const { allocatedBytes, usedBytes } = options.cache();
      this.set({ ...labels, type: 'allocated' }, allocatedBytes);
      this.set({ ...labels, type: 'used' }, usedBytes);
    },
  });
  // Declared without samples, as it always was.
  new Gauge({ name: 'DADIP2P_Label', help: 'Labels of the node', labelNames: ['node', 'mode'], registers });
}

function perType(
  { registry, labels, meters, nowMs }: TrafficGaugesOptions,
  name: string,
  help: string,
  value: (reading: TrafficReading) => number,
): void {
  new Gauge({
    name,
    help,
    labelNames: ['node', 'type', 'mode'],
    registers: [registry],
    collect() {
      for (const [type, meter] of meters) this.set({ ...labels, type }, value(meter.read(nowMs())));
    },
  });
}
