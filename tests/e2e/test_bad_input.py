"""Bad input ends in a message that names what to change, in the planning task, before anything is captured."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tools.airflow_rest import AirflowError


@pytest.fixture(scope="module")
def connections(house) -> None:
    """Connections that are wrong in one way each."""
    good = house.sandbox.connections()
    classic, cos = good["ibm_classic_default"], good["ibm_cos_default"]
    house.airflow.add_connection("classic_wrong_key", **{**classic, "password": "not-the-key"})
    house.airflow.add_connection("classic_down", **{**classic, "host": "http://127.0.0.1:9"})
    house.airflow.add_connection("classic_without_key", **{**classic, "password": ""})
    house.airflow.add_connection("cos_wrong_key", **{**cos, "password": "not-the-key"})
    house.airflow.add_connection("cos_down", **{**cos, "host": "http://127.0.0.1:9"})
    house.airflow.add_connection("cos_reader", **{**cos, "password": house.sandbox.read_only_cos_api_key})


CASES = {
    "no such connection": ({"classic_conn_id": "nowhere"}, r"nowhere"),
    "wrong key of the Classic API": (
        {"classic_conn_id": "classic_wrong_key"},
        r"(?i)invalid api token|refused.*user name|user name.*key",
    ),
    "no key of the Classic API": ({"classic_conn_id": "classic_without_key"}, r"classic_without_key.*key"),
    "Classic API down": ({"classic_conn_id": "classic_down"}, r"127\.0\.0\.1:9"),
    "wrong key of the object store": (
        {"cos_conn_id": "cos_wrong_key"},
        r"(?i)(key|API key).{0,80}(refused|not be found|BXNIM)",
    ),
    "object store down": ({"cos_conn_id": "cos_down"}, r"127\.0\.0\.1:9"),
    "key that may not write": ({"cos_conn_id": "cos_reader"}, r"(?i)write.*sealift-exports|sealift-exports.*write"),
    "bucket missing": ({"bucket": "no-such-bucket"}, r"no-such-bucket"),
    "bucket in another region": ({"region": "eu-de"}, r"(?s)eu-de.*us-south|us-south.*eu-de"),
    "empty selection": ({"tags": []}, r"(?s)hostnames.*tags"),
    "unknown data center": ({"tags": [], "datacenters": ["xyz99"]}, r"xyz99"),
    "malformed window": ({"window": "25:00-99:00"}, r"25:00"),
}


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_words_before_anything_is_captured(house, case: str) -> None:
    conf, words = CASES[case]
    before = house.calls()
    ran = house.plan(**{"tags": ["demo"], **conf})
    assert ran.state == "failed"
    assert ran.task("make_plan")["state"] == "failed"
    log = ran.log("make_plan")
    assert re.search(words, log), log[-3000:]
    assert "not-the-key" not in log
    assert house.calls() == before


@pytest.mark.parametrize(
    ("conf", "words"),
    [({"format": "vdi"}, "vdi"), ({"wave_size": 0}, "wave_size|minimum"), ({"ids": ["web-01"]}, "ids|integer")],
)
def test_what_the_form_does_not_allow_starts_no_run(house, conf: dict[str, Any], words: str) -> None:
    runs = len(house.api.runs("plan_exports"))
    with pytest.raises(AirflowError, match=words):
        house.start_plan(tags=["demo"], **conf)
    assert len(house.api.runs("plan_exports")) == runs
