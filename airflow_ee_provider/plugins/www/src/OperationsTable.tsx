import type { Answer, Operation } from "./api";
import { type Column, type Sorting, canBeCancelled } from "./choosing";
import { age, cost, destinationUrl, duration, holderName, holderUrl, number, runningTime } from "./format";

const COLUMNS: [Column, string][] = [
  ["state", "State"],
  ["description", "Description"],
  ["type", "Type"],
  ["holder", "Held by"],
  ["age", "Age"],
  ["running", "Running"],
  ["attempt", "Attempt"],
  ["eecu", "EECU-seconds"],
];

export function OperationsTable(props: {
  answer: Answer;
  cancelling: ReadonlySet<string>;
  now: number;
  onSelect: (names: string[], selected: boolean) => void;
  onSort: (sorting: Sorting) => void;
  operations: Operation[];
  selected: ReadonlySet<string>;
  sorting: Sorting;
}) {
  const { answer, operations, selected, sorting } = props;
  const selectable = operations.filter(canBeCancelled).map((one) => one.name);
  const areAllSelected = selectable.length > 0 && selectable.every((name) => selected.has(name));
  return (
    <table className="ee-table">
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
          {COLUMNS.map(([column, title]) => (
            <Heading column={column} key={column} onSort={props.onSort} sorting={sorting} title={title} />
          ))}
          {answer.eecu_hour_price !== null && <th scope="col">Cost</th>}
          <th scope="col">Result</th>
        </tr>
      </thead>
      <tbody>
        {operations.map((one) => (
          <Row
            answer={answer}
            isCancelling={props.cancelling.has(one.name)}
            isSelected={selected.has(one.name)}
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

function Heading(props: { column: Column; title: string; sorting: Sorting; onSort: (sorting: Sorting) => void }) {
  const { column, sorting, title } = props;
  const isSorted = sorting.column === column;
  const order = sorting.descending ? "descending" : "ascending";
  return (
    <th aria-sort={isSorted ? order : "none"} scope="col">
      <button onClick={() => props.onSort({ column, descending: isSorted && !sorting.descending })} type="button">
        {title}
        <span aria-hidden="true">{isSorted ? (sorting.descending ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
}

function Row(props: {
  answer: Answer;
  isCancelling: boolean;
  isSelected: boolean;
  now: number;
  onSelect: (names: string[], selected: boolean) => void;
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
          disabled={!canBeCancelled(operation)}
          onChange={(event) => props.onSelect([operation.name], event.target.checked)}
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
      <td data-label="Held by">
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
  const [first, ...others] = operation.holders;
  if (!first) {
    return <span className="ee-muted">no task has recorded it</span>;
  }
  const title = operation.holders.map((one) => `${holderName(one)}, ${one.run_id}: ${one.task_state ?? "no state"}`);
  return (
    <span title={title.join("\n")}>
      <a href={holderUrl(first)}>{holderName(first)}</a>
      {others.length > 0 && ` +${others.length}`}
      <small>
        {first.task_state ?? "no state"}, try {first.try_number}
        {operation.orphaned && <strong className="ee-orphan">orphaned</strong>}
      </small>
    </span>
  );
}
