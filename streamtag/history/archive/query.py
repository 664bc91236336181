"""Queries an archive: the recordings that meet a condition, or sound most like another one."""

import ast
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from streamtag.errors import StreamtagError
from streamtag.history.archive.files import Place
from streamtag.history.archive.tables import (
    EMBEDDINGS,
    MOODS,
    RECORDINGS,
    ArchiveCard,
    dataset,
    reading,
)

STATISTICS = ("mean", "peak", "share")
"""The values of each tag in a recording. A condition that names only the tag means its mean."""
PLAIN = ("seconds", *MOODS)
"""Columns that a condition may name besides the tags."""
_TOKEN = re.compile(
    r"""\s+ | (?P<same> \d+\.?\d*(?:[eE][-+]?\d+)? | \.\d+(?:[eE][-+]?\d+)?
      | <= | >= | == | != | [<>()] | - ) | "(?P<quoted>[^"]*)" """,
    re.VERBOSE,
)
_WORD = re.compile(r"[^\s<>=!()\"]+")
_COMPARISONS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=", ast.NotEq: "<>",
}  # fmt: skip
_LONGEST = 500
"""The most words of a condition."""
JOINING = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class FoundRecordings:
    """The result of a query."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class ArchiveCondition:
    """A condition, translated to SQL."""

    sql: str
    columns: dict[str, str]
    """The SQL of each value in the condition, by its column heading."""


def parse_condition(text: str, tags: Sequence[str]) -> ArchiveCondition:
    """Translates a condition such as `jazz > .5 and not share(female voice) > .2`.

    Names of tags may contain spaces and words like `and`: the longest tag that matches is used.
    A name in double quotes is taken as it is.

    Raises:
        StreamtagError: a tag is unknown, or the text is not a condition.
    """
    translation = _Translation(tags)
    words = list(_words(text, translation))
    try:
        if len(words) > _LONGEST:
            raise SyntaxError(f"more than {_LONGEST} words")
        sql = translation.condition(ast.parse(" ".join(words), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        problem = error.msg if isinstance(error, SyntaxError) else str(error)
        raise StreamtagError(
            f"condition {text!r:.200}: expected comparisons with numbers, joined by and, or, not "
            f"and parentheses, such as 'jazz > .5 and calm > .4', got: {problem}"
        ) from None
    return ArchiveCondition(sql, translation.columns)


class _Translation:
    """Translates the syntax tree of a condition to SQL. Its names are replaced by `n0`, `n1` …

    Only the nodes handled here are translated, so a condition cannot inject other SQL.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self.known = sorted((*tags, *PLAIN), key=len, reverse=True)
        self.columns: dict[str, str] = {}
        self._tags, self._names = frozenset(tags), list[str]()

    def short(self, name: str) -> str:
        """The replacement of a name."""
        if name not in self._names:
            self._names.append(name)
        return f"n{self._names.index(name)}"

    def condition(self, node: ast.expr) -> str:
        """The SQL of a condition."""
        match node:
            case ast.BoolOp(op=op, values=values):
                joint = " AND " if isinstance(op, ast.And) else " OR "
                return f"({joint.join(map(self.condition, values))})"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return f"(NOT {self.condition(operand)})"
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [self._value(one) for one in (left, *others)]
                signs = [_COMPARISONS[type(op)] for op in ops]
                parts = zip(sides, signs, sides[1:], strict=False)
                return f"({' AND '.join(f'{a} {sign} {b}' for a, sign, b in parts)})"
        raise SyntaxError("no comparison")

    def _value(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=int() | float() as number):
                return repr(number)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"(-{self._value(operand)})"
            case ast.Name(id=short):
                return self._column(None, short)
            case ast.Call(func=ast.Name(id=statistic), args=[ast.Name(id=short)], keywords=[]):
                if statistic in STATISTICS:
                    return self._column(statistic, short)
        raise SyntaxError("something else than numbers and tags")

    def _column(self, statistic: str | None, short: str) -> str:
        name = self._names[int(short[1:])]
        label = name if statistic in (None, "mean") else f"{statistic} {name}"
        if name in self._tags:
            sql = f"{quoted(statistic or 'mean')}.{quoted(name)}"
        elif statistic is None:
            sql = quoted(name)
        else:
            raise SyntaxError(f"{statistic}({name}), but {name} is no tag")
        self.columns[label] = sql
        return sql


def _words(text: str, translation: _Translation) -> Iterator[str]:
    """Splits a condition into words, with names replaced by `n0`, `n1` …"""
    at = 0
    while at < len(text):
        if match := _TOKEN.match(text, at):
            at = match.end()
            if match["quoted"] is not None:
                yield translation.short(_exact(match["quoted"], translation.known, text))
            elif match["same"]:
                yield match["same"]
            continue
        name = next((one for one in translation.known if _is_name_at(one, text, at)), None)
        word = _WORD.match(text, at)
        if name is not None:
            at += len(name)
            yield translation.short(name)
        elif word and _is_joining(word[0].lower(), text[word.end() :]):
            at = word.end()
            yield word[0].lower()
        else:
            raise _unknown(_phrase(text, at), translation.known, text)


def _is_joining(word: str, rest: str) -> bool:
    """Whether a word is an operator or a function, not the beginning of an unknown name."""
    return word in JOINING or (word in STATISTICS and rest.lstrip().startswith("("))


def _is_name_at(name: str, text: str, at: int) -> bool:
    """Whether the text has a name at a position, as whole words."""
    after = text[at + len(name) : at + len(name) + 1]
    whole = not (after.isalnum() or after in ("_", "-"))
    return whole and text[at : at + len(name)].lower() == name.lower()


def _phrase(text: str, at: int) -> str:
    """The unknown name at a position: everything up to the next operator."""
    rest = re.split(r"[<>=!()\"]|\s+(?:and|or|not)\s", text[at:], maxsplit=1)[0]
    return rest.strip() or text[at:].strip()[:1]


def _exact(name: str, known: Sequence[str], text: str) -> str:
    found = next((one for one in known if one.lower() == name.lower()), None)
    if found is None:
        raise _unknown(name, known, text)
    return found


def _unknown(name: str, known: Sequence[str], text: str) -> StreamtagError:
    lower = {one.lower(): one for one in known}
    close = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, 3, 0.5)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has: {', '.join(sorted(known))}"
    return StreamtagError(
        f"condition {text!r:.200}: expected tags of this archive, got {name!r:.60}; {hint}"
    )


def quoted(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def find(
    folder: Place,
    condition: str | None = None,
    like: Sequence[float] | None = None,
    limit: int | None = None,
) -> FoundRecordings:
    """The recordings that meet a condition, are most similar to an embedding, or both.

    They are sorted by the first value that the condition names, or by similarity, largest first.

    Raises:
        StreamtagError: the folder is no archive, DuckDB is not installed, the condition is wrong,
            or the archive has no embeddings.
    """
    about = ArchiveCard.read(folder)
    parsed = parse_condition(condition, about.tags) if condition else ArchiveCondition("true", {})
    duckdb = _duckdb()
    database = duckdb.connect(config={"enable_external_access": False})
    database.register(RECORDINGS, dataset(folder, RECORDINGS))
    columns = {"file": f"{RECORDINGS}.file", "seconds": "seconds"} | parsed.columns
    source, order, given = RECORDINGS, next(iter(parsed.columns.values()), "file"), list[Any]()
    if like is not None:
        database.register(EMBEDDINGS, dataset(folder, EMBEDDINGS))
        source += f" JOIN {EMBEDDINGS} USING (file)"
        columns["similarity"] = order = "list_cosine_similarity(embedding, ?::FLOAT[])"
        given = [list(like)] * 2
    shown = ", ".join(f"{sql} AS {quoted(label)}" for label, sql in columns.items())
    sql = f"SELECT {shown} FROM {source} WHERE error IS NULL AND {parsed.sql}"
    sql += f" ORDER BY {order} {'DESC' if order != 'file' else ''} NULLS LAST, {RECORDINGS}.file"
    sql += f" LIMIT {int(limit)}" if limit else ""
    with reading(folder, duckdb.InvalidInputException):
        rows = database.execute(sql, given).fetchall()
    return FoundRecordings(tuple(columns), tuple(rows))


def stored_embedding(folder: Place, file: str) -> list[float] | None:
    """The embedding of a recording in the archive; None if it is not there.

    Raises:
        StreamtagError: the archive has no embeddings at all.
    """
    if not ArchiveCard.read(folder).embeddings:
        raise StreamtagError(
            f"{folder.name}: expected an archive with embeddings, got one without; make one "
            "with `streamtag archive --embeddings`"
        )
    import pyarrow.compute as pc

    found = dataset(folder, EMBEDDINGS).to_table(filter=pc.field("file") == file)["embedding"]
    return found[0].as_py() if len(found) else None


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise StreamtagError(
            "archive query: expected the package duckdb, got none; "
            'install it: pip install "streamtag[archive]"'
        ) from None
    return duckdb
