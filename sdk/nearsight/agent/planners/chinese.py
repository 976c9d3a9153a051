"""The rules for Chinese sentences; pure."""

from __future__ import annotations

import re

from nearsight.agent.planners.wording import Errand, Form, Heard, errand_in, form_of
from nearsight.agent.timewords import number

_NUMBER = r"(?:\d+|[零一二两三四五六七八九十]{1,3})"
_MEASURE = r"(?:张|辆|个|只|条|台|位|名|次|匹|艘|架|棵|头|部|把|座|栋|幅|列|群|些)"
_PICTURES = r"(?:照片|图片|相片|画面|图像|影像|截图|快照|图)"
_POLITE = re.compile(
    r"^(?:请问|请你?|麻烦你?|帮我|帮忙|你好|能不能|能否|可以|可不可以|能(?=给|帮|让)|我想知道|想知道|告诉我|说说看?|那么?|[\s，,])+"
)
_COUNT = re.compile(
    rf"(?:一共|总共|共)?(?:有|出现|看到|拍到?|检测到|记录|经过|通过|来|进|出|停)?(?:过|了)*(?:多少|几)(?P<measure>{_MEASURE}(?=.))?{_MEASURE}?"
)
_COUNT_VERB = re.compile(r"^(?:请)?(?:数一?数|数一下|统计一?下?|清点|计算一?下?)")
_WHAT = re.compile(
    r"(?:拍|看|录|记录)(?:到|下)?(?:过|了)*(?:什么|哪些)(?:东西|内容)?$|"
    r"(?:发生|出)(?:过|了)*什么(?:事情?)?|有(?:过|了)?什么(?:情况|动静|事情?|东西)?$|什么情况|有(?:没有)?(?:什么)?(?:动静|情况|异常)"
)
_WHO = re.compile(r"(?:有)?谁|有(?:没有)?什么人")
_FIND = re.compile(
    rf"(?:找(?:一下|一找|出来?|到|找)?|搜(?:索|一下|一搜)*|查(?:找|看|一下|询|一查)*|(?:给我|让我|我想|我要|想)?看(?:一下|看|一看)?(?!到)|"
    rf"显示|展示|列出来?|调出|翻出|给我|来|我想要|我要|哪里(?:有|能看到)|哪儿有)"
    rf"\s*(?:最新|最近|最后)?的?(?P<k>{_NUMBER}(?=张))?张?"
)
_WHEN = re.compile(r"(?:是在?)?(?:什么时候|什么时间|何时|几点钟?)(?:有|出现|来|到|看到|经过)?(?:过|了|的)*")
_EXISTS = re.compile(
    r"(?:有没有|是否|有无|是不是|可曾|有否|会不会)(?:有)?(?:看到|看见|出现|经过|路过|来|拍到|发现|检测到|见到)?(?:过|了)?"
    r"|(?:有|看到|看见|发现|拍到|出现)(?:过|了)?(?=.*(?:吗|么|没有|没)$)|(?:吗|么|没有|没)$"
)
_LEAD = re.compile(
    rf"^(?:(?:有|看到|看见|出现|经过|路过|拍到?|来|进|是|含有?|包含|带有?|关于|的|了|过|在|到|里面?|上面?|中|附近|那里|那边|地方|所有|全部|任何|一些|都|被|从|我|你|能|得到)|"
    rf"(?:{_NUMBER}|几|多少){_MEASURE}|多少|这{_MEASURE}|那{_MEASURE})+"
)
_THING = re.compile(r"^(?:什么)?东西$")
_KEEP = re.compile(r"^(?:中国|上衣|里程|来宾|过山车|是非|在线|进口)")
_TAIL = re.compile(
    rf"(?:的?{_PICTURES}|吗|么|呢|吧|啊|呀|了|过|没有|没|有|出现|经过|来|到|路过|通过|进来|出去|进去|停|停下|开|走|在|里|里面|是|的|拍|拍下|看到|"
    rf"就|那里|这里|一下|出来|都|来着|总数|数量|{_MEASURE})$"
)
_DOUBTFUL = re.compile(
    r"为什么|每|第|怎么|除了|如果|平均|还是|最|哪|谁|什么|比(?!赛)|但|[我你您他她它咱]|(?<![子人生友])们|\d+|(?<![景斑])点(?![心燃火灯])"
    r"|(?<![信型符])号(?!码)|[上下](?:个|次|午|半|周|星期|礼拜|月)|^[上下]|现在|然后|之[前后]|以[前后]|(?<![门车面屏楼])前$"
    rf"|至少|超过|多于|少于|最多|正好|[两二三四五六七八九十百]+{_MEASURE}|小时|分钟|星期|礼拜|昨|今天|明天|去年|不|没|(?<!拥)有|别|吗|呢|了|过(?![马山])|拍|会(?!议)|能|要|把|被|给|让"
)
_TELL = r"(?:通知|提醒|告诉|告知|警告|警示|报警|发消息给|给我发(?:个|条)?(?:消息|通知|提醒))"
_TOLD = rf"(?:请|就|则|那就|马上|立刻|立即)*{_TELL}(?:一下)?(?:我们?|大家)?(?:一声|一下)?"
_IF = "(?:如果|要是|假如|假若|若是?|一旦|当|只要)"
_ERRAND = re.compile(
    rf"^(?:请)?(?:(?:通知|提醒|警告)(?:一下)?(?:我|大家)|{_TELL}.{{0,6}}{_IF})|(?:{_IF}|的话|就|则).*{_TELL}|给我发.{{0,2}}(?:消息|通知|提醒)"
)
_MESSAGE = re.compile(r"^(?:请)?(?:通知|提醒|警告)(?:我们?|大家)(?:说)?[：:，,\s]+(?P<message>.+)$", re.DOTALL)
_CONDITIONAL = re.compile(rf"{_IF}|的话|就")
_CONDITIONS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rf"^(?:请)?(?P<lead>[^，,]{{0,40}}?){_IF}(?P<condition>.+?)(?:的话|的时候|时)?[，,\s]*{_TOLD}$",
        rf"^(?P<condition>.+?)(?:的话)[，,\s]*{_TOLD}$",
        rf"^(?:请)?{_TELL}(?:一下)?我(?:一声|一下)?[，,\s]*{_IF}(?P<condition>.+?)(?:的话|的时候)?$",
    )
)
# All that a condition may be, once its camera and time are taken out: that there is a thing.
_THERE_IS = re.compile(
    rf"(?:有|出现|看到|发现|拍到)(?:了|过)?(?:一{_MEASURE})?(?P<thing>[\u3400-\u9fff]+?)(?:出现|经过)?(?:的话|的时候|时)?"
)
_UNPLAIN = re.compile(
    r"[没不无非未别和或与及跟同且并但而多少几两二三四五六七八九十百千最只才仅比再还又都全吗谁先后前超过点了就也如若替]|什么|怎么|任何|一起"
)
_FIND_LAST = re.compile(
    r"(?:都|全部?)?(?:给我)?(?:[找列翻调搜](?:出来|出|给)|给我看|让我看|有哪些|有哪几张)(?:给?我?看看?|我)?$"
)
_LAST_TIME = re.compile(r"(?:上|最后|最近)一?次")
_FORMS: tuple[Form, ...] = (
    ("find", _WHEN.search, ""), ("count", _COUNT.search, ""), ("count", _COUNT_VERB.match, ""),
    ("what", _WHAT.search, ""), ("exists", _WHO.search, ""), ("find", _FIND.match, ""),
    ("find", _FIND_LAST.search, ""), ("exists", _EXISTS.search, ""), ("exists", re.compile("有").match, ""),
)  # fmt: skip
_GAPS = re.compile(r"[\s？?。．！!，,；;、]+")


def errand(text: str) -> Errand | None:
    """Read "如果…就通知我" and "通知我：…"; None where nobody wants to be told anything."""
    plain = text.strip().rstrip("？?。.！! ")
    return errand_in(plain, _ERRAND, _MESSAGE, _CONDITIONAL, _CONDITIONS)


def thing_that_is(text: str) -> str:
    """Read "有狗", camera and time taken out; "" for any other or more complex condition."""
    found = _THERE_IS.fullmatch(_GAPS.sub("", text))
    return "" if found is None or _UNPLAIN.search(found["thing"]) else found["thing"]


def hear(text: str) -> Heard:
    """Read a sentence without camera, times and files."""
    plain = _POLITE.sub("", _LAST_TIME.sub("", _GAPS.sub(" ", text)).strip()).strip()
    intent, found, _ = form_of(plain, _FORMS)
    # "有多少红色卡车" names the thing after, "红色卡车有多少辆" before.
    query, k = f"{plain[: found.start()]} {plain[found.end() :]}" if found else plain, None
    if intent == "count":
        query = _COUNT_VERB.sub("", query)
    elif found is not None and found.re is _WHO:
        query = _WHO.sub("人", plain)
    elif found is not None and found.re is _FIND:
        query, k = _EXISTS.sub(" ", query), int(number(found["k"])) if found["k"] else None
    elif found is not None and found.re is _FIND_LAST:
        query = query.removeprefix("把")
    query = _thing(query)
    return Heard(intent=intent, query=query, k=k, doubts=tuple(_DOUBTFUL.findall(query)))


def _thing(query: str) -> str:
    """Reduce "一辆红色卡车的照片吗" to "红色卡车"."""
    query = re.sub(r"(?<=[^\x00-\x7f]) +| +(?=[^\x00-\x7f])", "", query.strip())
    before = None
    while query != before:
        before = query
        if not _KEEP.match(query):
            query = _LEAD.sub("", query).strip()
        query = _TAIL.sub("", query).strip()
        if re.fullmatch(_PICTURES, query) or _THING.match(query):
            return ""
    return query


def asks_for_things(text: str) -> bool:
    """Tell "里有几辆车" from "里有什么"."""
    if re.search(r"什么|描述|介绍|说说|讲讲|说明|看图", text):
        return False
    return bool(re.search(r"有|看得?到|看得?见|检测|找|数|几|多少|标出|圈出|识别|是否", text))


def labels(query: str) -> list[str]:
    """Split "汽车和行人"."""
    query = re.sub(r"^(?:检测|识别|标出|圈出|找出?|数一?数)(?:一下|出)?", "", query)
    parts = re.split(r"[、,，/和与及跟]|以及|还有|或者?", query)
    return [name for part in parts if (name := _thing(part))]


def words(text: str) -> int:
    """Count the characters of a text, each foreign word as one."""
    return len(re.findall(r"[\u3400-\u9fff]|[A-Za-z0-9]+", text))
