"""The parameters of the DAGs, with the schema that makes the trigger form's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow.sdk import Param

_SERVERS: Final = "More on which servers"
_LEFT_OUT: Final = "Which servers to leave out"
_TARGET: Final = "Where to"
_EARLIER: Final = "After earlier runs"
_HOW: Final = "How"
_WAITING: Final = "How long to wait"
_CONNECTIONS: Final = "Connections"
_LEFT_BEHIND: Final = "When something is left behind"


# With a link, which only a description in Markdown can have, and only where there is no other one: the form offers no
# list of what is not in the DAG file.
_HOSTNAMES: Final = (
    "Names or patterns, one a line: `mail01`, `web*`, `*-db`, `web01.example.com`. Where no server has such a name, "
    "`make_plan` says so and names similar ones. To pick servers from a list: [Sealift](plugin/sealift)."
)


def _texts(title: str, description: str | None, section: str | None = None, **more: Any) -> Param:
    # Airflow folds the sections of the form; what stands in none is seen at once.
    if section:
        more["section"] = section
    return Param([], description, type=["array", "null"], items={"type": "string"}, title=title, **more)


def _ids(title: str, description: str, section: str) -> Param:
    # The form shows a list of anything but texts as a field for JSON.
    description = f"{description} A JSON list, as [12345678, 23456789]."
    return Param([], description, type=["array", "null"], items={"type": "integer"}, title=title, section=section)


def _minutes(title: str, description: str) -> Param:
    return Param(
        None, description, type=["number", "null"], exclusiveMinimum=0, title=f"{title} (minutes)", section=_WAITING
    )


def _streams() -> Param:
    return Param(
        4,
        "Range reads at a time, for each export.",
        type="integer",
        minimum=1,
        maximum=16,
        title="Streams",
        section=_HOW,
    )


def _rate(description: str) -> Param:
    return Param(None, description, type=["number", "null"], exclusiveMinimum=0, title="Rate", section=_HOW)


def plan_params(defaults: Mapping[str, Any]) -> dict[str, Param]:
    """Make the parameters of ``plan_exports``.

    :param defaults: values that replace the built-in defaults, by name; from ``[sealift] default_params``.
    :returns: the parameters, in the order of the form.
    :raises ValueError: if a default has a name that is none of the parameters.
    """
    params = {
        "tags": _texts("Tags", "One a line; a server with any of them is chosen."),
        "hostnames": _texts("Host names", None, description_md=_HOSTNAMES),
        "all": Param(
            False,
            "Every server that the connection's user can see; nothing but ids and exclusions may stand beside it.",
            type="boolean",
            title="All servers",
        ),
        "dry_run": Param(False, "Write the plan and stop. Nothing is captured.", type="boolean", title="Dry run"),
        "ids": _ids("Ids", "Ids of virtual servers; added to what the other fields choose.", _SERVERS),
        "domains": _texts("Domains", "One a line, in full.", _SERVERS),
        "datacenters": _texts("Data centers", "One a line, as dal13.", _SERVERS),
        "dedicated_hosts": _texts("Dedicated hosts", "Ids or names, one a line.", _SERVERS),
        "ignore_unknown_ids": Param(
            False,
            "Report ids that the account does not know as not exportable, instead of refusing the whole plan.",
            type="boolean",
            title="Ignore unknown ids",
            section=_SERVERS,
        ),
        "exclude_ids": _ids("Not these ids", "Ids of servers to leave out.", _LEFT_OUT),
        "exclude_hostnames": _texts("Not these host names", "Patterns, one a line.", _LEFT_OUT),
        "exclude_domains": _texts("Not these domains", "One a line, in full.", _LEFT_OUT),
        "exclude_tags": _texts("Not these tags", "One a line; a server with any of them is left out.", _LEFT_OUT),
        "exclude_datacenters": _texts("Not these data centers", "One a line, as dal13.", _LEFT_OUT),
        "exclude_dedicated_hosts": _texts("Not these dedicated hosts", "Ids or names, one a line.", _LEFT_OUT),
        "only": Param(
            None,
            "failed: try the servers again that failed in an earlier plan, under their own export ids. missing: export "
            "what has no manifest, slot by slot. Empty: every selected server, under this run's own period.",
            type=["string", "null"],
            enum=[None, "failed", "missing"],
            title="Only",
            section=_EARLIER,
        ),
        "plan": Param(
            None,
            "With only=failed: the plan whose failed servers are tried again, by its id or its key in the bucket. The "
            "selection may stay empty; what it says narrows the failed servers.",
            type=["string", "null"],
            title="Plan",
            section=_EARLIER,
        ),
        "plan_is_over": Param(
            False,
            "With only=failed: the plan's run is over, though it left no report (it was deleted, for example).",
            type="boolean",
            title="That plan is over",
            section=_EARLIER,
        ),
        "since": Param(
            None,
            "With only=missing: look at every slot of the schedule since then, as 2026-11-01 or 2026-11-01T02:00Z.",
            type=["string", "null"],
            title="Slots since",
            section=_EARLIER,
        ),
        "slots": _texts("Slots", "With only=missing: look at these slots, one a line, as 20261123T0200Z.", _EARLIER),
        "bucket": Param(
            None,
            "Bucket of the images. Empty: the bucket that the connection names.",
            type=["string", "null"],
            title="Bucket",
            section=_TARGET,
        ),
        "region": Param(
            None,
            "The bucket's region, as us-south. Empty: the region that the connection names.",
            type=["string", "null"],
            title="Region",
            section=_TARGET,
        ),
        "prefix": Param(
            "sealift", "What all keys in the bucket begin with.", type="string", title="Prefix", section=_TARGET
        ),
        "create_bucket": Param(
            False, "Create the bucket if it does not exist.", type="boolean", title="Create bucket", section=_TARGET
        ),
        "format": Param(
            "vhd",
            "IBM exports captured templates as VHD only. Another format is made of that in the bucket, by the worker "
            "that proves the export, and lies beside it: vmdk (streamOptimized), qcow2 (compressed), vhd-fixed (of "
            "whole MiB, for Azure), raw.",
            type="string",
            enum=["vhd", "vmdk", "qcow2", "vhd-fixed", "raw"],
            title="Format",
            section=_HOW,
        ),
        "max_offline": Param(
            5,
            "Most servers that are offline for their capture at the same time, in the whole account.",
            type="integer",
            minimum=1,
            maximum=1000,
            title="Most servers offline",
            section=_HOW,
        ),
        "window": Param(
            None,
            "When captures may start, as 22:00-06:00 Europe/Berlin or Sat,Sun 00:00-24:00 UTC. Empty: at any time.",
            type=["string", "null"],
            title="Capture window",
            section=_HOW,
        ),
        "outside_window": Param(
            "wait",
            "What a capture does that comes up outside the window: wait until it opens, or be refused.",
            type="string",
            enum=["wait", "refuse"],
            title="Outside the window",
            section=_HOW,
        ),
        "wave_size": Param(
            None,
            "Servers in one wave; each wave is one run of export_servers. Empty: twice as many as may be offline at "
            "once, from 20 to 100.",
            type=["integer", "null"],
            minimum=1,
            maximum=100,
            title="Wave size",
            section=_HOW,
        ),
        "capture_now": Param(
            False,
            "In a run for a past slot: capture servers as they are now where that slot has no template.",
            type="boolean",
            title="Capture now for a past slot",
            section=_HOW,
        ),
        "approval": Param(
            "tagged",
            "Whether somebody has to approve the plan before servers go offline. tagged: where one of them carries a "
            "tag that the deployment names ([sealift] approve_tags, production by itself). The question stands under "
            "Required Actions.",
            type="string",
            enum=["tagged", "always", "never"],
            title="Approval",
            section=_HOW,
        ),
        "approval_hours": Param(
            24,
            "How long the plan waits for an approval. After that it counts as refused: nothing is captured.",
            type="number",
            exclusiveMinimum=0,
            title="Approval within (hours)",
            section=_HOW,
        ),
        "waive": _texts(
            "Waived rules",
            "Refusing rules to treat as warnings, one a line: third-party-software, disk-too-large.",
            _HOW,
        ),
        "proof_level": Param(
            "L1",
            "How deep images are proven before an export is done. L1: their structure, by a mebibyte of each. L2: "
            "every byte is read, and compared with the object store's own digest; takes a worker as long as that "
            "lasts. L3: also the file systems, the boot loader and the kernel. L4: the server is also started in an "
            "emulated machine, which needs QEMU on the workers.",
            type="string",
            enum=["L1", "L2", "L3", "L4"],
            title="Proof",
            section=_HOW,
        ),
        "proof_share": Param(
            100,
            "Per cent of the exports that are proven deeper than L1. Which ones follows from their ids; it is others "
            "in each period.",
            type="integer",
            minimum=0,
            maximum=100,
            title="Share proven deeper",
            section=_HOW,
        ),
        "capture_deadline_minutes": _minutes(
            "Template",
            "Longest wait for a template. Empty: by the size of the disks and the account's history, 1 to 48 hours.",
        ),
        "export_deadline_minutes": _minutes(
            "Export",
            "Longest wait for an export. Empty: by the size of the disks and the account's history, 1 to 72 hours.",
        ),
        "stuck_minutes": _minutes(
            "Stuck", "A transaction whose status stands still for so long is stuck. Empty: half the longest wait."
        ),
        "grace_minutes": _minutes(
            "Gone", "What is missing for so long is gone: a template, an object, a size. Empty: 15."
        ),
        "classic_conn_id": Param(
            "ibm_classic_default",
            "Connection of the type ibm_classic.",
            type="string",
            minLength=1,
            title="Classic API",
            section=_CONNECTIONS,
        ),
        "cos_conn_id": Param(
            "ibm_cos_default",
            "Connection of the type ibm_cos.",
            type="string",
            minLength=1,
            title="Cloud Object Storage",
            section=_CONNECTIONS,
        ),
    }
    for name, value in defaults.items():
        if name not in params:
            raise ValueError(
                f"[sealift] default_params names {name!r}, which plan_exports does not know. It knows: "
                f"{', '.join(params)}."
            )
        params[name].value = value
    return params


def examine_params(defaults: Mapping[str, Any]) -> dict[str, Param]:
    """Make the parameters of ``examine_exports``: where to look, and when something counts as left behind.

    :param defaults: the deployment's, by name; those that ``examine_exports`` has as well are taken, so that it looks
        where scheduled runs export to.
    :returns: the parameters, in the order of the form.
    """
    same = plan_params(defaults)
    return {
        **{name: same[name] for name in ("bucket", "region", "prefix")},
        "fail_on_findings": Param(
            False, "Fail the run if anything was found.", type="boolean", title="Fail on findings"
        ),
        "thorough": Param(
            False,
            "Read every manifest and compare every size and ETag. Otherwise only those are read that the listings and "
            "reports do not settle.",
            type="boolean",
            title="Thorough",
        ),
        "over": _texts(
            "Plans that are over",
            "Ids of plans whose runs are dead, one a line: what is their own is looked at, however young it is.",
            _LEFT_BEHIND,
        ),
        "settled_minutes": Param(
            60,
            "What is younger is left alone, as it may be at work.",
            type="number",
            minimum=0,
            title="Settled (minutes)",
            section=_LEFT_BEHIND,
        ),
        "plan_days": Param(
            14,
            "An unfinished plan counts as at work for so long after the last object that its run wrote.",
            type="number",
            minimum=0,
            title="Plan at work (days)",
            section=_LEFT_BEHIND,
        ),
        **{name: same[name] for name in ("classic_conn_id", "cos_conn_id")},
    }


def deliver_params(defaults: Mapping[str, Any], *, to: str, aws_conn_id: str) -> dict[str, Param]:
    """Make the parameters of ``deliver_images``.

    :param defaults: as for :func:`plan_params`.
    :param to: where exports are delivered if a run does not say; from ``[sealift] deliver_to``.
    :param aws_conn_id: the connection for a bucket of S3 if a run does not say.
    :returns: the parameters, in the order of the form.
    """
    same = plan_params(defaults)
    return {
        "exports": _texts(
            "Exports",
            "One a line: an export id (12345678-20261123T0200Z), or a server's id or host name for its latest export. "
            "Empty: those whose end started this run.",
        ),
        "to": Param(
            to or None,
            "A folder that the worker sees, or a place in a bucket as s3://bucket/prefix.",
            type=["string", "null"],
            title="Where to",
        ),
        "period": Param(
            None,
            "The slot or manual run, where a server is named. Empty: the export that was captured last.",
            type=["string", "null"],
            title="Period",
        ),
        "format": Param(
            "exported",
            "The images' format: as they were exported, or another one. What was not converted in the bucket before is "
            "converted on its way.",
            type="string",
            enum=["exported", "vmdk", "qcow2", "vhd-fixed", "raw"],
            title="Format",
            section=_HOW,
        ),
        "kits": Param(
            False,
            "Put target kits below the images, in kits/: what other platforms' own tools take, and what would fail.",
            type="boolean",
            title="Target kits",
            section=_HOW,
        ),
        "streams": _streams(),
        "engine": Param(
            "https",
            "How bytes come into a folder: https; aspera, by IBM's ascp on the worker; auto: aspera for large objects "
            "where ascp is there and the bucket offers it. Into a bucket it is always https.",
            type="string",
            enum=["https", "aspera", "auto"],
            title="Engine",
            section=_HOW,
        ),
        "limit_megabytes": _rate("Megabytes (10^6 bytes) a second at most, for each export."),
        **{name: same[name] for name in ("bucket", "region", "prefix", "cos_conn_id")},
        "aws_conn_id": Param(
            aws_conn_id,
            "Connection of the type aws, for a place in a bucket of S3.",
            type="string",
            title="Connection of the target",
            section=_CONNECTIONS,
        ),
    }


def retention_params(defaults: Mapping[str, Any], *, rules: Any = None) -> dict[str, Param]:
    """Make the parameters of ``apply_retention``: by which rules, where, and when somebody is asked.

    :param defaults: the deployment's, by name; those that ``apply_retention`` has as well are taken, so that it looks
        where scheduled runs export to.
    :param rules: the deployment's rules, made of what JSON knows.
    :returns: the parameters, in the order of the form.
    """
    same = plan_params(defaults)
    return {
        "rules": Param(
            rules,
            "What is kept: a JSON list of rules, or a document with rules, timezone and versions. A server that no "
            "rule is for keeps everything.",
            type=["array", "object", "null"],
            title="Rules",
        ),
        "dry_run": Param(
            False, "Only say what would go, and why; delete nothing.", type="boolean", title="Only a dry run"
        ),
        "approve_above": Param(
            20,
            "Somebody has to approve where more exports and image templates would go. Empty: nobody is asked.",
            type=["integer", "null"],
            minimum=0,
            title="Ask above",
        ),
        **{name: same[name] for name in ("bucket", "region", "prefix", "classic_conn_id", "cos_conn_id")},
    }


def prove_params(defaults: Mapping[str, Any]) -> dict[str, Param]:
    """Make the parameters of ``prove_exports``.

    :param defaults: as for :func:`plan_params`.
    :returns: the parameters, in the order of the form.
    """
    same = plan_params(defaults)
    return {
        "exports": _texts(
            "Exports",
            "One a line: an export id (12345678-20261123T0200Z), or a server's id or host name for its latest export.",
        ),
        "level": Param(
            "L2",
            "L2: every byte is read, and compared with the object store's own digest. L3: the file systems of all of "
            "a server's disks are read as well. L4: the server is also started in an emulated machine, which needs "
            "QEMU on the workers.",
            type="string",
            enum=["L2", "L3", "L4"],
            title="Level",
        ),
        "period": Param(
            None,
            "The slot or manual run, where a server is named. Empty: the export that was captured last.",
            type=["string", "null"],
            title="Period",
        ),
        **{name: same[name] for name in ("bucket", "region", "prefix", "cos_conn_id")},
    }


def drill_params(defaults: Mapping[str, Any]) -> dict[str, Param]:
    """Make the parameters of ``drill_restores``.

    :param defaults: the deployment's, by name; those that ``drill_restores`` has as well are taken, so that it looks
        where scheduled runs export to.
    :returns: the parameters, in the order of the form.
    """
    same = plan_params(defaults)
    return {
        "within": Param(
            10,
            "Each server has its turn within so many drills: a tenth of them in each, for 10.",
            type="integer",
            minimum=1,
            maximum=1000,
            title="Everyone within (drills)",
        ),
        "level": Param(
            "L4",
            "How deep what comes back is proven. L2: every byte. L3: the file systems as well. L4: the server is also "
            "started in an emulated machine; where the worker has no QEMU, it is proven at L3, and the report says so.",
            type="string",
            enum=["L2", "L3", "L4"],
            title="Level",
        ),
        "exports": _texts(
            "Exports",
            "One a line: an export id (12345678-20261123T0200Z), or a server's id or host name for its latest export. "
            "Empty: those whose turn it is.",
        ),
        "at_most": Param(
            None,
            "Most servers of this drill, though the rotation then takes longer. Empty: as many as it takes.",
            type=["integer", "null"],
            minimum=1,
            title="Servers at most",
            section=_HOW,
        ),
        "days": Param(
            90,
            "The report counts what came back within so many days.",
            type="integer",
            minimum=1,
            title="Report on (days)",
            section=_HOW,
        ),
        "streams": _streams(),
        "limit_megabytes": _rate(
            "Megabytes (10^6 bytes) a second at most, for each export. Empty: as fast as they come."
        ),
        **{name: same[name] for name in ("bucket", "region", "prefix", "cos_conn_id")},
    }


def wave_params() -> dict[str, Param]:
    """Make the parameter of ``export_servers``: where the wave is described, and nothing else.

    One parameter, with a small schema: every trigger and every worker process of a wave checks it anew.

    :returns: the parameters.
    """
    empty = {
        "key": "",
        "bucket": "",
        "region": "",
        "classic_conn_id": "ibm_classic_default",
        "cos_conn_id": "ibm_cos_default",
    }
    return {
        "wave": Param(
            empty,
            "Key of the wave in the bucket, as the plan names it; the bucket and its region (empty: the connection's); "
            "connections of the types ibm_classic and ibm_cos.",
            type="object",
            required=list(empty),
            title="Wave",
        )
    }


def selection_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the selection out of a run's parameters.

    :param params: the parameters of ``plan_exports``.
    :returns: what ``Selection.from_params`` takes.
    """
    kinds = ("ids", "hostnames", "domains", "tags", "datacenters", "dedicated_hosts")
    chosen: dict[str, Any] = {kind: params.get(kind) or [] for kind in kinds}
    chosen["all"] = bool(params.get("all"))
    chosen["ignore_unknown_ids"] = bool(params.get("ignore_unknown_ids"))
    chosen["exclude"] = {kind: params.get(f"exclude_{kind}") or [] for kind in kinds}
    return chosen
