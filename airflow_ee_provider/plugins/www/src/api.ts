/** What the endpoints of the page answer; see airflow_ee_provider/plugins/app.py. */
import type { View } from "./view";

/** Rows of a page: with 3,000 operations the browser has to draw no more. */
export const ROWS = 50;

export type Holder = {
  dag_id: string;
  run_id: string;
  task_id: string;
  map_index: number;
  try_number: number;
  task_state: string | null;
  run_state: string | null;
  ownership: "owner" | "handed_off" | "observer" | "canceller";
  needs: boolean;
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
  /** How many more the answer leaves out, and how many are of DAGs that this user may not read. */
  more_holders: number;
  hidden_holders: number;
  orphaned: boolean;
  /** Whether a task may still need it, also one that this user may not see. */
  needed: boolean;
  mine: boolean;
  /** Why this user may not cancel it; empty if they may, or it has ended. */
  forbidden: string;
  conn_id: string;
  /** Why the collector has cancelled it. */
  cancelled_because: string | null;
};

/** What the operations of a DAG add up to; an empty name stands for what no task has recorded. */
export type Total = { dag: string; active: number; orphaned: number; eecu_seconds: number };

export type Answer = {
  /** Those of the page that was asked for. */
  operations: Operation[];
  /** How many this user may see here; how many of these are chosen; how many of those are orphaned. */
  total: number;
  chosen: number;
  orphaned: number;
  /** Of what is chosen. */
  totals: Total[];
  other_dags: number;
  /** How many there are here that this user may not see. */
  hidden: number;
  /** Seconds since they were read. */
  age: number;
  /** The connections that were asked, as far as this user may read them. */
  connections: string[];
  /** By connection, why its project could not be listed; and of how many others that this user may not read. */
  errors: Record<string, string>;
  hidden_errors: number;
  eecu_hour_price: number | null;
  currency: string;
  /** Of the answer: the same as long as nothing has changed. */
  etag: string;
};

/** Which task instances a tab of Airflow's UI is about; empty for the page of its own. */
export type Place = { dagId?: string; runId?: string; taskId?: string; mapIndex?: string };

export type CancelResult = { name: string; outcome: string; error: { message: string } | null };

const endpoint = (path: string) => new URL(`earth-engine/${path}`, document.baseURI);

/** What a person can do about an answer that is none of the endpoint's own. */
const REMEDIES: Record<number, string> = {
  401: "Your session has ended: load the page again to sign in.",
  403: "Airflow does not let you see this page: ask an administrator for the permission to read DAG runs.",
  404: "Airflow does not serve this page any more: load it again, or ask an administrator whether the provider is installed.",
  502: "Airflow's API server cannot be reached through its proxy: try again in a minute.",
  503: "Airflow's API server is busy: try again in a minute.",
  504: "Earth Engine has not answered yet: the page asks again every few seconds.",
};

async function fetched(url: URL, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (options.signal?.aborted) {
      throw error;
    }
    throw new Error("Airflow's API server cannot be reached: check your network, and whether it runs.");
  }
  if (response.ok || response.status === 304) {
    return response;
  }
  const body = (await response.json().catch(() => ({}))) as { detail?: unknown };
  const detail = response.status !== 401 && typeof body.detail === "string" ? body.detail : "";
  const remedy = REMEDIES[response.status] ?? "Try again; if it stays, an administrator finds why in the API server's log.";
  throw new Error(detail || `Airflow's API server answers ${response.status}. ${remedy}`);
}

/** Reads what a view shows; `last` is the answer before, for the same view, whose rows need not be sent again. */
export async function readOperations(
  place: Place,
  view: View,
  last: Answer | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const url = endpoint("operations");
  const { page, ...choice } = view;
  // Airflow calls the index of a task that is not mapped -1.
  const map_index = place.mapIndex === "-1" ? undefined : place.mapIndex;
  const here = { dag_id: place.dagId, run_id: place.runId, task_id: place.taskId, map_index };
  for (const [name, value] of Object.entries({ ...here, ...choice, limit: ROWS, offset: page * ROWS })) {
    if (value !== undefined && value !== "" && value !== false && value !== 0) {
      url.searchParams.set(name, String(value));
    }
  }
  const response = await fetched(url, { headers: last ? { "If-None-Match": last.etag } : {}, signal });
  if (response.status === 304 && last) {
    return { ...last, age: Number(response.headers.get("Age") ?? 0) };
  }
  return { ...((await response.json()) as Omit<Answer, "etag">), etag: response.headers.get("ETag") ?? "" };
}

export async function cancelOperations(names: string[]): Promise<CancelResult[]> {
  const response = await fetched(endpoint("operations/cancel"), {
    body: JSON.stringify({ operation_names: names }),
    headers: { "Content-Type": "application/json" },
    method: "POST",
  });
  return ((await response.json()) as { results: CancelResult[] }).results;
}
