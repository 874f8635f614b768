import { threadId } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { Config } from '../config/settings.ts';
import { type AuditLog, createAuditLog } from '../observe/audit-log.ts';
import { type LogSink, openDescriptorSink, openFileSink } from '../observe/log-sink.ts';
import { createLogger } from '../observe/logger.ts';

const STDOUT = 1;
const STDERR = 2;

/** Where the agent writes about itself. */
export interface Observers {
  readonly log: Logger;
  /** Undefined when it is off. */
  readonly audit: AuditLog | undefined;
  readonly droppedLines: () => number;
  close(): Promise<void>;
}

/** Opens log and audit log as configured. @throws ConfigInvalid when a file cannot be opened. */
export async function openObservers(config: Config): Promise<Observers> {
  const { logDir, logAudit, logAuditMode } = config.DeployConfig;
  const logSink =
    config.log.output === 'file' ? openFileSink(logDir, 'shoal.log') : openDescriptorSink(STDERR);
  const sinks: LogSink[] = [logSink];
  let audit: AuditLog | undefined;
  if (logAudit) {
    const sink = logAuditMode === 'file' ? openFileSink(logDir, 'audit.log') : openDescriptorSink(STDOUT);
    sinks.push(sink);
    audit = createAuditLog(sink, threadId, () => new Date());
  }
  return {
    log: createLogger({ level: config.log.level, format: config.log.format, sink: logSink }),
    audit,
    droppedLines: () => sinks.reduce((sum, sink) => sum + sink.droppedLines, 0),
    close: async () => {
      for (const sink of sinks) await sink.close();
    },
  };
}
