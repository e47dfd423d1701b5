"""How the page does in a browser over a ledger of thousands: how soon it shows, how it scrolls, what memory it takes.

Beside each figure stands the same of Airflow's own list of DAGs: the page is a part of Airflow's page, which is there
before it can be.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page

from benchmarks.grid import chromium

PAGE: Final = "/plugin/sealift"
ROUNDS: Final = 7
SCROLL_MS: Final = 8000
FRAME_MS: Final = 1000 / 60

_CELLS: Final = "() => document.querySelectorAll('.sl-grid .sl-cell').length > 200"
_DAGS: Final = "() => document.body.innerText.includes('plan_exports')"
_SCROLL: Final = """async milliseconds => {
    const grid = document.querySelector('.sl-grid');
    const frames = [], missing = [];
    const began = performance.now();
    let last = began;
    await new Promise(done => requestAnimationFrame(function step(now) {
        frames.push(now - last);
        last = now;
        const rows = [...grid.querySelectorAll('.sl-row')];
        missing.push(rows.filter(row => row.getAttribute('aria-busy') === 'true').length / Math.max(1, rows.length));
        grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * Math.min(1, (now - began) / milliseconds);
        if (now - began < milliseconds) requestAnimationFrame(step); else done();
    }));
    return { frames: frames.slice(1), missing };
}"""
_JUMP: Final = """async share => {
    const grid = document.querySelector('.sl-grid');
    grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * share;
    const began = performance.now();
    while (true) {
        await new Promise(done => requestAnimationFrame(done));
        const rows = [...grid.querySelectorAll('.sl-row')];
        const there = rows.every(row => row.getAttribute('aria-busy') !== 'true');
        if (rows.length && there) return performance.now() - began;
        if (performance.now() - began > 20000) return 20000;
    }
}"""


def look(url: str) -> dict[str, Any]:
    """Open the page, scroll it, and say what it took.

    :param url: Airflow's address; whoever comes is let in.
    :returns: the figures.
    """
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1400, "height": 1000}, base_url=url)
        context.set_default_timeout(60_000)
        opened(context, PAGE, _CELLS)  # a browser that has been in this Airflow before, as people's have
        opens = [opened(context, PAGE, _CELLS) for _ in range(ROUNDS)]
        dags = [opened(context, "/dags", _DAGS) for _ in range(ROUNDS)]
        clicks = [clicked(context) for _ in range(ROUNDS)]
        found = scrolled(context)
        memory = {name: memory_of(browser, context, path, shown) for name, (path, shown) in _PLACES.items()}
        context.close()
    return {
        "opens_s": [round(one, 3) for one in opens],
        "list_of_dags_opens_s": [round(one, 3) for one in dags],
        "shows_after_a_click_s": [round(one, 3) for one in clicks],
        **found,
        "memory": memory,
    }


_PLACES: Final = {"page": (PAGE, _CELLS), "list_of_dags": ("/dags", _DAGS)}


def figures(run: dict[str, Any]) -> dict[str, float | None]:
    """Make the figures.

    :param run: what :func:`look` found.
    """
    frames = run["frames_ms"]
    return {
        "opens_s": statistics.median(run["opens_s"]),
        "list_of_dags_opens_s": statistics.median(run["list_of_dags_opens_s"]),
        "shows_after_a_click_s": statistics.median(run["shows_after_a_click_s"]),
        "frame_p95_ms": frames["p95"],
        "frames_above_50_ms": frames["share_above_50"],
        "rows_missing_while_scrolling": run["rows_missing"],
        "jump_p95_ms": run["jumps_ms"]["p95"],
        "page_heap_mb": run["memory"]["page"]["heap_mb"],
        "page_process_mb": run["memory"]["page"]["process_mb"],
        "list_of_dags_process_mb": run["memory"]["list_of_dags"]["process_mb"],
    }


def opened(context: BrowserContext, path: str, shown: str) -> float:
    """Open a page in a tab of its own, and wait until it shows something.

    :returns: seconds.
    """
    page = context.new_page()
    start = time.perf_counter()
    page.goto(path, wait_until="commit")
    page.wait_for_function(shown)
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def clicked(context: BrowserContext) -> float:
    """Come from another page of Airflow's by its navigation.

    :returns: seconds from the click until the grid is there.
    """
    page = context.new_page()
    page.goto("/dags")
    page.wait_for_function(_DAGS)
    page.wait_for_load_state("networkidle")
    link = page.get_by_test_id("nav-sidebar").get_by_role("link", name="Sealift", exact=True)
    start = time.perf_counter()
    link.click()
    page.wait_for_function(_CELLS)
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def scrolled(context: BrowserContext) -> dict[str, Any]:
    """Scroll through all servers in some seconds, then jump about."""
    page = context.new_page()
    page.goto(PAGE)
    page.wait_for_function(_CELLS)
    page.wait_for_load_state("networkidle")
    told = page.evaluate(_SCROLL, SCROLL_MS)
    frames = sorted(told["frames"])
    jumps = sorted(page.evaluate(_JUMP, share) for share in (0.03, 0.9, 0.5, 0.11, 0.77, 0.33, 0.6, 0.22, 0.97, 0.42))
    page.close()
    return {
        "scrolled_ms": SCROLL_MS,
        "frames_ms": {
            "count": len(frames),
            "median": round(statistics.median(frames), 1),
            "p95": round(frames[int(len(frames) * 0.95)], 1),
            "largest": round(frames[-1], 1),
            "share_above_50": round(sum(one > 50 for one in frames) / len(frames), 4),
        },
        "rows_missing": round(statistics.fmean(told["missing"]), 4),
        "jumps_ms": {"median": round(statistics.median(jumps)), "p95": round(jumps[-1])},
    }


def memory_of(browser: Browser, context: BrowserContext, path: str, shown: str) -> dict[str, float]:
    """Say what a page takes after it was used for a while.

    :returns: megabytes of its objects after a collection, and resident ones of its process; and its elements.
    """
    page = context.new_page()
    page.goto(path)
    page.wait_for_function(shown)
    if path == PAGE:
        page.evaluate(_SCROLL, SCROLL_MS)
        page.evaluate(_JUMP, 0.5)
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    found = {
        "heap_mb": round(metrics["JSHeapUsedSize"] / 1e6, 1),
        "process_mb": resident_of(browser, session, page),
        "elements": metrics["Nodes"],
    }
    page.close()
    return found


def resident_of(browser: Browser, session: CDPSession, page: Page) -> float:
    """The resident memory of the process that shows a page; it is the one that is busy while the page is."""
    whole = browser.new_browser_cdp_session()

    def busy() -> dict[int, float]:
        told = whole.send("SystemInfo.getProcessInfo")["processInfo"]
        return {int(one["id"]): one["cpuTime"] for one in told if one["type"] == "renderer"}

    before = busy()
    page.evaluate("() => { const end = performance.now() + 400; while (performance.now() < end); }")
    after = busy()
    whole.detach()
    session.detach()
    pid = max(after, key=lambda one: after[one] - before.get(one, 0.0))
    text = Path(f"/proc/{pid}/status").read_text()
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS")), 0.0)
