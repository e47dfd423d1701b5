"""Buttons on a task's page: the template and the bucket in IBM Cloud's console, the manifest, the plan, the wave.

Airflow asks for a link in the worker, right after the task ran or deferred, and stores the answer; so the operators put
their links into :class:`Linked` while they run. The addresses of the console are not documented by IBM; they are the
ones that people's notes and IBM's own tickets show, and could change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlencode

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

_CONSOLE = "https://cloud.ibm.com"


def template_url(template_id: int) -> str:
    """Give the console's page of an image template.

    :param template_id: id of the parent template group.
    :returns: the address.
    """
    return f"{_CONSOLE}/gen1/infrastructure/image-templates/{template_id}/details#main"


def object_url(*, bucket: str, key: str, region: str, endpoint: str, service_instance_id: str | None) -> str:
    """Give the page of an object's bucket in the console, or the object's own address where no instance is known.

    :param bucket: the bucket.
    :param key: the object's key.
    :param region: the bucket's region.
    :param endpoint: the store's endpoint URL.
    :param service_instance_id: CRN of the Cloud Object Storage instance.
    :returns: the address. It needs a signed-in user, or a signed request; it holds no credentials.
    """
    host = endpoint.split("://", 1)[-1].rstrip("/")
    if service_instance_id is None or not host.endswith("appdomain.cloud"):
        return f"{endpoint.rstrip('/')}/{quote(bucket)}/{quote(key)}"
    query = urlencode(
        {
            "bucket": bucket,
            "bucketRegion": region,
            "endpoint": host,
            "paneId": "bucket_overview",
            "prefix": key,
        }
    )
    return f"{_CONSOLE}/objectstorage/{quote(service_instance_id, safe='')}?{query}"


class Linked:
    """Mixed into operators: holds the links that a run of the task found."""

    found_links: dict[str, str]

    def remember_link(self, link: type[BaseOperatorLink], url: str) -> None:
        """Keep a link for this run of the task.

        :param link: which button it belongs to.
        :param url: where it leads.
        """
        if "found_links" not in self.__dict__:
            self.found_links = {}
        self.found_links[link.__name__] = url


class _FoundLink(BaseOperatorLink):
    label: ClassVar[str]

    @property
    def name(self) -> str:
        """The button's text."""
        return self.label

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Give what the task found.

        :param operator: the operator that ran.
        :param ti_key: which task instance is asked for; Airflow asks in the process that ran it.
        :returns: the address; empty where the task did not come that far.
        """
        found: dict[str, str] = getattr(operator, "found_links", {})
        return found.get(type(self).__name__, "")


class TemplateLink(_FoundLink):
    """The image template in IBM Cloud's console."""

    label = "Image template"


class ObjectLink(_FoundLink):
    """The exported disks in IBM Cloud's console."""

    label = "Exported disks"


class ManifestLink(_FoundLink):
    """The manifest that makes the export done."""

    label = "Manifest"


class PlanLink(_FoundLink):
    """The plan in the bucket."""

    label = "Plan"


class ReportLink(_FoundLink):
    """The report in the bucket; the plan after a dry run."""

    label = "Report"


class WaveLink(_FoundLink):
    """The wave's run in Airflow. Airflow's own link of this kind costs 0.2 CPU-seconds of imports in every parse."""

    label = "Wave"
