"""The types of the Classic API: which properties are local, which are relational, and how a reply is made of them.

A local property comes with every object; a relational one only where the mask names it (SLDN, object masks). Null
locals are sent as null, null relations are left out (recorded: a CD's block device has no ``diskImage`` key).
Types that are only ever nested are *open*: their scalars count as local, their structures as relational.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealift.sandbox.classic.errors import ApiError

if TYPE_CHECKING:
    from sealift.sandbox.classic.masks import Mask
    from sealift.sandbox.world import World

Doc = dict[str, Any]
Resolver = Callable[[Doc, "World"], Any]


@dataclass(frozen=True)
class Relation:
    """A relational property.

    :param type: the name of the type it holds; "" for a plain value.
    :param resolve: gives the value for an object; by default what the object's document holds under that name.
    """

    type: str = ""
    many: bool = False
    resolve: Resolver | None = None


@dataclass(frozen=True)
class TypeDef:
    """A type with its properties.

    :param unused: relational properties that exist, but that nothing in the sandbox has.
    """

    name: str
    locals: tuple[str, ...] = ()
    relations: Mapping[str, Relation] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    open: bool = False

    def relation(self, name: str) -> Relation | None:
        """:returns: the relational property of that name, or None."""
        return self.relations.get(name)

    def counted(self, name: str) -> str | None:
        """:returns: for ``blockDeviceCount`` the list that it counts, ``blockDevices``; None where it counts none."""
        if not name.endswith("Count"):
            return None
        stem = name.removesuffix("Count")
        for candidate in (f"{stem}s", stem, stem.removesuffix("y") + "ies"):
            relation = self.relations.get(candidate)
            if relation is not None and relation.many:
                return candidate
        return None


OPEN = TypeDef(name="", open=True)


class Schema:
    """All types by name."""

    def __init__(self, types: Iterable[TypeDef]) -> None:
        self._types = {one.name: one for one in types}

    def type(self, name: str) -> TypeDef:
        """:returns: the type; one that nobody described is open."""
        return self._types.get(name, OPEN)

    def value(self, type_: TypeDef, doc: Doc, name: str, world: World) -> Any:
        """:returns: a property of an object, local or relational, unrendered; None where it has none."""
        relation = type_.relation(name)
        if relation is not None and relation.resolve is not None:
            return relation.resolve(doc, world)
        counted = type_.counted(name)
        if counted is not None:
            return len(self.value(type_, doc, counted, world) or [])
        return doc.get(name)

    def render(self, type_: TypeDef, doc: Doc, mask: Mask, world: World) -> Doc:
        """Make the reply for one object.

        :raises ApiError: where the mask names a property that the type does not have.
        """
        if type_.open:
            return self._render_open(doc, mask, world)
        out: Doc = {}
        if not any(name in type_.locals for name in mask):
            out.update({name: doc.get(name) for name in type_.locals})
        for name, sub in mask.items():
            if name in type_.locals:
                out[name] = doc.get(name)
                continue
            relation = type_.relation(name)
            if relation is None:
                if type_.counted(name) is not None:
                    out[name] = self.value(type_, doc, name, world)
                elif name not in type_.unused and world.switches.unknown_mask_property == "error":
                    raise ApiError(f"The property '{name}' is not valid for '{type_.name}'.")
                continue
            value = self.value(type_, doc, name, world)
            if value is not None:
                out[name] = self.render_value(relation, value, sub, world)
        return out

    def render_value(self, relation: Relation, value: Any, mask: Mask, world: World) -> Any:
        """Render what a relational property holds."""
        target = self.type(relation.type)
        if isinstance(value, list):
            return [self.render(target, one, mask, world) if isinstance(one, dict) else one for one in value]
        if isinstance(value, dict):
            return self.render(target, value, mask, world)
        return value

    def _render_open(self, doc: Doc, mask: Mask, world: World) -> Doc:
        out: Doc = {}
        scalars = {name: value for name, value in doc.items() if not isinstance(value, dict | list)}
        if not any(name in scalars for name in mask):
            out.update(scalars)
        for name, sub in mask.items():
            value = doc.get(name)
            if isinstance(value, dict | list):
                out[name] = self.render_value(Relation(), value, sub, world)
            elif name in doc:
                out[name] = value
        return out
