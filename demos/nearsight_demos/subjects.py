"""What photographs often show, in both languages: from it the demos choose questions that fit a stranger's pictures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import nearsight as ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


class Subject(NamedTuple):
    """Something to ask for, in English and in Chinese."""

    en: str
    zh: str

    def said(self, language: str) -> str:
        """Give its words in one language, "en" or "zh"."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What to ask a gallery for.

    Attributes:
        there: subjects that it shows, the surest first; empty where it shows none that are known here.
        absent: one that it does not show.
        questions: some of both in words, one of them in the other language.
    """

    there: tuple[Subject, ...]
    absent: Subject
    questions: tuple[str, ...]


# What the detector has classes for, by its names for them; what is rarely the point of a photograph is left out.
CLASSES = {
    "person": Subject("a person", "人"),
    "bicycle": Subject("a bicycle", "自行车"),
    "car": Subject("a car", "汽车"),
    "motorcycle": Subject("a motorcycle", "摩托车"),
    "airplane": Subject("an airplane", "飞机"),
    "bus": Subject("a bus", "公共汽车"),
    "train": Subject("a train", "火车"),
    "truck": Subject("a truck", "卡车"),
    "boat": Subject("a boat", "船"),
    "traffic light": Subject("a traffic light", "红绿灯"),
    "fire hydrant": Subject("a fire hydrant", "消防栓"),
    "stop sign": Subject("a stop sign", "停车标志"),
    "bench": Subject("a bench", "长椅"),
    "bird": Subject("a bird", "鸟"),
    "cat": Subject("a cat", "猫"),
    "dog": Subject("a dog", "狗"),
    "horse": Subject("a horse", "马"),
    "sheep": Subject("sheep", "绵羊"),
    "cow": Subject("a cow", "牛"),
    "elephant": Subject("an elephant", "大象"),
    "bear": Subject("a bear", "熊"),
    "zebra": Subject("a zebra", "斑马"),
    "giraffe": Subject("a giraffe", "长颈鹿"),
    "umbrella": Subject("an umbrella", "雨伞"),
    "suitcase": Subject("a suitcase", "行李箱"),
    "skis": Subject("somebody on skis", "滑雪的人"),
    "snowboard": Subject("a snowboard", "单板滑雪"),
    "kite": Subject("a kite", "风筝"),
    "skateboard": Subject("a skateboard", "滑板"),
    "surfboard": Subject("a surfboard", "冲浪板"),
    "tennis racket": Subject("a tennis racket", "网球拍"),
    "bottle": Subject("a bottle", "瓶子"),
    "wine glass": Subject("a wine glass", "酒杯"),
    "cup": Subject("a cup", "杯子"),
    "bowl": Subject("a bowl", "碗"),
    "banana": Subject("bananas", "香蕉"),
    "apple": Subject("apples", "苹果"),
    "sandwich": Subject("a sandwich", "三明治"),
    "orange": Subject("oranges", "橙子"),
    "pizza": Subject("a pizza", "披萨"),
    "donut": Subject("a donut", "甜甜圈"),
    "cake": Subject("a cake", "蛋糕"),
    "chair": Subject("a chair", "椅子"),
    "couch": Subject("a couch", "沙发"),
    "potted plant": Subject("a potted plant", "盆栽"),
    "bed": Subject("a bed", "床"),
    "dining table": Subject("a dining table", "餐桌"),
    "toilet": Subject("a toilet", "马桶"),
    "tv": Subject("a television", "电视"),
    "laptop": Subject("a laptop", "笔记本电脑"),
    "keyboard": Subject("a keyboard", "键盘"),
    "cell phone": Subject("a cell phone", "手机"),
    "refrigerator": Subject("a refrigerator", "冰箱"),
    "book": Subject("books", "书"),
    "clock": Subject("a clock", "时钟"),
    "vase": Subject("a vase", "花瓶"),
    "teddy bear": Subject("a teddy bear", "泰迪熊"),
}
# What no class stands for.
SCENES = (
    Subject("the sea and a beach", "大海和沙滩"),
    Subject("snow on mountains", "雪山"),
    Subject("a forest", "森林"),
    Subject("a lake", "湖"),
    Subject("a sunset", "日落"),
    Subject("the sky at night", "夜空"),
    Subject("a garden with flowers", "开着花的花园"),
    Subject("a city street", "城市街道"),
    Subject("a tall tower", "高塔"),
    Subject("an old building", "古老的建筑"),
    Subject("a bridge", "桥"),
    Subject("a wall of bricks", "砖墙"),
    Subject("people around a table with food", "一桌人在吃饭"),
    Subject("children playing", "孩子们在玩"),
    Subject("a group of people", "一群人的合影"),
    Subject("a wedding", "婚礼"),
    Subject("somebody playing music", "演奏音乐的人"),
    Subject("a cup of coffee", "一杯咖啡"),
    Subject("a page of printed text", "一页印刷的文字"),
    Subject("coins", "硬币"),
    Subject("a rocket", "火箭"),
    Subject("an astronaut", "宇航员"),
    Subject("a lion", "狮子"),
    Subject("a running cheetah", "奔跑的猎豹"),
)
# What few have photographs of: a question that nothing should answer.
RARE = (
    Subject("a plate of sushi", "一盘寿司"),
    Subject("an old typewriter", "一台老式打字机"),
    Subject("a penguin on the ice", "冰上的企鹅"),
    Subject("a medieval suit of armour", "中世纪的盔甲"),
)


def things_in(detector: ns.Detector, pictures: Iterable[Path]) -> dict[str, list[Path]]:
    """Look into pictures; gives the classes that are seen there, the most frequent first, and in which pictures."""
    found: dict[str, list[Path]] = {}
    for path in pictures:
        try:
            answer = detector.detect(path, list(CLASSES))
        except ns.InputError:
            continue  # a file that is gone shows nothing
        for name in dict.fromkeys(answer.labels):
            found.setdefault(name, []).append(path)
    return dict(sorted(found.items(), key=lambda row: -len(row[1])))


def shown(gallery: ns.Gallery, subjects: Iterable[Subject], language: str, most: int) -> tuple[Subject, ...]:
    """Choose subjects that a gallery shows: those of the surest hits first, and each of another picture."""
    hits = [(subject, hit) for subject in subjects for hit in gallery.search(subject.said(language), k=1)]
    chosen: dict[Path, Subject] = {}
    for subject, hit in sorted(hits, key=lambda pair: -pair[1].relevance):
        chosen.setdefault(hit.path, subject)
    return tuple(chosen.values())[:most]


def absent(gallery: ns.Gallery, language: str) -> Subject:
    """Choose a rare subject that a gallery does not show."""
    return next((subject for subject in RARE if not gallery.search(subject.said(language), k=1)), RARE[-1])


def offered(gallery: ns.Gallery, classes: Iterable[str], language: str, most: int) -> Offer:
    """Choose what to ask a gallery for.

    Args:
        gallery: the gallery.
        classes: what a detector saw in its pictures.
        language: "en" or "zh".
        most: how many subjects that are there.
    """
    there = shown(gallery, (*(CLASSES[name] for name in classes), *SCENES), language, most)
    rare, other = absent(gallery, language), "en" if language == "zh" else "zh"
    asked = [(subject, language) for subject in there]
    asked += [(subject, other) for subject in shown(gallery, there, other, 1)]
    questions = (subject.said(tongue) for subject, tongue in (*asked, (rare, language)))
    return Offer(there=there, absent=rare, questions=tuple(questions))


def asking(offer: Offer, language: str, say: Callable[..., str]) -> list[str]:
    """Put questions about what a gallery shows, and one about what it does not."""
    there = [subject.said(language) for subject in offer.there] or [offer.absent.said(language)]
    asked = zip(("is there", "how many", "tell me"), cycle(there), strict=False)
    absent = say("is there", what=offer.absent.said(language))
    return list(dict.fromkeys((*(say(key, what=what) for key, what in asked), absent)))
