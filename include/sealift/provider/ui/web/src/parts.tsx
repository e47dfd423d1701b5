/* What several views are made of. */
import { Alert, Box, Button, Heading, HStack, Spinner, Text } from "@chakra-ui/react";
import { type MouseEvent, type ReactNode, useEffect, useState } from "react";

import type { Asked, Problem } from "./api";
import type { Fields, Where } from "./place";
import type { State } from "./types";
import { ago, ALL_STATES, lookOf, plural } from "./words";

export function Sign({ cell }: { cell: string }) {
  const look = lookOf(cell);
  return <span className={`sl-box sl-${look.style}`} data-sign={look.sign} aria-hidden="true" />;
}

/** A state as a sign and its word. */
export function StateWord({ cell }: { cell: string }) {
  return (
    <span className="sl-legend">
      <Sign cell={cell} />
      {lookOf(cell).word}
    </span>
  );
}

/** A link to another view; a click with a modifier does what the browser does with links. */
export function Go({ where, to, children, label }: { where: Where; to: Fields; children: ReactNode; label?: string }) {
  const go = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    where.open(to);
  };
  return (
    <a className="sl-link" href={where.hrefOf(to)} onClick={go} aria-label={label}>
      {children}
    </a>
  );
}

export function Out({ href, children }: { href: string; children: ReactNode }) {
  // An address from data is followed only where it leads by http.
  if (!/^https?:\/\//u.test(href)) return <>{children}</>;
  return (
    <a className="sl-link" href={href} target="_blank" rel="noopener noreferrer">
      {children}
      <span className="sl-hidden"> (opens a new tab)</span>
    </a>
  );
}

export function Notice({ status, title, children }: { status: "error" | "warning" | "info"; title: string; children?: ReactNode }) {
  return (
    <Alert.Root status={status} role={status === "error" ? "alert" : "status"}>
      <Alert.Indicator />
      <Alert.Content>
        <Alert.Title>{title}</Alert.Title>
        {children ? (
          <Alert.Description>
            <div className="sl-words">{children}</div>
          </Alert.Description>
        ) : null}
      </Alert.Content>
    </Alert.Root>
  );
}

const TITLES: Record<number, string> = {
  0: "No connection",
  401: "Not signed in",
  403: "Not allowed",
  404: "Not found",
  502: "The bucket or the connection does not work",
  503: "The ledger is being read",
};

export function ProblemNotice({ problem }: { problem: Problem }) {
  return (
    <Notice status={problem.status === 503 ? "info" : "error"} title={TITLES[problem.status] ?? "That did not work"}>
      {problem.message}
    </Notice>
  );
}

export function Problems({ problems }: { problems: readonly string[] }) {
  if (!problems.length) return null;
  return (
    <Notice status="warning" title="What these figures leave out">
      {problems.join("\n")}
    </Notice>
  );
}

/** What an answer looks like while it is not there, and beside its content. */
export function Shown<T>({ asked, what, children }: { asked: Asked<T>; what: string; children: (data: T) => ReactNode }) {
  return (
    <>
      {asked.problem ? <ProblemNotice problem={asked.problem} /> : null}
      {asked.data !== undefined ? children(asked.data) : asked.problem ? null : <Waiting what={what} />}
    </>
  );
}

export function Waiting({ what }: { what: string }) {
  return (
    <HStack role="status" gap={3} py={6} color="fg.muted">
      <Spinner size="sm" />
      <Text>Loading {what} …</Text>
    </HStack>
  );
}

export function Empty({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Box borderWidth="1px" borderStyle="dashed" borderRadius="md" p={8} textAlign="center" role="status">
      <Heading size="sm" mb={2}>
        {title}
      </Heading>
      <Box color="fg.muted">{children}</Box>
    </Box>
  );
}

export function useNow(every = 1000): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

export function Checked({ at }: { at: string | null }) {
  const now = useNow();
  if (!at) return null;
  return (
    <Text fontSize="sm" color="fg.muted" whiteSpace="nowrap">
      Ledger checked {ago(at, now)}
    </Text>
  );
}

/** Shares of states as a bar, with the figures as its name. */
export function Meter({ counts }: { counts: Partial<Record<State, number>> }) {
  const all = ALL_STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  const shown = ALL_STATES.filter((state) => counts[state]);
  const words = shown.map((state) => `${String(counts[state] ?? 0)} ${state}`).join(", ");
  return (
    <div className="sl-meter" role="img" aria-label={words || "nothing yet"} title={words}>
      {shown
        .filter((state) => state !== "not selected")
        .map((state) => (
          <b key={state} style={{ width: `${String((100 * (counts[state] ?? 0)) / all)}%`, background: `var(--sl-${state === "exported" ? "l2" : state})` }} />
        ))}
    </div>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const [done, setDone] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone("Copied");
    } catch {
      // Without TLS a browser has no clipboard for pages; the text beside can be selected.
      setDone("Select the text and copy it");
    }
    setTimeout(() => setDone(""), 4000);
  };
  return (
    <Button size="xs" variant="outline" onClick={() => void copy()} aria-label={`Copy ${what}`}>
      <span aria-live="polite">{done || "Copy"}</span>
    </Button>
  );
}

export function Pager({ total, offset, limit, what, go }: { total: number; offset: number; limit: number; what: string; go: (offset: number) => void }) {
  if (total <= limit) return <Text fontSize="sm" color="fg.muted">{plural(total, what)}</Text>;
  return (
    <HStack as="nav" aria-label={`Pages of ${what}s`} gap={3} fontSize="sm">
      <Button size="xs" variant="outline" disabled={offset === 0} onClick={() => go(Math.max(0, offset - limit))}>
        Previous
      </Button>
      <Text>
        {offset + 1}–{Math.min(total, offset + limit)} of {plural(total, what)}
      </Text>
      <Button size="xs" variant="outline" disabled={offset + limit >= total} onClick={() => go(offset + limit)}>
        Next
      </Button>
    </HStack>
  );
}

export function Facts({ facts }: { facts: readonly (readonly [string, ReactNode])[] }) {
  return (
    <Box as="dl" display="grid" gridTemplateColumns={{ base: "1fr", md: "max-content 1fr" }} columnGap={6} rowGap={1} fontSize="sm">
      {facts.map(([name, value]) => (
        <Box key={name} display="contents">
          <Box as="dt" color="fg.muted">
            {name}
          </Box>
          <Box as="dd" overflowWrap="anywhere" mb={{ base: 2, md: 0 }}>
            {value}
          </Box>
        </Box>
      ))}
    </Box>
  );
}

export function Section({ title, children, aside }: { title: string; children: ReactNode; aside?: ReactNode }) {
  return (
    <Box as="section" aria-label={title} borderWidth="1px" borderRadius="md" p={4} bg="bg">
      <HStack justify="space-between" mb={3} flexWrap="wrap">
        <Heading as="h3" size="sm">
          {title}
        </Heading>
        {aside}
      </HStack>
      {children}
    </Box>
  );
}
