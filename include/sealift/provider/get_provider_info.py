"""What Airflow reads to know the provider. No heavy import may happen here: every Airflow process loads it."""

from __future__ import annotations

from typing import Any

_CLASSIC_CONNECTION: dict[str, Any] = {
    "connection-type": "ibm_classic",
    "hook-class-name": "sealift.provider.hooks.classic.ClassicHook",
    "hook-name": "IBM Cloud Classic (SoftLayer API)",
    "ui-field-behaviour": {
        "hidden-fields": ["schema"],
        "relabeling": {"host": "API endpoint", "login": "User name", "password": "API key"},
        "placeholders": {
            "host": "empty: api.softlayer.com",
            "port": "443, if Test asks for it",
            "login": "classic user name, or the word apikey with an IBM Cloud API key",
            "password": "classic infrastructure API key, or IBM Cloud API key",
        },
    },
    "conn-fields": {
        "transport": {
            "label": "Transport",
            "description": "XML-RPC keeps the API's error codes; choose REST where a proxy lets nothing else through.",
            "schema": {"type": "string", "enum": ["xmlrpc", "rest"], "default": "xmlrpc"},
        },
        "network": {
            "label": "Network",
            "description": "Which of IBM's endpoints to call where no endpoint is given.",
            "schema": {"type": "string", "enum": ["public", "private"], "default": "public"},
        },
        "timeout": {
            "label": "Timeout (seconds)",
            "description": "How long one call may take.",
            "schema": {"type": "number", "minimum": 1, "default": 60},
        },
        "requests_per_second": {
            "label": "Requests per second",
            "description": "Upper bound of one machine's calls; the account's own limit is 50.",
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 49, "default": 20},
        },
        "verify": {
            "label": "TLS certificates",
            "description": "true, false, or the path of a CA bundle on the workers.",
            "schema": {"type": ["string", "null"], "default": "true"},
        },
    },
}

_COS_CONNECTION: dict[str, Any] = {
    "connection-type": "ibm_cos",
    "hook-class-name": "sealift.provider.hooks.cos.CosHook",
    "hook-name": "IBM Cloud Object Storage",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "login"],
        "relabeling": {"host": "Endpoint URL", "password": "IBM Cloud API key"},
        "placeholders": {
            "host": "empty: the endpoint of the region below",
            "port": "443, if Test asks for it",
            "password": "key of a service ID that may write to the bucket",
        },
    },
    "conn-fields": {
        "region": {
            "label": "Region",
            "description": "Region of the buckets, as us-south or eu-de.",
            "schema": {"type": "string", "default": "us-south"},
        },
        "endpoint_kind": {
            "label": "Endpoint kind",
            "description": "public, private (from Classic) or direct (from VPC); unused where an endpoint is given.",
            "schema": {"type": "string", "enum": ["public", "private", "direct"], "default": "public"},
        },
        "bucket": {
            "label": "Bucket",
            "description": "Default bucket of exports; Test checks that the key may write there.",
            "schema": {"type": ["string", "null"]},
        },
        "service_instance_id": {
            "label": "Service instance",
            "description": "CRN of the Cloud Object Storage instance; needed with an API key to create a bucket.",
            "schema": {"type": ["string", "null"]},
        },
        "iam_endpoint": {
            "label": "IAM token URL",
            "description": "Empty: https://iam.cloud.ibm.com/identity/token",
            "schema": {"type": ["string", "null"]},
        },
        "access_key_id": {
            "label": "HMAC access key ID",
            "description": "Used in place of the API key for reading and writing objects, where given.",
            "schema": {"type": ["string", "null"]},
        },
        "secret_access_key": {
            "label": "HMAC secret access key",
            "description": "Belongs to the HMAC access key ID.",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
        "export_api_key": {
            "label": "API key for the export",
            "description": "Key that the Classic API writes the images with; empty: the connection's own API key.",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
        "timeout": {
            "label": "Timeout (seconds)",
            "description": "How long one request may take to connect and between two reads.",
            "schema": {"type": "number", "minimum": 1, "default": 60},
        },
        "verify": {
            "label": "TLS certificates",
            "description": "true, false, or the path of a CA bundle on the workers.",
            "schema": {"type": ["string", "null"], "default": "true"},
        },
    },
}


def _option(description: str, kind: str, default: str, example: str | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


def get_provider_info() -> dict[str, Any]:
    """Describe the provider.

    :returns: a dictionary after Airflow's ``provider_info.schema.json``.
    """
    operators, sensors = "sealift.provider.operators", "sealift.provider.sensors"
    return {
        "package-name": "sealift",
        "name": "Sealift",
        "description": "Exports IBM Cloud Classic virtual servers as images that are proven good.",
        "hook-class-names": [
            _CLASSIC_CONNECTION["hook-class-name"],
            _COS_CONNECTION["hook-class-name"],
        ],
        "connection-types": [_CLASSIC_CONNECTION, _COS_CONNECTION],
        "integrations": [
            {
                "integration-name": "IBM Cloud Classic",
                "external-doc-url": "https://sldn.softlayer.com/reference/softlayerapi/",
                "tags": ["service"],
            },
            {
                "integration-name": "IBM Cloud Object Storage",
                "external-doc-url": "https://cloud.ibm.com/docs/cloud-object-storage",
                "tags": ["service"],
            },
        ],
        "hooks": [
            {
                "integration-name": "IBM Cloud Classic",
                "python-modules": ["sealift.provider.hooks.classic"],
            },
            {
                "integration-name": "IBM Cloud Object Storage",
                "python-modules": ["sealift.provider.hooks.cos"],
            },
        ],
        "operators": [
            {
                "integration-name": "IBM Cloud Classic",
                "python-modules": [
                    f"{operators}.plan",
                    f"{operators}.approval",
                    f"{operators}.wave",
                    f"{operators}.wave_servers",
                    f"{operators}.capture",
                    f"{operators}.report",
                    f"{operators}.doctor",
                    f"{operators}.deliver",
                    f"{operators}.retention",
                    f"{operators}.prove",
                    f"{operators}.drill",
                ],
            },
        ],
        "sensors": [
            {
                "integration-name": "IBM Cloud Classic",
                "python-modules": [
                    f"{sensors}.template",
                    f"{sensors}.export",
                    f"{sensors}.export_when_ready",
                    f"{sensors}.prove_when_exported",
                ],
            },
        ],
        "triggers": [
            {
                "integration-name": "IBM Cloud Classic",
                "python-modules": [
                    "sealift.provider.triggers.account",
                    "sealift.provider.triggers.admitting",
                    "sealift.provider.triggers.starting",
                    "sealift.provider.triggers.slots",
                    "sealift.provider.triggers.waits",
                    "sealift.provider.triggers.wave",
                ],
            },
        ],
        "notifications": [
            "sealift.provider.notifications.mail.MailNotifier",
            "sealift.provider.notifications.webhook.WebhookNotifier",
        ],
        "extra-links": [
            "sealift.provider.links.TemplateLink",
            "sealift.provider.links.ObjectLink",
            "sealift.provider.links.ManifestLink",
            "sealift.provider.links.PlanLink",
            "sealift.provider.links.ReportLink",
            "sealift.provider.links.WaveLink",
        ],
        "config": {
            "sealift": {
                "description": "Settings of Sealift's DAGs.",
                "options": {
                    "schedule": _option(
                        "Cron expression or preset of plan_exports. Empty: it runs only when triggered.",
                        "string",
                        "",
                        "0 2 * * 6",
                    ),
                    "examine_schedule": _option(
                        "Cron expression or preset of examine_exports, which looks where default_params export to. "
                        "Empty: it runs only when triggered.",
                        "string",
                        "",
                        "@daily",
                    ),
                    "retention_schedule": _option(
                        "Cron expression or preset of apply_retention, which looks where default_params export to. "
                        "Empty: it runs only when triggered.",
                        "string",
                        "",
                        "@daily",
                    ),
                    "retention_rules": _option(
                        "JSON with the rules that apply_retention's form starts with and that scheduled runs use: a "
                        "list of rules, or a document with rules, timezone and versions.",
                        "string",
                        "",
                        '[{"name": "all", "servers": {"all": true}, "keep_daily": 14, "keep_monthly": 12}]',
                    ),
                    "drill_schedule": _option(
                        "Cron expression or preset of drill_restores, which looks where default_params export to. "
                        "Empty: it runs only when triggered.",
                        "string",
                        "",
                        "@weekly",
                    ),
                    "drill_folder": _option(
                        "Folder on the workers that drill_restores brings exports to for as long as it proves them. It "
                        "needs room for the largest server's images. Empty: the machine's temporary folder.",
                        "string",
                        "",
                        "/srv/scratch",
                    ),
                    "drill_pool": _option(
                        "Airflow's pool that rehearsals take their slots from.", "string", "default_pool", "downloads"
                    ),
                    "drills": _option(
                        "How many exports one run of drill_restores brings and proves at a time.", "integer", "1"
                    ),
                    "deliver_to": _option(
                        "Where deliver_images brings each export once it is finished: a folder that its worker sees, "
                        "or a place in a bucket as s3://bucket/prefix. Empty: it runs only when triggered.",
                        "string",
                        "",
                        "s3://images-elsewhere/classic",
                    ),
                    "deliver_aws_conn_id": _option(
                        "Connection of the type aws for such a bucket, of AWS or of anything that speaks S3.",
                        "string",
                        "aws_default",
                    ),
                    "deliveries": _option(
                        "How many exports one run of deliver_images brings at a time.",
                        "integer",
                        "2",
                    ),
                    "ascp": _option(
                        "IBM's ascp on the workers, or its folder, for deliveries by Aspera. Empty: it is looked for.",
                        "string",
                        "",
                        "/opt/aspera/bin/ascp",
                    ),
                    "default_params": _option(
                        "JSON object with the values that the trigger form starts with and that scheduled runs use.",
                        "string",
                        "",
                        '{"tags": ["export"], "bucket": "images", "prefix": "weekly"}',
                    ),
                    "approve_tags": _option(
                        "Tags, parted by commas: a plan that takes a server with one of them offline waits until "
                        "somebody approves it, unless the run says otherwise. Empty: none.",
                        "string",
                        "production",
                        "production, customer-facing",
                    ),
                    "notify_smtp_conn_id": _option(
                        "Connection of the type smtp that mails are sent by. Empty: no mail.",
                        "string",
                        "",
                        "smtp_default",
                    ),
                    "notify_to": _option(
                        "Addresses, parted by commas, that get the mails.", "string", "", "exports@example.com"
                    ),
                    "notify_http_conn_id": _option(
                        "Connection of the type http that names a webhook. Empty: none.",
                        "string",
                        "",
                        "exports_webhook",
                    ),
                    "notify_webhook_body": _option(
                        "What the webhook gets: json (all fields) or text (an object with text alone, for chats).",
                        "string",
                        "json",
                    ),
                    "notify_on": _option(
                        "What is told of, parted by commas: approval (a plan that waits for one), finished (a run "
                        "without failures), failed (a run with failures), wave (a wave with failures), stuck and slow "
                        "(one server), late (a run).",
                        "string",
                        "approval, finished, failed, stuck, late",
                    ),
                    "late_after": _option(
                        "Minutes after which a run of plan_exports is late, from when it was queued. 0: never.",
                        "float",
                        "0",
                        "720",
                    ),
                    "owner": _option("Owner shown on the DAGs.", "string", "data-platform"),
                    "poll_interval": _option(
                        "Seconds between two polls of an account. One poll answers for all that wait.",
                        "float",
                        "15",
                    ),
                    "max_offline": _option(
                        "Most servers of an account offline for capture at once, whatever a run asks for, over all "
                        "runs and machines that share the slots. A run's own max_offline can only be lower.",
                        "integer",
                        "20",
                    ),
                    "max_offline_per_datacenter": _option(
                        "Most of these servers in one data center. 0: as many as max_offline allows.",
                        "integer",
                        "0",
                    ),
                    "max_exports": _option(
                        "Most exports to the bucket in flight at once, over all runs and machines that export to the "
                        "same bucket and prefix. The count is not exact: a few more can be submitted in one moment. "
                        "0: any number, and nothing is learned from refusals.",
                        "integer",
                        "40",
                    ),
                    "max_exports_per_datacenter": _option(
                        "Most of these exports of servers in one data center. 0: as many as max_exports allows.",
                        "integer",
                        "0",
                    ),
                    "active_waves": _option(
                        "How many waves of one plan may have servers that wait for their capture. The next wave starts "
                        "when no more servers wait than may be offline at once, so that one suffices.",
                        "integer",
                        "1",
                    ),
                    "start_in_triggerer": _option(
                        "Whether a triggerer starts captures and exports as soon as it sees that they may, or a worker "
                        "process is started for each. A worker does it anyway where a first try in the triggerer does "
                        "not go well.",
                        "boolean",
                        "True",
                    ),
                    "retries": _option("How often a step is tried again after a fault that may pass.", "integer", "3"),
                    "retry_delay": _option("Seconds before a step is tried again.", "float", "60"),
                    "slots_bucket": _option(
                        "Bucket that keeps the accounts' offline slots, by which max_offline holds over all machines. "
                        "Empty: the bucket of the run. Set it where runs for one account write to several buckets.",
                        "string",
                        "",
                        "sealift-slots",
                    ),
                    "slots_region": _option(
                        "Region of slots_bucket. Empty: the region of the run.", "string", "", "us-south"
                    ),
                    "slots_prefix": _option(
                        "What the keys of the offline slots begin with. Empty: they are at the root of the bucket.",
                        "string",
                        "",
                        "sealift",
                    ),
                    "ui_places": _option(
                        "JSON list of further places that the page may show, beside the one that default_params "
                        "export to: objects with name, and any of cos_conn_id, bucket, region, prefix.",
                        "string",
                        "",
                        '[{"name": "monthly", "bucket": "images", "prefix": "monthly"}]',
                    ),
                    "prices": _option(
                        "File of the prices that the page and the dry runs of retention work costs out by, in place "
                        "of the list prices that come with Sealift. The API server and workers read it.",
                        "string",
                        "",
                        "/opt/airflow/config/sealift-prices.json",
                    ),
                },
            },
        },
    }
