/** What the doors of the page answer; see airflow_ee_provider/plugins/app.py. */

export type Holder = {
  dag_id: string;
  run_id: string;
  task_id: string;
  map_index: number;
  try_number: number;
  task_state: string | null;
  run_state: string | null;
  ownership: "owner" | "handed_off" | "observer" | "canceller";
  wants: boolean;
};

export type Operation = {
  name: string;
  state: string;
  done: boolean;
  error: { code: number; message: string } | null;
  description: string;
  type: string;
  progress: number | null;
  attempt: number | null;
  batch_eecu_usage_seconds: number | null;
  create_time: string | null;
  start_time: string | null;
  end_time: string | null;
  destination_uris: string[];
  holders: Holder[];
  orphaned: boolean;
  mine: boolean;
  /** Why this user may not cancel it; empty if they may, or it has ended. */
  forbidden: string;
  conn_id: string;
  /** Why the collector has cancelled it. */
  cancelled_because: string | null;
};

export type Answer = {
  operations: Operation[];
  /** How many there are that this user may not see. */
  hidden: number;
  /** Seconds since they were read. */
  age: number;
  /** The connections that were asked, as far as this user may read them. */
  connections: string[];
  /** By connection, why its project could not be listed. */
  errors: Record<string, string>;
  eecu_hour_price: number | null;
  currency: string;
};

/** Which task instances a tab of Airflow's UI is about; empty for the page of its own. */
export type Place = { dagId?: string; runId?: string; taskId?: string; mapIndex?: string };

export type CancelResult = { name: string; outcome: string; error: { message: string } | null };

const door = (path: string) => new URL(`earth-engine/${path}`, document.baseURI);

async function answerOf<T>(response: Response): Promise<T> {
  if (response.ok) {
    return (await response.json()) as T;
  }
  if (response.status === 401) {
    throw new Error("Your session has ended: load the page again to sign in.");
  }
  const body = (await response.json().catch(() => ({}))) as { detail?: unknown };
  throw new Error(typeof body.detail === "string" ? body.detail : `Airflow answers ${response.status}.`);
}

export async function readOperations(place: Place, signal: AbortSignal): Promise<Answer> {
  const url = door("operations");
  const wanted = { dag_id: place.dagId, run_id: place.runId, task_id: place.taskId, map_index: place.mapIndex };
  for (const [name, value] of Object.entries(wanted)) {
    // Airflow calls the index of a task that is not mapped -1.
    if (value !== undefined && value !== "-1") {
      url.searchParams.set(name, value);
    }
  }
  return answerOf<Answer>(await fetch(url, { signal }));
}

export async function cancelOperations(names: string[]): Promise<CancelResult[]> {
  const response = await fetch(door("operations/cancel"), {
    body: JSON.stringify({ operation_names: names }),
    headers: { "Content-Type": "application/json" },
    method: "POST",
  });
  return (await answerOf<{ results: CancelResult[] }>(response)).results;
}
