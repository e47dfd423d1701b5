/* Where in the page somebody is: it stands in the address, so that a view can be linked, and Back goes back. */
import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import { useSearchParams } from "react-router-dom";

export type Fields = Record<string, string | undefined>;

export interface Where {
  get: (name: string) => string;
  all: (name: string) => string[];
  /** Another view, with nothing kept but the place whose bucket is looked at; in place of this one where it only led there. */
  open: (fields: Fields, replace?: boolean) => void;
  hrefOf: (fields: Fields) => string;
  /** The same view, with other filters. */
  change: (fields: Record<string, string | readonly string[] | undefined>) => void;
}

/** The place that is looked at where an address names none. */
const DEFAULT_PLACE = "default";

/** How an address names a place: the default one not at all. */
export const placeFor = (found: string): string => (found === DEFAULT_PLACE ? "" : found);

/** Who follows a link to a plan need not know its place: what was found stands in the address from then on. */
export function useFoundPlace(where: Where, found: string): void {
  const { change } = where;
  const missing = where.get("place") ? "" : placeFor(found);
  useEffect(() => {
    if (missing) change({ place: missing });
  }, [missing, change]);
}

const CHANGED = "sealift-address";

function whenChanged(told: () => void): () => void {
  for (const event of [CHANGED, "popstate"]) window.addEventListener(event, told);
  return () => {
    for (const event of [CHANGED, "popstate"]) window.removeEventListener(event, told);
  };
}

export function useWhere(): Where {
  const [, setParams] = useSearchParams();
  const search = useSyncExternalStore(whenChanged, () => window.location.search);
  const params = useMemo(() => new URLSearchParams(search), [search]);
  const place = params.get("place") ?? undefined;

  const made = useCallback(
    (fields: Fields) => {
      const next = new URLSearchParams();
      for (const [name, value] of Object.entries({ place, ...fields })) if (value) next.set(name, value);
      return next;
    },
    [place],
  );

  return useMemo(
    () => ({
      get: (name) => params.get(name) ?? "",
      all: (name) => params.getAll(name),
      open: (fields, replace = false) => setParams(made(fields), { replace }),
      hrefOf: (fields) => `?${made(fields).toString()}`,
      change: (fields) => {
        const next = new URLSearchParams(window.location.search);
        for (const [name, value] of Object.entries(fields)) {
          next.delete(name);
          for (const one of typeof value === "string" ? [value] : (value ?? [])) if (one) next.append(name, one);
        }
        // Past the router: with every navigation Airflow (3.3.2) makes a plugin's component anew, and what is unfolded,
        // chosen or focused would be lost with each filter.
        window.history.replaceState(window.history.state, "", `${window.location.pathname}?${next.toString()}`);
        window.dispatchEvent(new Event(CHANGED));
      },
    }),
    [params, setParams, made],
  );
}
