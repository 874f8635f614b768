import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { AdmissionReason, AdmissionScope } from './admission.ts';
import type { ReviewProblem } from './admission-review.ts';

/** How one admission ended: a closed set. Every one of them let the pod through. */
export type AdmissionResult =
  | AdmissionReason
  | ReviewProblem
  | 'wrong-content-type'
  | 'wrong-method'
  | 'too-large'
  | 'busy'
  | 'timeout'
  | 'aborted'
  | 'failed';

export type CopyResult = 'created' | 'updated' | 'deleted' | 'unchanged' | 'refused' | 'failed';

/** Answers take well under a millisecond; the rest is there to see what is wrong. */
const ADMISSION_BUCKETS_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5];

export interface WebhookMetrics {
  readonly registry: Registry;
  recordAdmission(scope: AdmissionScope, result: AdmissionResult, seconds: number): void;
  recordCopy(result: CopyResult): void;
  recordWatchRestart(): void;
  setCertificateNotAfter(epochMs: number): void;
  setLeader(isLeader: boolean): void;
  setQueueLength(length: number): void;
}

/** Metrics in a registry of their own, so that two of them can be in one process. */
export function createMetrics(): WebhookMetrics {
  const registry = new Registry();
  const registers = [registry];
  const admissions = new Counter({
    name: 'shoal_webhook_admissions_total',
    help: 'Pods let through, by which selector sent them and how it ended',
    labelNames: ['scope', 'result'],
    registers,
  });
  const seconds = new Histogram({
    name: 'shoal_webhook_admission_seconds',
    help: 'From the head of a request to its answer',
    buckets: ADMISSION_BUCKETS_SECONDS,
    registers,
  });
  const copies = new Counter({
    name: 'shoal_webhook_secret_copies_total',
    help: 'Looks at one pull secret, by what came of them',
    labelNames: ['result'],
    registers,
  });
  const restarts = new Counter({
    name: 'shoal_webhook_watch_restarts_total',
    help: 'Watches that failed and were started again',
    registers,
  });
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers });
  const notAfter = gauge('shoal_webhook_certificate_not_after_seconds', 'When the certificate in use ends');
  const leader = gauge('shoal_webhook_leader', '1 where this replica copies the secrets');
  const queue = gauge('shoal_webhook_queue_length', 'Pull secrets waiting to be looked at');
  new Gauge({
    name: 'shoal_webhook_resident_memory_bytes',
    help: 'Memory of this process',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  return {
    registry,
    recordAdmission: (scope, result, spent) => {
      admissions.inc({ scope, result });
      seconds.observe(spent);
    },
    recordCopy: (result) => copies.inc({ result }),
    recordWatchRestart: () => restarts.inc(),
    setCertificateNotAfter: (epochMs) => notAfter.set(epochMs / 1000),
    setLeader: (isLeader) => leader.set(isLeader ? 1 : 0),
    setQueueLength: (length) => queue.set(length),
  };
}
