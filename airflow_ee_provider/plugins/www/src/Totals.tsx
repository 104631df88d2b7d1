import type { Answer } from "./api";
import { cost, number } from "./format";

/** By DAG, the one that has most first; of what the filters choose. */
export function Totals({ answer, onChoose }: { answer: Answer; onChoose: (dag: string) => void }) {
  return (
    <details className="ee-totals">
      <summary>Totals by Dag</summary>
      <table className="ee-table">
        <thead>
          <tr>
            {["Dag", "Active", "Orphaned", "EECU-seconds"].map((title) => (
              <th key={title} scope="col">
                {title}
              </th>
            ))}
            {answer.eecu_hour_price !== null && <th scope="col">Cost</th>}
          </tr>
        </thead>
        <tbody>
          {answer.totals.map((total) => (
            <tr key={total.dag}>
              <td data-label="Dag">
                {total.dag ? (
                  <button className="ee-link" onClick={() => onChoose(total.dag)} type="button">
                    {total.dag}
                  </button>
                ) : (
                  <span className="ee-muted">no task has recorded them</span>
                )}
              </td>
              <td data-label="Active">{total.active.toLocaleString()}</td>
              <td data-label="Orphaned">{total.orphaned.toLocaleString()}</td>
              <td data-label="EECU-seconds">{number(total.eecu_seconds)}</td>
              {answer.eecu_hour_price !== null && <td data-label="Cost">{cost(total.eecu_seconds, answer)}</td>}
            </tr>
          ))}
        </tbody>
      </table>
      {answer.other_dags > 0 && <p className="ee-muted">and {answer.other_dags.toLocaleString()} more Dags</p>}
    </details>
  );
}
