"""Pairs the results of two models item by item, and refuses what has no pair."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lmadapt.core.errors import UserError
from lmadapt.sources.item_scores import ItemScore, Results, first_names

SIDES = ("BEFORE", "AFTER")  # as the command calls them

Content = tuple[str, str]  # task, and hash of what was asked


@dataclass(frozen=True)
class Asked:
    """An item and one model's answers to it."""

    answer: ItemScore  # the first one, which stands for what all have in common
    score: float  # the mean over all answers
    answers: int

    @property
    def name(self) -> str:
        """Task and id."""
        return "/".join(part for part in (self.answer.task, self.answer.id) if part)


@dataclass(frozen=True)
class Pair:
    """An item that both models answered."""

    before: Asked
    after: Asked


def pair_results(before: Results, after: Results) -> tuple[list[Pair], list[str]]:
    """The items of both, sorted by name, and notes on how their results differ.

    Items are the same when task, question and right answer are, whatever their ids. Where a file
    has no questions, the ids decide. Raises UserError, which counts and names items, for an item
    that occurs twice or only on one side, or whose category, group or cluster differs.
    """
    if before.format != after.format:
        raise UserError(
            f"BEFORE has the format {before.format}, AFTER {after.format}; both must come from the "
            "same program"
        )
    _require_same_metrics(before, after)
    sides = [_by_content(before, SIDES[0]), _by_content(after, SIDES[1])]
    _require_all_paired(*sides)
    pairs = [
        Pair(earlier, later)
        for content, items in sides[0].items()
        for earlier, later in zip(items, _in_order_of(items, sides[1][content]), strict=True)
    ]
    _require_same_labels(pairs)
    pairs.sort(key=lambda pair: pair.before.name)
    return pairs, [*dict.fromkeys(before.notes + after.notes), *_differences(pairs)]


def _require_same_metrics(before: Results, after: Results) -> None:
    for task in sorted(before.scored_by.keys() & after.scored_by.keys()):
        one, other = before.scored_by[task], after.scored_by[task]
        if one != other:
            raise UserError(
                f"{task or 'the table'}: BEFORE is scored by {one}, AFTER by {other}; --metric and "
                "--filter choose one for both"
            )


def _by_content(results: Results, side: str) -> dict[Content, list[Asked]]:
    """By what was asked: the items, sorted by id; several when a task asks the same twice."""
    answers: dict[tuple[str, str, str], list[ItemScore]] = defaultdict(list)
    for item in results.items:
        answers[item.task, item.content, item.id].append(item)
    repeated = [f"{item.id} ({item.place})" for group in answers.values() for item in _again(group)]
    ids = Counter((task, id) for task, _, id in answers)
    repeated += [id for (_, id), count in ids.items() if count > 1]
    if repeated:
        raise UserError(
            f"{side}: {len(repeated):,} items occur more than once: {first_names(repeated)}; every "
            "item must occur once, or have another epoch or `repeat` each time"
        )
    found: dict[Content, list[Asked]] = defaultdict(list)
    for task, content, id in sorted(answers):
        group = answers[task, content, id]
        mean = sum(item.score for item in group) / len(group)
        found[task, content].append(Asked(group[0], mean, len(group)))
    return dict(found)


def _again(answers: Iterable[ItemScore]) -> list[ItemScore]:
    """The answers whose repeat has occurred already."""
    seen: set[str] = set()
    found = []
    for answer in answers:
        if answer.repeat in seen:
            found.append(answer)
        seen.add(answer.repeat)
    return found


def _require_all_paired(
    before: Mapping[Content, list[Asked]], after: Mapping[Content, list[Asked]]
) -> None:
    alone = (_alone(before, after), _alone(after, before))
    if not any(alone):
        return
    counts = [
        f"{len(names):,} items are only in {side}: {first_names(names)}"
        for names, side in zip(alone, SIDES, strict=True)
        if names
    ]
    same = len(set(alone[0]) & set(alone[1]))
    if same:
        counts.append(f"{same:,} of them have the same id in both, but another question or answer")
    raise UserError("both models must answer the same items; " + "; ".join(counts))


def _alone(side: Mapping[Content, list[Asked]], other: Mapping[Content, list[Asked]]) -> list[str]:
    """Names of the items that the other side lacks, sorted."""
    return sorted(
        item.name
        for content, items in side.items()
        for item in items[len(other.get(content, ())) :]
    )


def _in_order_of(items: list[Asked], others: list[Asked]) -> list[Asked]:
    """The others, in the order of the items with the same ids where these are the same.

    Else as they are: the same was asked, so either order is right.
    """
    by_id = {other.answer.id: other for other in others}
    if by_id.keys() == {item.answer.id for item in items}:
        return [by_id[item.answer.id] for item in items]
    return others


def _require_same_labels(pairs: list[Pair]) -> None:
    for label in ("category", "group", "cluster"):
        differing = [
            pair.before.name
            for pair in pairs
            if getattr(pair.before.answer, label) != getattr(pair.after.answer, label)
        ]
        if differing:
            raise UserError(
                f"{len(differing):,} items have another {label} in AFTER than in BEFORE: "
                f"{first_names(differing)}"
            )


def _differences(pairs: list[Pair]) -> list[str]:
    """What differs between the two sides, or was averaged, in sentences."""
    notes = []
    renamed = sum(pair.before.answer.id != pair.after.answer.id for pair in pairs)
    if renamed:
        notes.append(
            f"{renamed:,} of {len(pairs):,} items have another id; paired by what is asked"
        )
    other = sum(pair.before.answer.prompt != pair.after.answer.prompt for pair in pairs)
    if other:
        notes.append(
            f"{other:,} of {len(pairs):,} items were asked with another prompt (instructions, "
            "chat template or examples)"
        )
    notes += _averaged(SIDES[0], [pair.before.answers for pair in pairs])
    notes += _averaged(SIDES[1], [pair.after.answers for pair in pairs])
    return notes


def _averaged(side: str, answers: list[int]) -> list[str]:
    """How many answers to an item were averaged, if there are several."""
    least, most = min(answers), max(answers)
    if most == 1:
        return []
    count = f"{most}" if least == most else f"{least} to {most}"
    return [f"{side}: the score of an item is the mean of {count} answers"]
