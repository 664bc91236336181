"""The dumps of AcousticBrainz: values of recordings by their MusicBrainz id.

A dump is an archive of JSON files, `highlevel/00/0/MBID-N.json` and `lowlevel/00/0/MBID-N.json`,
where 00 and 0 are the first three characters of the id and N counts its submissions. (Dumps before
2022 have `0/00` there.) The low-level values exist as tables as well, with a column per value:
`acousticbrainz-lowlevel-features-20220623-lowlevel.csv` has the loudness, `…-rhythm.csv` the tempo.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import read_text

LEVELS = ("lowlevel", "highlevel")
COLUMNS = {"average_loudness": "lowlevel", "bpm": "rhythm"}
"""Columns of the tables and where the JSON files have them."""
MBID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A MusicBrainz id."""


class Dump:
    """Unpacked dumps in a folder, with or without the folders that their archives begin with.

    Args:
        folder: where they are.
        ids: the MusicBrainz ids of interest.
    """

    def __init__(self, folder: Path, ids: Iterable[str]) -> None:
        self._places = [folder, *sorted(folder.glob("acousticbrainz-*/"))]
        self._rows: dict[str, dict[int, dict[str, Any]]] = {mbid: {} for mbid in ids}
        for place in self._places:
            for table in sorted(place.glob("*-features-*.csv")):
                self._add(table)

    def submissions(self, mbid: str) -> Iterator[list[Any]]:
        """The tables of each submission of a recording, the first one first.

        Raises:
            RecipeError: a file is not JSON.
        """
        files = self._files(mbid)
        rows = self._rows.get(mbid, {})
        for number in sorted({*files, *rows}):
            tables = [read_json(path) for path in files.get(number, [])]
            yield [*tables, rows[number]] if number in rows else tables

    def _files(self, mbid: str) -> dict[int, list[Path]]:
        """The JSON files of a recording by the number of the submission."""
        found: dict[int, list[Path]] = {}
        for place in self._places:
            for level in LEVELS:
                for inner in (f"{mbid[:2]}/{mbid[2]}", f"{mbid[0]}/{mbid[:2]}", "."):
                    for path in (place / level / inner).glob(f"{mbid}-*.json"):
                        number = path.stem.removeprefix(f"{mbid}-")
                        if number.isdecimal():
                            found.setdefault(int(number), []).append(path)
        return found

    def _add(self, path: Path) -> None:
        """Reads the rows of interest of a table, of which there may be millions."""
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            known = [name for name in COLUMNS if name in (rows.fieldnames or ())]
            for row in rows:
                mbid, number = row.get("mbid"), row.get("submission_offset") or ""
                if mbid in self._rows and number.isdecimal():
                    values = self._rows[mbid].setdefault(int(number), {})
                    for name in known:
                        values.setdefault(COLUMNS[name], {})[name] = row[name]


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
        RecipeError: it is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise RecipeError(
            f"{path}: line {line}, column {column}: expected JSON, got: "
            f"{getattr(error, 'msg', error)}; fetch it again"
        ) from error


def check_ids(path: Path, ids: Mapping[str, str]) -> None:
    """Refuses what is no MusicBrainz id.

    Raises:
        RecipeError: one is none; the message names it and its recording.
    """
    for name, mbid in ids.items():
        if not MBID.fullmatch(mbid):
            raise RecipeError(
                f"{path}: {name}: expected a MusicBrainz id such as "
                f"0dad432b-16cc-4bf0-8961-fd31d124b01b, got {mbid!r:.60}; correct it"
            )
