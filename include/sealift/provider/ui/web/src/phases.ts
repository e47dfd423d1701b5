/* Where a server of a wave is, and whether it is on time, slow, stuck or failed. */
import type { TransactionLine, WaveServer } from "./types";
import { duration, moment } from "./words";

export interface TaskInstance {
  task_id: string;
  map_index: number;
  state: string | null;
  start_date: string | null;
  end_date: string | null;
  try_number: number;
}

export const VERDICTS = ["failed", "stuck", "slow", "on time", "waiting", "done", "left out"] as const;
export type Verdict = (typeof VERDICTS)[number];

export interface Judged {
  verdict: Verdict;
  phase: string;
  account: string;
  elapsed: number | null;
  expectedEnd: string | null;
  words: string;
  style: string;
  sign: string;
}

const STEPS = ["export.capture", "export.wait_for_template", "export.wait_for_export"] as const;
type Step = (typeof STEPS)[number];
const PHASES: Record<Step, string> = {
  "export.capture": "capture, the server is offline",
  "export.wait_for_template": "image template is made",
  "export.wait_for_export": "export to the bucket, and proof",
};
const RETRY = "When the wave is over, retry the failed of the plan: what is done is not done twice.";
const ENDED = new Set(["success", "skipped"]);
const FAILED = new Set(["failed", "upstream_failed"]);
const AT_WORK = new Set(["running", "deferred", "up_for_reschedule"]);

/** Task instances of the servers' group, by the servers' map index. */
export function tasksOf(tasks: readonly TaskInstance[]): Map<number, TaskInstance[]> {
  const found = new Map<number, TaskInstance[]>();
  for (const one of tasks) {
    if (one.map_index < 0 || !(STEPS as readonly string[]).includes(one.task_id)) continue;
    found.set(one.map_index, [...(found.get(one.map_index) ?? []), one]);
  }
  return found;
}

/** The task of a server that broke, or that is tried again. */
export function brokenOf(tasks: readonly TaskInstance[]): TaskInstance | undefined {
  return tasks.find((one) => one.state === "failed" || one.state === "up_for_retry");
}

const seconds = (from: string | null | undefined, now: number): number | null => (from ? Math.max(0, (now - new Date(from).valueOf()) / 1000) : null);
const later = (from: string, by: number): string => new Date(new Date(from).valueOf() + by * 1000).toISOString();

/**
 * Say where a server is.
 *
 * @param server what the bucket says.
 * @param tasks Airflow's tasks of the server.
 * @param transaction what the account says.
 * @param now the present time, in milliseconds.
 * @param said what the task that broke has said; empty where that is not known.
 */
export function judge(server: WaveServer, tasks: readonly TaskInstance[], transaction: TransactionLine | undefined, now: number, said = ""): Judged {
  const account = transaction?.status
    ? `${transaction.status}${transaction.since ? `, since ${moment(transaction.since)}` : ""} (transaction ${String(transaction.transaction_id ?? "")} on the ${transaction.on ?? "server"})`
    : "";
  const told = { account, elapsed: null, expectedEnd: null };
  const of = (step: Step) => tasks.find((one) => one.task_id === step);
  const first = of("export.capture")?.start_date ?? null;
  if (server.state === "exported")
    return { ...told, verdict: "done", phase: "exported", elapsed: first && server.done_at ? seconds(first, new Date(server.done_at).valueOf()) : null, words: "", style: "l2", sign: "✓" };
  if (server.state === "skipped") return { ...told, verdict: "left out", phase: "skipped", words: server.words, style: "skipped", sign: "–" };

  const broken = STEPS.find((step) => of(step)?.state === "failed") ?? STEPS.find((step) => FAILED.has(of(step)?.state ?? ""));
  if (server.state === "failed" || server.state === "missing" || broken) {
    const words = server.words || [said || `The task ${broken ?? server.task} failed: the first line of its log says why.`, RETRY].join("\n");
    return { ...told, verdict: "failed", phase: `failed in ${server.task || (broken ?? "a step that was not reported")}`, words, style: "failed", sign: "✕" };
  }
  const step = STEPS.find((one) => !ENDED.has(of(one)?.state ?? ""));
  if (!step) return { ...told, verdict: "on time", phase: "the manifest is written", words: "", style: "running", sign: "▸" };
  const task = of(step);
  if (!task || !AT_WORK.has(task.state ?? "")) {
    const phase = task?.state === "up_for_retry" ? `waits for another try of ${step}` : step === "export.capture" ? "waits for its capture" : `waits for ${PHASES[step]}`;
    const words = task?.state === "up_for_retry" ? [said, `It is tried again by itself (try ${String(task.try_number)} went wrong): nothing is to be done.`].filter(Boolean).join("\n") : "";
    return { ...told, verdict: "waiting", phase, words, style: "not-selected", sign: "" };
  }

  const exporting = step === "export.wait_for_export";
  // Capture and template are one wait: the history measures them together.
  const began = exporting ? task.start_date : (first ?? task.start_date);
  const elapsed = seconds(began, now);
  const expected = exporting ? server.export_expected_seconds : server.capture_expected_seconds;
  const deadline = exporting ? server.export_deadline_seconds : server.capture_deadline_seconds;
  const stuckAfter = exporting ? server.export_stuck_seconds : server.capture_stuck_seconds;
  const still = seconds(transaction?.since, now);
  const at = { account, elapsed, expectedEnd: began && expected ? later(began, expected) : null, phase: PHASES[step] };
  const until = began ? moment(later(began, deadline)) : "its deadline";
  if (still !== null && transaction?.transaction_id && still > stuckAfter)
    return { ...at, verdict: "stuck", words: `The transaction's status has not changed for ${duration(still)}. Open a case with IBM that names transaction ${String(transaction.transaction_id)}. Sealift waits until ${until}, then the server counts as failed.`, style: "missing", sign: "!" };
  if (elapsed !== null && expected && elapsed > expected)
    return { ...at, verdict: "slow", words: `Slower than the history lets expect (${duration(expected)}), and still moving: nothing is to be done. It may last until ${until}.`, style: "skipped", sign: "…" };
  return { ...at, verdict: "on time", words: "", style: "running", sign: "▸" };
}
