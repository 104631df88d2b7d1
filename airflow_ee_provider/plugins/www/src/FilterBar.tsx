import { FIRST_VIEW, type View } from "./view";

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
  connections: string[];
  dags: string[];
  onChange: (part: Partial<View>) => void;
  showsDags: boolean;
  view: View;
}) {
  const { connections, onChange, view } = props;
  const { sort, descending } = view;
  return (
    <form className="ee-filters" onSubmit={(event) => event.preventDefault()} role="search">
      <Choice onChange={(state) => onChange({ state })} options={STATES} title="State" value={view.state} />
      {props.showsDags && (
        <Choice onChange={(dag) => onChange({ dag })} options={withAll(props.dags, view.dag)} title="Dag" value={view.dag} />
      )}
      {(connections.length > 1 || view.conn_id !== "") && (
        <Choice
          onChange={(conn_id) => onChange({ conn_id })}
          options={withAll(connections, view.conn_id)}
          title="Connection"
          value={view.conn_id}
        />
      )}
      <label className="ee-grow">
        Description or id
        <input maxLength={300} onChange={(event) => onChange({ text: event.target.value })} type="search" value={view.text} />
      </label>
      <Tick isTicked={view.orphaned} onChange={(orphaned) => onChange({ orphaned })} text="Only orphans" />
      <Tick isTicked={view.mine} onChange={(mine) => onChange({ mine })} text="Only mine" />
      <button onClick={() => onChange({ ...FIRST_VIEW, sort, descending })} type="button">
        Reset
      </button>
    </form>
  );
}

function withAll(names: string[], chosen: string): [string, string][] {
  const all = [...new Set(chosen ? [...names, chosen] : names)].sort();
  return [["", "All"], ...all.map((name): [string, string] => [name, name])];
}

function Choice(props: {
  onChange: (value: string) => void;
  options: [string, string][];
  title: string;
  value: string;
}) {
  return (
    <label>
      {props.title}
      <select onChange={(event) => props.onChange(event.target.value)} value={props.value}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
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
