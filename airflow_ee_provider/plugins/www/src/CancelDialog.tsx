import type { Operation } from "./api";
import { holderName } from "./format";

const SHOWN = 12;

/** Asks before anything is cancelled: what it is, and who holds it. */
export function CancelDialog(props: { operations: Operation[]; onAnswer: (cancel: boolean) => void }) {
  const { operations, onAnswer } = props;
  const dialog = React.useRef<HTMLDialogElement>(null);
  React.useEffect(() => dialog.current?.showModal(), []);
  const wanted = operations.filter((one) => one.holders.some((holder) => holder.wants)).length;
  const what = operations.length === 1 ? "this operation" : `these ${operations.length.toLocaleString()} operations`;
  return (
    <dialog
      aria-labelledby="ee-cancel-title"
      onCancel={(event) => {
        event.preventDefault();
        onAnswer(false);
      }}
      ref={dialog}
    >
      <h2 id="ee-cancel-title">Cancel {what}?</h2>
      {wanted > 0 && (
        <p className="ee-warning">
          {wanted === 1 ? "A task still waits for one of them" : `Tasks still wait for ${wanted.toLocaleString()} of them`}
          , and will fail.
        </p>
      )}
      <ul>
        {operations.slice(0, SHOWN).map((one) => (
          <li key={one.name}>
            <strong>{one.description || one.name}</strong>, {one.state.toLowerCase()}:{" "}
            {one.holders.length === 0
              ? "no task has recorded it"
              : one.holders.map((holder) => `${holderName(holder)} (${holder.task_state ?? "no state"})`).join(", ")}
          </li>
        ))}
        {operations.length > SHOWN && <li>and {(operations.length - SHOWN).toLocaleString()} more</li>}
      </ul>
      <div className="ee-buttons">
        <button autoFocus onClick={() => onAnswer(false)} type="button">
          Keep
        </button>
        <button className="ee-danger" onClick={() => onAnswer(true)} type="button">
          Cancel {operations.length === 1 ? "it" : "them"}
        </button>
      </div>
    </dialog>
  );
}
