/** Which operations are selected: never one that is not counted, and never one that would be refused. */
import type { Operation } from "./api";

export type Selection = ReadonlyMap<string, Operation>;

export const NONE: Selection = new Map();

export function canBeCancelled(operation: Operation): boolean {
  return !operation.done && operation.forbidden === "";
}

/** The selection with what is known of its operations by now; without those that cannot be cancelled any more. */
export function refreshed(selection: Selection, shown: Operation[]): Selection {
  const next = new Map(selection);
  for (const one of shown) {
    if (next.has(one.name)) {
      next.set(one.name, one);
    }
  }
  for (const one of [...next.values()]) {
    if (!canBeCancelled(one)) {
      next.delete(one.name);
    }
  }
  return next;
}

export function selected(selection: Selection, operations: Operation[], isSelected: boolean): Selection {
  const next = new Map(selection);
  operations.forEach((one) => (isSelected ? next.set(one.name, one) : next.delete(one.name)));
  return next;
}

/** In the order of the question: those first that a task still waits for, then by DAG. */
export function asAsked(operations: Operation[]): Operation[] {
  const key = (one: Operation) => [one.needed ? 0 : 1, one.holders[0]?.dag_id ?? "~", one.description, one.name];
  return [...operations].sort((a, b) => (key(a).join("\u0000") < key(b).join("\u0000") ? -1 : 1));
}
