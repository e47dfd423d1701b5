/* The lines of the grid that are in sight, asked for page by page. */
import { useEffect, useMemo, useRef, useState } from "react";

import { ask, ours, Problem, type Query } from "./api";
import type { Coverage } from "./types";

const PAGE = 100;
const EVERY = 15;
const PASSING = 90;
const PAGES_KEPT = 12;

export interface Lines {
  /** The last answer, whichever page it was: what it says of slots and totals holds for all. */
  head: Coverage | undefined;
  checkedAt: string | null;
  problem: Problem | undefined;
  loading: boolean;
  line: (index: number) => Coverage["servers"][number] | undefined;
}

interface Held {
  key: string;
  head?: Coverage;
  checkedAt: string | null;
  pages: Map<number, Coverage>;
  problem?: Problem;
}

/**
 * Ask for the pages that hold some rows, and ask again while somebody looks.
 *
 * @param query filters and order.
 * @param first the first row in sight.
 * @param last the last row in sight.
 */
export function useLines(query: Query, first: number, last: number): Lines {
  const key = ours("coverage", query);
  const [held, setHeld] = useState<Held>({ key: "", checkedAt: null, pages: new Map() });
  const from = Math.floor(Math.max(0, first) / PAGE);
  const to = Math.floor(Math.max(first, last) / PAGE);
  const asked = useRef("");

  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      let next = EVERY;
      if (document.hidden) next = 2;
      else {
        try {
          for (let page = from; page <= to; page += 1) {
            const url = new URL(key);
            url.searchParams.set("offset", String(page * PAGE));
            url.searchParams.set("limit", String(PAGE));
            const answer = await ask<Coverage>(url.href, stop.signal);
            setHeld((before) => {
              const pages = new Map(before.key === key ? before.pages : []);
              pages.delete(page);
              pages.set(page, answer.data);
              for (const old of [...pages.keys()].slice(0, Math.max(0, pages.size - PAGES_KEPT))) pages.delete(old);
              return { key, head: answer.data, checkedAt: answer.checkedAt, pages };
            });
          }
        } catch (error) {
          if (stop.signal.aborted) return;
          const problem = error instanceof Problem ? error : new Problem(0, String(error));
          setHeld((before) => ({ ...before, key, pages: before.key === key ? before.pages : new Map<number, Coverage>(), problem }));
          next = problem.retryAfter ?? EVERY;
          if (problem.status >= 400 && problem.status < 500) return;
        }
      }
      if (!stop.signal.aborted) timer = setTimeout(() => void look(), next * 1000);
    };
    // Who scrolls past many pages asks for none of them; what is new is asked for at once.
    timer = setTimeout(() => void look(), asked.current === key ? PASSING : 0);
    asked.current = key;
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [key, from, to]);

  return useMemo(
    () => ({
      head: held.head,
      checkedAt: held.checkedAt,
      problem: held.key === key ? held.problem : undefined,
      loading: held.key !== key,
      line: (index) => held.pages.get(Math.floor(index / PAGE))?.servers[index % PAGE],
    }),
    [held, key],
  );
}
