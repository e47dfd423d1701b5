/* How figures, times and states read. */
import { describe, expect, it } from "vitest";

import { bytes, duration, fullName, lookOf, moment } from "./words";

describe("figures", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1500, "1.5 kB"],
    [250 * 10 ** 9, "250 GB"],
    [22.5 * 10 ** 12, "22.5 TB"],
  ])("%d bytes read as %s", (size, words) => expect(bytes(size)).toBe(words));

  it.each([
    [0, "0 s"],
    [1.25, "1.3 s"],
    [59, "59 s"],
    [600, "10 min"],
    [3 * 3600 + 180, "3 h 03 min"],
    [72 * 3600, "3 d 0 h"],
  ])("%d seconds read as %s", (seconds, words) => expect(duration(seconds)).toBe(words));

  it("what is not known reads as a dash", () => expect([bytes(null), duration(null), moment(null)]).toEqual(["–", "–", "–"]));
});

it("times are in UTC", () => expect(moment("2026-11-23T03:00:00+01:00")).toBe("2026-11-23 02:00 UTC"));

it("no state is told by its color alone", () => {
  const cells = ["L0", "L1", "L2", "L3", "L4", "exported", "running", "failed", "skipped", "missing", "not selected"];
  expect(new Set(cells.map((cell) => lookOf(cell).sign)).size).toBe(cells.length);
  expect(new Set(cells.map((cell) => lookOf(cell).word)).size).toBe(cells.length);
});

it("a word that is new to the page is not taken for a state", () => {
  expect(lookOf("something else").word).toBe("not known yet");
  expect(lookOf("constructor").word).toBe("not known yet");
});

it("a server without a name is called by its id", () => expect(fullName({ hostname: "", id: 12345678 })).toBe("12345678"));
