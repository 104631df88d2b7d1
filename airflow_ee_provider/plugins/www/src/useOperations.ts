/** What the page's endpoint answers, again and again while somebody sees the page. */
import { type Answer, type Place, readOperations } from "./api";
import type { View } from "./view";

/** Milliseconds between two looks, and before one while somebody types. */
const REFRESH = 5000;
const TYPING = 250;

/** The last answer, the view that it is for, what is wrong, and a way to look again at once. */
export function useOperations({ dagId, runId, taskId, mapIndex }: Place, view: View) {
  const [found, setFound] = React.useState<{ answer: Answer; view: View }>();
  const [problem, setProblem] = React.useState("");
  const [look, setLook] = React.useState(0);
  const isFirst = React.useRef(true);
  React.useEffect(() => {
    const aborting = new AbortController();
    let timer: number | undefined;
    let last: Answer | undefined;
    const read = async () => {
      if (document.visibilityState === "visible") {
        try {
          last = await readOperations({ dagId, mapIndex, runId, taskId }, view, last, aborting.signal);
          setFound({ answer: last, view });
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
    timer = window.setTimeout(read, isFirst.current ? 0 : TYPING);
    isFirst.current = false;
    return () => {
      aborting.abort();
      window.clearTimeout(timer);
    };
  }, [dagId, runId, taskId, mapIndex, view, look]);
  return { found, lookAgain: () => setLook((count) => count + 1), problem };
}
