"""Whether an answer keeps a principle: the same verdicts when a results file is built and when it is read."""

from collections.abc import Mapping

from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.measuring.principles.declared import JudgedAnswer, Judging
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import Prompt


def judge_answer(judging: Judging, prompt: Prompt, output: Output, by_model: Mapping[str, bool]) -> JudgedAnswer:
    """Judge one answer by every principle that its prompt is asked for.

    The first line is judged whether or not it ended, alike in all arms; `strict` asks that the whole answer obeys and
    ended by EOS (the rival's: by its stop rule). `by_model` holds the model's verdicts on the first line, by principle,
    where the model is the judge; more than a first line it has not seen, so there a longer answer is never strictly
    right. A principle without a verdict is left out.
    """
    line, whole = first_line(output.text), output.text.strip()
    holds: dict[str, bool] = {}
    strict: dict[str, bool] = {}
    for id in judging.of(prompt):
        rule = judging.rule(id)
        if rule is None and id not in by_model:
            continue
        holds[id] = by_model[id] if rule is None else rule_holds(rule, prompt.text, line)
        if not output.finished:
            strict[id] = False
        elif whole == line or rule is None:
            strict[id] = holds[id] and whole == line
        else:
            strict[id] = rule_holds(rule, prompt.text, whole)
    return JudgedAnswer(response=output.text, finished=output.finished, holds=holds, strict=strict)


def model_verdicts_of(judging: Judging, prompt: Prompt, answer: JudgedAnswer) -> dict[str, bool]:
    """The stored verdicts that the model gave, by principle: nobody can compute them again without it."""
    return {id: answer.holds[id] for id in judging.of(prompt) if judging.rule(id) is None and id in answer.holds}
