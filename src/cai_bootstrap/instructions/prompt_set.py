"""The prompts of the constitution stage: the shipped ones or a user's own, split once and frozen by their hash."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from pydantic import Field

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.instructions.diversity import NEAR, KnownTexts, near_duplicates
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.instructions.prompt_clean import LONGEST, SAMPLE, Cleaned, clean_prompts
from cai_bootstrap.instructions.prompt_file import choose_column, read_prompt_file
from cai_bootstrap.instructions.prompt_kind import kind_of
from cai_bootstrap.instructions.prompt_pool import NAME, shipped_prompts
from cai_bootstrap.instructions.prompt_split import Split, split_matched, split_texts
from cai_bootstrap.instructions.rows import located
from cai_bootstrap.instructions.text import word_list
from cai_bootstrap.judging.suite import DEV_SUITE, WHOLE_SUITE, load_suite
from cai_bootstrap.records import Prompt, Record

FEWEST = 50
SHOWN_PAIRS = 8  # of a principle's matched pairs, the first ones, which are worked cases of its decision


class PromptCounts(Record):
    """What became of the prompts that were read; `read` is the sum of the reasons and of `kept`.

    `too_long` prompts have more than 2,000 characters, `not_sampled` ones are beyond the 50,000 that are kept, `leaked`
    ones give an item of the Stage 1 suite away, `shown` ones stand in a demonstration (`PromptSet.without`).
    `clusters` says how many groups of alike prompts the split kept whole, and `alike` what share of their words
    prompts of one group have in common; both are 0 for the shipped prompts, which share neither wording nor topic.
    """

    read: int
    empty: int = 0
    too_long: int = 0
    duplicate: int = 0
    not_sampled: int = 0
    leaked: int = 0
    near_duplicate: int = 0
    shown: int = 0
    kept: int
    train: int
    dev: int
    test: int
    unseen: int = 0
    kinds: dict[str, int] = Field(default_factory=dict)
    clusters: int = 0
    alike: float = 0.0

    @property
    def dropped(self) -> dict[str, int]:
        """How many prompts were dropped for each reason, in the order in which the reasons are looked at."""
        return {reason: count for reason in DROPPED if (count := getattr(self, reason))}

    def remarks(self) -> tuple[str, ...]:
        """What a person should know about the set, in sentences."""
        said = []
        if self.not_sampled:
            different = SAMPLE + self.not_sampled
            said.append(f"{SAMPLE:,} of {different:,} different prompts were sampled; the others are not used.")
        if self.alike == 1:
            said.append("Most prompts have one wording, so the split cannot keep alike ones together.")
        elif self.clusters:
            alike = f"{self.alike:.0%} or more of their words in common"
            said.append(f"{self.clusters:,} clusters, each in one part of the split; prompts in one have {alike}.")
        return tuple(said)


DROPPED = ("empty", "too_long", "duplicate", "not_sampled", "leaked", "near_duplicate", "shown")


class PromptSet(Record):
    """Prompts in their splits. `sha256` covers every prompt with its split, so equal sets share it."""

    name: str
    sha256: str
    train: tuple[Prompt, ...]
    dev: tuple[Prompt, ...]
    test: tuple[Prompt, ...]
    unseen: tuple[Prompt, ...]
    counts: PromptCounts

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts: train, dev, test, unseen."""
        return self.train + self.dev + self.test + self.unseen

    def without(self, texts: Iterable[str]) -> "PromptSet":
        """The set less the prompts that are near-duplicates of `texts`; `counts.shown` says how many went.

        For instructions that a constitution's demonstrations show: a model that has seen the answer shows nothing.
        """
        known = KnownTexts([word_list(text) for text in texts])
        left = [prompt for prompt in self.prompts if not known.near(word_list(prompt.text))]
        gone = len(self.prompts) - len(left)
        return prompt_set(self.name, left, self.counts.model_copy(update={"shown": self.counts.shown + gone}))


def prompt_set(name: str, prompts: Sequence[Prompt], counts: PromptCounts | None = None) -> PromptSet:
    """The set of these prompts, with its hash; also the way back from a file of `Prompt` lines.

    `counts` brings what was dropped while reading; how many were kept is counted here.
    """
    by_split = {split: tuple(p for p in prompts if p.split == split) for split in ("train", "dev", "test", "unseen")}
    ordered = [prompt for group in by_split.values() for prompt in group]
    present = {
        "kept": len(ordered),
        **{split: len(group) for split, group in by_split.items()},
        "kinds": dict(sorted(Counter(prompt.kind for prompt in ordered).items())),
    }
    base = counts.model_dump() if counts else {"read": len(ordered)}
    sha256 = fingerprint([prompt.model_dump() for prompt in ordered])
    return PromptSet(name=name, sha256=sha256, counts=PromptCounts.model_validate(base | present), **by_split)


def load_prompt_set(source: str | None, *, column: str | None = None, seed: int) -> PromptSet:
    """The prompts of a file or of a dataset on the hub, cleaned and split; of no `source`, the shipped ones.

    A file is JSON lines, JSON, CSV, TSV, Parquet, or plain text with one prompt a line; a hub id is `owner/name` or
    `owner/name:configuration`, of which the train split is read. The prompts stand in `column`, else in the first of
    `prompt`, `instruction`, `text` and `question`, else they are the last user message of `messages`.

    Prompts are made one clean line each; empty ones, those of more than 2,000 characters, duplicates, near-duplicates
    and those that give a Stage 1 item away are dropped and counted. Of more than 50,000 different ones a sample is
    kept, which `seed` decides, as it decides the split. The split goes by clusters of alike prompts: of 50 to 300
    prompts a third is test and a sixth dev, of more at most 500 and 300. The shipped prompts are always the same. In
    either case the order is mixed, so the first n training prompts are a fair sample of them.

    Raises UsageError naming source, line and problem: nothing there, no text, no such column (with those there are),
    a prompt of more than 65,536 characters in a file, or fewer than 50 prompts left.
    """
    if source is None:
        if column is not None:
            raise UsageError(f"--prompt-column {column}: only for prompts of your own; give them with --prompts")
        return prompt_set(NAME, shipped_prompts())
    name, cells, far_too_long = _opened(source, column)
    cleaned = clean_prompts(cells, seed=seed, too_long_is_error=far_too_long, source=source)
    texts, near, leaked = _apart(cleaned)
    counted = {**cleaned.counts, "near_duplicate": near, "leaked": leaked}
    if len(texts) < FEWEST:
        raise UsageError(_too_few(source, len(texts), counted))
    split = split_texts([text for _, text in texts], seed=seed)
    counts = PromptCounts(
        **counted, kept=0, train=0, dev=0, test=0, clusters=len(set(split.clusters)), alike=split.alike
    )
    prompts = list(_prompts(texts, split))
    Random(f"order:{seed}").shuffle(prompts)
    return prompt_set(name, prompts, counts)


def _opened(source: str, column: str | None) -> tuple[str, Iterator[tuple[int, object]], bool]:
    """A source's name, its cells with their places, and whether a cell that is far too long is an error."""
    place = located(source, "prompt")
    if isinstance(place, Path):
        return place.name, read_prompt_file(place, column), True
    from cai_bootstrap.inference.hub_rows import hub_cells

    cells = hub_cells(*place, choose=lambda names: choose_column(names, column, source))
    return source, enumerate(cells, 1), False


def _apart(cleaned: Cleaned) -> tuple[list[tuple[int, str]], int, int]:
    """The texts that give no Stage 1 item away and resemble no earlier one; how many did resemble, how many leaked."""
    index = LeakageIndex([*load_suite(WHOLE_SUITE).items, *load_suite(DEV_SUITE).items])
    sound = [(place, text) for place, text in cleaned.texts if index.hit(text) is None]
    near = near_duplicates([text for _, text in sound], least=NEAR)
    texts = [row for row, repeated in zip(sound, near, strict=True) if not repeated]
    return texts, sum(near), len(cleaned.texts) - len(sound)


def _too_few(source: str, left: int, counted: dict[str, int]) -> str:
    reasons = {
        "empty": "empty",
        "too_long": f"of more than {LONGEST:,} characters",
        "duplicate": "duplicates",
        "near_duplicate": "near-duplicates",
        "leaked": "too close to an item of the Stage 1 suite",
    }
    gone = [f"{counted[reason]:,} {words}" for reason, words in reasons.items() if counted[reason]]
    dropped = f" ({', '.join(gone)})" if gone else ""
    return (
        f"{source}: {left} usable prompts of {counted['read']:,} read{dropped}; at least {FEWEST} different ones are "
        "needed, of which a third is held out; add prompts, or leave --prompts out for the shipped ones"
    )


def _prompts(texts: Sequence[tuple[int, str]], split: Split) -> Iterator[Prompt]:
    """The prompts, each named after the place in its source: `p17` stood in line or row 17."""
    for (place, text), part, cluster in zip(texts, split.parts, split.clusters, strict=True):
        yield Prompt(id=f"p{place}", text=text, kind=kind_of(text), split=part, cluster=f"c{cluster}")


class Pairs(Protocol):
    """Prompts where a principle applies, and their twins where it does not; entry i of both form pair i."""

    @property
    def applies(self) -> Sequence[str]: ...
    @property
    def does_not(self) -> Sequence[str]: ...


class Conditional(Protocol):
    """A principle that may have matched prompts."""

    @property
    def id(self) -> str: ...
    @property
    def matched(self) -> Pairs | None: ...


class Principles(Protocol):
    """A constitution, of which this module reads the matched prompts alone."""

    @property
    def principles(self) -> Sequence[Conditional]: ...


def matched_prompts(constitution: Principles, *, seed: int) -> tuple[Prompt, ...]:
    """The matched prompts of every conditional principle, in the file's order, each with its split.

    The first 8 pairs are left out: they are shown as worked cases. If 84 or more are left, max(60, a third) of those
    are test and the others train; if fewer, all train. Pairs that resemble each other stay on one side as far as that
    count allows. `{"id": "warn.12.applies", "text": …, "principle": "warn", "applies": true, "pair": "warn.12"}` is
    one half of the file's 12th pair. Raises UsageError for lists of different lengths.
    """
    return tuple(prompt for principle in constitution.principles for prompt in _matched(principle, seed))


def _matched(principle: Conditional, seed: int) -> Iterator[Prompt]:
    if principle.matched is None:
        return
    try:
        pairs = list(zip(principle.matched.applies, principle.matched.does_not, strict=True))
    except ValueError as error:
        raise UsageError(
            f"principle '{principle.id}': matched has {len(principle.matched.applies)} prompts where it applies and "
            f"{len(principle.matched.does_not)} where it does not; entry i of both lists forms pair i"
        ) from error
    rest = pairs[SHOWN_PAIRS:]
    split = split_matched(rest, seed=f"{seed}:{principle.id}")
    for number, (pair, part, cluster) in enumerate(
        zip(rest, split.parts, split.clusters, strict=True), SHOWN_PAIRS + 1
    ):
        name = f"{principle.id}.{number}"
        for text, applies in zip(pair, (True, False), strict=True):
            yield Prompt(
                id=f"{name}.{'applies' if applies else 'does_not'}",
                text=text,
                kind=kind_of(text),
                split=part,
                cluster=f"{principle.id}.c{cluster}",
                principle=principle.id,
                applies=applies,
                pair=name,
            )
