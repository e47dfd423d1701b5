"""The figures of the page's benchmark follow from what was measured."""

from __future__ import annotations

from typing import Any

from benchmarks import page

ROUTE = {"first_ms": 900, "median_ms": 40, "kilobytes": 60}
BROWSER = {
    "opens_s": [1.4, 1.2, 1.3],
    "list_of_dags_opens_s": [1.0, 1.1, 0.9],
    "shows_after_a_click_s": [0.2, 0.4, 0.3],
    "frames_ms": {"count": 400, "median": 16.7, "p95": 18.0, "largest": 60.0, "share_above_50": 0.0025},
    "rows_missing": 0.1,
    "jumps_ms": {"median": 150, "p95": 240},
    "memory": {
        "page": {"heap_mb": 40.0, "process_mb": 180.0, "elements": 9000},
        "list_of_dags": {"heap_mb": 30.0, "process_mb": 150.0, "elements": 2000},
    },
}


def run(**more: Any) -> dict[str, Any]:
    routes = {
        "coverage": {**ROUTE, "p95_ms": 120},
        "plan": {**ROUTE, "p95_ms": 301},
        "charts": {**ROUTE, "p95_ms": 300},
    }
    return {"first_answer_seconds": 9.5, "largest_process_mb": 500, "routes": routes, **more}


def test_the_slowest_route_counts_and_how_many_are_above_the_mark() -> None:
    found = page.figures(run())
    assert (found["slowest_p95_ms"], found["routes_above_300_ms"]) == (301, 1)
    assert (found["first_answer_s"], found["api_server_mb"]) == (9.5, 500)
    assert "opens_s" not in found, "nobody has looked with a browser"


def test_a_browser_s_figures_are_medians_beside_airflow_s_own_page() -> None:
    found = page.figures(run(browser=BROWSER))
    assert (found["opens_s"], found["list_of_dags_opens_s"], found["shows_after_a_click_s"]) == (1.3, 1.0, 0.3)
    assert (found["page_heap_mb"], found["page_process_mb"], found["list_of_dags_process_mb"]) == (40.0, 180.0, 150.0)
    assert (found["frame_p95_ms"], found["frames_above_50_ms"], found["jump_p95_ms"]) == (18.0, 0.0025, 240)
