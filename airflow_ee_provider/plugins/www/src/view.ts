/** Which operations are shown and in which order: it stands in the page's address, so that it can be sent to others. */

export const COLUMNS = ["state", "description", "type", "holder", "age", "running", "attempt", "eecu"] as const;

export type Column = (typeof COLUMNS)[number];

export const STATES = ["active", "", "PENDING", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"] as const;

export type View = {
  /** A state, `active` for all that have not ended, or empty for all. */
  state: string;
  dag: string;
  conn_id: string;
  text: string;
  orphaned: boolean;
  mine: boolean;
  sort: Column;
  descending: boolean;
  /** From 0 on. */
  page: number;
};

export const FIRST_VIEW: View = {
  state: "active",
  dag: "",
  conn_id: "",
  text: "",
  orphaned: false,
  mine: false,
  sort: "age",
  descending: false,
  page: 0,
};

const NAMES = Object.keys(FIRST_VIEW) as (keyof View)[];
const LONGEST = 300;

/** Reads a view from an address; what cannot be one is as if it was not there. */
export function viewOf(search: string): View {
  const params = new URLSearchParams(search);
  const text = (name: string) => (params.get(name) ?? "").slice(0, LONGEST);
  const state = STATES.find((one) => (one || "all") === params.get("state"));
  const column = COLUMNS.find((one) => one === params.get("sort"));
  const page = Number.parseInt(params.get("page") ?? "", 10);
  return {
    state: state ?? FIRST_VIEW.state,
    dag: text("dag"),
    conn_id: text("conn_id"),
    text: text("text"),
    orphaned: params.get("orphaned") === "true",
    mine: params.get("mine") === "true",
    sort: column ?? FIRST_VIEW.sort,
    descending: params.get("descending") === "true",
    page: page > 1 ? page - 1 : 0,
  };
}

/** Writes a view into an address, which may have more in it; what is as at first is left out. */
export function searchOf(view: View, search: string): string {
  const params = new URLSearchParams(search);
  for (const name of NAMES) {
    const value = name === "page" ? view.page + 1 : view[name];
    if (view[name] === FIRST_VIEW[name]) {
      params.delete(name);
    } else {
      params.set(name, name === "state" && value === "" ? "all" : String(value));
    }
  }
  const text = params.toString();
  return text ? `?${text}` : "";
}

/** Whether two views choose the same operations, on whichever page and in whichever order. */
export function choosesTheSame(one: View, other: View): boolean {
  return NAMES.every((name) => ["sort", "descending", "page"].includes(name) || one[name] === other[name]);
}

/** The view that the address has, and what changes both; the browser's *back* brings the last one. */
export function useView(): [View, (part: Partial<View>) => void] {
  const [view, setView] = React.useState(() => viewOf(window.location.search));
  React.useEffect(() => {
    const onBack = () => setView(viewOf(window.location.search));
    window.addEventListener("popstate", onBack);
    return () => window.removeEventListener("popstate", onBack);
  }, []);
  const change = (part: Partial<View>) => {
    const next = { ...view, page: 0, ...part };
    const url = window.location.pathname + searchOf(next, window.location.search) + window.location.hash;
    // A step of *back* for each choice, but not for each letter. The state is that of Airflow's own router.
    if ("text" in part && view.text !== "" && next.text !== "") {
      window.history.replaceState(window.history.state, "", url);
    } else {
      window.history.pushState(window.history.state, "", url);
    }
    setView(next);
  };
  return [view, change];
}
