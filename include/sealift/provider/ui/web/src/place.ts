/* Where in the page somebody is: it stands in the address, so that a view can be linked, and Back goes back. */
import { useCallback, useEffect, useMemo } from "react";
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

export function useWhere(): Where {
  const [params, setParams] = useSearchParams();
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
      change: (fields) =>
        setParams(
          (before) => {
            const next = new URLSearchParams(before);
            for (const [name, value] of Object.entries(fields)) {
              next.delete(name);
              for (const one of typeof value === "string" ? [value] : (value ?? [])) if (one) next.append(name, one);
            }
            return next;
          },
          { replace: true },
        ),
    }),
    [params, setParams, made],
  );
}
