"""Finds things in a picture: names in English or Chinese, or pictures of things, in; boxes out."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.detect.boxes import Detections, suppressed, within
from nearsight.detect.closedset import NANO, ClosedSet, NanoBoxes
from nearsight.detect.found import Found, Seen, by_crops, joined
from nearsight.detect.looks import arrays_of, look, look_at_many
from nearsight.detect.tiles import checked_tiles, cut, windows
from nearsight.engine import AUTO, Engine
from nearsight.errors import InputError
from nearsight.families.lookup import leaf
from nearsight.sight import Sight, sight_of, together

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearsight.detect.labels import Asked
    from nearsight.detect.parts import Asking, Part
    from nearsight.sight import Outputs
    from nearsight_npu import Decision, Policy

    Look = tuple[Outputs, Decision]
    Scored = tuple[NDArray[np.float32], NDArray[np.float32]]

MOST = 100  # boxes of one label in one picture, as COCO counts

Tiles = int | tuple[int, int] | None
Threshold = float | Mapping[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What every picture is asked, each label with its least score, and how a picture is cut.

    Attributes:
        parts: labels that the graph's scores answer, in the looks that this takes.
        crops: labels that crops are compared with.
        unjudged: labels about which nothing can be said.
        tiles: columns and rows.
        decisions: the runs that it took to understand the labels.
    """

    parts: Sequence[Part]
    crops: Sequence[tuple[Asked, float]]
    unjudged: tuple[str, ...]
    tiles: tuple[int, int] | None
    decisions: list[Decision]

    def told(self) -> tuple[Decision, ...]:
        """The runs that the labels took; they are told with the first picture's."""
        decisions = tuple(self.decisions)
        self.decisions.clear()
        return decisions


class Detector:
    """A detector, asked by any words, or by pictures.

    Of a detector with a fixed set of classes, such as nano, a label that the lexicon knows as a name of a class is
    answered by that class (route "class"). A label that says more than a class (a taxi, a red car) or lies near one in
    meaning is answered by that class as well, on the route "similar" and with less than its score: the class was seen,
    the rest was not judged. For other words (a helmet) the surest boxes and the whole picture are cut out and compared
    with the word by an encoder (route "crop"); so is a picture of a thing that is given as a label (route "example").

    A detector that takes any words, such as OWLv2 or Grounding DINO, judges each label itself (route "text"), and
    pictures if it can (route "example"). Chinese names are asked in English where the model learned no Chinese and
    the lexicon or nano's list of names has them.

    A label of which nothing can be said, such as a negation, is listed in `Detections.unjudged`. A score of nano is
    the estimated chance that the box is right, on every route; scores of other models are their own.

    Args:
        model: Name of a model that serves detection; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        precision: `auto`, or one of the precisions that the model's files come in.
        policy: How the delegate may behave.
        threads: Threads of one run.

    Attributes:
        classes: English names of the model's classes; each may be asked for. Empty where any words may be.
        near: Judges words that the lexicon does not have; None where the model does.

    Raises:
        UnknownModelError: If no model bears this name, or it does not serve detection.
        MissingFilesError: If one of its files is not there.
        InputError: If the model has no such precision.
    """

    def __init__(
        self,
        model: str = "nano",
        *,
        target: str = AUTO,
        precision: str = AUTO,
        policy: Policy | None = None,
        threads: int | None = None,
    ) -> None:
        common: dict[str, Any] = {"target": target, "policy": policy, "threads": threads}
        self._engine = Engine.shared(model, capability="detect", precision=precision, **common)
        manifest = self._engine.manifest
        self._leaf: Any = NanoBoxes(manifest) if manifest.architecture == NANO else leaf(manifest)
        self._asking = _asking(self._engine, self._leaf, common)
        self._closed = self._asking if isinstance(self._asking, ClosedSet) else None
        self.classes: tuple[str, ...] = self._asking.classes
        self.near = self._closed.near if self._closed else None
        self._last: tuple[tuple[Any, ...], tuple[Any, ...], Threshold, Question] | None = None

    @property
    def default_min_score(self) -> float:
        """The score below which a box is left out unless asked for.

        Of nano the best F1 of classes on training photographs, of other models what their authors use.
        """
        return self._asking.chances.least

    def detect(
        self, image: Any, labels: Sequence[Any], min_score: Threshold = None, *, tiles: Tiles = None
    ) -> Detections:
        """Find things in one picture.

        Args:
            image: Anything that `read_image` takes: path, bytes, PIL picture, array; or a `Frame`.
            labels: What to look for: a text for each thing, or a picture of it (path, PIL picture or array).
            min_score: Boxes that score less are left out; a number for all labels, or a mapping of labels to numbers.
                None, and a label that is not in the mapping, takes the calibrated default.
            tiles: Look at parts of a large picture, too, so that small things are seen: a number of tiles a side, or
                (columns, rows). Each takes as long as the whole picture.

        Returns:
            The boxes, best first; at most 100 a label.

        Raises:
            InputError: If there is no label, or one that is no text or picture, or blank; if `min_score` is not within
                0 and 1, or `tiles` not within 1 and 16.
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If the model cannot be placed, proven or run.
        """
        question = self._question(labels, min_score, tiles)
        return self._alone(self._opened(image, question), question)

    def meaning(self, label: str) -> tuple[tuple[str, ...], str]:
        """Tell what a label is answered by, before any picture is looked at.

        Returns:
            The classes whose boxes answer it, none where crops or the model's own boxes are compared; and the route,
            `class`, `similar`, `crop` or `text`, empty where it cannot be judged.

        Raises:
            InputError: If it is no text or blank.
            DelegateError: If a word that the lexicon does not have cannot be compared.
        """
        (asked,), _ = self._asking.resolve([label])
        return tuple(self.classes[column] for column in asked.columns), asked.route

    def detect_many(
        self,
        images: Iterable[Any],
        labels: Sequence[Any],
        min_score: Threshold = None,
        *,
        tiles: Tiles = None,
        batch: int = 1,
    ) -> Iterator[Detections]:
        """Find the same things in picture after picture, each read when its turn comes.

        Args:
            images: Pictures as `detect` takes them, such as paths, arrays, or a `Camera` with its frames.
            labels: As for `detect`.
            min_score: As for `detect`.
            tiles: As for `detect`.
            batch: Pictures that are read ahead and run together. More than one gains nothing on a CPU.

        Raises:
            InputError: As `detect`, before the first picture is read.
            PictureUnreadableError: If a picture cannot be read, after the answers for all before it.
        """
        question = self._question(labels, min_score, tiles)
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise InputError(f"batch is a whole number from 1; got {batch!r}")
        return self._each(images, question, batch)

    def _each(self, images: Iterable[Any], question: Question, batch: int) -> Iterator[Detections]:
        opened = (self._opened(image, question) for image in images)
        if batch == 1:
            yield from (self._alone(sight, question) for sight in opened)
            return
        fitted = ((sight, arrays_of(self._engine, self._leaf, sight)) for sight in opened)
        for group in _grouped(fitted, batch):
            pictures = [arrays for _, arrays in group]
            looks = [look_at_many(self._engine, self._leaf, pictures, part.words) for part in question.parts]
            for sight, *seen in zip((sight for sight, _ in group), *looks, strict=True):
                yield self._answer(sight, seen, question)

    def _alone(self, sight: Sight, question: Question) -> Detections:
        return self._answer(sight, [self._look(sight, part) for part in question.parts], question)

    def _look(self, sight: Sight, part: Part) -> Look:
        return look(self._engine, self._leaf, sight, part.words)

    def _question(self, labels: Sequence[Any], min_score: Threshold, tiles: Tiles) -> Question:
        """Understand a question, or remember the last one: frame after frame is asked the same."""
        last, wishes = self._last, (type(min_score), type(tiles), tiles)
        if (
            last is not None
            and last[1:3] == (wishes, min_score)
            and isinstance(labels, (tuple, list))
            and len(labels) == len(last[0])
            and all(map(operator.is_, labels, last[0]))
        ):
            return last[3]
        question = self._understood(labels, min_score, tiles)
        # What may change in its owner's hands is understood anew.
        same = not isinstance(min_score, Mapping) and all(isinstance(label, str) for label in labels)
        self._last = (tuple(labels), wishes, min_score, question) if same else None
        return question

    def _understood(self, labels: Sequence[Any], min_score: Threshold, tiles: Tiles) -> Question:
        asked, decisions = self._asking.resolve(labels)
        default = self.default_min_score
        if isinstance(min_score, Mapping):
            there = {one.label: default for one in asked}
            if unknown := [key for key in min_score if key not in there]:
                told = f"min_score names {unknown[0]!r:.80}, which is no label here; there is {_listed(list(there))}"
                raise InputError(told)
            least = there | {label: _checked(score) for label, score in min_score.items() if score is not None}
            rows = [(one, least[one.label]) for one in asked]
        else:
            same = default if min_score is None else _checked(min_score)
            rows = [(one, same) for one in asked]
        return Question(
            parts=self._asking.parts(rows),
            crops=[row for row in rows if row[0].route and not row[0].columns] if self._closed else [],
            unjudged=tuple(one.label for one in asked if not one.route),
            tiles=checked_tiles(tiles),
            decisions=decisions,
        )

    def _opened(self, image: Any, question: Question) -> Sight:
        sight = sight_of(image)
        if question.tiles or not isinstance(self._leaf, NanoBoxes):
            sight.picture()
        elif question.crops and self._closed:
            sight.picture(self._closed.cropper.detail_wh)
        return sight

    def _answer(self, sight: Sight, looks: Sequence[Look], question: Question) -> Detections:
        found: list[Found] = []
        decisions: list[Decision] = []
        for part, whole in zip(question.parts, looks, strict=True):
            seen = self._seen(sight, whole, part, question.tiles)
            found += self._by_scores(seen, part)
            decisions += seen.decisions
            if question.crops and self._closed:
                crops = self._closed.cropper.look(sight, seen.boxes, seen.scores)
                found += by_crops(self._closed, crops, question.crops)
                decisions += crops.decisions
        decisions += question.told()
        decision = together(decisions[0], decisions) if decisions else None
        return joined(found, question.unjudged, sight.size_wh, decision)

    def _seen(self, sight: Sight, whole: Look, part: Part, tiles: tuple[int, int] | None) -> Seen:
        boxes, scores = self._read(whole[0], sight.size_wh, part)
        seen = Seen(boxes=boxes, scores=scores, parts=None, decisions=(whole[1],))
        return self._tiled(sight, seen, part, tiles) if tiles else seen

    def _read(self, outputs: Outputs, size_wh: tuple[int, int], part: Part) -> Scored:
        """Read boxes (a, 4) in pixels, and scores (a, columns)."""
        boxes, scores = self._leaf.boxes(outputs, size_wh), part.scores(outputs)
        if isinstance(self._leaf, NanoBoxes):  # whose graph cuts boxes off itself
            return boxes, scores
        boxes, left = within(boxes, size_wh)
        return boxes, scores[left]

    def _tiled(self, sight: Sight, whole: Seen, part: Part, tiles: tuple[int, int]) -> Seen:
        """Look at each tile as well; boxes that its inner edges cut are left out."""
        picture, size_wh = sight.picture(), sight.size_wh
        boxes, scores, decisions = [whole.boxes], [whole.scores], list(whole.decisions)
        for window in windows(size_wh, tiles):
            outputs, decision = self._look(sight_of(picture.crop(tuple(window.tolist()))), part)
            width, height = (window[2:] - window[:2]).tolist()
            found, judged = self._read(outputs, (width, height), part)
            places = (found + np.tile(window[:2], 2)).astype(np.float32)
            clear = ~cut(places, window, size_wh)
            boxes.append(places[clear])
            scores.append(judged[clear])
            decisions.append(decision)
        parts = np.repeat(np.arange(len(boxes)), [len(rows) for rows in boxes])
        return Seen(boxes=np.concatenate(boxes), scores=np.concatenate(scores), parts=parts, decisions=tuple(decisions))

    def _by_scores(self, seen: Seen, part: Part) -> list[Found]:
        """Choose the boxes of the labels that scores answer."""
        chances = self._asking.chances
        best = chances.of_class(seen.scores.max(axis=0, initial=0.0), range(seen.scores.shape[1]))
        return [
            self._of_label(seen, asked, [chances.score(column, least / asked.share) for column in asked.columns])
            for asked, least in part.hopeful(best)
        ]

    def _of_label(self, seen: Seen, asked: Asked, floors: list[float]) -> Found:
        columns = list(asked.columns)
        places = np.flatnonzero((seen.scores[:, columns] >= np.array(floors, np.float32)).any(axis=1))
        chances = self._asking.chances.of_class(seen.scores[places][:, columns], columns) * asked.share
        best, chances = chances.argmax(axis=1), chances.max(axis=1, initial=0.0)
        parts = None if seen.parts is None else seen.parts[places]
        kept = suppressed(seen.boxes[places], chances, self._leaf.max_overlap, MOST, parts)
        return Found(
            asked=asked,
            boxes=seen.boxes[places[kept]],
            chances=chances[kept],
            classes=tuple(self.classes[columns[at]] if self.classes else "" for at in best[kept]),
        )


def _asking(engine: Engine, leaf: Any, wishes: Mapping[str, Any]) -> Asking:
    """Give what finds out what labels mean to this detector."""
    if hasattr(leaf, "classes"):
        return ClosedSet(engine.manifest, leaf, **wishes)
    from nearsight.detect.openset import Inside, Outside

    return Inside(engine.manifest, leaf) if hasattr(leaf, "prompts") else Outside(engine, leaf)


def _grouped(items: Iterable[tuple[Sight, Any]], size: int) -> Iterator[list[tuple[Sight, Any]]]:
    """Give items in groups of a size; if they break off with an error, those before it are given first."""
    walk, group = iter(items), []
    while True:
        try:
            group.append(next(walk))
        except StopIteration:
            break
        except Exception:
            # Whatever broke the walk off is passed on; the pictures before it are answered first.
            if group:
                yield group
            raise
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _listed(labels: Sequence[str], most: int = 10) -> str:
    named = ", ".join(repr(label) for label in labels[:most])
    return f"{named} and {len(labels) - most} more" if len(labels) > most else named


def _checked(score: object) -> float:
    if isinstance(score, bool) or not isinstance(score, (int, float, np.number)) or not 0 <= score <= 1:
        raise InputError(f"min_score is a score from 0 to 1; got {score!r}")
    return float(score)
