/* Styles of what is drawn many times over: a grid of thousands of cells is too much for styled components. */

export const ROW = 28;
export const CELL = 24;
export const HEAD = 138;

const LIGHT = `
  --sl-l0: #e3e8c5; --sl-l0-on: #4a5200; --sl-l1: #a9dfb0; --sl-l1-on: #0b4a1b; --sl-l2: #5cbf73; --sl-l2-on: #06300f;
  --sl-l3: #1b7d3c; --sl-l3-on: #fff; --sl-l4: #0c4a24; --sl-l4-on: #fff; --sl-exported: #d5eed8; --sl-exported-on: #0b4a1b;
  --sl-running: #bcd9ff; --sl-running-on: #0a3d85; --sl-failed: #c62828; --sl-failed-on: #fff;
  --sl-missing: #ffc46b; --sl-missing-on: #5c3300; --sl-skipped: #dedaea; --sl-skipped-on: #453a66; --sl-none: #8b8b95;
`;

const DARK = `
  --sl-l0: #4b5320; --sl-l0-on: #eef2c8; --sl-l1: #1f5a31; --sl-l1-on: #c9f5d3; --sl-l2: #267a41; --sl-l2-on: #fff;
  --sl-l3: #4fbf73; --sl-l3-on: #04220d; --sl-l4: #9af0b4; --sl-l4-on: #04220d; --sl-exported: #24402b; --sl-exported-on: #c9f5d3;
  --sl-running: #1d4480; --sl-running-on: #d6e7ff; --sl-failed: #cf3237; --sl-failed-on: #fff;
  --sl-missing: #a66c00; --sl-missing-on: #fff3dc; --sl-skipped: #4a4360; --sl-skipped-on: #e6e0f5; --sl-none: #84848e;
`;

const FILLED = ["l0", "l1", "l2", "l3", "l4", "exported", "running", "failed", "missing", "skipped"];

export const STYLE = `
.sl-page {${LIGHT}}
.dark .sl-page {${DARK}}
.sl-page a.sl-link { color: var(--chakra-colors-fg-info); text-underline-offset: 2px; }
.sl-page a.sl-link:hover { text-decoration: underline; }
.sl-page :is(a, button, [tabindex], input, select, summary):focus-visible { outline: 2px solid var(--chakra-colors-blue-500); outline-offset: 1px; }
.sl-box, .sl-cell::before { display: inline-flex; align-items: center; justify-content: center; width: 18px; height: 18px; flex: none;
  border-radius: 4px; font-size: 11px; font-weight: 700; line-height: 1; font-variant-numeric: tabular-nums; }
.sl-box::before, .sl-cell::before { content: attr(data-sign); }
${FILLED.map((name) => `.sl-${name} > .sl-box, .sl-box.sl-${name}, .sl-cell.sl-${name}::before { background: var(--sl-${name}); color: var(--sl-${name}-on); }`).join("\n")}
.sl-not-selected > .sl-box, .sl-box.sl-not-selected, .sl-cell.sl-not-selected::before { border: 1px dotted var(--sl-none); }
.sl-cell.sl-unknown::before { display: none; }
.sl-grid { position: relative; overflow: auto; border: 1px solid var(--chakra-colors-border); border-radius: 6px;
  background: var(--chakra-colors-bg); font-size: 13px; contain: strict; }
.sl-canvas { position: relative; }
.sl-row { position: absolute; left: 0; display: flex; height: ${ROW}px; contain: layout style; }
.sl-row:hover .sl-left, .sl-row:hover > .sl-cell { background: var(--chakra-colors-bg-muted); }
.sl-left { position: sticky; left: 0; z-index: 2; display: flex; align-items: center; flex: none; gap: 8px; padding: 0 8px;
  background: var(--chakra-colors-bg); border-right: 1px solid var(--chakra-colors-border); }
.sl-left > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.sl-name { flex: 1 1 0; min-width: 0; }
.sl-name a { display: block; overflow: hidden; text-overflow: ellipsis; }
.sl-dc { width: 56px; flex: none; } .sl-size { width: 70px; flex: none; text-align: right; } .sl-last { width: 84px; flex: none; }
.sl-cell { width: ${CELL}px; flex: none; display: flex; align-items: center; justify-content: center; cursor: pointer; }
.sl-head { position: sticky; top: 0; z-index: 3; display: flex; height: ${HEAD}px; background: var(--chakra-colors-bg-muted);
  border-bottom: 1px solid var(--chakra-colors-border); }
.sl-head .sl-left { background: var(--chakra-colors-bg-muted); align-items: flex-end; padding-bottom: 6px; z-index: 4; font-weight: 600; }
.sl-head .sl-slot { width: ${CELL}px; flex: none; display: flex; flex-direction: column; align-items: center; justify-content: flex-end;
  cursor: default; }
.sl-slot > em { font-style: normal;  writing-mode: vertical-rl; transform: rotate(180deg); font-size: 11px; font-variant-numeric: tabular-nums; height: 102px;
  white-space: nowrap; overflow: hidden; }
.sl-slot > i { display: flex; flex-direction: column; width: 14px; height: 26px; margin: 4px 0; border-radius: 3px; overflow: hidden;
  background: var(--chakra-colors-bg-emphasized); }
.sl-slot > i > b { display: block; flex: none; width: 100%; }
.sl-sort { font: inherit; cursor: pointer; white-space: nowrap; }
.sl-tip { position: fixed; z-index: 1500; max-width: 360px; padding: 8px 10px; border-radius: 6px; font-size: 12px; line-height: 1.4;
  pointer-events: none; background: var(--chakra-colors-bg-inverted); color: var(--chakra-colors-fg-inverted); box-shadow: 0 2px 10px rgb(0 0 0 / 30%);
  overflow-wrap: anywhere; }
.sl-chip { display: inline-flex; align-items: center; gap: 6px; padding: 2px 10px 2px 5px; border: 1px solid var(--chakra-colors-border);
  border-radius: 999px; font-size: 13px; cursor: pointer; background: var(--chakra-colors-bg); }
.sl-chip[aria-pressed="true"] { border-color: var(--chakra-colors-fg); background: var(--chakra-colors-bg-muted); font-weight: 600; }
.sl-choices { position: relative; }
.sl-choices .sl-mark { margin-left: 6px; color: var(--chakra-colors-fg-muted); }
.sl-list { position: absolute; z-index: 20; top: calc(100% + 4px); left: 0; min-width: 200px; max-width: min(340px, 80vw); padding: 8px 10px;
  border: 1px solid var(--chakra-colors-border); border-radius: 6px; background: var(--chakra-colors-bg-panel, var(--chakra-colors-bg));
  box-shadow: 0 4px 16px rgb(0 0 0 / 20%); font-size: 13px; }
.sl-list[hidden] { display: none; }
.sl-list ul { list-style: none; margin: 4px 0; padding: 0; max-height: 260px; overflow-y: auto; }
.sl-list label { display: block; padding: 3px 2px; cursor: pointer; overflow-wrap: anywhere; }
.sl-legend { display: inline-flex; vertical-align: top; align-items: center; gap: 5px; font-size: 12px; }
.sl-words { overflow-wrap: anywhere; white-space: pre-line; }
.sl-meter { display: flex; height: 10px; min-width: 80px; border-radius: 5px; overflow: hidden; background: var(--chakra-colors-bg-emphasized); }
.sl-meter > b { display: block; height: 100%; }
.sl-scroll { overflow-x: auto; }
.sl-pointed > td { background: var(--chakra-colors-bg-muted); box-shadow: inset 0 2px var(--chakra-colors-blue-500), inset 0 -2px var(--chakra-colors-blue-500); }
.sl-code { display: block; font-family: var(--chakra-fonts-mono); font-size: 12px; padding: 8px 10px; border-radius: 6px; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; background: var(--chakra-colors-bg-muted); }
.sl-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;
