"""The constitution stage's data: turns of principles, checks that choose, counter-texts, resuming."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from stubs import KilledError, StubEngine, config_of, progress_at

from cai_bootstrap.config import RunConfig
from cai_bootstrap.constitution import Constitution, Demonstration, Matched, Principle
from cai_bootstrap.errors import InterruptedRunError, UntrustedResultError
from cai_bootstrap.files import read_jsonl
from cai_bootstrap.generation.revising import Reviser
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.records import PreferencePair, Prompt, RedrawnRevision, RejectedPair
from cai_bootstrap.run.counts import SteeringSummary
from cai_bootstrap.run.folder import DataFolder

THANKS = Principle(
    "thanks",
    "A good answer begins with thanks.",
    "helpful",
    (
        Demonstration("What is a kite?", "A kite is a toy.", "It gives no thanks.", "Thanks! A kite is a toy."),
        Demonstration("What is rope?", "Rope is thick string.", "No thanks here.", "Thank you! Rope is thick string."),
    ),
    check={"check": "starts_with", "text": "Thanks"},
)
ASKS = Principle(
    "asks",
    "A good answer ends with a question.",
    "helpful",
    (
        Demonstration("What is a kite?", "A kite is a toy.", "It asks nothing.", "A kite is a toy. Do you have one?"),
        Demonstration("What is rope?", "Rope is string.", "No question ends it.", "Rope is string. Do you use it?"),
    ),
    check={"check": "ends_with", "text": "?"},
)
WARNS = Principle(
    "warns",
    "A good answer warns of what can hurt.",
    "harmless",
    (
        Demonstration("What is fire?", "Fire is hot.", "It can hurt.", "Fire is hot. Careful!"),
        Demonstration("What is wool?", "Wool is soft.", "Nothing to add.", "Wool is soft."),
    ),
    matched=Matched(tuple(f"hot thing {n}" for n in range(8)), tuple(f"soft thing {n}" for n in range(8))),
)


def prompts_of(count: int, kind: str = "question") -> list[Prompt]:
    return [
        Prompt(id=f"q{n}", text=f"What is thing {n}?", kind=kind, split="train", wording="What is", topic=f"thing {n}")
        for n in range(count)
    ]


def matched_of(count: int) -> list[Prompt]:
    return [
        Prompt(
            id=f"w{n}.{word}", text=f"{word} object {n}", kind="question", split="train",
            principle="warns", applies=word == "hot", pair=f"w{n}",
        )
        for n in range(count)
        for word in ("hot", "soft")
    ]  # fmt: skip


def keeps_to(prompt: str, _: Sampling) -> Completion:
    """Answers, criticises, and revises by whichever principle the prompt shows."""
    last = prompt.rsplit("\n\n", 1)[-1]
    if not last.endswith("Better answer:"):
        text = "It lacks something." if last.endswith("Critique:") else f"Object {len(last)} is plain."
        return Completion(text, "stop", 5)
    answer = last.split("Answer: ", 1)[1].split("\n", 1)[0].removesuffix(" Critique:")
    if "begins with thanks" in last:
        return Completion(f"Thanks! {answer}", "stop", 5)
    if "ends with a question" in last:
        return Completion(f"{answer} Do you like it?", "stop", 5)
    return Completion(f"{answer} Careful!", "stop", 5)


class Chooser(StubEngine):
    """Says yes where the last case is hot."""

    def choice_logprobs(self, prompts: Sequence[str], _: Sequence[str]) -> list[list[float]]:
        hot = ["hot" in prompt.rsplit("\n\n", 1)[-1] for prompt in prompts]
        return [[-1.0 - 0.001 * n, -3.0] if yes else [-3.0 - 0.001 * n, -1.0] for n, yes in enumerate(hot)]


def reviser(
    folder: Path,
    constitution: Sequence[Principle],
    engine: StubEngine,
    config: RunConfig | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Reviser:
    folder.mkdir(parents=True, exist_ok=True)
    return Reviser(
        config or config_of(),
        engine,
        Constitution(tuple(constitution), "c" * 64, "test", 2),
        DataFolder(folder),
        progress_at(folder),
        stopping,
        lambda _: None,
    )


def run(
    folder: Path, constitution: Sequence[Principle], prompts: Sequence[Prompt], **options: object
) -> SteeringSummary:
    engine = options.pop("engine", None) or Chooser(keeps_to)
    return reviser(folder, constitution, engine, **options).run(list(prompts), "f" * 64)  # type: ignore[arg-type]


def pairs_in(folder: Path) -> list[PreferencePair]:
    return list(read_jsonl(DataFolder(folder).pairs, PreferencePair))


def test_every_principle_revises_what_the_one_before_it_wrote(tmp_path: Path) -> None:
    summary = run(tmp_path, [THANKS, ASKS], prompts_of(6))

    pairs = pairs_in(tmp_path)
    assert summary.pairs == len(pairs) == 6
    for pair in pairs:
        assert pair.chosen == f"Thanks! {pair.rejected} Do you like it?"
        assert (pair.principle_id, pair.chosen_source) == ("thanks+asks", "revision")
        assert pair.label_source == "constitution+rule"  # the check of `thanks` was asked at the turn of `asks`
    assert summary.rule_selected == ["thanks"]


def test_a_principle_alone_chooses_by_no_rule_unless_told_to(tmp_path: Path) -> None:
    assert run(tmp_path / "a", [THANKS], prompts_of(4)).rule_selected == []
    assert {pair.label_source for pair in pairs_in(tmp_path / "a")} == {"constitution"}
    chosen = run(tmp_path / "b", [THANKS], prompts_of(4), config=config_of(steering__select="all"))
    assert chosen.rule_selected == ["thanks"]


def test_prompts_show_the_own_demonstrations_of_a_principle_and_no_others(tmp_path: Path) -> None:
    engine = Chooser(keeps_to)
    run(tmp_path, [THANKS, ASKS], prompts_of(2), engine=engine)

    critiques = [prompt for prompt in engine.prompts if prompt.endswith("Critique:")]
    assert len(critiques) == 4
    for prompt in critiques:
        own, other = ("thanks", "asks") if "begins with thanks" in prompt else ("asks", "thanks")
        assert ("It gives no thanks." in prompt) == (own == "thanks")
        assert ("It asks nothing." in prompt) == (other == "thanks")


def test_a_revision_that_loses_an_earlier_check_is_drawn_again_then_dropped_and_counted(tmp_path: Path) -> None:
    def forgets(prompt: str, sampling: Sampling) -> Completion:
        last = prompt.rsplit("\n\n", 1)[-1]
        if "ends with a question" in last and last.endswith("Better answer:"):
            keeps = sampling.temperature > 0 and "thing 1?" in last  # a second draw of one prompt keeps it
            return Completion("Thanks! It is. Right?" if keeps else "It is. Right?", "stop", 5)
        return keeps_to(prompt, sampling)

    summary = run(tmp_path, [THANKS, ASKS], prompts_of(3), engine=Chooser(forgets))

    assert [pair.instruction_id for pair in pairs_in(tmp_path)] == ["q1"]
    assert summary.dropped == {"loses:thanks": 2}
    assert summary.by_principle["asks"].faults == {"loses:thanks": 2}
    revisions = list(read_jsonl(DataFolder(tmp_path).revisions_by(2), RedrawnRevision))
    assert [(r.draws, r.fault) for r in revisions] == [(4, "loses:thanks"), (2, None), (4, "loses:thanks")]


def test_a_critique_that_leaks_into_the_answer_is_no_revision(tmp_path: Path) -> None:
    def leaks(prompt: str, sampling: Sampling) -> Completion:
        if prompt.endswith("Better answer:"):
            return Completion("Thanks! It gives no thanks.", "stop", 5)
        return keeps_to(prompt, sampling)

    summary = run(tmp_path, [THANKS], prompts_of(3), engine=Chooser(leaks))

    assert summary.dropped == {"critique_leaked": 3}
    assert {r.reason for r in read_jsonl(DataFolder(tmp_path).rejected, RejectedPair)} == {"critique_leaked"}


def test_outside_its_kinds_the_answer_is_kept_over_what_the_principle_would_make_of_it(tmp_path: Path) -> None:
    about_questions = Principle(**{**vars(THANKS), "applies_to": ("question",)})
    others = [p.model_copy(update={"id": f"r{p.id}"}) for p in prompts_of(3, kind="request")]
    summary = run(tmp_path, [about_questions], [*prompts_of(3), *others])

    pairs = {pair.instruction_id: pair for pair in pairs_in(tmp_path)}
    assert len(pairs) == 6
    for name, pair in pairs.items():
        kept = name.startswith("r")
        assert pair.chosen.startswith("Thanks!") is not kept
        assert pair.rejected.startswith("Thanks!") is kept
        assert pair.chosen_source == ("response" if kept else "revision")
    assert (summary.kept_answers, summary.by_principle["thanks"].forced) == (3, 3)


def test_a_conditional_principle_revises_where_the_model_says_it_applies(tmp_path: Path) -> None:
    summary = run(tmp_path, [WARNS], matched_of(12))

    pairs = {pair.instruction_id: pair for pair in pairs_in(tmp_path)}
    hot = [name for name in pairs if name.endswith("hot")]
    assert len(hot) * 2 == len(pairs) > 0
    for name, pair in pairs.items():
        assert pair.chosen.endswith("Careful!") is name.endswith("hot")
        assert pair.rejected.endswith("Careful!") is name.endswith("soft")
    counts = summary.by_principle["warns"]
    assert counts.auc == 1.0
    assert counts.applies["yes"] == counts.applies["no"] == 8
    assert summary.dropped["undecided"] == counts.applies["undecided"] == 8


def test_data_resume_after_a_kill_to_the_same_bytes(tmp_path: Path) -> None:
    constitution, prompts = [THANKS, ASKS], prompts_of(9)
    run(tmp_path / "whole", constitution, prompts)
    done = False
    for _ in range(60):
        try:
            run(tmp_path / "killed", constitution, prompts, engine=Chooser(keeps_to, die_after=7))
            done = True
            break
        except KilledError:
            continue
    assert done

    for path in (tmp_path / "whole").glob("*.jsonl"):
        if path.name != "events.jsonl":
            assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes(), path.name


def test_a_changed_file_is_refused_on_resuming(tmp_path: Path) -> None:
    run(tmp_path, [THANKS], prompts_of(4))
    path = DataFolder(tmp_path).revisions_by(1)
    path.write_text(path.read_text().replace("Thanks!", "Thanks?"))
    with pytest.raises(UntrustedResultError, match="revisions-1"):
        run(tmp_path, [THANKS], prompts_of(4))


def test_it_stops_between_batches_when_asked_to(tmp_path: Path) -> None:
    answers = iter([False, False, True])
    with pytest.raises(InterruptedRunError, match="start again"):
        run(tmp_path, [THANKS], prompts_of(9), stopping=lambda: next(answers, True))
