/** How numbers, times and states are shown. */
import type { Answer, Holder, Operation } from "./api";

const UNITS: [string, number][] = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
];

/** 3 h 12 min: the two largest units. */
export function duration(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) {
    return "";
  }
  let left = Math.max(0, Math.round(seconds));
  const parts: string[] = [];
  for (const [unit, size] of UNITS) {
    if (left >= size || (unit === "s" && parts.length === 0)) {
      parts.push(`${Math.floor(left / size)} ${unit}`);
      left %= size;
    }
  }
  return parts.slice(0, 2).join(" ");
}

const secondsBetween = (from: string | null, to: number) => (from ? (to - Date.parse(from)) / 1000 : null);

export const age = (operation: Operation, now: number) => secondsBetween(operation.create_time, now);

export function runningTime(operation: Operation, now: number): number | null {
  return secondsBetween(operation.start_time, operation.end_time ? Date.parse(operation.end_time) : now);
}

export const number = (value: number | null) =>
  value === null ? "" : value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 });

export function cost(eecuSeconds: number | null, answer: Answer): string {
  if (eecuSeconds === null || answer.eecu_hour_price === null) {
    return "";
  }
  const amount = (eecuSeconds / 3600) * answer.eecu_hour_price;
  try {
    return amount.toLocaleString(undefined, { currency: answer.currency, style: "currency" });
  } catch {
    return `${amount.toFixed(2)} ${answer.currency}`;
  }
}

export const holderName = (holder: Holder) =>
  `${holder.dag_id}.${holder.task_id}${holder.map_index >= 0 ? `[${holder.map_index}]` : ""}`;

/** Of more holders than the answer has, and of those that this user may not see, the number is known. */
export function otherHolders(operation: Operation): string {
  const { hidden_holders: hidden, more_holders: more } = operation;
  return [more > 0 ? `${more} more` : "", hidden > 0 ? `${hidden} that you may not see` : ""].filter(Boolean).join(", ");
}

/** The tasks that have recorded an operation, in a line. */
export function heldBy(operation: Operation): string {
  const names = operation.holders.map((holder) => `${holderName(holder)} (${holder.task_state ?? "no state"})`);
  const others = otherHolders(operation);
  return [...names, ...(others ? [`${others}`] : [])].join(", ") || "no task has recorded it";
}

export function holderUrl(holder: Holder): string {
  const [dag, run, task] = [holder.dag_id, holder.run_id, holder.task_id].map(encodeURIComponent);
  const mapped = holder.map_index >= 0 ? `/mapped/${holder.map_index}` : "";
  return new URL(`dags/${dag}/runs/${run}/tasks/${task}${mapped}`, document.baseURI).href;
}

/** Where a person can open a result; only addresses that cannot do anything else. */
export function destinationUrl(operation: Operation): string {
  const uri = operation.destination_uris.find((one) => /^https:\/\//.test(one));
  return uri ?? "";
}
