"""The buttons on a task's page."""

from __future__ import annotations

import pytest

from sealift.provider import links

pytestmark = pytest.mark.airflow


class Operator(links.Linked):
    """Stands for an operator: links only read what it found."""


def test_a_link_gives_what_the_task_found_and_nothing_where_it_found_none() -> None:
    operator = Operator()
    assert links.TemplateLink().get_link(operator, ti_key=None) == ""
    operator.remember_link(links.TemplateLink, links.template_url(402456))
    url = links.TemplateLink().get_link(operator, ti_key=None)
    assert url == "https://cloud.ibm.com/gen1/infrastructure/image-templates/402456/details#main"
    assert links.ManifestLink().get_link(operator, ti_key=None) == ""
    assert Operator().__dict__ == {}


def test_an_object_s_link_leads_into_the_console_where_the_instance_is_known() -> None:
    url = links.object_url(
        bucket="images",
        key="weekly/manifests/7/p.json",
        region="eu-de",
        endpoint="https://s3.eu-de.cloud-object-storage.appdomain.cloud",
        service_instance_id="crn:v1:bluemix:public:cloud-object-storage:global:a/1:2::",
    )
    assert url.startswith("https://cloud.ibm.com/objectstorage/crn%3Av1%3A")
    assert "bucket=images" in url
    assert "bucketRegion=eu-de" in url


def test_an_object_s_link_is_its_address_elsewhere() -> None:
    url = links.object_url(
        bucket="images",
        key="a b/c.json",
        region="us-south",
        endpoint="http://127.0.0.1:7481/",
        service_instance_id="crn",
    )
    assert url == "http://127.0.0.1:7481/images/a%20b/c.json"


def test_the_provider_lists_every_link() -> None:
    from sealift.provider.get_provider_info import get_provider_info

    listed = {path.rpartition(".")[2] for path in get_provider_info()["extra-links"]}
    assert listed == {"TemplateLink", "ObjectLink", "ManifestLink", "PlanLink", "ReportLink", "WaveLink"}
