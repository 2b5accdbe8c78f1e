"""The arms of a comparison of principles: each is a model, asked every prompt greedily and kept as it answers.

An arm is asked plainly, as a user would ask: the prompt's text, with or without a line break, and no stop rule. The
rival (`rivals.py`) is the one that is asked in another way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.constitution import Principle
from cai_bootstrap.events import Progress
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import Engine, Sampling, plain_prompt
from cai_bootstrap.measuring.assess import assess
from cai_bootstrap.measuring.conditions import Identified
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import Prompt

ArmAnswers = dict[str, Output]  # by prompt id
# Whether this answer to this prompt keeps to the principle; None where no trusted judge can say.
Obeys = Callable[[Principle, Prompt, str], bool | None]


@dataclass(frozen=True)
class Asker:
    """An engine, and where what it writes is kept. `stopping()` asks whether to stop; `progress` counts completions.

    The folder belongs to one set of conditions (`assess.partial_folder`).
    """

    engine: Engine
    folder: Path
    max_new_tokens: int
    progress: Progress
    stopping: Callable[[], bool]

    def complete(
        self,
        name: str,
        items: Sequence[Identified],
        prompts: Sequence[str],
        *,
        stop: tuple[str, ...] = (),
        max_new_tokens: int | None = None,
    ) -> ArmAnswers:
        """Complete one prompt for each item, greedily and pinned; returns the outputs by item id.

        What is there from before is read back, if it was made from these very prompts: their hash is part of the
        file's name. With `stop`, an output that a stop string ended counts as finished. Raises what `assess` raises.
        """
        tokens = self.max_new_tokens if max_new_tokens is None else max_new_tokens
        key = fingerprint([list(prompts), list(stop), tokens])[:12]
        return assess(
            self.engine,
            items,
            prompts,
            self.folder / f"{name}-{key}.jsonl",
            sampling=Sampling(tokens, stop=stop, pinned=True),
            progress=self.progress,
            stopping=self.stopping,
        )


def ask(
    engine: Engine,
    prompts: Sequence[Prompt],
    path: Path,
    *,
    line_break: bool,
    max_new_tokens: int,
    progress: Progress,
    stopping: Callable[[], bool],
) -> ArmAnswers:
    """Ask every prompt plainly and greedily, with a line break after it or without; returns the outputs by prompt id.

    No stop rule: an output counts as finished when it ended by EOS. Outputs are kept in `path`, batch by batch, and
    read back instead of made again, so the path must belong to one model, one set of prompts and one way to ask.
    Raises InterruptedRunError when asked to stop, and EngineError if a batch does not fit in memory.
    """
    return assess(
        engine,
        prompts,
        [plain_prompt(prompt.text) if line_break else prompt.text for prompt in prompts],
        path,
        sampling=Sampling(max_new_tokens, pinned=True),
        progress=progress,
        stopping=stopping,
    )
