"""HTML and SVG in which nothing can be left unescaped: a string is text until `tag` has made it markup."""

from html import escape

EMPTY = frozenset({"meta"})  # elements that have no end


class Markup(str):
    """HTML that is whole and safe as it stands."""


def tag(element: str, /, *children: object, **attributes: object) -> Markup:
    """`<element attribute="...">children</element>`; every child but Markup is escaped, a None is left out.

    An attribute drops a final underscore (`class_`) and writes the others as hyphens (`text_anchor`).
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for name, value in attributes.items()
    )
    if element in EMPTY:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{joined(*children)}</{element}>")


def joined(*children: object) -> Markup:
    """Children one after the other, escaped unless they are Markup; a None is left out."""
    known = [child for child in children if child is not None]
    return Markup("".join(child if isinstance(child, Markup) else escape(str(child)) for child in known))
