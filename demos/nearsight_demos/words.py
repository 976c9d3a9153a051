"""The words of the demo's pages, in English and Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nearsight as ns

if TYPE_CHECKING:
    from collections.abc import Callable

LANGUAGES = {"en": "English", "zh": "中文"}

WORDS: dict[str, tuple[str, str]] = {
    "motto": ("Eyes for a small machine. Nothing leaves it.", "小机器的眼睛。数据不离开本机。"),
    "search": ("Search", "搜索"),
    "detect": ("Detect", "检测"),
    "caption": ("Caption", "描述"),
    "agent": ("Agent", "问答"),
    "watch": ("Watch", "监看"),
    "delegate": ("Delegate", "调度"),
    # Galleries
    "where": ("Where to look", "在哪里找"),
    "uploads": ("your uploads", "您上传的照片"),
    "watched": ("watched events", "监看到的事件"),
    "pictures": ("{name} ({count})", "{name}（{count} 张）"),
    "upload": ("Add your own photographs", "添加您自己的照片"),
    "indexing": ("Indexing", "正在建立索引"),
    "index again": ("Bring the folder up to date", "更新文件夹索引"),
    "indexed": (
        "{new} new, {same} unchanged, {failed} unreadable, in {seconds:.1f} s",
        "新增 {new} 张，未变 {same} 张，无法读取 {failed} 张，用时 {seconds:.1f} 秒",
    ),
    "none yet": (
        "Nothing to search yet. Drop photographs on the tab Search, or name a folder of yours:",
        "还没有可以搜索的照片。请把照片拖到“搜索”页，或指定您的文件夹：",
    ),
    "lent": (
        "Photographs to begin with. Drop your own below, or name their folder:",
        "这些照片供试用。请把您自己的照片拖到下面，或指定其文件夹：",
    ),
    # Models
    "model choice": ("Model", "模型"),
    "more models": ("of this machine; more: nearsight models list", "本机已有的；更多：nearsight models list"),
    "broken models": ("not usable: {why}", "无法使用：{why}"),
    "own model": (
        "This gallery is searched with {name}. To encode its pictures with another model, on the command line:",
        "此图库用 {name} 搜索。要用别的模型重新编码，请在命令行运行：",
    ),
    # Search
    "query": ("What are you looking for? English or Chinese", "您在找什么？中文或英文"),
    "query example": ("a cup of coffee on a table", "桌上的一杯咖啡"),
    "go": ("Search", "搜索"),
    "threshold": ("Show from this relevance on", "相关度下限"),
    "threshold info": ("{usual:.2f} is calibrated; 0 shows everything", "{usual:.2f} 为校准值；0 显示全部"),
    "filters": ("Camera and time", "相机与时间"),
    "camera": ("Camera", "相机"),
    "any camera": ("any", "不限"),
    "after": ("Taken from", "拍摄时间自"),
    "before": ("until before", "至（不含）"),
    "strong match": ("strong match", "高度匹配"),
    "likely match": ("likely match", "可能匹配"),
    "weak match": ("weak match", "弱匹配"),
    "threshold free": (
        "this model's scores are not calibrated; 0 shows everything",
        "此模型的分数未经校准；0 显示全部",
    ),
    "found": ("{shown} of {total} pictures", "{total} 张照片中找到 {shown} 张"),
    "nothing": ("Nothing matches “{query}”.", "没有与“{query}”匹配的照片。"),
    "nearest": (
        "Nearest of {total} pictures is {name}, a {words} at relevance {best:.2f}; the least shown is {least:.2f}.",
        "{total} 张照片中最接近的是 {name}，为{words}，相关度 {best:.2f}；显示下限为 {least:.2f}。",
    ),
    "filtered out": ("No picture passes the filters.", "没有照片符合筛选条件。"),
    "ask something": ("Write what you are looking for.", "请写下您要找的内容。"),
    "gone": ("the file is gone or unreadable", "文件已不在或无法读取"),
    # A picture
    "picture": ("Picture: drop, paste or choose one", "照片：拖入、粘贴或选择"),
    "samples": ("Or take one of these", "或选用其中一张"),
    "give picture": ("Give a picture first.", "请先给出一张照片。"),
    # Detect
    "labels": ("What to look for", "要找什么"),
    "labels info": ("English or Chinese, separated by commas", "中文或英文，用逗号分隔"),
    "labels default": (
        "person, cat, dog, car, motorcycle, cup, 桌子, 笔记本电脑",
        "人，猫，狗，汽车，摩托车，杯子，桌子，laptop",
    ),
    "min score": ("Lowest score", "最低分数"),
    "min score info": ("{usual:.2f} is calibrated", "{usual:.2f} 为校准值"),
    "min score usual": ("{usual:.2f} is this model's own", "{usual:.2f} 为此模型自身的默认值"),
    "find": ("Find them", "开始检测"),
    "boxes": ("Boxes", "检测框"),
    "label": ("label", "标签"),
    "score": ("score", "分数"),
    "class": ("seen as", "识别类别"),
    "route": ("how", "方式"),
    "route class": ("by name", "按名称"),
    "route similar": ("similar class, not judged further", "相近类别，未进一步判断"),
    "route crop": ("by comparing parts of the picture with the word", "将图片局部与词语比较"),
    "route example": ("by comparing parts of the picture with the example", "将图片局部与示例图比较"),
    "route text": ("by the words themselves", "直接按文字判断"),
    "count": ("{n} found", "找到 {n} 个"),
    "nothing found": ("None of these was found.", "没有找到其中任何一种。"),
    "unjudged": (
        "Cannot judge: {labels}. Nothing can be said about such a label.",
        "无法判断：{labels}。对这类标签无从判断。",
    ),
    "no labels": ("Name at least one thing to look for.", "请至少写一样要找的东西。"),
    # Caption
    "describe": ("Describe it", "描述照片"),
    "language en": ("In English", "英文描述"),
    "language zh": ("In Chinese", "中文描述"),
    "ask picture": ("Ask about it, then Enter", "就照片提问，按回车"),
    "reply": ("Answer", "回答"),
    "confidence": ("confidence", "置信度"),
    "noun seen": ("seen", "已看到"),
    "noun unsupported": ("not found in the picture", "图中未找到"),
    "caution": (
        "A small model wrote this. It says what is likely and often names what is not there: look for yourself.",
        "以上由小模型生成，它说的是可能的内容，常会说出照片里没有的东西：请自行核对。",
    ),
    # Agent
    "question": ("Ask about the pictures, in English or Chinese", "就这些照片提问，中文或英文"),
    "ask": ("Ask", "提问"),
    "is there": ("Is there a picture of {what}?", "有没有{what}的照片？"),
    "how many": ("How many pictures show {what}?", "有多少张{what}的照片？"),
    "tell me": ("Notify me if there is {what}", "如果有{what}就通知我"),
    "plan": ("Show the plan only", "只看计划"),
    "planned": ("Plan", "计划"),
    "trace": ("What was done", "执行过程"),
    "step": ("step", "步骤"),
    "arguments": ("arguments", "参数"),
    "status": ("outcome", "结果"),
    "matches": ("found", "找到"),
    "approve": ("Approve and send", "批准并发送"),
    "wants": (
        "The plan has a step with an effect: notify “{message}”. It was not done; it waits for your approval.",
        "计划中有一个会产生影响的步骤：通知“{message}”。尚未执行，等待您的批准。",
    ),
    "sent": ("Notified: {message}", "已通知：{message}"),
    "understood": ("understood {share:.0%} of the question", "理解了问题的 {share:.0%}"),
    "examples": ("For example", "例如"),
    # Watch
    "source": ("A video file, or pictures in the order of their names", "一个视频文件，或按文件名排序的多张图片"),
    "clip": ("or a clip of the folder", "或文件夹中的视频"),
    "watch labels": ("car, person", "汽车，人"),
    "camera name": ("Name of the camera", "摄像头名称"),
    "line": ("The line, in percent of the frame", "计数线（占画面的百分比）"),
    "from x": ("from x", "起点 x"),
    "from y": ("from y", "起点 y"),
    "to x": ("to x", "终点 x"),
    "to y": ("to y", "终点 y"),
    "fps": ("Frames a second to look at", "每秒查看帧数"),
    "most": ("Frames at most", "最多帧数"),
    "first frame": ("First frame and the line", "首帧与计数线"),
    "start": ("Watch", "开始监看"),
    "stop": ("Stop", "停止"),
    "give source": ("Give a video file or pictures first.", "请先给出视频文件或图片。"),
    "watching": ("Watching: {n} events so far", "监看中：已有 {n} 个事件"),
    "done": (
        "{frames} frames in {seconds:.1f} s ({rate:.1f} a second), {n} events.",
        "{seconds:.1f} 秒内查看 {frames} 帧（每秒 {rate:.1f} 帧），{n} 个事件。",
    ),
    "ask about": ("Search and Agent can now look at these events.", "“搜索”和“问答”页现在可以查询这些事件。"),
    "stopped": ("Stopped: {n} events", "已停止：{n} 个事件"),
    "no events": ("Nothing that was asked for appeared.", "要找的东西没有出现。"),
    "appeared": ("appeared", "出现"),
    "crossing": ("crossed", "越线"),
    "in": ("in", "进"),
    "out": ("out", "出"),
    "time": ("time", "时间"),
    "event": ("event", "事件"),
    "events": ("Events", "事件"),
    "thumbnail": ("picture", "图片"),
    # Delegate
    "answers": ("Answers since the start, newest first", "启动以来的回答（最新在前）"),
    "no answers": ("No answer yet: use the other tabs.", "还没有回答：请先使用其他页面。"),
    "tab": ("tab", "页面"),
    "index": ("Index", "索引"),
    "asked": ("asked", "内容"),
    "target": ("target", "目标"),
    "precision": ("precision", "精度"),
    "model": ("model file", "模型文件"),
    "ran": ("ran", "运行于"),
    "placement": ("placement", "放置"),
    "predicted": ("predicted, ms", "预测（毫秒）"),
    "measured": ("measured, ms", "实测（毫秒）"),
    "rungs": ("rungs", "级别"),
    "rejected": ("not taken", "未采用"),
    "left": ("left the machine", "离开本机"),
    "nothing left": ("nothing", "无"),
    "measurements": (
        "What this machine measured: size and speed of each file; full circles were taken",
        "本机实测：各文件的大小与速度，实心圆为选用",
    ),
    "measured picture": (
        "Each file by its milliseconds and megabytes; full circles were taken",
        "各文件的毫秒与兆字节；实心圆为选用",
    ),
    "no measurements": (
        "Nothing measured yet: a graph is when it is first loaded.",
        "尚无实测：图在首次加载时测量。",
    ),
    "ms a run": ("milliseconds a run", "每次运行毫秒数"),
    "graph": ("graph", "图"),
    "setup": ("set-up", "设置"),
    "own threads": ("its own threads", "自定线程数"),
    "threads": ("threads: {count}", "线程数：{count}"),
    "spinning": ("spinning", "自旋"),
    "MB": ("MB", "MB"),
    "ms": ("ms", "毫秒"),
    "outcome": ("outcome", "结果"),
    "taken": ("taken", "选用"),
    "slower": ("not taken", "未选用"),
    "refused": ("refused: {why}", "拒绝：{why}"),
    "targets": ("Targets of this machine", "本机可用目标"),
    "available": ("usable", "可用"),
    "reason": ("why", "原因"),
    "proofs": ("Proofs that this machine remembers", "本机记住的验证"),
    "proven at": ("proven", "验证时间"),
    "passed": ("passed", "通过"),
    "refresh": ("Refresh", "刷新"),
    "by name": ("by name only: a simulator", "仅可指名使用：模拟器"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
}


def speaker(language: str) -> Callable[..., str]:
    """Return a function that gives the words of a key in one language, filled in."""
    column = list(LANGUAGES).index(language)

    def say(key: str, **values: Any) -> str:
        text = WORDS[key][column]
        return text.format(**values) if values else text

    return say


def matched(relevance: float, say: Callable[..., str]) -> str:
    """Say a relevance in words."""
    return say(ns.relevance_words(relevance))
