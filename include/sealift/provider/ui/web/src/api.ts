/* Asking: the page's own API and Airflow's, with the user's cookie. What has not changed is not sent again. */
import { useCallback, useEffect, useRef, useState } from "react";

const CHECKED_HEADER = "Sealift-Checked-At";
const PLACE_HEADER = "Sealift-Place";
const KEPT = 300;
const RETRY_SECONDS = 3;

export type Query = Record<string, string | number | boolean | readonly string[] | undefined>;

export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

export interface Answer<T> {
  data: T;
  checkedAt: string | null;
  /** The place that it is about, where the question left that open. */
  place: string;
}

interface Kept {
  etag: string;
  answer: Answer<unknown>;
}

const kept = new Map<string, Kept>();

/** Address of a path below Airflow's base address, which may have a path itself. */
export function address(path: string, query: Query = {}): string {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === "" || value === false) continue;
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)]) url.searchParams.append(name, one);
  }
  return url.href;
}

export const ours = (path: string, query: Query = {}): string => address(`sealift/api/${path}`, query);
export const airflows = (path: string, query: Query = {}): string => address(`api/v2/${path}`, query);

/** Words of what a server answered, whichever of Airflow's and our shapes it has. */
async function wordsOf(reply: Response): Promise<string> {
  const known: Record<number, string> = {
    401: "Your session has ended. Sign in to Airflow again, then reload this page.",
    403: "You do not have the right to do this. It needs the right on the DAG that it is about: an administrator of Airflow can give it.",
  };
  const ready = known[reply.status];
  if (ready) return ready;
  try {
    const body = (await reply.json()) as { detail?: unknown };
    if (typeof body.detail === "string") return body.detail;
    if (body.detail !== undefined) return JSON.stringify(body.detail);
  } catch {
    // Not JSON: something between here and Airflow has answered.
  }
  return `Airflow answered ${String(reply.status)} ${reply.statusText}.`.trim();
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "Airflow's API server cannot be reached. This page asks again by itself.");
  }
}

export async function ask<T>(url: string, signal?: AbortSignal): Promise<Answer<T>> {
  const known = kept.get(url);
  const reply = await reach(url, {
    cache: "no-store",
    headers: { Accept: "application/json", ...(known ? { "If-None-Match": known.etag } : {}) },
    ...(signal ? { signal } : {}),
  });
  const checkedAt = reply.headers.get(CHECKED_HEADER);
  if (reply.status === 304 && known) {
    if (checkedAt) known.answer.checkedAt = checkedAt;
    return known.answer as Answer<T>;
  }
  if (!reply.ok) {
    const after = Number(reply.headers.get("Retry-After"));
    throw new Problem(reply.status, await wordsOf(reply), reply.status === 503 ? after || RETRY_SECONDS : undefined);
  }
  const answer: Answer<T> = { data: (await reply.json()) as T, checkedAt, place: decodeURIComponent(reply.headers.get(PLACE_HEADER) ?? "") };
  const etag = reply.headers.get("ETag");
  if (etag) {
    kept.delete(url);
    kept.set(url, { etag, answer });
    const oldest = kept.keys().next();
    if (kept.size > KEPT && !oldest.done) kept.delete(oldest.value);
  }
  return answer;
}

export async function send<T>(url: string, body: unknown, method: "POST" | "PATCH" = "POST"): Promise<T> {
  const reply = await reach(url, {
    method,
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  if (!reply.ok) throw new Problem(reply.status, await wordsOf(reply));
  return (await reply.json()) as T;
}

export interface Asked<T> {
  data: T | undefined;
  checkedAt: string | null;
  place: string;
  problem: Problem | undefined;
  loading: boolean;
  again: () => void;
}

interface Held<T> {
  url: string;
  answer?: Answer<T>;
  problem?: Problem;
}

/**
 * Ask, and ask again while somebody looks.
 *
 * @param url what to ask; null asks nothing.
 * @param every seconds between two questions; 0 asks once.
 */
export function useAsked<T>(url: string | null, every = 15): Asked<T> {
  const [held, setHeld] = useState<Held<T>>({ url: "" });
  const [round, setRound] = useState(0);
  const again = useCallback(() => setRound((before) => before + 1), []);
  const everyRef = useRef(every);
  useEffect(() => {
    everyRef.current = every;
  }, [every]);

  useEffect(() => {
    if (url === null) return;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const later = (seconds: number) => {
      if (seconds > 0 && !stop.signal.aborted) timer = setTimeout(() => void look(), seconds * 1000);
    };
    const look = async () => {
      if (document.hidden) {
        later(2);
        return;
      }
      try {
        const answer = await ask<T>(url, stop.signal);
        // A copy, so that a new time of the same answer is shown.
        setHeld({ url, answer: { ...answer } });
        later(everyRef.current);
      } catch (error) {
        if (stop.signal.aborted) return;
        const problem = error instanceof Problem ? error : new Problem(0, String(error));
        setHeld((before) => ({ ...(before.url === url && before.answer ? { answer: before.answer } : {}), url, problem }));
        later(problem.retryAfter ?? (problem.status === 0 || problem.status >= 500 ? 15 : 0));
      }
    };
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [url, round]);

  const current = held.url === url;
  return {
    // What was there before stays until the next is here, so that nothing jumps.
    data: url === null ? undefined : held.answer?.data,
    checkedAt: held.answer?.checkedAt ?? null,
    place: current ? (held.answer?.place ?? "") : "",
    problem: current ? held.problem : undefined,
    loading: url !== null && !current,
    again,
  };
}
