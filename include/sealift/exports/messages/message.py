"""Messages to people: what a run, a wave, a server or a plan has come to, as subject, text, HTML and JSON.

They are made of what Sealift knows anyway: reports, plans, the sentence that ended a wait. Host names and the API's
words come from outside: here they are single lines, cut, without characters that control anything, and escaped in HTML.
So a message is bounded whatever it is about: of 5,000 servers it counts all, and names the 50 that matter most.
"""

from __future__ import annotations

import html
import unicodedata
import uuid
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from sealift.exports.versions import reads_up_to

SCHEMA_VERSION: Final = 1

SchemaVersion = Annotated[Literal[1], reads_up_to(SCHEMA_VERSION)]

SERVERS_AT_MOST: Final = 50
"""So many servers a message names; it counts all."""

CHAT_SERVERS_AT_MOST: Final = 15
"""So many of them stand in the text that is all a chat shows."""

NOTES_AT_MOST: Final = 10

_CONTROLS: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode's categories of what is no text: a line end would begin a mail's next header, and others turn text around."""


class MessageKind(StrEnum):
    """What people can be told of."""

    APPROVAL = "approval"
    """A run waits until somebody approves its plan."""
    FINISHED = "finished"
    """A run has ended, and no server failed."""
    FAILED = "failed"
    """A run has ended, and servers failed; or it could not be planned or reported."""
    WAVE = "wave"
    """A wave has ended, and servers of it failed, while the run goes on with the others."""
    STUCK = "stuck"
    """The status of a server's transaction stands still for too long."""
    SLOW = "slow"
    """The longest wait for a server has passed while its transaction still moves."""
    LATE = "late"
    """A run still runs when it should have ended."""


def one_line(text: str, most: int) -> str:
    """Make one line of a text, without characters that control anything, and cut it.

    :param text: any text.
    :param most: so many characters at most.
    :returns: the line; it ends in ``…`` where something was cut off.
    """
    seen = text[: 4 * most]
    flat = " ".join("".join(" " if unicodedata.category(one) in _CONTROLS else one for one in seen).split())
    if len(flat) <= most and len(seen) == len(text):
        return flat
    return flat[: most - 1].rstrip() + "…"


def _line(most: int) -> AfterValidator:
    def check(text: str) -> str:
        return one_line(text, most)

    return AfterValidator(check)


Short = Annotated[str, _line(80)]
Name = Annotated[str, _line(255)]
Words = Annotated[str, _line(400)]


class MessageModel(BaseModel):
    """Base of a message's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MessageServer(MessageModel):
    """One server of which a message tells."""

    server: Short = Field(default="virtual", description="virtual, bare metal or unknown")
    id: int = Field(description="Its id; virtual and bare metal servers are numbered apart")
    hostname: Annotated[str, _line(120)] = Field(
        default="", description="Its host name; empty where the account does not know the id"
    )
    state: Short = Field(description="How it ended, or how it is")
    step: Short | None = Field(default=None, description="The task that failed or waits")
    words: Words | None = Field(default=None, description="Why, in the API's words where there are any")
    export_id: Short | None = Field(default=None, description="<guest id>-<period>")

    @property
    def name(self) -> str:
        """Host name and id, for sentences."""
        return f"{self.hostname or 'unknown'} ({self.server} server {self.id})"


class MessageLink(MessageModel):
    """A page to look at."""

    label: Name = Field(description="What is there")
    url: Annotated[str, _line(1000)] = Field(description="Its address; it needs a signed-in user")


class Message(MessageModel):
    """What is told. Bounded, without secrets, and safe to show: see the module's first lines."""

    schema_version: SchemaVersion = Field(default=SCHEMA_VERSION, description="Version of this schema")
    id: Name = Field(default_factory=lambda: uuid.uuid4().hex, description="Tells a message that came twice")
    kind: MessageKind = Field(description="approval, finished, failed, wave, stuck, slow or late")
    subject: Annotated[str, _line(150)] = Field(description="The message in one line")
    summary: Words = Field(description="What happened")
    at: AwareDatetime = Field(description="When the message was made")
    dag_id: Name = Field(description="The DAG whose run it is about")
    run_id: Name = Field(description="The run")
    plan_id: Name | None = Field(default=None, description="The plan, where there is one")
    period: Name | None = Field(default=None, description="Scheduled slot or manual run")
    wave: int | None = Field(default=None, description="The wave's number, from 0, where it is about one")
    bucket: Name | None = Field(default=None, description="The bucket of plan and report")
    report: Annotated[str, _line(1024)] | None = Field(
        default=None, description="Key of the report, where there is one"
    )
    counts: dict[Name, int] = Field(default_factory=dict, description="Servers by how they ended or are")
    servers: list[MessageServer] = Field(
        default_factory=list, max_length=SERVERS_AT_MOST, description="The servers that matter most, worst first"
    )
    more: int = Field(default=0, ge=0, description="How many servers are counted and not named")
    notes: list[Words] = Field(default_factory=list, max_length=NOTES_AT_MOST, description="What else to know")
    next_steps: list[Words] = Field(default_factory=list, max_length=NOTES_AT_MOST, description="What to do next")
    links: list[MessageLink] = Field(default_factory=list, max_length=4, description="Where to look")

    def text(self, *, servers: int = SERVERS_AT_MOST) -> str:
        """Write it as plain text.

        :param servers: how many servers to name at most.
        :returns: lines, the subject first.
        """
        named = self.servers[:servers]
        lines = [self.subject, "", self.summary]
        lines += [f"* {note}" for note in self.notes]
        lines += ["", *(f"- {_server_line(one)}" for one in named)] if named else []
        more = self.more + len(self.servers) - len(named)
        lines += [f"… and {more} more"] if more else []
        lines += ["", "What to do:", *(f"- {step}" for step in self.next_steps)] if self.next_steps else []
        lines += ["", *(f"{link.label}: {link.url}" for link in self.links)] if self.links else []
        lines += ["", *(f"{name}: {value}" for name, value in self._facts())]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """Write it as HTML, for a mail: no script, no picture, nothing that is loaded.

        :returns: a document; everything from outside is escaped.
        """
        parts = [
            '<!DOCTYPE html><html><head><meta charset="utf-8"></head>'
            '<body style="font-family:sans-serif;font-size:14px">',
            f'<h2 style="font-size:16px">{_escaped(self.subject)}</h2><p>{_escaped(self.summary)}</p>',
        ]
        if self.notes:
            parts.append(_list(self.notes))
        if self.servers:
            rows = "".join(
                f"<tr>{''.join(f'<td {_CELL}>{_escaped(cell)}</td>' for cell in _cells(one))}</tr>"
                for one in self.servers
            )
            head = "".join(f"<th {_CELL}>{one}</th>" for one in ("Server", "State", "Step", "Why"))
            parts.append(f'<table style="border-collapse:collapse"><tr>{head}</tr>{rows}</table>')
        if self.more:
            parts.append(f"<p>… and {self.more} more</p>")
        if self.next_steps:
            parts.append(f"<p>What to do:</p>{_list(self.next_steps)}")
        parts += [f'<p><a href="{_escaped(one.url)}">{_escaped(one.label)}</a></p>' for one in self.links]
        facts = "<br>".join(f"{_escaped(name)}: {_escaped(value)}" for name, value in self._facts())
        parts.append(f'<p style="color:#666">{facts}</p></body></html>')
        return "\n".join(parts)

    def body(self) -> dict[str, Any]:
        """Write it as JSON, for programs; ``docs/schemas/message.schema.json`` describes it.

        :returns: all fields.
        """
        return self.model_dump(mode="json")

    def chat(self) -> dict[str, str]:
        """Write it as what chats take.

        :returns: ``{"text": …}``.
        """
        return {"text": self.text(servers=CHAT_SERVERS_AT_MOST)}

    def _facts(self) -> list[tuple[str, str]]:
        told = [
            ("Plan", self.plan_id),
            ("Slot or run", self.period),
            ("DAG and run", f"{self.dag_id}, {self.run_id}"),
            ("Report", self.report and f"{self.bucket}/{self.report}"),
            ("At", self.at.isoformat(timespec="seconds")),
        ]
        return [(name, value) for name, value in told if value]


def _server_line(one: MessageServer) -> str:
    at = f" at {one.step}" if one.step else ""
    return f"{one.name}: {one.state}{at}. {one.words or ''}".strip()


_CELL: Final = 'style="border:1px solid #ccc;padding:2px 6px;text-align:left"'


def _cells(one: MessageServer) -> tuple[str, str, str, str]:
    return one.name, one.state, one.step or "", one.words or ""


_escaped: Callable[[str], str] = html.escape
"""With quotes, so that it may stand in an attribute as well."""


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_escaped(one)}</li>' for one in lines)}</ul>"
