/* Which servers are exported, proven, running, missing or failing: the first thing that somebody sees. */
import { Box, Button, HStack, Input, NativeSelect, Stack, Text } from "@chakra-ui/react";
import { useCallback, useEffect, useState } from "react";

import { Act, ASK_LEVEL, ASK_TARGET, DELIVER_DAG, PLAN_DAG, PROVE_DAG } from "./Actions";
import { ours, useAsked } from "./api";
import { Choices } from "./Choices";
import { Grid, keyOf } from "./Grid";
import { useLines } from "./lines";
import { Checked, Empty, ProblemNotice, Problems, Sign, Waiting } from "./parts";
import type { Where } from "./place";
import type { Filters, ServerLine, State } from "./types";
import { ALL_STATES, count, lookOf, moment, plural } from "./words";

const TYPING = 250;
const LEVELS = ["L0", "L1", "L2", "L3", "L4"];
const ORDERS = [
  ["state", "State in the newest slot"],
  ["datacenter", "Data center"],
  ["size", "Size"],
  ["last_export", "Last export"],
] as const;
const LARGEST_FIRST = new Set(["size", "last_export"]);

export function Coverage({ where }: { where: Where }) {
  const place = where.get("place");
  const states = where.all("state");
  const order = { by: where.get("order") || "name", descending: where.get("descending") === "true" };
  const query = {
    place,
    name: where.get("name"),
    datacenter: where.all("datacenter"),
    tag: where.all("tag"),
    state: states,
    in_slot: where.get("in_slot"),
    scheduled: where.get("scheduled"),
    slots_offset: where.get("slots_offset"),
    order: order.by,
    descending: order.descending,
  };
  const [range, setRange] = useState({ first: 0, last: 30 });
  const [chosen, setChosen] = useState<ReadonlyMap<string, ServerLine>>(new Map());
  const lines = useLines(query, range.first, range.last);
  const filters = useAsked<Filters>(ours("filters", { place }), 60);
  const head = lines.head;

  const onRange = useCallback((first: number, last: number) => setRange({ first, last }), []);
  const choose = useCallback((server: ServerLine) => {
    setChosen((before) => {
      const next = new Map(before);
      if (!next.delete(keyOf(server))) next.set(keyOf(server), server);
      return next;
    });
  }, [setChosen]);
  const onOrder = (by: string) => where.change({ order: by, descending: (order.by === by ? !order.descending : LARGEST_FIRST.has(by)) ? "true" : "" });
  const toggle = (state: State) =>
    where.change({ state: states.includes(state) ? states.filter((one) => one !== state) : [...states, state] });
  const filtered = Boolean(query.name || query.datacenter.length || query.tag.length || states.length || query.scheduled);
  const clear = () => where.change({ name: "", datacenter: [], tag: [], state: [], in_slot: "", scheduled: "", slots_offset: "" });
  const newest = head?.slots[0];
  const slotsOffset = Number(query.slots_offset) || 0;

  return (
    <Stack gap={3}>
      <HStack gap={2} flexWrap="wrap" align="end" role="search" aria-label="Filters">
        <NameFilter value={query.name} change={(name) => where.change({ name })} />
        <Choices label="Data centers" one="data center" values={query.datacenter} change={(values) => where.change({ datacenter: values })} all="All data centers"
          choices={(filters.data?.datacenters ?? []).map((one) => [one.value, `${one.value} (${count(one.servers)})`])} />
        <Choices label="Tags" one="tag" values={query.tag} change={(values) => where.change({ tag: values })} all="All tags"
          choices={(filters.data?.tags ?? []).map((one) => [one.value, `${one.value} (${count(one.servers)})`])} />
        <Select label="Slots" value={query.scheduled} change={(value) => where.change({ scheduled: value, slots_offset: "" })} all="Schedule and manual runs"
          choices={[["true", "Schedule only"], ["false", "Manual runs only"]]} />
        {states.length ? (
          <Select label="State in" value={query.in_slot} change={(value) => where.change({ in_slot: value })} all="the newest slot shown"
            choices={[["any", "any slot shown"], ...(head?.slots ?? []).map((one): [string, string] => [one.period, moment(one.at)])]} />
        ) : null}
        <HStack gap={1} align="end">
          <Select label="Order by" value={order.by === "name" ? "" : order.by} change={(by) => where.change({ order: by, descending: LARGEST_FIRST.has(by) ? "true" : "" })} all="Name" choices={ORDERS} />
          <Button size="sm" variant="outline" px={2} aria-pressed={order.descending} aria-label="The other way round" title="The other way round" onClick={() => where.change({ descending: order.descending ? "" : "true" })}>
            {order.descending ? "↓" : "↑"}
          </Button>
        </HStack>
        {filtered ? (
          <Button size="sm" variant="ghost" onClick={clear}>
            Clear filters
          </Button>
        ) : null}
        <Box flex="1" />
        <Checked at={lines.checkedAt} />
      </HStack>

      <HStack gap={2} flexWrap="wrap" role="group" aria-label="Servers by state">
        {newest ? <Text fontSize="sm" color="fg.muted">{moment(newest.at)}:</Text> : null}
        {ALL_STATES.map((state) => (
          <button key={state} type="button" className="sl-chip" aria-pressed={states.includes(state)} onClick={() => toggle(state)}>
            <Sign cell={state} />
            {state} <span>{newest ? count(newest.counts[state] ?? 0) : ""}</span>
          </button>
        ))}
      </HStack>

      <Todo chosen={[...chosen.values()]} clear={() => setChosen(new Map())} />

      {lines.problem ? <ProblemNotice problem={lines.problem} /> : null}
      {head ? <Problems problems={head.problems} /> : null}
      {!head ? (
        lines.problem ? null : <Waiting what="coverage" />
      ) : head.slots_total === 0 ? (
        filtered ? (
          <Empty title="No such slots">
            <Button size="sm" variant="outline" onClick={clear}>Clear filters</Button>
          </Empty>
        ) : (
          <Empty title="Nothing is exported yet">
            There is no plan and no export in this place. Start one: plan it with “Plan all servers” above, or trigger the DAG plan_exports.
          </Empty>
        )
      ) : head.total === 0 && !lines.loading ? (
        <Empty title="No server fits these filters">
          <Button size="sm" variant="outline" onClick={clear}>Clear filters</Button>
        </Empty>
      ) : (
        <Grid
          total={head.total}
          slots={head.slots}
          line={lines.line}
          onRange={onRange}
          order={order}
          onOrder={onOrder}
          chosen={chosen}
          onChoose={choose}
          where={where}
          resetKey={JSON.stringify(query)}
        />
      )}

      <HStack justify="space-between" flexWrap="wrap" gap={3}>
        <HStack gap={3} flexWrap="wrap" fontSize="sm">
          {head ? <Text role="status">{plural(head.total, "server")}</Text> : null}
          {LEVELS.map((level) => (
            <span key={level} className="sl-legend">
              <Sign cell={level} />
              {lookOf(level).word.replace("exported, ", "")}
            </span>
          ))}
          <span className="sl-legend">
            <Sign cell="exported" />
            manifest not read yet
          </span>
        </HStack>
        {head && head.slots_total > head.slots.length ? (
          <HStack fontSize="sm" as="nav" aria-label="Slots">
            <Button size="xs" variant="outline" disabled={slotsOffset === 0} onClick={() => where.change({ slots_offset: String(Math.max(0, slotsOffset - 52) || "") })}>
              Newer
            </Button>
            <Text>
              slots {slotsOffset + 1}–{slotsOffset + head.slots.length} of {head.slots_total}
            </Text>
            <Button size="xs" variant="outline" disabled={slotsOffset + head.slots.length >= head.slots_total} onClick={() => where.change({ slots_offset: String(slotsOffset + 52) })}>
              Older
            </Button>
          </HStack>
        ) : null}
      </HStack>
    </Stack>
  );
}

function Todo({ chosen, clear }: { chosen: readonly ServerLine[]; clear: () => void }) {
  const servers = chosen.filter((one) => one.kind === "virtual");
  const ids = servers.map((one) => one.id);
  const exports = servers.filter((one) => one.last_period).map((one) => `${String(one.id)}-${one.last_period ?? ""}`);
  const none = "Choose servers in the grid first.";
  const noExports = ids.length ? "None of the chosen servers has an export." : none;
  const of = ids.length ? plural(ids.length, "server") : "";
  return (
    <HStack gap={3} flexWrap="wrap" role="group" aria-label="Actions">
      <Act action={{ name: "plan", title: of ? `Plan an export of ${of}` : "Plan an export of all servers", dag: PLAN_DAG, body: { params: ids.length ? { ids } : { all: true } } }}>
        {of ? `Plan ${of}` : "Plan all servers"}
      </Act>
      <Act action={{ name: "missing", title: "Export what is missing", dag: PLAN_DAG, body: { ids } }}>{of ? `Export what is missing of ${of}` : "Export what is missing"}</Act>
      {chosen.length ? (
        <>
          <Act action={{ name: "export", title: `Export ${of}`, dag: PLAN_DAG, body: { ids } }} why={ids.length ? "" : "Only virtual servers can be exported."}>{`Export ${of}`}</Act>
          <Act action={{ name: "prove", title: "Prove the newest exports again", dag: PROVE_DAG, body: { exports }, asks: ASK_LEVEL }} why={exports.length ? "" : noExports}>Prove again</Act>
          <Act action={{ name: "deliver", title: "Deliver the newest exports", dag: DELIVER_DAG, body: { exports }, asks: ASK_TARGET }} why={exports.length ? "" : noExports}>Deliver</Act>
          <Button size="sm" variant="ghost" onClick={clear}>
            Choose none
          </Button>
        </>
      ) : null}
    </HStack>
  );
}

function NameFilter({ value, change }: { value: string; change: (value: string) => void }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => {
    if (typed === value) return;
    const timer = setTimeout(() => change(typed), TYPING);
    return () => clearTimeout(timer);
    // Only what is typed counts: the address follows it.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [typed]);
  return (
    <label>
      <Text as="span" fontSize="xs" color="fg.muted" display="block">
        Name or id
      </Text>
      <Input size="sm" width="220px" type="search" placeholder="web*, db01, 12345678" value={typed} onChange={(event) => setTyped(event.target.value)} />
    </label>
  );
}

export function Select(props: { label: string; value: string; change: (value: string) => void; all: string; choices: readonly (readonly [string, string])[] }) {
  const { label, value, change, all, choices } = props;
  return (
    <label>
      <Text as="span" fontSize="xs" color="fg.muted" display="block">
        {label}
      </Text>
      <NativeSelect.Root size="sm" width="auto">
        <NativeSelect.Field value={value} onChange={(event) => change(event.currentTarget.value)}>
          <option value="">{all}</option>
          {choices.map(([one, words]) => (
            <option key={one} value={one}>
              {words}
            </option>
          ))}
        </NativeSelect.Field>
        <NativeSelect.Indicator />
      </NativeSelect.Root>
    </label>
  );
}
