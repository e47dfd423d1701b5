/* Slow, stuck and failed are told apart, each with what to do. */
import { describe, expect, it } from "vitest";

import { brokenOf, judge, type TaskInstance, tasksOf } from "./phases";
import type { TransactionLine, WaveServer } from "./types";

const NOW = Date.parse("2026-11-27T12:00:00Z");
const ago = (seconds: number): string => new Date(NOW - seconds * 1000).toISOString();

const server = (more: Partial<WaveServer> = {}): WaveServer => ({
  map_index: 0,
  id: 120000011,
  hostname: "db-01",
  datacenter: "dal13",
  period: "20261127T0200Z",
  state: "running",
  words: "",
  task: "",
  done_at: null,
  bytes: 0,
  capacity_bytes: 10 ** 11,
  capture_expected_seconds: 600,
  export_expected_seconds: 1200,
  capture_deadline_seconds: 7200,
  export_deadline_seconds: 14400,
  capture_stuck_seconds: 3600,
  export_stuck_seconds: 7200,
  ...more,
});

const task = (step: string, state: string | null, began: number | null = null): TaskInstance => ({
  task_id: `export.${step}`,
  map_index: 0,
  state,
  start_date: began === null ? null : ago(began),
  end_date: null,
  try_number: 1,
});

const transaction = (still: number): TransactionLine => ({
  id: 120000011,
  power_state: "Running",
  on: "server",
  transaction_id: 4711,
  status: "Capture disk",
  group: "Capture",
  since: ago(still),
  started_at: ago(still),
  template_id: null,
});

const capturing = (began: number): TaskInstance[] => [task("capture", "success", began), task("wait_for_template", "deferred", began - 5), task("wait_for_export", null)];

describe("a capture", () => {
  it("is on time while the history lets expect it", () => {
    const found = judge(server(), capturing(300), transaction(60), NOW);
    expect(found.verdict).toBe("on time");
    expect(found.elapsed).toBe(300);
    expect(found.expectedEnd).toBe(ago(-300));
    expect(found.account).toContain("Capture disk");
  });

  it("is slow when it takes longer, and nothing is to be done", () => {
    const found = judge(server(), capturing(900), transaction(60), NOW);
    expect(found.verdict).toBe("slow");
    expect(found.words).toContain("nothing is to be done");
  });

  it("is stuck when the account's status stands still, and the words name the transaction", () => {
    const found = judge(server(), capturing(4000), transaction(3700), NOW);
    expect(found.verdict).toBe("stuck");
    expect(found.words).toContain("transaction 4711");
  });

  it("has no expected end without a history, and is not called slow", () => {
    const found = judge(server({ capture_expected_seconds: null }), capturing(6000), transaction(60), NOW);
    expect(found.verdict).toBe("on time");
    expect(found.expectedEnd).toBeNull();
  });
});

describe("a server", () => {
  it("waits until its capture begins", () => {
    expect(judge(server(), [task("capture", "queued")], undefined, NOW).verdict).toBe("waiting");
    expect(judge(server(), [], undefined, NOW).phase).toBe("waits for its capture");
  });

  it("is judged by its export's own figures once it is captured", () => {
    const tasks = [task("capture", "success", 9000), task("wait_for_template", "success", 8000), task("wait_for_export", "deferred", 1000)];
    const found = judge(server(), tasks, transaction(4000), NOW);
    expect(found.verdict).toBe("on time");
    expect(found.elapsed).toBe(1000);
  });

  it("has failed by the report's words, or by Airflow's while there is no report yet", () => {
    const told = judge(server({ state: "failed", task: "export.capture", words: "The account said no." }), [], undefined, NOW);
    expect([told.verdict, told.words]).toEqual(["failed", "The account said no."]);
    const early = judge(server(), [task("capture", "failed"), task("wait_for_template", "upstream_failed"), task("wait_for_export", "upstream_failed")], undefined, NOW);
    expect(early.verdict).toBe("failed");
    expect(early.phase).toContain("export.capture");
  });

  it("tells what its task said before there is a report, and that another try comes by itself", () => {
    const failed = judge(server(), [task("capture", "failed", 60)], undefined, NOW, "The account said no.");
    expect(failed.words).toMatch(/^The account said no\.\nWhen the wave is over, retry/u);
    const again = judge(server(), [task("capture", "up_for_retry", 60)], undefined, NOW, "The account was busy.");
    expect([again.verdict, again.words]).toEqual(["waiting", "The account was busy.\nIt is tried again by itself (try 1 went wrong): nothing is to be done."]);
    expect(brokenOf([task("capture", "up_for_retry")])?.task_id).toBe("export.capture");
    expect(brokenOf([task("capture", "success"), task("wait_for_template", "upstream_failed")])).toBeUndefined();
  });

  it("is done by its manifest, whatever Airflow says", () => {
    const found = judge(server({ state: "exported", done_at: ago(100) }), [task("capture", "success", 700), task("wait_for_export", "failed", 300)], undefined, NOW);
    expect([found.verdict, found.elapsed]).toEqual(["done", 600]);
  });
});

describe("the tasks of a wave", () => {
  it("are put to their servers; those of the whole wave are left out", () => {
    const found = tasksOf([task("capture", "success"), { ...task("capture", "success"), map_index: 3 }, { ...task("capture", null), task_id: "summarise", map_index: -1 }]);
    expect([...found.keys()]).toEqual([0, 3]);
  });
});
