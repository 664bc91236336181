"""HTML that is safe by construction: every text is escaped unless it was made here."""

from html import escape


class Html(str):
    """Finished HTML."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: object) -> Html:
    """An element. Children that are no `Html` are text, and are escaped.

    A trailing `_` in the name of an attribute is left out, and the others become dashes:
    `class_="a"`, `aria_label="b"`. An attribute that is None is left out.
    """
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    body = join(*children)
    return Html(f"<{name}{head}>{body}" + ("" if name in VOID else f"</{name}>"))


def join(*children: str) -> Html:
    """Several pieces one after the other; text is escaped."""
    return Html("".join(one if isinstance(one, Html) else escape(one) for one in children))


VOID = ("meta", "link", "input", "br")
"""Elements without content."""
