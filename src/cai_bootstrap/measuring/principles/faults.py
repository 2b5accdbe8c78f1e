"""Where a principles' results file disagrees with itself or with what its answers give: a sentence each.

Every function yields faults, most telling first; none of them means that nothing disagrees.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from cai_bootstrap.files import fingerprint
from cai_bootstrap.judging.rules import rule_fault
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.measuring.conditions import EOS_RULE, PLAIN_RENDERING, Conditions
from cai_bootstrap.measuring.length import length_fault
from cai_bootstrap.measuring.principles.declared import (
    DescribedPrinciple,
    JudgedAnswer,
    JudgeRecord,
    Judging,
    PrincipleFile,
    PrincipleItem,
    PrincipleResults,
    PromptsBlock,
)
from cai_bootstrap.measuring.principles.figures import ARMS, Arm
from cai_bootstrap.measuring.principles.judged import judge_answer, model_verdicts_of
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.measuring.wording import short
from cai_bootstrap.records import Prompt

TRUSTED_KAPPA = 0.6  # the lower bound of κ from which a judge may be trusted
PLAIN_ARMS: tuple[Arm, ...] = ("base", "trained", "control")


def prompts_block(conditions: Conditions, prompts: Sequence[Prompt]) -> PromptsBlock:
    """Which prompts were asked, by count and content."""
    return PromptsBlock(
        name=conditions.suite_name,
        sha256=conditions.suite_sha256,
        n=len(prompts),
        test=sum(prompt.split == "test" and not prompt.principle for prompt in prompts),
        unseen=sum(prompt.split == "unseen" for prompt in prompts),
        matched=sum(bool(prompt.principle) for prompt in prompts),
        asked_sha256=fingerprint([prompt.model_dump(mode="json") for prompt in prompts]),
    )


def prompt_order(prompts: Sequence[Prompt]) -> str:
    """SHA-256 (hex) of the prompts' ids in the order in which they were asked: `conditions.item_order`."""
    return fingerprint([prompt.id for prompt in prompts])


def answers_sha256(prompts: Sequence[Prompt], outputs: Sequence[Output]) -> str:
    """SHA-256 (hex) of all answers of one arm, so that one that was edited shows even where its verdict stays."""
    return fingerprint([[p.id, o.text, o.finished] for p, o in zip(prompts, outputs, strict=True)])


def condition_faults(conditions: Conditions, prompts: Sequence[Prompt], *, older: bool = False) -> Iterator[str]:
    """Where recorded conditions are not those of these prompts and scorers; `older`: of whatever scorers."""
    version = conditions.scorer_version if older else SCORER_VERSION
    for name, value in (("scorer_version", version), ("item_order", prompt_order(prompts))):
        if (found := getattr(conditions, name)) != value:
            yield f"conditions.{name} is {short(found)}, for these prompts and scorers it is {value!r}"


def prompt_faults(principles: dict[str, DescribedPrinciple], prompts: Sequence[Prompt]) -> Iterator[str]:
    """What is wrong with the prompts: one that stands twice, is not held out, or is matched with nothing."""
    for id, count in Counter(prompt.id for prompt in prompts).items():
        if count > 1:
            yield f"the prompt {short(id)} stands {count} times"
    sides = Counter((p.principle, p.pair, p.applies) for p in prompts if p.principle)
    for prompt in prompts:
        where = f"the prompt {short(prompt.id)}"
        if prompt.split not in ("test", "unseen"):
            yield f"{where} is a {prompt.split} prompt; held-out prompts are test or unseen"
        elif not prompt.principle:
            if prompt.pair or prompt.applies is not None:
                yield f"{where} has a pair, but no principle that it was matched for"
        elif prompt.principle not in principles or not principles[prompt.principle].conditional:
            yield f"{where} is matched for {short(prompt.principle)}, which is no conditional principle here"
        elif prompt.applies is None or not prompt.pair:
            yield f"{where} is matched, but says not in which pair or whether the principle applies"
        elif sides[prompt.principle, prompt.pair, prompt.applies] > 1:
            yield f"{where}: its pair {short(prompt.pair)} has two prompts of one side"


def judge_faults(judging: Judging) -> Iterator[str]:
    """What is wrong with the judges: one too few or many, without its rule, or trusted without having earned it."""
    if odd := sorted(judging.principles.keys() ^ judging.judges.keys()):
        yield f"judges and principles differ, first in {short(odd[0])}"
        return
    for id, principle in judging.principles.items():
        judge = judging.judges[id]
        for name, rule in (("check", principle.check), ("judge", principle.judge)):
            if rule is None and judge.kind == name:
                yield f"judges.{id}.kind is {name!r}, but the principle has no {name!r}"
            elif rule is not None and (fault := rule_fault(rule)):
                yield f"the {name} of the principle {short(id)} is no rule: {fault}"
        yield from _trust_faults(id, judge)


def _trust_faults(id: str, judge: JudgeRecord) -> Iterator[str]:
    if judge.trusted and judge.kind in ("model", "server") and judge.kappa_lower is None:
        yield f"judges.{id} is trusted, but says nothing of how far the model agrees with people"
    if judge.trusted and judge.kappa_lower is not None and judge.kappa_lower < TRUSTED_KAPPA:
        yield f"judges.{id} is trusted with a kappa_lower of {judge.kappa_lower}; {TRUSTED_KAPPA} is needed"
    if judge.kappa is not None and judge.kappa_lower is not None and judge.kappa_lower > judge.kappa:
        yield f"judges.{id}.kappa_lower is above its kappa"


def claim_faults(claims: PrincipleFile, conditions: Conditions, *, older: bool = False) -> Iterator[str]:
    """What is wrong with the principles, judges, prompts, conditions and arms that a file claims.

    `older`: its verdicts may be those of an older version of the scorers.
    """
    ids = [principle.id for principle in claims.constitution.principles]
    if twice := next((id for id, count in Counter(ids).items() if count > 1), None):
        yield f"the principle {short(twice)} stands twice"
    if not claims.items:
        yield "it holds no answers"
        return
    judging = judging_of(claims)
    yield from judge_faults(judging)
    prompts = [item.prompt() for item in claims.items]
    yield from prompt_faults(dict(judging.principles), prompts)
    yield from condition_faults(conditions, prompts, older=older)
    for field, value in prompts_block(conditions, prompts):
        if (stored := getattr(claims.prompts, field)) != value:
            yield f"prompts.{field} is {short(stored)}, the items and conditions give {short(value)}"
    yield from _arm_faults(claims, prompts)


def judging_of(claims: PrincipleFile | PrincipleResults) -> Judging:
    """How a file's answers are judged. A model's verdicts are those that stand with each answer."""
    return Judging({principle.id: principle for principle in claims.constitution.principles}, claims.judges)


def missing_verdicts(judging: Judging, items: Sequence[PrincipleItem]) -> Iterator[str]:
    """Answers that a trusted judge has not judged: a rate over the others would be that of a part."""
    for item in items:
        asked = [id for id in judging.of(item.prompt()) if judging.judges[id].trusted]
        for arm, answer in item.answers().items():
            for id in asked:
                if id not in answer.holds:
                    yield f"items[{item.id}].{arm}: no verdict on {short(id)}, though its judge is trusted"


def verdict_faults(judging: Judging, items: Sequence[PrincipleItem]) -> Iterator[str]:
    """Every stored verdict that the answer does not get from the principle's rule."""
    for item in items:
        prompt = item.prompt()
        for arm, stored in item.answers().items():
            output = Output(stored.response, stored.finished)
            again = judge_answer(judging, prompt, output, model_verdicts_of(judging, prompt, stored))
            if stored != again:
                yield f"items[{item.id}].{arm}.{_first_difference(stored, again)}"


def _first_difference(stored: JudgedAnswer, again: JudgedAnswer) -> str:
    for name in ("holds", "strict"):
        found, expected = getattr(stored, name), getattr(again, name)
        for id in sorted(found.keys() | expected.keys()):
            if found.get(id) is not expected.get(id):
                return f"{name}.{id} is {found.get(id)}, its answer gives {expected.get(id)}"
    return "holds: the verdicts are not those of its answer"


def _arm_faults(claims: PrincipleFile, prompts: Sequence[Prompt]) -> Iterator[str]:
    arms = claims.arms.present()
    for arm in ARMS:
        missing = sum(arm not in item.answers() for item in claims.items)
        if (missing == 0) != (arm in arms) or 0 < missing < len(prompts):
            yield f"arms.{arm} and the items' answers of it are not both there ({missing} of {len(prompts)} lack one)"
            return
    for arm, block in arms.items():
        outputs = [Output(a.response, a.finished) for a in (item.answers()[arm] for item in claims.items)]
        if answers_sha256(prompts, outputs) != block.answers_sha256:
            yield f"arms.{arm}.answers_sha256 is not that of its answers: one of them was changed"
        stopped = block.factors.stop_rule != EOS_RULE
        for item, output in zip(claims.items, outputs, strict=True):
            limit = claims.conditions.max_new_tokens
            if fault := length_fault(output.text, output.finished, limit, stopped=stopped):
                yield f"items[{item.id}].{arm}: {fault} (conditions.max_new_tokens)"
    yield from _factor_faults(claims)


def _factor_faults(claims: PrincipleFile) -> Iterator[str]:
    arms = claims.arms.present()
    model = claims.arms.base.factors.model
    for arm, block in arms.items():
        if block.factors.model != model:
            yield f"arms.{arm}.factors.model is {short(block.factors.model)}, the base's is {short(model)}"
        plain = {"rendering": PLAIN_RENDERING, "stop_rule": EOS_RULE} if arm in PLAIN_ARMS else {}
        for name, value in plain.items():
            if (stated := getattr(block.factors, name)) != value:
                yield f"arms.{arm}.factors.{name} is {short(stated)}; this arm is asked plainly: {value!r}"
        if block.factors.adapter == claims.conditions.base_weights_sha256:
            yield f"arms.{arm}.factors.adapter is the hash of the base's own weights"
    trained, control, run = claims.arms.trained, claims.arms.control, claims.run
    if trained is not None and control is not None and trained.factors.adapter == control.factors.adapter:
        yield "arms.control.factors.adapter is the trained model's: a control is another adapter"
    if (claims.rival is None) != (claims.arms.rival is None):
        yield "rival and arms.rival are not both there"
    if claims.control is not None and claims.control.sha256 == claims.constitution.sha256:
        yield "control.sha256 is the measured constitution's: a control is another constitution"
    if (claims.control is None) != (control is None):
        yield "control and arms.control are not both there"
    if run is not None:
        for arm, adapter, named in (("trained", trained, run.adapter), ("control", control, run.control_adapter)):
            if adapter is not None and named is not None and named.sha256 != adapter.factors.adapter:
                yield f"arms.{arm}.factors.adapter is {adapter.factors.adapter}, the run's is {named.sha256}"
