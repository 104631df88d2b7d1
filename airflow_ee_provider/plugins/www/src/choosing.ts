/** Which operations are shown, in which order, and what they add up to. */
import type { Operation } from "./api";
import { age, runningTime } from "./format";

export type Filters = {
  state: string;
  dag: string;
  text: string;
  onlyOrphans: boolean;
  onlyMine: boolean;
};

export const NO_FILTERS: Filters = { state: "active", dag: "", text: "", onlyOrphans: false, onlyMine: false };

export type Column = "state" | "description" | "type" | "holder" | "age" | "running" | "attempt" | "eecu";

export type Sorting = { column: Column; descending: boolean };

export function choose(operations: Operation[], filters: Filters): Operation[] {
  const text = filters.text.trim().toLowerCase();
  return operations.filter(
    (one) =>
      (filters.state === "" || (filters.state === "active" ? !one.done : one.state === filters.state)) &&
      (filters.dag === "" || one.holders.some((holder) => holder.dag_id === filters.dag)) &&
      (text === "" || `${one.description} ${one.name}`.toLowerCase().includes(text)) &&
      (!filters.onlyOrphans || one.orphaned) &&
      (!filters.onlyMine || one.mine),
  );
}

export function canBeCancelled(operation: Operation): boolean {
  return !operation.done && operation.forbidden === "";
}

/** In the order of the question: those first that a task still waits for, then by DAG. */
export function asAsked(operations: Operation[]): Operation[] {
  const key = (one: Operation) => [isWanted(one) ? 0 : 1, one.holders[0]?.dag_id ?? "~", one.description, one.name];
  return [...operations].sort((a, b) => (key(a).join("\u0000") < key(b).join("\u0000") ? -1 : 1));
}

export function isWanted(operation: Operation): boolean {
  return operation.holders.some((holder) => holder.wants);
}

function keyOf(operation: Operation, column: Column, now: number): number | string {
  const holder = operation.holders[0];
  switch (column) {
    case "state":
      return `${operation.state} ${String(Math.round((operation.progress ?? 0) * 1000)).padStart(4, "0")}`;
    case "description":
      return operation.description.toLowerCase();
    case "type":
      return operation.type;
    case "holder":
      return holder ? `${holder.dag_id} ${holder.run_id} ${holder.task_id} ${holder.map_index}` : "";
    case "age":
      return age(operation, now) ?? -1;
    case "running":
      return runningTime(operation, now) ?? -1;
    case "attempt":
      return operation.attempt ?? 0;
    case "eecu":
      return operation.batch_eecu_usage_seconds ?? 0;
  }
}

export function sort(operations: Operation[], { column, descending }: Sorting, now: number): Operation[] {
  const keyed = operations.map((one) => [keyOf(one, column, now), one] as const);
  const sign = descending ? -1 : 1;
  keyed.sort(([a, first], [b, second]) => {
    if (a === b) {
      return first.name < second.name ? -1 : 1;
    }
    return a < b ? -sign : sign;
  });
  return keyed.map(([, one]) => one);
}

export type Total = { dag: string; active: number; orphaned: number; eecuSeconds: number };

/** By DAG, the one that uses most first; an empty name stands for what no task has recorded. */
export function totalsByDag(operations: Operation[]): Total[] {
  const totals = new Map<string, Total>();
  for (const one of operations) {
    const dag = one.holders[0]?.dag_id ?? "";
    const total = totals.get(dag) ?? { dag, active: 0, orphaned: 0, eecuSeconds: 0 };
    total.active += one.done ? 0 : 1;
    total.orphaned += one.orphaned ? 1 : 0;
    total.eecuSeconds += one.batch_eecu_usage_seconds ?? 0;
    totals.set(dag, total);
  }
  return [...totals.values()].sort((a, b) => b.active - a.active || b.eecuSeconds - a.eecuSeconds);
}
