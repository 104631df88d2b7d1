import { type Filters, NO_FILTERS } from "./choosing";

const STATES: [string, string][] = [
  ["active", "Active"],
  ["", "All"],
  ["PENDING", "Pending"],
  ["RUNNING", "Running"],
  ["CANCELLING", "Cancelling"],
  ["SUCCEEDED", "Succeeded"],
  ["FAILED", "Failed"],
  ["CANCELLED", "Cancelled"],
];

export function FilterBar(props: {
  dags: string[];
  filters: Filters;
  onChange: (filters: Filters) => void;
  showsDags: boolean;
}) {
  const { filters, onChange } = props;
  const change = (part: Partial<Filters>) => onChange({ ...filters, ...part });
  return (
    <form className="ee-filters" onSubmit={(event) => event.preventDefault()} role="search">
      <label>
        State
        <select onChange={(event) => change({ state: event.target.value })} value={filters.state}>
          {STATES.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </label>
      {props.showsDags && (
        <label>
          Dag
          <select onChange={(event) => change({ dag: event.target.value })} value={filters.dag}>
            <option value="">All</option>
            {props.dags.map((dag) => (
              <option key={dag}>{dag}</option>
            ))}
          </select>
        </label>
      )}
      <label className="ee-grow">
        Description or id
        <input onChange={(event) => change({ text: event.target.value })} type="search" value={filters.text} />
      </label>
      <Tick isTicked={filters.onlyOrphans} onChange={(onlyOrphans) => change({ onlyOrphans })} text="Only orphans" />
      <Tick isTicked={filters.onlyMine} onChange={(onlyMine) => change({ onlyMine })} text="Only mine" />
      <button onClick={() => onChange(NO_FILTERS)} type="button">
        Reset
      </button>
    </form>
  );
}

function Tick(props: { isTicked: boolean; onChange: (isTicked: boolean) => void; text: string }) {
  return (
    <label className="ee-tick">
      <input checked={props.isTicked} onChange={(event) => props.onChange(event.target.checked)} type="checkbox" />
      {props.text}
    </label>
  );
}
