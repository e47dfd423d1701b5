/* Figures over time, as drawings of our own; each has its figures as a table, too. */
import { Heading, HStack, SimpleGrid, Stack, Text } from "@chakra-ui/react";
import type { ReactNode } from "react";

import { ours, useAsked } from "./api";
import { Checked, Empty, Section, Shown } from "./parts";
import type { Where } from "./place";
import { Tile } from "./Plans";
import { Tabled } from "./Tabled";
import type { Charts as Figures, Durations, Recovery, SlotFigures, State } from "./types";
import { ALL_STATES, bytes, count, duration, moment, plural } from "./words";

const WIDTH = 1100;
const HEIGHT = 220;
const LEFT = 72;
const BOTTOM = 22;
const SHOWN: readonly State[] = ALL_STATES.filter((state) => state !== "not selected" && state !== "skipped");

export function Charts({ where }: { where: Where }) {
  const asked = useAsked<Figures>(ours("charts", { place: where.get("place") }), 60);
  return (
    <Shown asked={asked} what="charts">
      {(figures) =>
        figures.slots.length ? (
          <Stack gap={4}>
            <HStack justify="space-between" flexWrap="wrap">
              <Heading as="h2" size="md">
                The newest {plural(figures.slots.length, "slot")}
              </Heading>
              <Checked at={asked.checkedAt} />
            </HStack>
            <Section title="Coverage by slot">
              <Coverage slots={figures.slots} />
            </Section>
            <Section title="Bytes by slot">
              <Bytes slots={figures.slots} />
            </Section>
            <Section title="Time to recover a failure">
              <SimpleGrid minChildWidth="160px" gap={3}>
                <Tile title="Failures">{count(figures.recovery.failures)}</Tile>
                <Tile title="Recovered" words="an export of the server was done afterwards">
                  {count(figures.recovery.recovered)}
                </Tile>
                <Tile title="Half of them within">{duration(figures.recovery.median_seconds)}</Tile>
                <Tile title="Nine of ten within">{duration(figures.recovery.p90_seconds)}</Tile>
                <Tile title="Still open">{count(figures.recovery.open)}</Tile>
              </SimpleGrid>
              <Recovered recovery={figures.recovery} />
            </Section>
            <Section title="Durations by data center and size">
              <DurationTable durations={figures.durations} />
            </Section>
          </Stack>
        ) : (
          <Empty title="There are no figures yet">Charts are drawn as soon as something is exported.</Empty>
        )
      }
    </Shown>
  );
}

interface Bar {
  key: string;
  label: string;
  words: string;
  parts: readonly { value: number; color: string }[];
}

/** Bars over slots, oldest first, with three lines that say what the height means. */
function Bars({ label, bars, top, tick }: { label: string; bars: readonly Bar[]; top: number; tick: (value: number) => string }) {
  const step = (WIDTH - LEFT) / Math.max(bars.length, 8);
  const y = (value: number) => (HEIGHT - BOTTOM) * (1 - value / top) + 8;
  const every = Math.max(1, Math.ceil(bars.length / 10));
  return (
    <svg viewBox={`0 0 ${String(WIDTH)} ${String(HEIGHT + 10)}`} role="img" aria-label={label} style={{ width: "100%", minWidth: 640, maxWidth: 1200, height: "auto" }}>
      {[0, 0.5, 1].map((share) => (
        <g key={share}>
          <line x1={LEFT} x2={WIDTH} y1={y(share * top)} y2={y(share * top)} stroke="var(--chakra-colors-border)" />
          <text x={LEFT - 6} y={y(share * top) + 4} textAnchor="end" fontSize="11" fill="var(--chakra-colors-fg-muted)">
            {tick(share * top)}
          </text>
        </g>
      ))}
      {bars.map((bar, at) => {
        let reached = 0;
        return (
          <g key={bar.key}>
            <title>{bar.words}</title>
            {bar.parts.map((part) => {
              const from = reached;
              reached += part.value;
              return <rect key={part.color} x={LEFT + at * step + step * 0.12} width={step * 0.76} y={y(reached)} height={Math.max(0, y(from) - y(reached))} fill={part.color} />;
            })}
            {at % every === 0 ? (
              <text x={LEFT + at * step + step / 2} y={HEIGHT + 6} textAnchor="middle" fontSize="11" fill="var(--chakra-colors-fg-muted)">
                {bar.label}
              </text>
            ) : null}
          </g>
        );
      })}
    </svg>
  );
}

function AsTable({ children }: { children: ReactNode }) {
  return (
    <details>
      <summary>As a table</summary>
      {children}
    </details>
  );
}

function Coverage({ slots }: { slots: readonly SlotFigures[] }) {
  const sum = (slot: SlotFigures) => SHOWN.reduce((all, state) => all + (slot.counts[state] ?? 0), 0);
  const top = Math.max(1, ...slots.map(sum));
  const bars = slots.map((slot) => ({
    key: slot.period,
    label: moment(slot.at).slice(2, 10),
    words: `${moment(slot.at)}: ${SHOWN.filter((state) => slot.counts[state]).map((state) => `${count(slot.counts[state] ?? 0)} ${state}`).join(", ")}`,
    parts: SHOWN.filter((state) => slot.counts[state]).map((state) => ({ value: slot.counts[state] ?? 0, color: `var(--sl-${state === "exported" ? "l2" : state})` })),
  }));
  const share = (slot: SlotFigures) => (slot.covered === null ? "–" : `${(100 * slot.covered).toFixed(1)} %`);
  const last = slots.at(-1);
  return (
    <Stack gap={2}>
      {last ? (
        <Text fontSize="sm">
          Newest slot: {share(last)} of the servers that were to be exported are. Bars show servers: exported, running, failed and missing ones.
        </Text>
      ) : null}
      <div className="sl-scroll" role="group" aria-label="Chart of coverage" tabIndex={0}>
        <Bars label={`Servers by state in ${plural(slots.length, "slot")}`} bars={bars} top={top} tick={(value) => count(Math.round(value))} />
      </div>
      <AsTable>
        <Tabled
          label="Coverage by slot"
          columns={[{ title: "Slot" }, { title: "Covered", right: true }, ...SHOWN.map((state) => ({ title: state, right: true }))]}
          rows={slots.toReversed().map((slot) => ({ key: slot.period, cells: [moment(slot.at), share(slot), ...SHOWN.map((state) => count(slot.counts[state] ?? 0))] }))}
        />
      </AsTable>
    </Stack>
  );
}

function Bytes({ slots }: { slots: readonly SlotFigures[] }) {
  const bars = slots.map((slot) => ({
    key: slot.period,
    label: moment(slot.at).slice(2, 10),
    words: `${moment(slot.at)}: ${bytes(slot.bytes)}`,
    parts: slot.bytes ? [{ value: slot.bytes, color: "var(--chakra-colors-blue-500)" }] : [],
  }));
  return (
    <Stack gap={2}>
      <div className="sl-scroll" role="group" aria-label="Chart of bytes" tabIndex={0}>
        <Bars label={`Bytes of the images in ${plural(slots.length, "slot")}`} bars={bars} top={Math.max(1, ...slots.map((slot) => slot.bytes))} tick={bytes} />
      </div>
      <AsTable>
        <Tabled
          label="Bytes by slot"
          columns={[{ title: "Slot" }, { title: "Images", right: true }, { title: "Disks", right: true }]}
          rows={slots.toReversed().map((slot) => ({ key: slot.period, cells: [moment(slot.at), bytes(slot.bytes), bytes(slot.capacity_bytes)] }))}
        />
      </AsTable>
    </Stack>
  );
}

function Recovered({ recovery }: { recovery: Recovery }) {
  if (!recovery.failures) return <Text fontSize="sm" mt={3}>Nothing has failed in these slots.</Text>;
  const bars = recovery.within.map((one, at) => {
    const label = one.up_to_seconds === null ? `after ${duration(recovery.within[at - 1]?.up_to_seconds)}` : `within ${duration(one.up_to_seconds)}`;
    return { key: label, label, words: `${plural(one.failures, "failure")} recovered ${label}`, parts: one.failures ? [{ value: one.failures, color: "var(--sl-l2)" }] : [] };
  });
  const open = { key: "open", label: "still open", words: `${plural(recovery.open, "failure")} still open`, parts: recovery.open ? [{ value: recovery.open, color: "var(--sl-failed)" }] : [] };
  const top = Math.max(1, recovery.open, ...recovery.within.map((one) => one.failures));
  return (
    <Stack gap={2} mt={4}>
      <Text fontSize="sm">Failures by the time until an export of the server was done:</Text>
      <div className="sl-scroll" role="group" aria-label="Chart of recoveries" tabIndex={0}>
        <Bars label={`Time to recover ${plural(recovery.failures, "failure")}`} bars={[...bars, open]} top={top} tick={(value) => count(Math.round(value))} />
      </div>
      <AsTable>
        <Tabled
          label="Failures by slot"
          columns={[{ title: "Slot" }, { title: "Failures", right: true }, { title: "Recovered, half of them within", right: true }, { title: "Still open", right: true }]}
          rows={recovery.by_slot.toReversed().map((one) => ({ key: one.period, cells: [moment(one.at), count(one.failures), duration(one.median_seconds), count(one.open)] }))}
        />
      </AsTable>
    </Stack>
  );
}

function DurationTable({ durations }: { durations: readonly Durations[] }) {
  if (!durations.length) return <Text fontSize="sm">No duration was measured yet.</Text>;
  const longest = Math.max(1, ...durations.flatMap((one) => [one.capture_p90 ?? 0, one.export_p90 ?? 0]));
  return (
    <Tabled
      label="Durations by data center and size"
      columns={[{ title: "Data center" }, { title: "Disks" }, { title: "Captures", right: true }, { title: "Capture: half within, nine of ten within" }, { title: "Exports", right: true }, { title: "Export: half within, nine of ten within" }]}
      rows={durations.map((one) => ({
        key: `${one.datacenter} ${String(one.up_to_gb)}`,
        cells: [
          one.datacenter || "not known",
          one.up_to_gb === null ? "larger" : `up to ${count(one.up_to_gb)} GB`,
          count(one.captures),
          <Span key="c" median={one.capture_median} p90={one.capture_p90} longest={longest} />,
          count(one.exports),
          <Span key="e" median={one.export_median} p90={one.export_p90} longest={longest} />,
        ],
      }))}
    />
  );
}

function Span({ median, p90, longest }: { median: number | null; p90: number | null; longest: number }) {
  if (median === null || p90 === null) return <>–</>;
  return (
    <>
      <svg viewBox="0 0 160 10" width="160" height="10" aria-hidden="true">
        <rect x="0" y="3" width={(160 * p90) / longest} height="4" fill="var(--sl-running)" />
        <rect x="0" y="1" width={(160 * median) / longest} height="8" fill="var(--chakra-colors-blue-500)" />
      </svg>{" "}
      {duration(median)}, {duration(p90)}
    </>
  );
}
