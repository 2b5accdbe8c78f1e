"""What is measured beside the principles: content kept, perplexity, other ways to ask, Stage 1 before and after."""

from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.judging.scorers import first_line, judge
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.principles.arms import ArmAnswers
from cai_bootstrap.measuring.principles.beside import (
    ask_known_answers,
    ask_opposite,
    content_kept,
    neutral_perplexity,
    openings,
)
from cai_bootstrap.measuring.principles.beside_block import (
    Beginning,
    Beside,
    Content,
    Following,
    NeutralText,
    Obeying,
)
from cai_bootstrap.measuring.principles.figures import Arm
from cai_bootstrap.measuring.principles.results import Asked
from cai_bootstrap.steps.constitution.inputs import Inputs
from cai_bootstrap.steps.constitution.judging import obeys
from cai_bootstrap.steps.constitution.measurement import PrincipleMeasurement, partial_file

OPPOSITE_PROMPTS = 40


def measure_beside(measurement: PrincipleMeasurement, inputs: Inputs, asked: Asked) -> Beside:
    """What training changed beside the principles. The engine has the trained adapter on."""
    asker = measurement.asker()
    trained = ask_known_answers(asker, "trained")
    with measurement.untrained():
        base = ask_known_answers(asker, "base")
        base_perplexity = _perplexity(measurement, "base")
    perplexity = NeutralText(base=base_perplexity, trained=_perplexity(measurement, "trained"))
    bare = _rates(measurement, inputs, measurement.answers("trained", line_break=False))
    opposite: dict[Arm, dict[str, Obeying]] = {"trained": _opposite(measurement, inputs, "trained")}
    with measurement.untrained():
        opposite["base"] = _opposite(measurement, inputs, "base")
    return Beside(
        content=Content.model_validate(content_kept(base, trained), from_attributes=True),
        perplexity=perplexity,
        openings={
            arm: [Beginning(words=o.words, share=o.share) for o in openings(measured.outputs)]
            for arm, measured in asked.present().items()
        },
        opposite=opposite if opposite["trained"] else None,
        line_break={"trained": bare} if bare else None,
    )


def stage1_followed(measurement: PrincipleMeasurement) -> int:
    """How many of Stage 1's held-out items the model as it is now follows, strictly, plainly asked."""
    suite = load_suite(measurement.context.config.evaluation.suite)
    prompts = [plain_prompt(item.instruction) for item in suite.items]
    outputs = measurement.asker().complete("stage1", suite.items, prompts)
    return sum(judge(item, outputs[item.id].text, outputs[item.id].finished).success for item in suite.items)


def following(measurement: PrincipleMeasurement, before: int, after: int) -> Following:
    """Stage 1 before and after this stage."""
    total = len(load_suite(measurement.context.config.evaluation.suite).items)
    return Following(before=before, after=after, total=total)


def _perplexity(measurement: PrincipleMeasurement, arm: Arm) -> float:
    context = measurement.context
    path = partial_file(measurement.folder, f"perplexity-{arm}")
    nats = neutral_perplexity(measurement.engine, path, progress=context.progress, stopping=context.stopping)
    return round(nats, 4)


def _opposite(measurement: PrincipleMeasurement, inputs: Inputs, arm: Arm) -> dict[str, Obeying]:
    """The rates where the prompt asks for the opposite: of principles that a rule decides, for all prompts alike."""
    general = [p for p in measurement.held_out.items if p.split == "test" and not p.principle][:OPPOSITE_PROMPTS]
    principles = [p for p in inputs.constitution.principles if p.matched is None and (p.judge or p.check)]
    if not principles or not general:
        return {}
    rates = ask_opposite(measurement.asker(), arm, principles, general, obeys=obeys)
    return {name: Obeying(rate=r.rate, successes=r.successes, total=r.total) for name, r in rates.items()}


def _rates(measurement: PrincipleMeasurement, inputs: Inputs, answers: ArmAnswers) -> dict[str, Obeying]:
    """The first-line rate of each principle that a rule decides."""
    rates: dict[str, Obeying] = {}
    prompts = [prompt for prompt in measurement.held_out.items if prompt.split == "test"]
    for principle in inputs.constitution.principles:
        verdicts = [obeys(principle, prompt, first_line(answers[prompt.id].text)) for prompt in prompts]
        judged = [verdict for verdict in verdicts if verdict is not None]
        if judged:
            rates[principle.id] = Obeying(rate=sum(judged) / len(judged), successes=sum(judged), total=len(judged))
    return rates
