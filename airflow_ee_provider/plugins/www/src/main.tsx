import { type Answer, type Operation, type Place, cancelOperations, readOperations } from "./api";
import { CancelDialog } from "./CancelDialog";
import { type Filters, NO_FILTERS, type Sorting, canBeCancelled, choose, sort, totalsByDag } from "./choosing";
import { FilterBar } from "./FilterBar";
import { OperationsTable } from "./OperationsTable";
import css from "./styles.css";
import { Totals } from "./Totals";

/** Milliseconds between two looks, while the page is seen. */
const REFRESH = 5000;
/** Rows of a page: with 3,000 operations the browser has to draw no more. */
const ROWS = 50;

/** The answer of the last look, what is wrong, and a way to look again at once. */
function useOperations({ dagId, runId, taskId, mapIndex }: Place) {
  const [answer, setAnswer] = React.useState<Answer>();
  const [problem, setProblem] = React.useState("");
  const [look, setLook] = React.useState(0);
  React.useEffect(() => {
    const aborting = new AbortController();
    let timer: number | undefined;
    const read = async () => {
      if (document.visibilityState === "visible") {
        try {
          setAnswer(await readOperations({ dagId, mapIndex, runId, taskId }, aborting.signal));
          setProblem("");
        } catch (error) {
          if (aborting.signal.aborted) {
            return;
          }
          setProblem((error as Error).message);
        }
      }
      timer = window.setTimeout(read, REFRESH);
    };
    void read();
    return () => {
      aborting.abort();
      window.clearTimeout(timer);
    };
  }, [dagId, runId, taskId, mapIndex, look]);
  return { answer, lookAgain: () => setLook((count) => count + 1), problem };
}

function Page(place: Place) {
  const { answer, lookAgain, problem } = useOperations(place);
  const [filters, setFilters] = React.useState<Filters>(NO_FILTERS);
  const [sorting, setSorting] = React.useState<Sorting>({ column: "age", descending: false });
  const [pageNumber, setPageNumber] = React.useState(0);
  const [selected, setSelected] = React.useState<ReadonlySet<string>>(new Set());
  const [cancelling, setCancelling] = React.useState<ReadonlySet<string>>(new Set());
  const [isAsking, setIsAsking] = React.useState(false);
  const [said, setSaid] = React.useState("");
  const now = Date.now();
  const chosen = React.useMemo(
    () => (answer ? sort(choose(answer.operations, filters), sorting, now) : []),
    [answer, filters, sorting],
  );
  // Of what the filters show, and of nothing else.
  const toCancel = chosen.filter((one) => selected.has(one.name) && canBeCancelled(one));

  const select = (names: string[], isSelected: boolean) => {
    const next = new Set(selected);
    names.forEach((name) => (isSelected ? next.add(name) : next.delete(name)));
    setSelected(next);
  };
  const cancel = async (operations: Operation[]) => {
    const names = operations.map((one) => one.name);
    setCancelling(new Set([...cancelling, ...names]));
    setSelected(new Set());
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
  const pages = Math.max(1, Math.ceil(chosen.length / ROWS));
  const current = Math.min(pageNumber, pages - 1);
  const shown = chosen.slice(current * ROWS, (current + 1) * ROWS);
  const elsewhere = toCancel.filter((one) => !shown.includes(one)).length;
  return (
    <main className="ee-page">
      <style>{css}</style>
      <header>
        <h1>Earth Engine operations</h1>
        <div className="ee-buttons">
          {toCancel.length > 0 && (
            <button onClick={() => setSelected(new Set())} type="button">
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
            {elsewhere > 0 && ` (${elsewhere.toLocaleString()} on other pages)`}
          </button>
        </div>
      </header>
      <FilterBar
        dags={dagsOf(answer)}
        filters={filters}
        onChange={(next) => {
          setFilters(next);
          setPageNumber(0);
          const left = new Set(choose(answer?.operations ?? [], next).map((one) => one.name));
          setSelected(new Set([...selected].filter((name) => left.has(name))));
        }}
        showsDags={isForAll}
      />
      <div aria-live="polite" role="status">
        {problem && <p className="ee-warning">{problem}</p>}
        {Object.entries(answer?.errors ?? {}).map(([connection, error]) => (
          <p className="ee-warning" key={connection}>
            {connection}: {error}
          </p>
        ))}
        {said && <p>{said}</p>}
      </div>
      {answer === undefined ? (
        !problem && <p className="ee-muted">Asking Earth Engine …</p>
      ) : (
        <>
          <p className="ee-muted">{summary(answer, chosen)}</p>
          {chosen.length > 0 && (
            <OperationsTable
              answer={answer}
              cancelling={cancelling}
              now={now}
              onSelect={select}
              onSort={setSorting}
              operations={shown}
              selected={selected}
              sorting={sorting}
            />
          )}
          {chosen.length === 0 && <p>{whyNone(answer, filters)}</p>}
          {pages > 1 && <Pager current={current} onChange={setPageNumber} pages={pages} />}
          {isForAll && <Totals answer={answer} totals={totalsByDag(chosen)} />}
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

function dagsOf(answer: Answer | undefined): string[] {
  const dags = (answer?.operations ?? []).flatMap((one) => one.holders.map((holder) => holder.dag_id));
  return [...new Set(dags)].sort();
}

/** Says why no operation is shown. */
function whyNone(answer: Answer, filters: Filters): string {
  if (answer.operations.length > 0) {
    return filters.state === "active"
      ? "No operation matches the filters. “Active” hides those that have ended."
      : "No operation matches the filters.";
  }
  return answer.connections.length === 0
    ? "There is no connection whose operations you may see. An administrator names them in [earth_engine] connections."
    : `Nothing is listed for the connections ${answer.connections.join(", ")}.`;
}

function summary(answer: Answer, chosen: Operation[]): string {
  if (answer.operations.length === 0 && Object.keys(answer.errors).length > 0) {
    return "The operations are not known: Earth Engine could not be asked.";
  }
  const orphans = chosen.filter((one) => one.orphaned).length;
  return [
    `${chosen.length.toLocaleString()} of ${answer.operations.length.toLocaleString()} operations`,
    orphans > 0 ? `${orphans.toLocaleString()} orphaned` : "",
    answer.hidden > 0 ? `${answer.hidden.toLocaleString()} that you may not see` : "",
    answer.age > REFRESH / 500 ? `as of ${Math.round(answer.age)} s ago` : "",
  ]
    .filter(Boolean)
    .join(", ");
}

function Pager(props: { current: number; pages: number; onChange: (page: number) => void }) {
  const { current, onChange, pages } = props;
  return (
    <nav aria-label="Pages" className="ee-buttons">
      <button disabled={current === 0} onClick={() => onChange(current - 1)} type="button">
        Previous
      </button>
      <span>
        {current + 1} of {pages}
      </span>
      <button disabled={current === pages - 1} onClick={() => onChange(current + 1)} type="button">
        Next
      </button>
    </nav>
  );
}

/** Another tab or another DAG begins with no filter and nothing selected. */
function PageOfPlace(place: Place) {
  return <Page key={[place.dagId, place.runId, place.taskId, place.mapIndex].join(" ")} {...place} />;
}

// Airflow's UI takes the component from here.
Reflect.set(globalThis, "AirflowPlugin", PageOfPlace);
