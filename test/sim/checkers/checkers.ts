import type { Observer } from '../observer.ts';
import type { WorldOptions } from '../world-options.ts';
import { CapsChecker } from './caps.ts';
import { OriginBudgetChecker } from './origin-budget.ts';
import { OriginLimitsChecker } from './origin-limits.ts';
import { RightsChecker } from './rights.ts';
import { VerifiedChecker } from './verified.ts';
import { WantedChecker } from './wanted.ts';

/** All that is held against every run, fresh for one. */
export function makeCheckers(options: WorldOptions): Observer[] {
  return [
    new VerifiedChecker(),
    new WantedChecker(options),
    new RightsChecker(options),
    new CapsChecker(options),
    new OriginBudgetChecker(options),
    ...(options.originLimits === undefined ? [] : [new OriginLimitsChecker(options, options.originLimits)]),
  ];
}
