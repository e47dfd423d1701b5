/* How figures, times and states read. */
import type { State } from "./types";

export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = size;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit] ?? ""}`;
}

export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 && seconds % 1 !== 0 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${String(minutes)} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${String(hours)} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${String(Math.floor(hours / 24))} d ${String(hours % 24)} h`;
}

/** A time in UTC, as the slots' names have it. */
export function moment(at: string | null | undefined): string {
  if (!at) return "–";
  const time = new Date(at);
  return Number.isNaN(time.valueOf()) ? at : `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

export const day = (at: string): string => new Date(at).toISOString().slice(0, 10);

export function ago(at: string | null, now: number): string {
  if (!at) return "";
  const seconds = Math.max(0, (now - new Date(at).valueOf()) / 1000);
  return seconds < 5 ? "just now" : `${duration(Math.round(seconds))} ago`;
}

export const count = (number: number): string => number.toLocaleString("en-US");

export const plural = (number: number, one: string, many = `${one}s`): string => `${count(number)} ${number === 1 ? one : many}`;

export const money = (amount: number, currency: string): string =>
  new Intl.NumberFormat("en-US", { style: "currency", currency, maximumFractionDigits: 2 }).format(amount);

export interface Look {
  word: string;
  sign: string;
  style: string;
}

const LEVELS = new Map(Object.entries({
  L0: "exported, not proven (L0)",
  L1: "exported, structure proven (L1)",
  L2: "exported, every byte proven (L2)",
  L3: "exported, content proven (L3)",
  L4: "exported, started (L4)",
}));

const STATES = new Map<string, Look>(Object.entries({
  exported: { word: "exported, manifest not read yet", sign: "✓", style: "exported" },
  running: { word: "running", sign: "▸", style: "running" },
  failed: { word: "failed", sign: "✕", style: "failed" },
  skipped: { word: "skipped", sign: "–", style: "skipped" },
  missing: { word: "missing", sign: "!", style: "missing" },
  "not selected": { word: "not selected", sign: "", style: "not-selected" },
}));

const UNKNOWN: Look = { word: "not known yet", sign: "", style: "unknown" };

/** How a cell of the grid reads: a level of proof, or a state. */
export function lookOf(cell: string): Look {
  const level = LEVELS.get(cell);
  if (level) return { word: level, sign: cell.slice(1), style: cell.toLowerCase() };
  return STATES.get(cell) ?? UNKNOWN;
}

export const ALL_STATES: readonly State[] = ["exported", "running", "failed", "missing", "skipped", "not selected"];

export const fullName = (server: { hostname: string; domain?: string; id: number }): string =>
  server.hostname ? (server.domain ? `${server.hostname}.${server.domain}` : server.hostname) : String(server.id);
