import type { Answer } from "./api";
import { FIRST_VIEW, type View, choosesTheSame } from "./view";

const STALE = 10;

/** What is wrong, and what to do about it. */
export function Problems({ answer, problem }: { answer: Answer | undefined; problem: string }) {
  const hidden = answer?.hidden_errors ?? 0;
  return (
    <>
      {problem && <p className="ee-warning">{problem}</p>}
      {Object.entries(answer?.errors ?? {}).map(([connection, error]) => (
        <p className="ee-warning" key={connection}>
          The operations of the connection {connection} are not known. {error}
        </p>
      ))}
      {hidden > 0 && (
        <p className="ee-warning">
          The operations of {hidden === 1 ? "a connection" : `${hidden} connections`} are not known: Earth Engine could
          not be asked. Who may read {hidden === 1 ? "the connection" : "the connections"} sees the reason here.
        </p>
      )}
    </>
  );
}

/** How many operations there are; never a number where it is not known. */
export function Summary({ answer }: { answer: Answer }) {
  const isUnknown = Object.keys(answer.errors).length + answer.hidden_errors > 0;
  if (isUnknown && answer.total === 0) {
    return <p className="ee-muted">The number of operations is not known.</p>;
  }
  const parts = [
    `${answer.chosen.toLocaleString()} of ${answer.total.toLocaleString()} operations${isUnknown ? " that are known" : ""}`,
    answer.orphaned > 0 ? `${answer.orphaned.toLocaleString()} orphaned` : "",
    answer.hidden > 0 ? `${answer.hidden.toLocaleString()} that you may not see` : "",
    answer.age > STALE ? `as of ${Math.round(answer.age)} s ago` : "",
  ];
  return <p className="ee-muted">{parts.filter(Boolean).join(", ")}</p>;
}

/** Why no operation is shown, and what shows some. */
export function WhyNone({ answer, view }: { answer: Answer; view: View }) {
  return <p>{whyNone(answer, view)}</p>;
}

function whyNone(answer: Answer, view: View): string {
  if (answer.total > 0) {
    const ended = view.state === FIRST_VIEW.state ? " “Active” hides those that have ended." : "";
    return `No operation matches the filters.${ended}`;
  }
  if (Object.keys(answer.errors).length + answer.hidden_errors > 0) {
    return "Once Earth Engine can be asked, they are listed here.";
  }
  if (answer.hidden > 0) {
    return "You may see none of them: who may read a Dag's runs sees what the Dag owns.";
  }
  if (answer.connections.length === 0) {
    return "Nothing is listed that you may see. An administrator names the connections in [earth_engine] connections.";
  }
  const names = answer.connections.join(", ");
  return choosesTheSame(view, FIRST_VIEW) ? `Nothing is listed for ${names}.` : `Nothing is listed for ${names}, with any filter.`;
}
