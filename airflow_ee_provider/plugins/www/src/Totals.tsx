import type { Answer } from "./api";
import type { Total } from "./choosing";
import { cost, number } from "./format";

const SHOWN = 20;

export function Totals({ answer, totals }: { answer: Answer; totals: Total[] }) {
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
          {totals.slice(0, SHOWN).map((total) => (
            <tr key={total.dag}>
              <td data-label="Dag">{total.dag || <span className="ee-muted">no task has recorded them</span>}</td>
              <td data-label="Active">{total.active.toLocaleString()}</td>
              <td data-label="Orphaned">{total.orphaned.toLocaleString()}</td>
              <td data-label="EECU-seconds">{number(total.eecuSeconds)}</td>
              {answer.eecu_hour_price !== null && <td data-label="Cost">{cost(total.eecuSeconds, answer)}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
