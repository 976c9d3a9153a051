"""Chinese names of things, said in English: a small text tower knows single English nouns better than Chinese ones."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HAN = re.compile(r"[\u3400-\u9fff]")
# 一辆, 这只, 12个, and 三人: a number or pointer with its measure word, or before people and pets; 一把手 is a person
# and no hand, 九头鸟 a monster, and 一杯咖啡 says more than 咖啡.
COUNTED = re.compile(
    r"^(?:[0-9]+|[一二三四五六七八九十百千万两几数这那每某]+)"
    r"(?:个|只|隻|辆|条|匹|头(?![鸟鹰蛇龙怪像])|架|艘|列|张|把(?!手)|台|部|本|位|名|群|些|件|根|块|颗|棵|支|双|副|对|座|顶|朵|面"
    r"|幅|尊|排|堆|口|扇|盏|束|队|(?=[人猫狗]$))"
)
# Ends of English plurals and what stands there in the singular.
PLURALS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))
_EN_COUNTED = re.compile(r"^(?:the|some|any|many|several|two|three|four|five|six|seven|eight|nine|ten|[0-9]+) ")


class Names:
    """A list of things that can be photographed, by their Chinese names.

    Args:
        page: A UTF-8 file: an English name, a tab, and Chinese names with `|` between them, one thing a line; lines
            that begin with `#` are comments.
    """

    def __init__(self, page: Path) -> None:
        self._english: dict[str, str] = {}
        self._things: set[str] = set()
        for line in page.read_text(encoding="utf8").splitlines():
            english, tab, chinese = line.partition("\t")
            if tab and not english.startswith("#"):
                self._english.update(dict.fromkeys(chinese.split("|"), english))
                self._things.add(english)

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
        return self._english.get(bare) or self._english.get(COUNTED.sub("", bare))

    def singular(self, text: str) -> str | None:
        """Give the singular of a bare English plural: a picture of one is described by it.

        Args:
            text: A query; "the", "some" or a number may stand in front of the noun.

        Returns:
            The singular, if the list has it and not the text itself; else None.

        Example:
            `cats` and `two cats` give `cat`; `glasses`, which the list has, and `red cats` give None.
        """
        bare = _EN_COUNTED.sub("", text.strip().lower().rstrip(".!?"))
        if not bare.endswith("s") or bare in self._things:
            return None
        for ending, singular in PLURALS:
            one = bare.removesuffix(ending) + singular
            if bare.endswith(ending) and one in self._things:
                return one
        return None
