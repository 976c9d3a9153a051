"""The words for times in English and Chinese, as patterns; pure."""

from __future__ import annotations

import re

# What stands in a text where a time was taken out.
GAP = "\n"

ENGLISH = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS: dict[str, float] = {word: value for value, word in enumerate(ENGLISH, 1)} | {
    "a": 1, "an": 1, "half": 0.5, "half a": 0.5, "half an": 0.5, "a couple of": 2, "twenty": 20, "thirty": 30
}  # fmt: skip
_DIGITS: dict[str, float] = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {
    "两": 2,
    "〇": 0,
    "半": 0.5,
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEKDAYS_ZH = {sign: number for number, sign in enumerate("一二三四五六日")} | {"天": 6}
# Part of the day: first hour and the hour after the last; from 24 on it is the next day.
PARTS = {
    "early morning": (0, 6), "凌晨": (0, 6), "morning": (5, 12), "早上": (5, 12), "早晨": (5, 12), "清晨": (5, 12),
    "上午": (5, 12), "早": (5, 12), "晨": (5, 12), "中午": (11, 13), "afternoon": (12, 18), "下午": (12, 18),
    "傍晚": (17, 20), "evening": (18, 24), "night": (18, 30), "晚上": (18, 30), "夜里": (18, 30), "深夜": (18, 30),
    "半夜": (18, 30), "晚间": (18, 30), "晚": (18, 30), "夜": (18, 30),
}  # fmt: skip

_NUM = rf"(?:(?:\d+|half\s+an?|half|a\s+couple\s+of|an?|{'|'.join(ENGLISH)}|twenty|thirty)(?:\s+and\s+a\s+half)?)"
_HAN = r"(?:\d+|[零〇一二两三四五六七八九十半]{1,3})"
_UNIT = r"(?P<unit>minute|hour|day|week|month|year)s?"
_UNIT_ZH = r"(?:个(?P<more>半)?)?(?P<unit>分钟|小时|钟头|天|周|星期|礼拜|月|年)"
UNITS_ZH = {
    "分钟": "minute", "小时": "hour", "钟头": "hour", "天": "day", "周": "week", "星期": "week", "礼拜": "week",
    "月": "month", "年": "year",
}  # fmt: skip
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b"
)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.VERBOSE)


AGO = (
    _pattern(rf"\b(?P<n>{_NUM})\s+{_UNIT}\s+ago\b"),
    _pattern(rf"(?<!\d)(?!\d{{4}}年)(?P<n>{_HAN}){_UNIT_ZH}(?:之|以)?前"),
)
RECENT = (
    _pattern(rf"\b(?:(?:in|over|during|within|for|from)\s+)?(?:the\s+)?(?:last|past)\s+(?P<n>{_NUM})\s+{_UNIT}\b"),
    _pattern(rf"\b(?:(?:in|over|during|within|for|from)\s+)?(?:the\s+)?past\s+{_UNIT}\b"),
    _pattern(rf"\b(?:in|over|during|within)\s+the\s+last\s+{_UNIT}\b"),
    _pattern(r"\b(?:(?:in|over|during|within|for|from)\s+)?(?:the\s+)?last\s+(?P<unit>minute|hour)\b"),
    _pattern(rf"(?:在)?(?:过去|最近|近)的?(?P<n>{_HAN}){_UNIT_ZH}(?:之?内|里|以来)?"),
    _pattern(rf"(?P<n>{_HAN}){_UNIT_ZH}(?:之|以)?内"),
    _pattern(r"(?P<lately>\brecently\b|\blately\b|最近(?!的?[\d一二两三四五六七八九十]*张|的?照片|的?图|一?次))"),
    _pattern(
        r"(?<!until\s)(?<!till\s)(?<!to\s)(?<!^)\b(?:(?:right|just)\s+)?now\b|\bright\s+now\b|\bcurrently\b"
        r"|\bat\s+the\s+moment\b"
        r"|(?<!到)(?:现在|此刻|眼下)|刚才|刚刚"
    ),
)
DAY = _pattern(rf"""
    (?P<iso>\d{{4}}[-/]\d{{1,2}}[-/]\d{{1,2}})(?!\d)
  | (?:(?P<zh_year>\d{{4}})年|(?P<zh_rel>去年|今年|前年|上个?|这个?|本)?)
    (?P<zh_month>{_HAN})月(?:份|(?P<zh_day>{_HAN})[日号])?
  | \b(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m1>{_MONTH})(?:,?\s+(?P<y1>\d{{4}}))?
  | \b(?P<m2>{_MONTH})\.?\s+(?:the\s+)?(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:,?\s+(?P<y2>\d{{4}}))?
  | \b(?:(?P<mod>last|this)\s+)?(?P<m3>{_MONTH})(?:,?\s+(?:of\s+)?(?P<y3>\d{{4}}))?
  | \b(?:(?P<wd_mod>last|this|past)\s+)?(?P<wd>mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)day\b
  | (?P<zw_mod>上+个?|这个?|本)?(?:周|星期|礼拜)(?P<zw>[二三四五六日天]|一(?![共直个辆只条位张]))
  | (?P<weekend>\b(?:last|this|the)\s+weekend\b|\bat\s+weekends?\b|(?:上+个?|这个?|本)?周末)
  | (?P<word>\b(?:the\s+)?day\s+before\s+yesterday\b|\byesterday\b|\btoday\b|\btomorrow\b|\bto(?=night\b)
      |\bthis(?=\s+(?:morning|afternoon|evening)\b)|\blast(?=\s+(?:night|evening)\b)
      |大前天|前天|昨天|昨日|今天|今日|明天|昨(?=[早晨晚夜])|今(?=[早晨晚夜])|前(?=晚))
  | \b(?P<period>(?:last|this)\s+(?:week|month|year)|(?:start|beginning)\s+of\s+the\s+(?:week|month|year))\b
  | (?P<zh_period>(?:上+|这|本)(?:一?个)?(?:周|星期|礼拜|月)|去年|今年|前年)
  | (?P<year>(?<=in\s)20\d\d\b|(?<=since\s)20\d\d\b|(?<=before\s)20\d\d\b|(?<=during\s)20\d\d\b|20\d\d年)
""")
_WEEKDAY = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
# Times that are not read: named as not understood, instead of the wrong one.
UNREAD = _pattern(rf"""
    \b(?:next|coming)\s+(?:week(?:end)?|month|year|{_WEEKDAY}|{_MONTH})\b
  | \b(?:the\s+)?(?:week(?:end)?|month|year|{_WEEKDAY}|{_MONTH})\s+before\s+last\b
  | \b(?:(?:from\s+)?{_WEEKDAY}\s*(?:to|until|till|through|and|-|–)\s*)?{_WEEKDAY},?\s+(?:of\s+)?(?:last|this)\s+week\b
  | (?<!\d)\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}(?!\d)
  | \b(?:an?\s+)?quarter\s+(?:past|after|to|of)\s+\w+|\b(?:five|ten|twenty)\s+(?:minutes\s+)?past\s+\w+
  | \b(?:last|this|since|during|before|after|on\s+my|at)\s+(?:the\s+|my\s+|our\s+)?
    (?:spring|summer|autumn|winter|christmas|easter|birthday|holidays?|vacation|breakfast|lunch|dinner)\b
  | 下+个?(?:周|星期|礼拜)[一二三四五六日天末]?|下+个?月|明年|后天|明[早晚]
  | (?:去年|今年)[春夏秋冬](?:天|季)?(?!节)
  | (?:去年|今年)?(?:春节|过年|元旦|中秋节?|国庆节?|端午节?|清明节?|除夕|暑假|寒假)
""")
DAYS_BACK = {
    "day before yesterday": 2, "yesterday": 1, "last": 1, "today": 0, "this": 0, "to": 0, "tomorrow": -1,
    "大前天": 3, "前天": 2, "前": 2, "昨天": 1, "昨日": 1, "昨": 1, "今天": 0, "今日": 0, "今": 0, "明天": -1,
}  # fmt: skip
# Words that are a month only after one of these.
DOUBTFUL_MONTHS = ("may", "mar", "march")
BEFORE_A_MONTH = _pattern(r"\b(?:in|during|since|before|after|until|from|of|to|by|and)\s+$")
BEFORE_A_DAY = _pattern(r"""
    (?P<sign>\bsince|\bafter|\bbefore|\buntil|\bup\s+to|\bbetween|\bfrom|\bon|\bin|\bduring|\bof|\bfor|自从?|从|在)?
    \s*(?:the\s+)?$
""")
AFTER_A_DAY = _pattern(
    r"\s*(?P<sign>以后|之后|以来|以前|之前|之间|期间|一?整天|(?:一直)?到现在|到目前|至今)?(?:的时候)?"
)
TO_A_DAY = _pattern(r"\s*(?P<to>to|until|through|till|-|–|and|到|至|和)\s*(?:the\s+)?")
_PART_ZH = "早上|早晨|清晨|上午|中午|下午|傍晚|晚上|晚间|夜里|深夜|半夜|凌晨"
PART = _pattern(rf"""
    (?:(?<=\n)|(?<=\n\s)|\b(?:in|during)\s+the\s+)(?P<en>early\s+morning|morning|afternoon|evening|night)\b
  | (?P<zh>{_PART_ZH})
  | (?<=\n)(?P<one>[早晨晚夜])
""")
PART_FOLLOWS = _pattern(r"\s+in\s+the\s+(?:morning|afternoon|evening)\b")


def _clock(number: int) -> str:
    """Write the pattern of one time of day, its groups told apart by a number."""
    n = number
    return rf"""(?:
        (?P<pre{n}>{_PART_ZH})?(?P<zh{n}>\d{{1,2}}|[零一二两三四五六七八九十]{{1,3}})(?:点钟?|时)
        (?:(?P<zhalf{n}>半)|(?P<zmin{n}>\d{{1,2}}|[一二三四五十]{{1,3}})分|(?P<zquarter{n}>一刻))?
      | (?P<half{n}>half\s+past\s+)?(?:(?<![A-Za-z0-9])|(?<=\nT))
        (?P<h{n}>\d{{1,2}}|noon|midnight|{"|".join(ENGLISH)})(?![\d/-])
        (?:[:：](?P<min{n}>\d\d)(?::\d\d)?)?(?:\s*(?P<ap{n}>[ap])\.?m\b\.?)?(?:\s*o'?clock)?
    )"""


# A bare number is an hour only at the end of a phrase: "after six cars" is none.
_ENDS = r"""(?=
    \s*(?:$|[\n?.,;!，。？；、]|[^\x00-\x7f])
  | \s+(?:yesterday|today|this|last|on|in|at|from|by|near|with|was|were|is|did|please|and|or|then)\b
)"""
CLOCK_RANGE = _pattern(rf"""
    (?:\b(?P<lead>between|from)\s+|从|在)?
    {_clock(1)}\s*(?P<link>and|to|until|till|-|–|到|至|和)\s*{_clock(2)}{_ENDS}(?:之间|期间)?
""")
CLOCK = _pattern(rf"""
    (?:\b(?P<sign>after|before|since|until|till|by|around|about|at|from)\s+|(?<=\n)T?\s*)?
    {_clock(1)}{_ENDS}
    (?P<after>(?:以|之|过)?后|以来|开始|以前|之前|前(?!后)|左右|前后)?(?:的时候)?
""")


def number(text: str) -> float:
    """Read a number in digits, English or Chinese: "7", "seven", "half an", "二十三"."""
    word = " ".join(text.lower().split())
    if word.isdecimal():
        return float(word)
    if word in _NUMBERS:
        return float(_NUMBERS[word])
    if word.endswith(" and a half"):
        return number(word.removesuffix(" and a half")) + 0.5
    tens, ten, ones = word.rpartition("十")
    value = (_DIGITS.get(tens, 1) * 10 if ten else 0) + _DIGITS.get(ones, 0)
    return float(value)


def is_chinese(text: str) -> bool:
    """Tell whether a text holds Chinese signs."""
    return any("\u4e00" <= sign <= "\u9fff" for sign in text)
