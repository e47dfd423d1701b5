"""A small client of Airflow's REST API (v2), for the demo and the end-to-end tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

FINAL_STATES = frozenset({"success", "failed"})
# [api] maximum_page_limit is 100 unless configured otherwise.
PAGE = 100


class AirflowError(Exception):
    """Airflow refused a request, or something did not happen in time."""


def _part(text: str) -> str:
    return quote(text, safe="")


def _log_line(line: Any) -> str:
    if not isinstance(line, dict):
        return str(line)
    rest = {name: value for name, value in line.items() if name not in ("event", "timestamp", "level") and value}
    return f"{line.get('event', '')} {json.dumps(rest, ensure_ascii=False) if rest else ''}".rstrip()


class AirflowRest:
    """Talks to one API server as the all-admins user of Airflow's simple auth manager.

    :param base_url: for example ``http://127.0.0.1:8080``.
    :param timeout: seconds for one request; a busy machine with SQLite takes its time.
    """

    def __init__(self, *, base_url: str, timeout: float = 60.0) -> None:
        """Open a client; nothing is sent yet."""
        self.base_url = base_url.rstrip("/")
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout, trust_env=False)
        self._token = ""

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send one request with a token, which is renewed once if it has expired.

        :param method: the HTTP method.
        :param path: below ``/api/v2/``.
        :param arguments: what httpx takes, such as ``json`` and ``params``.
        :returns: the decoded JSON, or None if there is no body.
        :raises AirflowError: for any status that is not a success, with Airflow's own words.
        """
        for attempt in range(2):
            if not self._token:
                self._token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
            headers = {"Authorization": f"Bearer {self._token}"}
            reply = self._http.request(method, f"/api/v2/{path}", headers=headers, **arguments)
            if reply.status_code == httpx.codes.UNAUTHORIZED and attempt == 0:
                self._token = ""
                continue
            break
        if reply.is_error:
            raise AirflowError(f"{method} {path}: {reply.status_code} {reply.text[:2000]}")
        return reply.json() if reply.content else None

    def pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Read a list to its end.

        :param path: below ``/api/v2/``.
        :param key: the name of the list in the reply.
        :param params: more query parameters.
        :returns: its entries, one by one.
        """
        offset = 0
        while True:
            reply = self.request("GET", path, params={**params, "limit": PAGE, "offset": offset})
            yield from reply[key]
            offset += len(reply[key])
            if not reply[key] or offset >= reply["total_entries"]:
                return

    def healthy(self, *components: str) -> bool:
        """Tell whether the API server answers and reports these components as healthy.

        :param components: for example ``scheduler``, ``triggerer``, ``dag_processor``.
        """
        try:
            reply = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        if reply.is_error:
            return False
        health = reply.json()
        return all((health.get(name) or {}).get("status") == "healthy" for name in ("metadatabase", *components))

    def add_connection(self, connection: Mapping[str, Any]) -> None:
        """Write a connection into the metadata database, in place of one with the same id.

        On SQLite, Airflow fails (500, "Database error") when another process writes at that moment; then it is asked
        again.

        :param connection: ``connection_id``, ``conn_type``, ``host``, ``login``, ``password``, ``extra`` (JSON text).
        """
        path = f"connections/{_part(connection['connection_id'])}"
        deadline = time.monotonic() + 30
        while True:
            try:
                self.request("POST", "connections", json=dict(connection))
            except AirflowError as error:
                if ": 409 " in str(error):
                    self.request("PATCH", path, json=dict(connection))
                elif "Database error" in str(error) and time.monotonic() < deadline:
                    time.sleep(0.5)
                    continue
                else:
                    raise
            return

    def dags(self) -> dict[str, dict[str, Any]]:
        """Read the DAGs that have been parsed, by id."""
        return {dag["dag_id"]: dag for dag in self.pages("dags", "dags")}

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause a DAG, or let it run again.

        :param dag_id: the DAG.
        :param paused: whether it is to rest.
        """
        self.request("PATCH", f"dags/{_part(dag_id)}", json={"is_paused": paused}, params={"update_mask": "is_paused"})

    def import_errors(self) -> list[dict[str, Any]]:
        """Read what went wrong while DAG files were parsed."""
        return list(self.pages("importErrors", "import_errors"))

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None) -> str:
        """Start a run.

        :param dag_id: the DAG.
        :param conf: its params.
        :param run_id: the run's id, or None for one that Airflow makes.
        :returns: the run's id.
        """
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        reply = self.request("POST", f"dags/{_part(dag_id)}/dagRuns", json=body)
        return str(reply["dag_run_id"])

    def backfill(
        self, dag_id: str, *, start: str, end: str, conf: Mapping[str, Any] | None = None, seconds: float = 60.0
    ) -> None:
        """Make the runs of past slots that have none.

        On SQLite, Airflow refuses (503) when another process writes at that moment, and removes what it had begun; and
        it refuses (409) while it has not taken note of the end of the backfill before. Then it is asked again.

        :param dag_id: the DAG.
        :param start: the first moment, as ISO 8601.
        :param end: the last one.
        :param conf: the runs' params.
        :param seconds: for how long it may refuse.
        :raises AirflowError: any other refusal, or that one for too long.
        """
        body: dict[str, Any] = {"dag_id": dag_id, "from_date": start, "to_date": end, "reprocess_behavior": "none"}
        if conf:
            body["dag_run_conf"] = dict(conf)
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.request("POST", "backfills", json=body)
            except AirflowError as error:
                passes = ": 503 " in str(error) or "already a running backfill" in str(error)
                if not passes or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Read one run."""
        reply = self.request("GET", self._run(dag_id, run_id))
        assert isinstance(reply, dict)
        return reply

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Read all runs of a DAG, oldest first."""
        return list(self.pages(f"dags/{_part(dag_id)}/dagRuns", "dag_runs", order_by="id"))

    def wait(self, dag_id: str, run_id: str, *, seconds: float) -> str:
        """Wait until a run has ended.

        :param dag_id: the DAG.
        :param run_id: the run.
        :param seconds: how long to wait.
        :returns: ``success`` or ``failed``.
        :raises AirflowError: if it has not ended by then.
        """
        deadline = time.monotonic() + seconds
        while (state := self.run(dag_id, run_id)["state"]) not in FINAL_STATES:
            if time.monotonic() > deadline:
                raise AirflowError(f"{dag_id} {run_id} is still {state} after {seconds:.0f} s.")
            time.sleep(0.5)
        return str(state)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Read all task instances of a run, mapped ones with their ``map_index`` and ``rendered_map_index``."""
        return list(self.pages(f"{self._run(dag_id, run_id)}/taskInstances", "task_instances"))

    def tries(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> list[dict[str, Any]]:
        """Read every try of one task instance."""
        path = f"{self._task(dag_id, run_id, task_id)}/tries"
        if map_index >= 0:
            path = f"{self._task(dag_id, run_id, task_id)}/{map_index}/tries"
        return list(self.request("GET", path)["task_instances"])

    def xcoms(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Read all XComs of a run, each with its value.

        :returns: entries with ``task_id``, ``map_index``, ``key`` and ``value``.
        """
        path = f"{self._run(dag_id, run_id)}/taskInstances/~/xcomEntries"
        return [
            {**entry, "value": self.xcom(dag_id, run_id, entry["task_id"], entry["key"], map_index=entry["map_index"])}
            for entry in self.pages(path, "xcom_entries")
        ]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """Read the value of one XCom."""
        path = f"{self._task(dag_id, run_id, task_id)}/xcomEntries/{_part(key)}"
        return self.request("GET", path, params={"map_index": map_index})["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Read the log of one try as text: each line's message and what else it carries, as an error's detail."""
        path = f"{self._task(dag_id, run_id, task_id)}/logs/{try_number}"
        reply = self.request("GET", path, params={"map_index": map_index, "full_content": "true"})
        content = reply["content"]
        if isinstance(content, str):
            return content
        return "\n".join(_log_line(line) for line in content)

    def clear(
        self, dag_id: str, run_id: str, task_ids: Sequence[str | tuple[str, int]], *, downstream: bool = True
    ) -> list[dict[str, Any]]:
        """Clear task instances of a run, so that they run again.

        :param dag_id: the DAG.
        :param run_id: the run.
        :param task_ids: task ids, or pairs of a task id and a map index.
        :param downstream: whether what comes after them runs again as well.
        :returns: the task instances that were cleared.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [list(each) if isinstance(each, tuple) else each for each in task_ids],
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        reply = self.request("POST", f"dags/{_part(dag_id)}/clearTaskInstances", json=body)
        return list(reply["task_instances"])

    def _run(self, dag_id: str, run_id: str) -> str:
        return f"dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"

    def _task(self, dag_id: str, run_id: str, task_id: str) -> str:
        return f"{self._run(dag_id, run_id)}/taskInstances/{_part(task_id)}"
