/* Servers by slots. Only the rows in sight exist, whatever the number of servers. */
import { type FocusEvent, type KeyboardEvent, memo, type MouseEvent, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";

import type { Fields, Where } from "./place";
import { CELL, HEAD, ROW } from "./style";
import type { ServerLine, SlotSummary, State } from "./types";
import { ALL_STATES, bytes, count, day, fullName, lookOf, moment } from "./words";

const SPARE = 8;
const NARROW = 720;

export interface Order {
  by: string;
  descending: boolean;
}

interface GridProps {
  total: number;
  slots: readonly SlotSummary[];
  line: (index: number) => ServerLine | undefined;
  onRange: (first: number, last: number) => void;
  order: Order;
  onOrder: (by: string) => void;
  chosen: ReadonlyMap<string, ServerLine>;
  onChoose: (server: ServerLine) => void;
  where: Where;
  resetKey: string;
}

interface Tip {
  x: number;
  y: number;
  lines: string[];
}

/** Column 0 is the server, column 1 the newest slot. */
interface Active {
  row: number;
  column: number;
}

export const keyOf = (server: ServerLine): string => `${server.kind} ${String(server.id)}`;

const serverFields = (server: ServerLine, period?: string): Fields => ({
  view: "server",
  id: String(server.id),
  kind: server.kind === "virtual" ? undefined : server.kind,
  period,
});

const nameOf = (slot: SlotSummary): string => `${moment(slot.at)}${slot.scheduled ? "" : " (manual run)"}`;

/** What a cell says. The slot's name is made before: there are thousands of cells, and they come and go while somebody scrolls. */
function wordsOf(server: ServerLine, slotName: string, at: number): string[] {
  return [`${slotName}: ${lookOf(server.cells[at] ?? "").word}`, server.reasons[at] ?? ""].filter(Boolean);
}

export function Grid(props: GridProps) {
  const { total, slots, line, onRange, order, onOrder, chosen, onChoose, where, resetKey } = props;
  const box = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 1000, height: 500 });
  const [top, setTop] = useState(0);
  const [active, setActive] = useState<Active>({ row: 0, column: 0 });
  const [tip, setTip] = useState<Tip>();
  const wantsFocus = useRef(false);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    measure.observe(element);
    return () => measure.disconnect();
  }, []);

  useEffect(() => {
    box.current?.scrollTo({ top: 0 });
  }, [resetKey]);

  const narrow = size.width < NARROW;
  const left = narrow ? 150 : 500;
  const inSight = Math.max(1, Math.ceil((size.height - HEAD) / ROW));
  const first = Math.max(0, Math.min(Math.floor(top / ROW), total - inSight));
  const last = Math.min(total - 1, first + inSight);
  const from = Math.max(0, first - SPARE);
  const to = Math.min(total - 1, last + SPARE);
  const row = Math.min(active.row, Math.max(0, total - 1));
  const column = Math.min(active.column, slots.length);

  useEffect(() => onRange(first, last), [first, last, onRange]);

  const point = useCallback(
    (element: Element | null) => {
      const at = element?.closest<HTMLElement>("[data-row]");
      const slotAt = element?.closest<HTMLElement>("[data-slot]");
      const target = at ?? slotAt;
      if (!target) {
        setTip(undefined);
        return;
      }
      let lines: string[] = [];
      if (at) {
        const server = line(Number(at.dataset["row"]));
        const slot = slots[Number(at.dataset["column"]) - 1];
        if (server && slot) lines = [fullName(server), ...wordsOf(server, nameOf(slot), Number(at.dataset["column"]) - 1)];
        else if (server) lines = [fullName(server), server.tags.length ? `Tags: ${server.tags.join(", ")}` : "No tags", `Last export: ${moment(server.last_export)}, ${bytes(server.bytes)}`];
      } else if (slotAt) {
        const slot = slots[Number(slotAt.dataset["slot"])];
        if (slot) lines = slotWords(slot);
      }
      if (!lines.length) {
        setTip(undefined);
        return;
      }
      const frame = target.getBoundingClientRect();
      const x = Math.max(8, Math.min(frame.left + 10, window.innerWidth - 372));
      const below = frame.bottom + 6;
      setTip({ x, y: below > window.innerHeight - 110 ? Math.max(8, frame.top - 90) : below, lines });
    },
    [line, slots],
  );

  const reveal = (next: Active) => {
    const element = box.current;
    if (!element) return;
    const y = next.row * ROW;
    if (y < element.scrollTop) element.scrollTop = y;
    else if (y + ROW > element.scrollTop + element.clientHeight - HEAD) element.scrollTop = y + ROW - element.clientHeight + HEAD;
    if (next.column === 0) return;
    const x = (next.column - 1) * CELL;
    if (x < element.scrollLeft) element.scrollLeft = x;
    else if (x + CELL > element.scrollLeft + element.clientWidth - left) element.scrollLeft = x + CELL - element.clientWidth + left;
  };

  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    if (!(event.target instanceof Element) || !event.target.closest("[data-row]")) return;
    const page = Math.max(1, inSight - 2);
    const moves: Record<string, Active> = {
      ArrowDown: { row: row + 1, column },
      ArrowUp: { row: row - 1, column },
      ArrowRight: { row, column: column + 1 },
      ArrowLeft: { row, column: column - 1 },
      PageDown: { row: row + page, column },
      PageUp: { row: row - page, column },
      Home: event.ctrlKey ? { row: 0, column: 0 } : { row, column: 0 },
      End: event.ctrlKey ? { row: total - 1, column: slots.length } : { row, column: slots.length },
    };
    const move = moves[event.key];
    const server = line(row);
    if (move) {
      const next = { row: Math.max(0, Math.min(total - 1, move.row)), column: Math.max(0, Math.min(slots.length, move.column)) };
      event.preventDefault();
      wantsFocus.current = true;
      setActive(next);
      reveal(next);
    } else if (event.key === " " && server) {
      event.preventDefault();
      onChoose(server);
    } else if (event.key === "Enter" && server) {
      event.preventDefault();
      where.open(serverFields(server, slots[column - 1]?.period));
    } else if (event.key === "Escape") setTip(undefined);
  };

  useEffect(() => {
    if (!wantsFocus.current) return;
    const element = box.current?.querySelector<HTMLElement>(`[data-row="${String(row)}"][data-column="${String(column)}"]`);
    if (!element) return;
    wantsFocus.current = false;
    element.focus({ preventScroll: true });
  });

  const onClick = (event: MouseEvent<HTMLDivElement>) => {
    if (!(event.target instanceof Element)) return;
    const at = event.target.closest<HTMLElement>("[data-row]");
    if (!at) return;
    const server = line(Number(at.dataset["row"]));
    if (!server) return;
    setActive({ row: Number(at.dataset["row"]), column: Number(at.dataset["column"]) });
    if (event.target instanceof HTMLInputElement) onChoose(server);
    else if (event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
      event.preventDefault();
      where.open(serverFields(server, slots[Number(at.dataset["column"]) - 1]?.period));
    }
  };

  const slotNames = useMemo(() => slots.map(nameOf), [slots]);
  const rows = [];
  for (let index = from; index <= to; index += 1) {
    const server = line(index);
    rows.push(
      <Line
        key={index}
        index={index}
        server={server}
        slotNames={slotNames}
        left={left}
        narrow={narrow}
        column={index === row ? column : -1}
        chosen={server !== undefined && chosen.has(keyOf(server))}
        href={server ? where.hrefOf(serverFields(server)) : ""}
      />,
    );
  }

  const sorted = (by: string) => (order.by === by ? (order.descending ? "descending" : "ascending") : "none");
  const width = left + slots.length * CELL + 8;
  return (
    <>
      <div
        ref={box}
        className="sl-grid"
        style={{ height: `max(320px, min(calc(100vh - 330px), ${String(HEAD + total * ROW + 18)}px))` }}
        role="grid"
        aria-label="Servers by slots"
        aria-rowcount={total + 1}
        aria-colcount={slots.length + 1}
        onScroll={(event) => {
          setTop(event.currentTarget.scrollTop);
          setTip(undefined);
        }}
        onKeyDown={onKeyDown}
        onClick={onClick}
        onMouseOver={(event) => point(event.target instanceof Element ? event.target : null)}
        onMouseLeave={() => setTip(undefined)}
        onFocus={(event: FocusEvent) => {
          // A pointer has pointed already.
          if (event.target.matches(":focus-visible")) point(event.target);
        }}
        onBlur={() => setTip(undefined)}
      >
        <div className="sl-canvas" role="presentation" style={{ width, height: HEAD + total * ROW }}>
          <div className="sl-head" role="row" aria-rowindex={1} style={{ width }}>
            <div className="sl-left" role="columnheader" aria-colindex={1} style={{ width: left }} aria-sort={sorted(order.by)}>
              <span className="sl-name">
                <Sort by="name" order={order} onOrder={onOrder}>Server</Sort>
              </span>
              {narrow ? null : (
                <>
                  <span className="sl-dc"><Sort by="datacenter" order={order} onOrder={onOrder} name="data center">DC</Sort></span>
                  <span className="sl-size"><Sort by="size" order={order} onOrder={onOrder}>Size</Sort></span>
                  <span className="sl-last"><Sort by="last_export" order={order} onOrder={onOrder} name="last export">Exported</Sort></span>
                </>
              )}
            </div>
            {slots.map((slot, at) => (
              <div key={slot.period} className="sl-slot" role="columnheader" aria-colindex={at + 2} data-slot={at}>
                <em aria-hidden="true">{moment(slot.at).slice(0, 16)}</em>
                <span className="sl-hidden">{slotWords(slot).join(", ")}</span>
                <i aria-hidden="true">{shares(slot)}</i>
              </div>
            ))}
          </div>
          {rows}
        </div>
      </div>
      {tip ? (
        <div className="sl-tip" role="tooltip" style={{ left: tip.x, top: tip.y }}>
          {tip.lines.map((words, at) => (
            <div key={at} style={at === 0 ? { fontWeight: 600 } : undefined}>
              {words}
            </div>
          ))}
        </div>
      ) : null}
    </>
  );
}

function Sort({ by, order, onOrder, name, children }: { by: string; order: Order; onOrder: (by: string) => void; name?: string; children: string }) {
  const sorted = order.by === by ? (order.descending ? ", descending" : ", ascending") : "";
  return (
    <button type="button" className="sl-sort" onClick={() => onOrder(by)} aria-label={`${children}, order by ${name ?? children.toLowerCase()}${sorted}`}>
      {children}
      <span aria-hidden="true">{order.by === by ? (order.descending ? " ↓" : " ↑") : ""}</span>
    </button>
  );
}

function slotWords(slot: SlotSummary): string[] {
  const counts = ALL_STATES.filter((state) => slot.counts[state]).map((state) => `${count(slot.counts[state] ?? 0)} ${state}`);
  const size = slot.bytes ? `${bytes(slot.bytes)}${slot.unread ? `, without ${count(slot.unread)} manifests not read yet` : ""}` : "";
  return [nameOf(slot), counts.join(", "), size].filter(Boolean);
}

function shares(slot: SlotSummary) {
  const shown = ALL_STATES.filter((state): state is Exclude<State, "not selected"> => state !== "not selected" && Boolean(slot.counts[state]));
  const all = shown.reduce((sum, state) => sum + (slot.counts[state] ?? 0), 0);
  return shown
    .map((state) => <b key={state} style={{ height: `${String((100 * (slot.counts[state] ?? 0)) / all)}%`, background: `var(--sl-${state === "exported" ? "l2" : state})` }} />)
    .reverse();
}

interface LineProps {
  index: number;
  server: ServerLine | undefined;
  slotNames: readonly string[];
  left: number;
  narrow: boolean;
  column: number;
  chosen: boolean;
  href: string;
}

const Line = memo(function Line({ index, server, slotNames, left, narrow, column, chosen, href }: LineProps) {
  const at = { transform: `translateY(${String(index * ROW)}px)`, top: HEAD };
  if (!server) {
    return (
      <div className="sl-row" role="row" aria-rowindex={index + 2} style={at} aria-busy="true">
        <div className="sl-left" role="rowheader" style={{ width: left }} data-row={index} data-column={0} tabIndex={column === 0 ? 0 : -1}>
          <span style={{ color: "var(--chakra-colors-fg-muted)" }}>…</span>
        </div>
      </div>
    );
  }
  const name = fullName(server);
  return (
    <div className="sl-row" role="row" aria-rowindex={index + 2} aria-selected={chosen} style={at}>
      <div className="sl-left" role="rowheader" aria-colindex={1} style={{ width: left }} data-row={index} data-column={0} tabIndex={column === 0 ? 0 : -1}>
        <input type="checkbox" tabIndex={-1} checked={chosen} readOnly aria-label={`Choose ${name}`} style={{ flex: "none" }} />
        <span className="sl-name">
          <a className="sl-link" href={href} tabIndex={-1}>
            {name}
          </a>
        </span>
        {narrow ? null : (
          <>
            <span className="sl-dc">{server.datacenter}</span>
            <span className="sl-size">{server.bytes ? bytes(server.bytes) : ""}</span>
            <span className="sl-last">{server.last_export ? day(server.last_export) : "never"}</span>
          </>
        )}
      </div>
      {slotNames.map((slotName, place) => {
        const look = lookOf(server.cells[place] ?? "");
        return (
          <div
            key={place}
            className={`sl-cell sl-${look.style}`}
            data-sign={look.sign}
            role="gridcell"
            aria-colindex={place + 2}
            data-row={index}
            data-column={place + 1}
            tabIndex={column === place + 1 ? 0 : -1}
            aria-label={wordsOf(server, slotName, place).join(": ")}
          />
        );
      })}
    </div>
  );
});
