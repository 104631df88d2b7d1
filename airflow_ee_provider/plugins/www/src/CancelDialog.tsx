import type { Operation } from "./api";
import { asAsked } from "./choosing";
import { heldBy } from "./format";

/** Above that, the number is to be typed: so many are rarely meant by one click. */
const FEW = 10;

/** Says how many of the chosen operations a task waits for. */
function waiting(needed: number, chosen: number): string {
  if (chosen === 1) return "A task still waits for it";
  return needed === 1 ? "A task still waits for one of them" : `Tasks still wait for ${needed.toLocaleString()} of them`;
}

/** Asks before anything is cancelled, and lists all of it: those first that a task still waits for. */
export function CancelDialog(props: { operations: Operation[]; onAnswer: (cancel: boolean) => void }) {
  const { operations, onAnswer } = props;
  const dialog = React.useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = React.useState("");
  React.useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    dialog.current?.showModal();
    return () => before?.focus();
  }, []);
  const needed = operations.filter((one) => one.needed).length;
  const isMeant = operations.length <= FEW || typed.trim() === String(operations.length);
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
      {needed > 0 && (
        <p className="ee-warning">
          {waiting(needed, operations.length)}, and will fail.
        </p>
      )}
      <ul>
        {asAsked(operations).map((one) => (
          <li key={one.name}>
            <strong>{one.description || one.name}</strong>, {one.state.toLowerCase()}:{" "}
            {heldBy(one)}
          </li>
        ))}
      </ul>
      {operations.length > FEW && (
        <label>
          Type {operations.length} to cancel them
          <input inputMode="numeric" onChange={(event) => setTyped(event.target.value)} value={typed} />
        </label>
      )}
      <div className="ee-buttons">
        <button autoFocus onClick={() => onAnswer(false)} type="button">
          Keep
        </button>
        <button className="ee-danger" disabled={!isMeant} onClick={() => onAnswer(true)} type="button">
          Cancel {operations.length === 1 ? "it" : "them"}
        </button>
      </div>
    </dialog>
  );
}
