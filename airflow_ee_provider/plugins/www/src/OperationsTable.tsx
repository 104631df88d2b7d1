import type { Answer, Operation } from "./api";
import { type Selection, canBeCancelled } from "./choosing";
import {
  age,
  cost,
  destinationUrl,
  duration,
  heldBy,
  holderName,
  holderUrl,
  number,
  otherHolders,
  runningTime,
} from "./format";
import type { Column, View } from "./view";

const TITLES: [Column, string][] = [
  ["state", "State"],
  ["description", "Description"],
  ["type", "Type"],
  ["holder", "Tasks"],
  ["age", "Age"],
  ["running", "Running"],
  ["attempt", "Attempt"],
  ["eecu", "EECU-seconds"],
];

export function OperationsTable(props: {
  answer: Answer;
  cancelling: ReadonlySet<string>;
  /** Whether these are not yet the operations that the filters choose. */
  isStale: boolean;
  now: number;
  onSelect: (operations: Operation[], isSelected: boolean) => void;
  onSort: (part: Partial<View>) => void;
  selection: Selection;
  view: View;
}) {
  const { answer, isStale, selection, view } = props;
  const selectable = isStale ? [] : answer.operations.filter(canBeCancelled);
  const areAllSelected = selectable.length > 0 && selectable.every((one) => selection.has(one.name));
  return (
    <table aria-busy={isStale} className="ee-table">
      <thead>
        <tr>
          <th scope="col">
            <input
              aria-label="Select all of this page"
              checked={areAllSelected}
              disabled={selectable.length === 0}
              onChange={() => props.onSelect(selectable, !areAllSelected)}
              type="checkbox"
            />
          </th>
          {TITLES.map(([column, title]) => (
            <Heading column={column} key={column} onSort={props.onSort} title={title} view={view} />
          ))}
          {answer.eecu_hour_price !== null && <th scope="col">Cost</th>}
          <th scope="col">Result</th>
        </tr>
      </thead>
      <tbody>
        {answer.operations.map((one) => (
          <Row
            answer={answer}
            isCancelling={props.cancelling.has(one.name)}
            isSelectable={!isStale && canBeCancelled(one)}
            isSelected={selection.has(one.name)}
            key={one.name}
            now={props.now}
            onSelect={props.onSelect}
            operation={one}
          />
        ))}
      </tbody>
    </table>
  );
}

function Heading(props: { column: Column; onSort: (part: Partial<View>) => void; title: string; view: View }) {
  const { column, title, view } = props;
  const isSorted = view.sort === column;
  const order = view.descending ? "descending" : "ascending";
  return (
    <th aria-sort={isSorted ? order : "none"} scope="col">
      <button onClick={() => props.onSort({ sort: column, descending: isSorted && !view.descending })} type="button">
        {title}
        <span aria-hidden="true">{isSorted ? (view.descending ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
}

function Row(props: {
  answer: Answer;
  isCancelling: boolean;
  isSelectable: boolean;
  isSelected: boolean;
  now: number;
  onSelect: (operations: Operation[], isSelected: boolean) => void;
  operation: Operation;
}) {
  const { answer, now, operation } = props;
  const label = operation.description || operation.name.split("/").pop();
  const url = destinationUrl(operation);
  return (
    <tr className={props.isSelected ? "ee-selected" : ""}>
      <td>
        <input
          aria-label={`Select ${label}`}
          checked={props.isSelected}
          disabled={!props.isSelectable}
          onChange={(event) => props.onSelect([operation], event.target.checked)}
          title={operation.forbidden}
          type="checkbox"
        />
      </td>
      <td data-label="State">
        <State isCancelling={props.isCancelling} operation={operation} />
      </td>
      <td className="ee-description" data-label="Description" title={operation.name}>
        {label}
        {operation.error && operation.state === "FAILED" && <small>{operation.error.message}</small>}
      </td>
      <td data-label="Type">{operation.type.replace("EXPORT_", "").toLowerCase().replaceAll("_", " ")}</td>
      <td data-label="Tasks">
        <HeldBy operation={operation} />
      </td>
      <td data-label="Age">{duration(age(operation, now))}</td>
      <td data-label="Running">{duration(runningTime(operation, now))}</td>
      <td data-label="Attempt">{operation.attempt ?? ""}</td>
      <td data-label="EECU-seconds">{number(operation.batch_eecu_usage_seconds)}</td>
      {answer.eecu_hour_price !== null && (
        <td data-label="Cost">{cost(operation.batch_eecu_usage_seconds, answer)}</td>
      )}
      <td data-label="Result">
        {url && (
          <a aria-label={`Result of ${label}`} href={url} rel="noreferrer" target="_blank">
            Open
          </a>
        )}
      </td>
    </tr>
  );
}

function State(props: { isCancelling: boolean; operation: Operation }) {
  const { operation } = props;
  const state = props.isCancelling && !operation.done ? "CANCELLING" : operation.state;
  const percent = operation.progress === null || operation.done ? null : Math.round(operation.progress * 100);
  return (
    <>
      <span className={`ee-state ee-${state.toLowerCase()}`}>
        {state.toLowerCase()}
        {percent !== null && percent > 0 && ` ${percent} %`}
      </span>
      {operation.cancelled_because !== null && (
        <small className="ee-why">cancelled automatically: {operation.cancelled_because}</small>
      )}
    </>
  );
}

function HeldBy({ operation }: { operation: Operation }) {
  const [first] = operation.holders;
  const others = [operation.holders.length > 1 ? `+${operation.holders.length - 1}` : "", otherHolders(operation)];
  if (!first) {
    return <span className="ee-muted">{heldBy(operation)}</span>;
  }
  const title = operation.holders.map((one) => `${holderName(one)}, ${one.run_id}: ${one.task_state ?? "no state"}`);
  return (
    <span title={title.join("\n")}>
      <a href={holderUrl(first)}>{holderName(first)}</a>
      {` ${others.filter(Boolean).join(", ")}`}
      <small>
        {first.task_state ?? "no state"}, try {first.try_number}
        {operation.orphaned && <strong className="ee-orphan">orphaned</strong>}
      </small>
    </span>
  );
}
