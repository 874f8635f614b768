import type { Action, PeerMessage } from '../../shim/swarm/messages.ts';
import type { SwarmNode } from '../../shim/swarm/swarm-node.ts';

/** Everything that the node wants done now. */
export function drain(node: SwarmNode): Action[] {
  const actions: Action[] = [];
  for (let action = node.pollAction(); action !== undefined; action = node.pollAction()) actions.push(action);
  return actions;
}

/** What the node wants done up to that time, each wakeup at the time that it asked for. */
export function runUntil(node: SwarmNode, untilMs: number): Action[] {
  const actions = drain(node);
  for (let atMs = node.nextWakeupMs(); atMs !== undefined && atMs <= untilMs; atMs = node.nextWakeupMs()) {
    node.handleTimeout(atMs);
    actions.push(...drain(node));
  }
  return actions;
}

/** The messages of one kind among the actions. */
export function sent<K extends PeerMessage['kind']>(
  actions: readonly Action[],
  kind: K,
): Extract<PeerMessage, { kind: K }>[] {
  return actions.flatMap((action) =>
    action.kind === 'send' && action.message.kind === kind
      ? [action.message as Extract<PeerMessage, { kind: K }>]
      : [],
  );
}
