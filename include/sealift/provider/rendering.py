"""Fills in the templates that every task of a wave has, without compiling each of them in each process.

Airflow compiles a template whenever it renders it. A task of a wave has five and more that only name a parameter of the
run, and renders them once in the triggerer and once in the worker: that is a tenth of what its worker process costs.
"""

from __future__ import annotations

import re
from typing import Any, Final

_NAMES: Final = re.compile(r"\{\{ (params|ti)((?:\.[a-z_]+)+) \}\}")


class QuickTemplates:
    """Mixed into operators and triggers, before Airflow's own class: what merely names a value is looked up.

    Everything else, and whatever is not found, is left to Airflow, which says what is wrong.
    """

    def render_template(self, content: Any, context: Any, *more: Any, **named: Any) -> Any:
        """Fill in one template.

        :param content: the template, or a container of templates.
        :param context: the task's context.
        :param more: what else Airflow passes.
        :param named: the same.
        :returns: the text, or whatever Airflow makes of it.
        """
        if isinstance(content, str):
            if not content:
                return content
            match = _NAMES.fullmatch(content)
            if match is not None:
                found = _look_up(context, match[1], match[2].split(".")[1:])
                if isinstance(found, str | int) and not isinstance(found, bool):
                    return str(found)
        return super().render_template(content, context, *more, **named)  # type: ignore[misc]


def _look_up(context: Any, root: str, path: list[str]) -> Any:
    """Follow a path of names as a template does.

    :returns: the value; None where there is none.
    """
    value = context.get(root)
    for name in path:
        try:
            value = getattr(value, name) if root == "ti" else value[name]
        except (AttributeError, KeyError, TypeError):
            return None
    return value
