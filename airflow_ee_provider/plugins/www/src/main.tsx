import { type Operation, type Place, ROWS, cancelOperations } from "./api";
import { CancelDialog } from "./CancelDialog";
import { NONE, type Selection, refreshed, selected } from "./choosing";
import { FilterBar } from "./FilterBar";
import { Problems, Summary, WhyNone } from "./Notices";
import { OperationsTable } from "./OperationsTable";
import css from "./styles.css";
import { Totals } from "./Totals";
import { useOperations } from "./useOperations";
import { type View, choosesTheSame, useView } from "./view";

function Page(place: Place) {
  const [view, changeView] = useView();
  const { found, lookAgain, problem } = useOperations(place, view);
  const [selection, setSelection] = React.useState<{ of: View; operations: Selection }>({ of: view, operations: NONE });
  const [cancelling, setCancelling] = React.useState<ReadonlySet<string>>(new Set());
  const [isAsking, setIsAsking] = React.useState(false);
  const [said, setSaid] = React.useState("");
  const dags = useDags(found?.answer.totals.map((total) => total.dag) ?? []);
  const answer = found?.answer;
  // As long as the answer is for another view, nothing of it can be selected.
  const isStale = found !== undefined && found.view !== view;
  // A selection ends with the filters for which it was made, also where the browser's *back* changes them.
  const operations = choosesTheSame(selection.of, view) ? refreshed(selection.operations, answer?.operations ?? []) : NONE;
  const toCancel = [...operations.values()];
  const select = (next: Selection) => setSelection({ of: view, operations: next });

  const cancel = async (chosen: Operation[]) => {
    const names = chosen.map((one) => one.name);
    setCancelling((before) => new Set([...before, ...names]));
    select(NONE);
    setSaid(`Asking Earth Engine to cancel ${names.length.toLocaleString()} …`);
    try {
      const refused = (await cancelOperations(names)).filter((result) => result.error);
      const first = refused[0];
      setSaid(
        first
          ? `${refused.length.toLocaleString()} could not be cancelled. ${first.name}: ${first.error?.message}`
          : `Cancel requested of ${names.length.toLocaleString()}: Earth Engine confirms each as it ends.`,
      );
      setCancelling((before) => new Set([...before].filter((name) => !refused.some((one) => one.name === name))));
    } catch (error) {
      setSaid((error as Error).message);
      setCancelling((before) => new Set([...before].filter((name) => !names.includes(name))));
    }
    lookAgain();
  };

  const isForAll = place.dagId === undefined;
  const pages = Math.max(1, Math.ceil((answer?.chosen ?? 0) / ROWS));
  const notShown = toCancel.filter((one) => !answer?.operations.some((shown) => shown.name === one.name)).length;
  return (
    <main className="ee-page">
      <style>{css}</style>
      <header>
        <h1>Earth Engine operations</h1>
        <div className="ee-buttons">
          {toCancel.length > 0 && (
            <button onClick={() => select(NONE)} type="button">
              Select none
            </button>
          )}
          <button
            className="ee-danger"
            disabled={toCancel.length === 0}
            onClick={() => setIsAsking(true)}
            type="button"
          >
            {toCancel.length === 0 ? "Cancel…" : `Cancel ${toCancel.length.toLocaleString()}…`}
            {notShown > 0 && ` (${notShown.toLocaleString()} not shown)`}
          </button>
        </div>
      </header>
      <FilterBar
        connections={answer?.connections ?? []}
        dags={dags}
        onChange={changeView}
        showsDags={isForAll}
        view={view}
      />
      <div aria-live="polite" role="status">
        <Problems answer={answer} problem={problem} />
        {said && <p>{said}</p>}
      </div>
      {answer === undefined ? (
        !problem && <p className="ee-muted">Asking Earth Engine …</p>
      ) : (
        <>
          <Summary answer={answer} />
          {answer.operations.length > 0 && (
            <OperationsTable
              answer={answer}
              cancelling={cancelling}
              isStale={isStale}
              now={Date.now()}
              onSelect={(some, isSelected) => select(selected(operations, some, isSelected))}
              onSort={changeView}
              selection={operations}
              view={view}
            />
          )}
          {answer.chosen === 0 && !isStale && <WhyNone answer={answer} view={view} />}
          {(pages > 1 || view.page > 0) && (
            <Pager current={view.page} onChange={(page) => changeView({ page })} pages={pages} />
          )}
          {isForAll && <Totals answer={answer} onChoose={(dag) => changeView({ dag })} />}
        </>
      )}
      {isAsking && (
        <CancelDialog
          onAnswer={(isToCancel) => {
            setIsAsking(false);
            if (isToCancel) {
              void cancel(toCancel);
            }
          }}
          operations={toCancel}
        />
      )}
    </main>
  );
}

/** All DAGs that any answer has named: one that the filters choose must not hide the others. */
function useDags(named: string[]): string[] {
  const known = React.useRef(new Set<string>());
  named.filter(Boolean).forEach((dag) => known.current.add(dag));
  return [...known.current];
}

function Pager(props: { current: number; pages: number; onChange: (page: number) => void }) {
  const { current, onChange, pages } = props;
  return (
    <nav aria-label="Pages" className="ee-buttons">
      <button disabled={current === 0} onClick={() => onChange(Math.min(current, pages) - 1)} type="button">
        Previous
      </button>
      <span>
        {current + 1} of {pages}
      </span>
      <button disabled={current >= pages - 1} onClick={() => onChange(current + 1)} type="button">
        Next
      </button>
    </nav>
  );
}

/** Another tab or another DAG begins with nothing selected. */
function PageOfPlace(place: Place) {
  return <Page key={[place.dagId, place.runId, place.taskId, place.mapIndex].join(" ")} {...place} />;
}

// Airflow's UI takes the component from here.
Reflect.set(globalThis, "AirflowPlugin", PageOfPlace);
