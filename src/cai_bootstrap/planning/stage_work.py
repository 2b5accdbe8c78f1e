"""What the constitution stage asks of the model, counted from its constitution and prompts; no model is loaded.

All counts are of what is asked at most: an answer that fails ends its own way early, and a best prompting may be one of
a single completion. Redrawn revisions come on top, as do judgements by log-probability, which write nothing.
"""

from collections.abc import Iterable, Sequence

from cai_bootstrap.config import RunConfig, Step
from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.generation.prompts import direct_prompt, respond_prompt, revise_prompt, worked_examples
from cai_bootstrap.generation.revising import CRITIC_EXAMPLES, SHOTS, open_exemplars
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.measuring.principles.beside import known_answers
from cai_bootstrap.measuring.principles.rivals import DIRECT, direct_examples
from cai_bootstrap.pod.estimate import StepWork
from cai_bootstrap.records import Prompt
from cai_bootstrap.steps.constitution.beside import OPPOSITE_PROMPTS
from cai_bootstrap.steps.constitution.inputs import Inputs, read_inputs

CHARACTERS = 4  # of English text in a token


def stage_work(config: RunConfig) -> dict[Step, StepWork]:
    """The work of each step that loads the model. Raises UsageError for inputs that the run would refuse."""
    inputs = read_inputs(config)
    training = [(constitution, inputs.training(config, constitution)) for constitution in _constitutions(inputs)]
    return {
        "baseline": _baseline(config, inputs),
        "generate": _sum(_generate(config, constitution, prompts) for constitution, prompts in training),
        "train": _train(config, [prompts for _, prompts in training]),
        "evaluate": _evaluate(config, inputs),
    }


def _constitutions(inputs: Inputs) -> list[Constitution]:
    return [inputs.constitution, *([] if inputs.control is None else [inputs.control])]


def _generate(config: RunConfig, constitution: Constitution, prompts: Sequence[Prompt]) -> StepWork:
    """A first answer to each prompt; a critique and a revision by each principle that may speak of it."""
    settings, exemplars = config.generation, open_exemplars()[:SHOTS]
    turns = sum(len(_spoken_of(principle, prompts)) for principle in constitution.principles)
    longest = [respond_prompt(_longest(prompts), exemplars)]
    longest += [_longest_turn(config, principle, prompts) for principle in constitution.principles]
    return StepWork(
        completions=len(prompts) + 2 * turns,
        tokens=(len(prompts) + turns) * settings.max_new_tokens + turns * settings.critique_tokens,
        prompt=_tokens(longest),
    )


def _baseline(config: RunConfig, inputs: Inputs) -> StepWork:
    """The raw base on the held-out prompts; every way to prompt it on dev, the longest one on the held-out prompts."""
    answer, critique = config.evaluation.max_new_tokens, config.generation.critique_tokens
    principles = inputs.constitution.principles
    held_out, dev = inputs.held_out(config).items, inputs.dev(config)
    examples = direct_examples(principles, exclude="")
    single = 1 + sum(len(examples) > less for less in (0, *DIRECT.values())[: len(DIRECT)])
    rival = len(held_out) if dev else 0
    longest = [plain_prompt(_longest(held_out))]
    if dev:
        longest += [direct_prompt(_longest(held_out), examples[: max(DIRECT.values())])]
        longest += [_longest_turn(config, principle, held_out) for principle in principles]
    revised = (len(dev) + rival) * len(principles)
    answers = len(held_out) + len(dev) * (single + 1) + rival + revised
    return StepWork(
        completions=answers + revised, tokens=answers * answer + revised * critique, prompt=_tokens(longest)
    )


def _train(config: RunConfig, prompts: Sequence[Sequence[Prompt]]) -> StepWork:
    """At most one pair for each prompt, and Stage 1's among them where its adapter is trained on."""
    replayed = config.steering.replay if config.start_from is not None else 0.0
    share = 1 - min(replayed, 0.9)
    texts = [plain_prompt(_longest(rows)) for rows in prompts]
    tokens = min(config.training.max_length, _tokens(texts) + config.generation.max_new_tokens)
    return StepWork(pairs=sum(round(len(rows) / share) for rows in prompts), prompt=tokens)


def _evaluate(config: RunConfig, inputs: Inputs) -> StepWork:
    """Each arm that the baseline did not ask: trained and control; and what is measured beside."""
    held_out = inputs.held_out(config).items
    principles = inputs.constitution.principles
    answers = len(held_out) * len(_constitutions(inputs))
    if config.steering.beside:
        ruled = sum(principle.matched is None and bool(principle.judge or principle.check) for principle in principles)
        opposite = min(OPPOSITE_PROMPTS, sum(p.split == "test" and not p.principle for p in held_out))
        answers += len(held_out) + 2 * len(known_answers()) + ruled * opposite
    longest = [plain_prompt(_longest(held_out))]
    longest += [_longest_turn(config, p, held_out) for p in principles if not (p.judge or p.check)]
    return StepWork(completions=answers, tokens=answers * config.evaluation.max_new_tokens, prompt=_tokens(longest))


def _spoken_of(principle: Principle, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts whose answers a principle may criticise: a conditional one's are its own matched ones."""
    own = principle.id if principle.matched is not None else ""
    return [prompt for prompt in prompts if prompt.principle == own]


def _longest_turn(config: RunConfig, principle: Principle, prompts: Sequence[Prompt]) -> str:
    """The longest prompt for a revision: the principle's demonstrations, else shared worked examples, then the case."""
    answer = "x" * CHARACTERS * config.generation.max_new_tokens
    critique = "x" * CHARACTERS * config.generation.critique_tokens
    cases = principle.demonstrations or worked_examples(open_exemplars()[:CRITIC_EXAMPLES], seed=config.seed)
    return revise_prompt(_longest(prompts), answer, critique, principle, cases)


def _longest(prompts: Sequence[Prompt]) -> str:
    return max((prompt.text for prompt in prompts), key=len, default="")


def _tokens(texts: Iterable[str]) -> int:
    return max(-(-len(text) // CHARACTERS) for text in texts)


def _sum(works: Iterable[StepWork]) -> StepWork:
    each = list(works)
    return StepWork(
        completions=sum(work.completions for work in each),
        tokens=sum(work.tokens for work in each),
        pairs=sum(work.pairs for work in each),
        prompt=max(work.prompt for work in each),
    )
