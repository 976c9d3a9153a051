"""Chinese names of things, said in English: a small text tower knows single English nouns better than Chinese ones."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HAN = re.compile(r"[\u3400-\u9fff]")
_COUNTED = re.compile(
    r"^[一这那1](?:个|只|隻|辆|条|匹|头|架|艘|列|张|把|台|部|本|位|名|件|根|块|颗|棵|支|座|顶|朵|杯|碗|盘|瓶|面|幅|尊)"
)


class Names:
    """A list of things that can be photographed, by their Chinese names.

    Args:
        page: A UTF-8 file: an English name, a tab, and Chinese names with `|` between them, one thing a line; lines
            that begin with `#` are comments.
    """

    def __init__(self, page: Path) -> None:
        self._english: dict[str, str] = {}
        for line in page.read_text(encoding="utf8").splitlines():
            english, tab, chinese = line.partition("\t")
            if tab and not english.startswith("#"):
                self._english.update(dict.fromkeys(chinese.split("|"), english))

    def __len__(self) -> int:
        return len(self._english)

    def english(self, text: str) -> str | None:
        """Say a bare Chinese noun in English.

        Args:
            text: A query; a number with its measure word may stand in front of the noun.

        Returns:
            The English name; None where the text is anything else than a name in the list.
        """
        bare = re.sub(r"[\s。，！？、.,!?]+", "", unicodedata.normalize("NFKC", text))
        return self._english.get(bare) or self._english.get(_COUNTED.sub("", bare))
