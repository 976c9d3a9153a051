"""Static INT8: which operators become integer, and the file in which they are."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.calibration import FEWEST
from nearsight_npu.quantization.draft import Draft
from nearsight_npu.quantization.half import narrow_tables
from nearsight_npu.quantization.qdq import LIMITERS, WEIGHTED, Coding, QdqWriter
from nearsight_npu.quantization.ranges import take_ranges
from nearsight_npu.targets.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.settings import Settings
    from nearsight_npu.quantization.source import Node, Prepared

# Chosen where all that they take comes from chosen operators. So the sums of a convolutional net become integer, and
# those on a transformer's residual stream, which want more than eight bits, do not.
FOLLOWING = frozenset({"Clip", "Relu", "MaxPool", "Add", "Concat"})


def choose(prepared: Prepared, kinds: Collection[str] | None, keep_float: Sequence[str]) -> frozenset[str]:
    """Choose the operators that become integer.

    Softmax, normalisation and whatever else is not named above stays in float unless `kinds` names it.

    Args:
        prepared: the graph.
        kinds: operators to take, wherever they stand; None chooses by the rules above.
        keep_float: beginnings of names that stay in float.

    Returns:
        Names of operators.
    """
    free = [node for node in prepared.nodes if not node.name.startswith(tuple(keep_float))]
    if kinds is not None:
        return frozenset(node.name for node in free if node.kind in kinds)
    decided = {node.name: "" for node in prepared.nodes} | {node.name: "u8" for node in free}
    return frozenset(followers(prepared, decided))


def followers(prepared: Prepared, decided: Mapping[str, str], known: Collection[str] | None = None) -> dict[str, str]:
    """Tell what becomes integer along with operators that were decided on.

    For processors ("u8") those are Clip, Relu, MaxPool, Add and Concat; for NPUs, which want whole integer graphs, all
    that compute with numbers. Each follows only where all that it works on comes from integer operators of one type.

    Args:
        prepared: the graph.
        decided: operator -> type of its activations ("u8", "s8" or "u16"), or "" for one that stays in float.
        known: arrays whose range is known; None takes them all for known.

    Returns:
        Operator -> type, for all integer ones.
    """
    kinds: dict[str, str] = {}
    made: dict[str, str] = {}
    ends = _ends(prepared)
    for node in prepared.nodes:
        kind = decided.get(node.name)
        if kind is None or (kind and not _weighted(node, prepared)):
            kind = _followed(node, made, prepared, known)
        if kind and not (kind == "u8" and node.name in ends):
            kinds[node.name] = kind
            made.update(dict.fromkeys(node.outputs, kind))
    return kinds


def _weighted(node: Node, prepared: Prepared) -> bool:
    return node.kind in WEIGHTED and len(node.inputs) > 1 and node.inputs[1] in prepared.constants


def _followed(node: Node, made: Mapping[str, str], prepared: Prepared, known: Collection[str] | None) -> str:
    """Give the type of an operator without weights; "" where it stays in float."""
    data = node.inputs[:1] if node.kind in LIMITERS else node.inputs
    taken = [name for name in data if name in prepared.floating]
    types = {made.get(name, "") for name in taken}
    given = prepared.floating.intersection(node.outputs)
    if len(types) != 1 or not given or not (known is None or given <= set(known)):
        return ""
    kind = types.pop()
    constant = any(name in prepared.constants for name in data)
    return kind if kind != "u8" or (node.kind in FOLLOWING and not constant) else ""


def _ends(prepared: Prepared) -> frozenset[str]:
    """Name each Concat that no integer operator takes: it would only force one scale on what need not share one."""
    taken = {name for node in prepared.nodes if node.kind in WEIGHTED | FOLLOWING for name in node.inputs}
    return frozenset(node.name for node in prepared.nodes if node.kind == "Concat" and node.outputs[0] not in taken)


def parted_limiters(prepared: Prepared, chosen: Collection[str]) -> tuple[str, ...]:
    """Name the operators that are chosen while the Clip or Relu behind them is not.

    Their range is taken before it is limited: a convolution's then is many times as wide as what passes on.
    """
    makers = {output: node for node in prepared.nodes for output in node.outputs}
    return tuple(
        makers[node.inputs[0]].name
        for node in prepared.nodes
        if node.kind in LIMITERS
        and node.name not in chosen
        and node.inputs[0] in makers
        and makers[node.inputs[0]].name in chosen
    )


def narrow_weights() -> bool:
    """Say whether weights should keep to 7 bits here.

    x86 processors without VNNI add pairs of products in 16 bits, where U8 x S8 can saturate.
    """
    return platform.machine().lower() in {"x86_64", "amd64"} and not Machine().offers("avx512_vnni", "avx_vnni")


def write_static(
    prepared: Prepared,
    target: Path,
    samples: Sequence[dict[str, Array]],
    chosen: Collection[str],
    settings: Settings,
) -> tuple[str, ...]:
    """Take ranges and write the integer graph: weights S8 with a scale per channel.

    Args:
        prepared: the graph.
        target: where to write.
        samples: what to take ranges from.
        chosen: names of the operators that become integer.
        settings: the type of the activations, the method, its percentile, and whether weights keep to 7 bits. With
            types for NPUs, which want whole integer graphs, what lies behind chosen operators becomes integer too.

    Returns:
        What is doubtful about it, a line each.

    Raises:
        QuantizationError: if there are too few samples, or the model cannot run on them.
    """
    if len(samples) < FEWEST:
        raise QuantizationError(
            f"static INT8 was asked for with {len(samples)} samples; at least {FEWEST} are needed to know a range, "
            "and 100 are better; give more, or mode='dynamic'"
        )
    method = settings.range_method
    kinds = _types(prepared, chosen, settings)
    touched = {name for node in prepared.nodes if node.name in kinds for name in (*node.inputs, *node.outputs)}
    ranges = take_ranges(prepared, samples, histograms=method != "minmax", names=touched)
    kinds = _types(prepared, chosen, settings, ranges.spreads)
    draft = Draft(prepared)
    narrow_tables(draft, prepared.halves)
    coding = Coding(ranges=ranges, method=method, percentile=settings.kept_share, reduce_range=settings.reduce_range)
    QdqWriter(draft, kinds, coding).write()
    draft.save(target)
    untold = sorted(touched - prepared.constants - set(prepared.bytes_of) - {""})
    return tuple(f"the type of {name!r} is not known, so it is not rounded" for name in untold)


def _types(
    prepared: Prepared, chosen: Collection[str], settings: Settings, known: Collection[str] | None = None
) -> dict[str, str]:
    """Give the operators that become integer and the type of their activations."""
    kind = settings.static_type
    if kind == "u8" or settings.kinds is not None:
        return dict.fromkeys(chosen, kind)
    kept = {node.name: "" for node in prepared.nodes if _weighted(node, prepared)}
    kept |= {node.name: "" for node in prepared.nodes if node.name.startswith(settings.keep_float)}
    return followers(prepared, kept | dict.fromkeys(chosen, kind), known)
