"""Another model as judge, at an address: yes or no on one answer, blind to the arm that it came from.

It reads what the untrained base would read as judge (`model_judge.py`), and is calibrated in the same way before it is
believed. Where the server gives log-probabilities, its margin is theirs, less what it gives to answers without content;
where not, its verdict is the first word that it writes, and there is no prior to take off.
"""

from collections.abc import Sequence

from cai_bootstrap.constitution import Principle
from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.completions import CompletionsServer
from cai_bootstrap.inference.server_choices import server_logprobs
from cai_bootstrap.judging.scorers.text import folded_words
from cai_bootstrap.measuring.principles.declared import JudgeKind
from cai_bootstrap.measuring.principles.model_judge import CHOICES, CONTENT_FREE, Case, judge_prompt

BATCH = 32
MANY = 8  # verdicts: if none of so many can be read, the server is no judge
IN_WORDS = {"max_tokens": 4, "temperature": 0.0, "stop": ["\n"]}
VERDICTS = {"yes": 1.0, "no": -1.0}
UNREADABLE = -9_999.0  # a verdict that is neither yes nor no is no yes


class ServerJudge:
    """A served model that judges answers by one principle.

    A verdict that is neither yes nor no counts as no, and is counted (`servers.ServedModel.unreadable`). Raises
    EngineError if none of many verdicts can be read: then the server is no judge.
    """

    kind: JudgeKind = "server"

    def __init__(self, server: CompletionsServer, principle: Principle) -> None:
        self.server, self.principle = server, principle
        self._prior: float | None = None

    def prompt(self, question: str, answer: str) -> str:
        """`judge_prompt` by this principle."""
        return judge_prompt(self.principle, question, answer)

    def margins(self, cases: Sequence[Case]) -> list[float]:
        """For each answer how far yes is preferred to no: in nats less the prior, or 1 and -1 by the text."""
        prompts = [self.prompt(case.question, case.answer) for case in cases]
        graded = self._graded(prompts)
        if graded is None:
            prior, margins = 0.0, self._in_words(prompts)
        else:
            prior, margins = self._prior_of_none(), graded
        unread = [prompt for prompt, margin in zip(prompts, margins, strict=True) if margin is None]
        if len(unread) == len(cases) >= MANY:
            raise EngineError(
                f"{self.server.endpoint}: none of {len(cases)} verdicts of '{self.server.model}' is a yes or a no; "
                "choose another judge"
            )
        self.server.note_unreadable([self.server.key(prompt, IN_WORDS) for prompt in unread])
        return [UNREADABLE if margin is None else margin - prior for margin in margins]

    def _prior_of_none(self) -> float:
        """The mean margin of answers without content."""
        if self._prior is None:
            free = self._graded([self.prompt(text, text) for text in CONTENT_FREE]) or []
            readable = [margin for margin in free if margin is not None]
            self._prior = sum(readable) / len(readable) if readable else 0.0
        return self._prior

    def _graded(self, prompts: Sequence[str]) -> list[float | None] | None:
        """Log-probability (nats) of yes over no; a row is None if the server gives neither, all if it gives none."""
        rows = server_logprobs(self.server, prompts, CHOICES, batch_size=BATCH, bounded=True)
        return None if rows is None else [_over(*row) for row in rows]

    def _in_words(self, prompts: Sequence[str]) -> list[float | None]:
        answers = [
            answer
            for start in range(0, len(prompts), BATCH)
            for answer in self.server.complete(prompts[start : start + BATCH], IN_WORDS)
        ]
        return [VERDICTS.get(next(iter(folded_words(answer.text)), "")) for answer in answers]


def _over(yes: float | None, no: float | None) -> float | None:
    return None if yes is None or no is None else yes - no
