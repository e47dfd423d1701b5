/* Plans: all of them, and what one would do, rule by rule, before anything starts. */
import { Box, Heading, HStack, Input, SimpleGrid, Stack, Text } from "@chakra-ui/react";
import { type ReactNode, useState } from "react";

import { Act, EXPORT_DAG, PLAN_DAG, RunLink } from "./Actions";
import { ours, useAsked } from "./api";
import { Select } from "./Coverage";
import { Checked, Empty, Facts, Go, Meter, Notice, Pager, Section, Shown, Sign, StateWord } from "./parts";
import { useFoundPlace, type Where } from "./place";
import { Tabled } from "./Tabled";
import type { PlanLine, PlanList, PlannedServer, PlanView, State, WaveList } from "./types";
import { ALL_STATES, bytes, count, duration, moment, money, plural } from "./words";

const PAGE = 50;
/** What a server can be in that a plan exports. */
const PLANNED_STATES: readonly State[] = ALL_STATES.filter((state) => state !== "not selected");

export function Plans({ where }: { where: Where }) {
  const offset = Number(where.get("offset")) || 0;
  const kind = where.get("dry_run");
  const asked = useAsked<PlanList>(ours("plans", { place: where.get("place"), dry_run: kind, offset, limit: PAGE }));
  return (
    <Shown asked={asked} what="plans">
      {(list) => (
        <Stack gap={4}>
          <HStack justify="space-between" align="end" flexWrap="wrap">
            <HStack gap={4} align="end" flexWrap="wrap">
              <Select label="Show" value={kind} change={(value) => where.change({ dry_run: value, offset: "" })} all="All plans"
                choices={[["true", "Dry runs"], ["false", "Plans that are carried out"]]} />
              <Pager total={list.total} offset={list.offset} limit={PAGE} what="plan" go={(next) => where.change({ offset: String(next || "") })} />
            </HStack>
            <Checked at={asked.checkedAt} />
          </HStack>
          {list.total === 0 && kind ? (
            <Empty title={kind === "true" ? "There is no dry run" : "No plan was carried out yet"}>Choose “All plans” to see the others.</Empty>
          ) : list.total === 0 ? (
            <Empty title="There is no plan yet">
              Each run of plan_exports writes one. To see what an export would do and cost, make a plan: nothing is captured.
            </Empty>
          ) : (
            <Tabled
              label="Plans"
              columns={[{ title: "Plan", tight: true }, { title: "Kind", tight: true }, { title: "Made", tight: true }, { title: "State" }, { title: "Waves reported", right: true }, { title: "Last sign" }]}
              rows={list.plans.map((one) => ({
                key: one.plan_id,
                cells: [
                  <Go key="p" where={where} to={{ view: "plan", plan: one.plan_id }}>
                    {one.plan_id}
                  </Go>,
                  one.dry_run === null ? "not read" : one.dry_run ? "dry run" : "export",
                  moment(one.written_at),
                  stateOf(one),
                  one.dry_run ? "–" : count(one.waves_reported),
                  moment(one.last_sign),
                ],
              }))}
            />
          )}
        </Stack>
      )}
    </Shown>
  );
}

function stateOf(plan: PlanLine): string {
  if (plan.dry_run) return "to be looked at";
  if (plan.reported) return "over, reported";
  return plan.at_work ? "at work" : "no report";
}

export function Plan({ where }: { where: Where }) {
  const [plan, place] = [where.get("plan"), where.get("place")];
  const offset = Number(where.get("offset")) || 0;
  const states = where.all("state");
  const query = { place, name: where.get("name"), outcome: where.get("outcome"), rule: where.get("rule"), state: states, offset, limit: PAGE };
  const asked = useAsked<PlanView>(ours(`plans/${encodeURIComponent(plan)}`, query), 30);
  const waves = useAsked<WaveList>(ours(`plans/${encodeURIComponent(plan)}/waves`, { place }));
  useFoundPlace(where, asked.place);
  const toggle = (state: State) => where.change({ state: states.includes(state) ? states.filter((one) => one !== state) : [...states, state], offset: "" });
  return (
    <Shown asked={asked} what="the plan">
      {(view) => (
        <Stack gap={4}>
          <HStack justify="space-between" flexWrap="wrap">
            <Heading as="h2" size="md" overflowWrap="anywhere">
              {view.dry_run ? "Dry run " : "Plan "}
              {view.plan_id}
            </Heading>
            <Checked at={waves.checkedAt} />
          </HStack>
          <HStack gap={3} flexWrap="wrap" role="group" aria-label="Actions">
            {view.dry_run ? (
              <Act action={{ name: "approve", title: "Carry this plan out", dag: PLAN_DAG, body: { plan_id: view.plan_id } }} why={view.totals.export ? "" : "It exports nothing."}>
                Approve and export
              </Act>
            ) : (
              <Act
                action={{ name: "retry", title: "Try the failed again", dag: PLAN_DAG, body: { plan_id: view.plan_id } }}
                why={waves.data && !(waves.data.counts.failed ?? 0) && !(waves.data.counts.missing ?? 0) ? "Nothing of it has failed." : ""}
              >
                Retry the failed
              </Act>
            )}
          </HStack>
          {view.findings.map((one) => (
            <Notice key={one.rule + one.sentence} status={one.severity === "refuse" ? "error" : one.severity === "warn" ? "warning" : "info"} title={one.rule}>
              {one.sentence}
            </Notice>
          ))}
          {view.notes.length || view.missed.length ? (
            <Notice status="info" title="Good to know">
              {[...view.notes, ...view.missed].join("\n")}
            </Notice>
          ) : null}
          <Totals view={view} />
          <Section title="Cost">
            <Costs view={view} />
          </Section>
          {view.totals.waves && !view.dry_run ? (
            <Section title="Waves">
              <Shown asked={waves} what="the waves">
                {(list) => <Waves list={list} where={where} />}
              </Shown>
            </Section>
          ) : null}
          <Section title="What the rules say">
            {view.rules.length ? (
              <Tabled
                label="What the rules say"
                columns={[{ title: "Rule", tight: true }, { title: "Effect", tight: true }, { title: "Servers", right: true }, { title: "For example" }]}
                rows={view.rules.map((one) => ({
                  key: `${one.severity} ${one.rule}`,
                  current: query.rule === one.rule,
                  cells: [
                    <Go key="r" where={where} to={{ view: "plan", plan, rule: query.rule === one.rule ? undefined : one.rule }} label={`${one.rule}: show its servers`}>
                      {one.rule}
                    </Go>,
                    { refuse: "keeps out", warn: "warns", info: "for the record" }[one.severity],
                    count(one.servers),
                    one.example,
                  ],
                }))}
              />
            ) : (
              <Text fontSize="sm">No rule had anything to say: every server can be exported.</Text>
            )}
          </Section>
          <Section title="Servers" aside={<Pager total={view.total} offset={view.offset} limit={PAGE} what="server" go={(next) => where.change({ offset: String(next || "") })} />}>
            <HStack gap={2} mb={3} align="end" flexWrap="wrap">
              <PlanName key={plan} value={query.name} change={(name) => where.change({ name, offset: "" })} />
              <Select label="Planned" value={query.outcome} change={(outcome) => where.change({ outcome, offset: "" })} all="All"
                choices={[["export", "Exported by it"], ["already exported", "Already exported"], ["not exportable", "Not exportable"]]} />
              {query.rule ? (
                <Go where={where} to={{ view: "plan", plan }}>
                  Only of {query.rule}: show all
                </Go>
              ) : null}
            </HStack>
            {view.dry_run ? null : (
              <HStack gap={2} mb={3} flexWrap="wrap" role="group" aria-label="Servers by what became of them">
                <Text fontSize="sm" color="fg.muted">By now:</Text>
                {PLANNED_STATES.map((state) => (
                  <button key={state} type="button" className="sl-chip" aria-pressed={states.includes(state)} onClick={() => toggle(state)}>
                    <Sign cell={state} />
                    {state} <span>{waves.data ? count(waves.data.counts[state] ?? 0) : ""}</span>
                  </button>
                ))}
              </HStack>
            )}
            <Servers view={view} where={where} />
          </Section>
        </Stack>
      )}
    </Shown>
  );
}

function PlanName({ value, change }: { value: string; change: (name: string) => void }) {
  const [typed, setTyped] = useState(value);
  return (
    <form
      role="search"
      aria-label="Servers of the plan"
      onSubmit={(event) => {
        event.preventDefault();
        change(typed);
      }}
    >
      <label>
        <Text as="span" fontSize="xs" color="fg.muted" display="block">
          Name or id
        </Text>
        <Input size="sm" type="search" width="200px" value={typed} onChange={(event) => setTyped(event.target.value)} onBlur={() => change(typed)} />
      </label>
    </form>
  );
}

export function Tile({ title, children, words }: { title: string; children: ReactNode; words?: ReactNode }) {
  return (
    <Box borderWidth="1px" borderRadius="md" p={3} minW={0}>
      <Text fontSize="sm" color="fg.muted">
        {title}
      </Text>
      <Text fontSize="xl" fontWeight="semibold">
        {children}
      </Text>
      {words ? (
        <Text fontSize="xs" color="fg.muted">
          {words}
        </Text>
      ) : null}
    </Box>
  );
}

function Totals({ view }: { view: PlanView }) {
  const { totals } = view;
  return (
    <Stack gap={2}>
      <SimpleGrid minChildWidth="170px" gap={3}>
        <Tile title="Exports" words={`of ${plural(totals.servers, "server")}; ${count(totals.already_exported)} already exported, ${count(totals.not_exportable)} not exportable`}>
          {count(totals.export)}
        </Tile>
        <Tile title="Servers that go offline" words={`at most ${count(totals.most_offline_at_once)} at the same time`}>
          {count(totals.offline)}
        </Tile>
        <Tile title="Offline, each" words={`${duration(totals.offline_seconds_total)} of all together`}>
          {duration(totals.offline_seconds_each)}
        </Tile>
        <Tile title="Takes" words={`in ${plural(totals.waves, "wave")}`}>
          {duration(totals.duration_seconds)}
        </Tile>
        <Tile title="Images" words={`${plural(totals.disks, "disk")} of ${bytes(totals.capacity_bytes)}`}>
          {bytes(totals.expected_bytes)}
        </Tile>
      </SimpleGrid>
      {totals.basis.map((words) => (
        <Text key={words} fontSize="xs" color="fg.muted">
          {words}
        </Text>
      ))}
    </Stack>
  );
}

function Costs({ view }: { view: PlanView }) {
  const { costs } = view;
  const row = (what: string) => (one: PlanView["costs"]["egress"][number]) => ({
    key: `${what} ${one.id}`,
    cells: [what, one.title, money(one.amount, costs.currency), one.confirmed ? one.source : `${one.source} (not confirmed by the seller)`],
  });
  return (
    <Stack gap={2}>
      <Tabled
        label="Cost"
        columns={[{ title: "For", tight: true }, { title: "Price" }, { title: "Amount", right: true }, { title: "Source" }]}
        rows={[...costs.storage_per_month.map(row("storage, a month")), ...costs.egress.map(row("fetching once"))]}
      />
      <Text fontSize="xs" color="fg.muted">
        For {bytes(costs.bytes)}, by prices of {costs.dated}. An account’s own prices differ.
      </Text>
    </Stack>
  );
}

function Waves({ list, where }: { list: WaveList; where: Where }) {
  const done = list.waves.reduce((sum, wave) => sum + wave.done_capacity_bytes, 0);
  const all = list.waves.reduce((sum, wave) => sum + wave.capacity_bytes, 0);
  return (
    <Stack gap={3}>
      <Facts
        facts={[
          ["Servers", <Meter key="m" counts={list.counts} />],
          ["Done", `${count(list.counts.exported ?? 0)} of ${plural(Object.values(list.counts).reduce((sum, one) => sum + one, 0), "server")}; ${bytes(done)} of ${bytes(all)} of disks`],
        ]}
      />
      <Tabled
        label="Waves"
        columns={[{ title: "Wave", tight: true }, { title: "Progress" }, { title: "Servers", right: true }, { title: "Bytes", right: true }, { title: "Run in Airflow" }]}
        rows={list.waves.map((wave) => ({
          key: String(wave.number),
          cells: [
            <Go key="w" where={where} to={{ view: "wave", plan: list.plan_id, wave: String(wave.number) }}>
              Wave {wave.number + 1}
            </Go>,
            <Meter key="m" counts={wave.counts} />,
            `${count(wave.counts.exported ?? 0)} of ${count(wave.servers)}`,
            bytes(wave.bytes),
            <RunLink key="r" dag={EXPORT_DAG} run={wave.run_id} />,
          ],
        }))}
      />
    </Stack>
  );
}

function Became({ server }: { server: PlannedServer }) {
  if (!server.state) return <>–</>;
  return (
    <>
      <StateWord cell={server.state} />
      {server.words ? (
        <div className="sl-words">
          {server.task ? `${server.task}: ` : ""}
          {server.words}
        </div>
      ) : null}
    </>
  );
}

function Servers({ view, where }: { view: PlanView; where: Where }) {
  if (!view.servers.length) return <Empty title="No server fits">Choose another filter.</Empty>;
  const became = view.dry_run ? [] : [{ title: "By now" }];
  return (
    <Tabled
      label="Servers of the plan"
      columns={[{ title: "Server", tight: true }, { title: "Planned", tight: true }, ...became, { title: "What the rules found" }, { title: "Offline", right: true }, { title: "Export", right: true }, { title: "Bytes", right: true }, { title: "Wave", right: true }]}
      rows={view.servers.map((one) => ({
        key: `${one.kind} ${String(one.id)} ${one.period}`,
        cells: [
          <Go key="s" where={where} to={{ view: "server", id: String(one.id), kind: one.kind === "virtual" ? undefined : one.kind, period: one.period }}>
            {one.hostname || String(one.id)}
          </Go>,
          one.outcome,
          ...(view.dry_run ? [] : [<Became key="b" server={one} />]),
          <div key="f" className="sl-words">
            {one.findings.map((found) => `${found.rule}: ${found.sentence}`).join("\n") || "–"}
          </div>,
          one.goes_offline ? duration(one.offline_seconds) : "stays online",
          one.outcome === "export" ? duration(one.export_seconds) : "–",
          one.expected_bytes ? bytes(one.expected_bytes) : "–",
          one.wave === null ? "–" : String(one.wave + 1),
        ],
      }))}
    />
  );
}
