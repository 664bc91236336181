"""The pages' words for what the server writes itself, from `static/languages/`."""

import json
from functools import cache
from pathlib import Path
from typing import Any

STATIC = Path(__file__).with_name("static")
"""The folder of the pages' files."""
LANGUAGES = tuple(sorted(path.stem for path in (STATIC / "languages").glob("*.json")))
"""Codes of the languages."""
DEFAULT = "en"
WRITTEN = ("set_", "report_", "category_", "alerts_")
"""Of texts that only the server writes."""


class Texts:
    """The words of a language."""

    def __init__(self, language: str) -> None:
        self.language = language
        found = _read(language)
        self._ui: dict[str, str] = found["ui"]
        self._tags: dict[str, str] = found["tags"]

    def __getitem__(self, key: str) -> str:
        return self._ui[key]

    def of_pages(self) -> dict[str, dict[str, str]]:
        """What the pages say while they run, and the names of tags."""
        said = {key: text for key, text in self._ui.items() if not key.startswith(WRITTEN)}
        return {"ui": said, "tags": self._tags}

    def tag(self, name: str) -> str:
        """A tag, or a category of tags."""
        bare = name.rpartition("---")[2]
        known = self._tags.get(bare.lower()) or self._ui.get(f"category_{bare.lower()}")
        return known or bare

    def category(self, name: str) -> str:
        """A category of tags; empty is one without a name."""
        return self._ui.get(f"category_{name.lower() or 'none'}", name)


def best_language(*wanted: str) -> str:
    """The first language that there is; `wanted` are codes or `Accept-Language` headers."""
    for header in wanted:
        for part in header.split(","):
            code = part.partition(";")[0].strip()[:2].lower()
            if code in LANGUAGES:
                return code
    return DEFAULT


@cache
def _read(language: str) -> dict[str, Any]:
    body = (STATIC / "languages" / f"{language}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(body)
    return found
