/* A wave at work: what Airflow, the bucket and the account say of each server, put together. */
import { Heading, HStack, Stack, Text } from "@chakra-ui/react";
import { useEffect, useState } from "react";

import { Act, EXPORT_DAG, PLAN_DAG, RunLink } from "./Actions";
import { airflows, ask, ours, Problem, useAsked } from "./api";
import { Checked, Go, Meter, Notice, ProblemNotice, Section, Shown, useNow } from "./parts";
import { brokenOf, judge, type Judged, type TaskInstance, tasksOf, type Verdict, VERDICTS } from "./phases";
import { useFoundPlace, type Where } from "./place";
import { Tabled } from "./Tabled";
import type { State, Transactions, WaveList, WaveServer, WaveView } from "./types";
import { bytes, count, duration, moment, plural } from "./words";

const EVERY = 5;
const AT_ONCE = 100;
const AT_MOST = 1000;

interface TaskInstances {
  task_instances: TaskInstance[];
  total_entries: number;
}

/** All task instances of a run; Airflow gives them a hundred at a time. */
function useTasks(run: string): { tasks: TaskInstance[] | undefined; problem: Problem | undefined } {
  const [held, setHeld] = useState<{ run: string; tasks?: TaskInstance[]; problem?: Problem }>({ run: "" });
  useEffect(() => {
    if (!run) return;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      if (!document.hidden) {
        try {
          const found: TaskInstance[] = [];
          for (let total = 1; found.length < Math.min(total, AT_MOST); ) {
            const url = airflows(`dags/${EXPORT_DAG}/dagRuns/${encodeURIComponent(run)}/taskInstances`, { limit: AT_ONCE, offset: found.length, order_by: "map_index" });
            const { data } = await ask<TaskInstances>(url, stop.signal);
            if (!data.task_instances.length) break;
            found.push(...data.task_instances);
            total = data.total_entries;
          }
          setHeld({ run, tasks: found });
        } catch (error) {
          if (stop.signal.aborted) return;
          setHeld({ run, problem: error instanceof Problem ? error : new Problem(0, String(error)) });
        }
      }
      if (!stop.signal.aborted) timer = setTimeout(() => void look(), EVERY * 1000);
    };
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [run]);
  return held.run === run ? { tasks: held.tasks, problem: held.problem } : { tasks: undefined, problem: undefined };
}

/** What tasks that broke have said, by task, server and try: the wave's report, which says it too, comes at its end. */
function useFailures(run: string, broken: readonly TaskInstance[]): ReadonlyMap<string, string> {
  const [said, setSaid] = useState<ReadonlyMap<string, string>>(new Map());
  const wanted = broken.map(keyOf).join("\n");
  useEffect(() => {
    const stop = new AbortController();
    const look = async () => {
      for (const task of broken.filter((one) => !said.has(keyOf(one)))) {
        const url = airflows(`dags/${EXPORT_DAG}/dagRuns/${encodeURIComponent(run)}/taskInstances/${encodeURIComponent(task.task_id)}/xcomEntries/failure`, { map_index: task.map_index });
        let words = "";
        try {
          const { data } = await ask<{ value: unknown }>(url, stop.signal);
          words = wordsOf(data.value);
        } catch {
          // Nothing was said, or the user may not see it: the task's log says it.
          if (stop.signal.aborted) return;
        }
        setSaid((before) => new Map(before).set(keyOf(task), words));
      }
    };
    void look();
    return () => stop.abort();
    // Which tasks broke is what counts, and not that they were asked for again.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [run, wanted]);
  return said;
}

const keyOf = (task: TaskInstance): string => `${task.task_id} ${String(task.map_index)} ${String(task.try_number)}`;

/** The words of a failure; Airflow gives a value as it is, or as text. */
function wordsOf(value: unknown): string {
  if (typeof value === "string") {
    try {
      return wordsOf(JSON.parse(value));
    } catch {
      return "";
    }
  }
  if (typeof value !== "object" || value === null || !("words" in value)) return "";
  return typeof value.words === "string" ? value.words : "";
}

export function Wave({ where }: { where: Where }) {
  const [plan, number, place] = [where.get("plan"), where.get("wave"), where.get("place")];
  const path = `plans/${encodeURIComponent(plan)}/waves/${encodeURIComponent(number)}`;
  const asked = useAsked<WaveView>(ours(path, { place }), EVERY);
  const unfinished = asked.data?.servers.some((one) => one.state === "running") ?? false;
  const account = useAsked<Transactions>(unfinished ? ours(`${path}/transactions`, { place }) : null, 10);
  const waves = useAsked<WaveList>(ours(`plans/${encodeURIComponent(plan)}/waves`, { place }));
  useFoundPlace(where, asked.place);
  return (
    <Shown asked={asked} what="the wave">
      {(wave) => (
        <Stack gap={4}>
          <HStack justify="space-between" flexWrap="wrap">
            <Heading as="h2" size="md">
              Wave {wave.number + 1} of{" "}
              <Go where={where} to={{ view: "plan", plan }}>
                {plan}
              </Go>
            </Heading>
            <Checked at={asked.checkedAt} />
          </HStack>
          {waves.data && waves.data.waves.length > 1 ? (
            <HStack gap={4} flexWrap="wrap" role="group" aria-label="All waves of the plan">
              <Text fontSize="sm">
                All {plural(waves.data.waves.length, "wave")}: {count(waves.data.counts.exported ?? 0)} of {plural(waves.data.waves.reduce((sum, one) => sum + one.servers, 0), "server")} exported
              </Text>
              <Meter counts={waves.data.counts} />
            </HStack>
          ) : null}
          <Live wave={wave} account={account.data} accountProblem={account.problem} where={where} />
        </Stack>
      )}
    </Shown>
  );
}

interface Line {
  server: WaveServer;
  judged: Judged;
}

const TROUBLES: readonly Verdict[] = ["failed", "stuck", "slow"];

function Live({ wave, account, accountProblem, where }: { wave: WaveView; account: Transactions | undefined; accountProblem: Problem | undefined; where: Where }) {
  const { tasks, problem } = useTasks(wave.run_id);
  const now = useNow(1000);
  const byServer = tasksOf(tasks ?? []);
  const broken = wave.servers.flatMap((server) => (server.words ? [] : (brokenOf(byServer.get(server.map_index) ?? []) ?? [])));
  const said = useFailures(wave.run_id, broken);
  const lines = wave.servers.map((server): Line => {
    const its = byServer.get(server.map_index) ?? [];
    const task = brokenOf(its);
    return { server, judged: judge(server, its, account?.servers.find((one) => one.id === server.id), now, task && (said.get(keyOf(task)) ?? "")) };
  });
  const counts: Partial<Record<State, number>> = {};
  for (const { server } of lines) counts[server.state] = (counts[server.state] ?? 0) + 1;
  const many = (verdict: Verdict) => lines.filter((one) => one.judged.verdict === verdict).length;
  const troubles = TROUBLES.map((verdict) => [verdict, many(verdict)] as const).filter(([, each]) => each);
  const chosen = where.all("verdict");
  const toggle = (verdict: Verdict) => where.change({ verdict: chosen.includes(verdict) ? chosen.filter((one) => one !== verdict) : [...chosen, verdict] });
  const shown = chosen.length ? lines.filter((one) => chosen.includes(one.judged.verdict)) : lines;
  return (
    <Stack gap={4}>
      <HStack gap={6} flexWrap="wrap">
        <Text fontSize="sm">
          <RunLink dag={EXPORT_DAG} run={wave.run_id}>The run in Airflow</RunLink>
        </Text>
        <Meter counts={counts} />
        <Text fontSize="sm" role="status">
          {count(counts.exported ?? 0)} of {plural(wave.servers.length, "server")} exported
          {troubles.map(([verdict, each]) => `, ${count(each)} ${verdict}`).join("")}
        </Text>
        {counts.failed ? (
          <Act action={{ name: "retry", title: "Try the failed again", dag: PLAN_DAG, body: { plan_id: wave.plan_id } }}>Retry the failed of the plan</Act>
        ) : null}
      </HStack>
      {problem?.status === 404 ? (
        <Notice status="info" title="Airflow has no such run">
          It has not started yet, or was deleted. What the bucket says is shown all the same.
        </Notice>
      ) : problem ? (
        <ProblemNotice problem={problem} />
      ) : null}
      {accountProblem ? <ProblemNotice problem={accountProblem} /> : null}
      <Section title="Servers">
        <HStack gap={2} mb={3} flexWrap="wrap" role="group" aria-label="Servers by how they are">
          {VERDICTS.filter((verdict) => many(verdict) || chosen.includes(verdict)).map((verdict) => (
            <button key={verdict} type="button" className="sl-chip" aria-pressed={chosen.includes(verdict)} onClick={() => toggle(verdict)}>
              {verdict} <span>{count(many(verdict))}</span>
            </button>
          ))}
        </HStack>
        <Tabled
          label="Servers of the wave"
          columns={[{ title: "Server", tight: true }, { title: "Phase" }, { title: "Account" }, { title: "Elapsed", right: true }, { title: "Expected end" }, { title: "Bytes", right: true }, { title: "What to do" }]}
          rows={shown.map(({ server, judged }) => ({
            key: String(server.map_index),
            pointed: where.get("index") === String(server.map_index),
            cells: [
              <Go key="s" where={where} to={{ view: "server", id: String(server.id), period: server.period }}>
                {server.hostname}
              </Go>,
              <span key="p" className={`sl-legend sl-${judged.style}`}>
                <span className={`sl-box sl-${judged.style}`} data-sign={judged.sign} aria-hidden="true" />
                {judged.phase}
                {judged.verdict === "slow" || judged.verdict === "stuck" ? `, ${judged.verdict}` : ""}
              </span>,
              judged.account || "–",
              duration(judged.elapsed),
              judged.expectedEnd ? moment(judged.expectedEnd) : "–",
              server.bytes ? bytes(server.bytes) : `of ${bytes(server.capacity_bytes)}`,
              <div key="w" className="sl-words">
                {judged.words || "–"}
              </div>,
            ],
          }))}
        />
      </Section>
    </Stack>
  );
}
