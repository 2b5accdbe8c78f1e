"""The constitution stage's data: prompts → first answers → critiques → revisions → preference pairs.

Every principle takes its turn, in the order of the file, at every answer to which it applies: the model criticises the
answer as the principle's own demonstrations show it, and writes a better one, which the next principle is given. A
revision is chosen over the first answer. Where no principle applies, the first answer is chosen, over a revision that
one of them would have made: what is taught is when to keep an answer, too.

Each turn is a pass of its own, chunk by chunk, as in `generation.passes`: a kill loses at most one chunk.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random

import yaml

from cai_bootstrap.batches import BatchPlan, ChunkFile, ChunkHashes, RecordT, seed_of
from cai_bootstrap.config import RunConfig
from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.events import Progress
from cai_bootstrap.files import read_jsonl, write_jsonl
from cai_bootstrap.generation.applicability import Applicability, applies_by_rule, auc, decide
from cai_bootstrap.generation.carrying import turn_cases
from cai_bootstrap.generation.pass_runner import PassRunner
from cai_bootstrap.generation.prompts import (
    NEXT_EXAMPLE,
    PROMPT_VERSION,
    Case,
    critique_prompt,
    one_paragraph,
    respond_prompt,
    revise_prompt,
    worked_examples,
)
from cai_bootstrap.generation.revision_faults import Checks, revision_fault
from cai_bootstrap.generation.steering_pairs import Chain, build_pairs, summarise_turns
from cai_bootstrap.inference.engine import Completion, Engine, plain_prompt
from cai_bootstrap.instructions.exemplars import Exemplar
from cai_bootstrap.records import Critique, Prompt, RedrawnRevision, Response
from cai_bootstrap.run.counts import SteeringSummary
from cai_bootstrap.run.folder import DataFolder

REMEDY = "restore the file, or make the data anew with --force-data"
SHOTS, CRITIC_EXAMPLES = 6, 4
_EXEMPLARS = "data/open_exemplars.yaml"


@dataclass(frozen=True)
class Turn:
    """One answer at one principle's turn. `forced`: the principle does not apply; its revision is to be rejected.

    `revised_by` are the principles whose turns the answer has been through.
    """

    prompt: Prompt
    response_id: str
    text: str
    forced: bool
    revised_by: frozenset[str]


@dataclass(frozen=True)
class Reviser:
    """What the turns share.

    `tuned`: the engine has the adapter of Stage 1 on, which answers plainly asked. Critiques and revisions are always
    the untrained base's: demonstrations steer it, and the adapter was taught to be asked without any.
    """

    config: RunConfig
    engine: Engine
    constitution: Constitution
    data: DataFolder
    progress: Progress
    stopping: Callable[[], bool]
    say: Callable[[str], None]
    tuned: bool = False

    def run(self, prompts: Sequence[Prompt], data_fingerprint: str) -> SteeringSummary:
        """Make all files from the training prompts; returns what was counted. Resumes what is there.

        Raises InterruptedRunError after the batch in progress when asked to stop; what is on disk is whole.
        """
        settings = self.config.generation
        plan = BatchPlan(self.data.plan, batch_size=settings.batch_size, fingerprint=data_fingerprint)
        plan.save()
        runner = PassRunner(self.config, self.engine, plan, self.progress, self.stopping, self.say)
        chunks = [list(prompts[n : n + settings.chunk]) for n in range(0, len(prompts), settings.chunk)]
        choices = self._choices(prompts)
        applies = self._applies(prompts, choices)

        responses = self._file(self.data.responses, Response, [len(chunk) for chunk in chunks])
        self.progress.begin(
            len(prompts) * (1 + 2 * len(self.constitution.principles)),
            done=sum(responses.sizes[: responses.complete_chunks()]),
        )
        runner.each("respond", responses, lambda n: self._respond(runner, chunks[n], n))
        answers = [response for rows in responses.chunks() for response in rows]
        chains = {p.id: Chain(p, answer, applies[p.id]) for p, answer in zip(prompts, answers, strict=True)}
        for number, principle in enumerate(self.constitution.principles, 1):
            self._turn(runner, number, principle, [[chains[p.id] for p in chunk] for chunk in chunks])
        responses.verify()
        return self._pairs(list(chains.values()), self._auc(choices, prompts))

    def _choices(self, prompts: Sequence[Prompt]) -> list[Applicability]:
        """Where each conditional principle applies among its own prompts, as the untrained base chooses."""
        path, hashes = self.data.applicability, ChunkHashes(self.data.path)
        if path.exists() and hashes.of(path.name) is not None:
            hashes.check_whole(path, REMEDY)
            return list(read_jsonl(path, Applicability))
        choices: list[Applicability] = []
        with self._untrained():
            for principle in self.constitution.principles:
                own = [prompt for prompt in prompts if prompt.principle == principle.id]
                if principle.matched is not None and own:
                    choices += decide(
                        self.engine, principle, own, seed=self.config.seed,
                        share=self.config.steering.chosen_share, by_twins=self.config.steering.by_twins,
                    )  # fmt: skip
        write_jsonl(path, choices)
        hashes.write_whole(path)
        return choices

    def _applies(
        self, prompts: Sequence[Prompt], choices: Sequence[Applicability]
    ) -> dict[str, dict[str, bool | None]]:
        """For each prompt and principle whether it applies: by the prompt's kind, or as was chosen; None: undecided.

        A conditional principle speaks of its own prompts alone. Of all others nothing is known, and it is kept out.
        """
        applies: dict[str, dict[str, bool | None]] = {
            prompt.id: {p.id: p.matched is None and applies_by_rule(p, prompt) for p in self.constitution.principles}
            for prompt in prompts
        }
        for choice in choices:
            applies[choice.prompt_id][choice.principle_id] = choice.applies
        return applies

    def _auc(self, choices: Sequence[Applicability], prompts: Sequence[Prompt]) -> dict[str, float]:
        own = {p.id: [c for c in choices if c.principle_id == p.id] for p in self.constitution.principles}
        areas = {name: auc(rows, prompts) for name, rows in own.items() if rows}
        return {name: round(area, 4) for name, area in areas.items() if area is not None}

    def _respond(self, runner: PassRunner, chunk: Sequence[Prompt], number: int) -> list[Response]:
        """One greedy first answer to each prompt: of the tuned model plainly asked, else of the base with examples."""
        name, tokens = "respond", self.config.generation.max_new_tokens
        if self.tuned:
            answers = runner.complete(name, number, [plain_prompt(prompt.text) for prompt in chunk], tokens)
        else:
            prompts = [respond_prompt(p.text, self._exemplars(p)) for p in chunk]
            answers = runner.complete(name, number, prompts, tokens, stop=NEXT_EXAMPLE)
        return [
            Response(
                id=f"{prompt.id}.{'p' if self.tuned else 'f'}0",
                instruction_id=prompt.id,
                prompting="plain" if self.tuned else "few_shot",
                candidate=0,
                text=answer.text.strip() if self.tuned else one_paragraph(answer.text),
                finished=answer.finished if self.tuned else answer.ended_by != "length",
                seed=seed_of(self.config.seed, name, number),
                prompt_version=PROMPT_VERSION,
                model=self.engine.info.model,
            )
            for prompt, answer in zip(chunk, answers, strict=True)
        ]

    def _exemplars(self, prompt: Prompt) -> list[Exemplar]:
        others = [e for e in open_exemplars() if e.instruction.casefold() != prompt.text.casefold()]
        return Random(f"{self.config.seed}:{prompt.id}").sample(others, SHOTS)

    def _turn(self, runner: PassRunner, number: int, principle: Principle, chains: Sequence[Sequence[Chain]]) -> None:
        """One principle criticises and revises every answer to which it applies, or that is to be kept despite it."""
        cases = [[case for chain in rows if (case := _case(chain, principle.id)) is not None] for rows in chains]
        sizes = [len(rows) for rows in cases]
        critiques = self._file(self.data.critiques_by(number), Critique, sizes)
        revisions = self._file(self.data.revisions_by(number), RedrawnRevision, sizes)
        with self._untrained():
            runner.each(
                f"critique-{number}", critiques, lambda n: self._critique(runner, principle, cases[n], number, n)
            )
            said = [{critique.response_id: critique for critique in rows} for rows in critiques.chunks()]
            runner.each(
                f"revise-{number}",
                revisions,
                lambda n: self._revise(runner, principle, cases[n], said[n], number, n),
            )
        critiques.verify()
        revisions.verify()
        by_prompt = {chain.prompt.id: chain for rows in chains for chain in rows}
        for row, made in zip(cases, revisions.chunks(), strict=True):
            for case, revision in zip(row, made, strict=True):
                by_prompt[case.prompt.id].add(principle.id, revision)

    def _critique(
        self, runner: PassRunner, principle: Principle, cases: Sequence[Turn], number: int, chunk: int
    ) -> list[Critique]:
        name = f"critique-{number}"
        prompts = [
            critique_prompt(case.prompt.text, case.text, principle, self._shown(number, case, "critique"))
            for case in cases
        ]
        texts = runner.complete(name, chunk, prompts, self.config.generation.critique_tokens, stop=NEXT_EXAMPLE)
        return [
            Critique(
                id=f"{case.response_id}.{number}.c",
                response_id=case.response_id,
                principle_id=principle.id,
                text=one_paragraph(text.text),
                prompt_version=PROMPT_VERSION,
                seed=seed_of(self.config.seed, name, chunk),
                model=self.engine.info.model,
            )
            for case, text in zip(cases, texts, strict=True)
        ]

    def _revise(
        self,
        runner: PassRunner,
        principle: Principle,
        cases: Sequence[Turn],
        said: Mapping[str, Critique],
        number: int,
        chunk: int,
    ) -> list[RedrawnRevision]:
        """Revise greedily; what fails a check that may choose is drawn again, as often as `redraws` says."""
        settings, steering = self.config.generation, self.config.steering
        prompts = [
            revise_prompt(
                case.prompt.text, case.text, said[case.response_id].text, principle,
                self._shown(number, case, "revise"),
            )
            for case in cases
        ]  # fmt: skip
        revisions: list[RedrawnRevision | None] = [None] * len(cases)
        places = list(range(len(cases)))
        for draw in range(1 + steering.redraws):
            name = f"revise-{number}" if draw == 0 else f"revise-{number}-draw-{draw}"
            texts = runner.complete(
                name, chunk, [prompts[place] for place in places], settings.max_new_tokens,
                steering.redraw_temperature if draw else 0.0, stop=NEXT_EXAMPLE,
            )  # fmt: skip
            for place, text in zip(places, texts, strict=True):
                case = cases[place]
                revisions[place] = self._revision(
                    principle, case, said[case.response_id], text, number, draw, seed_of(self.config.seed, name, chunk)
                )
            places = [place for place in places if _asks_again(revisions[place])]
            if not places:
                break
        return [revision for revision in revisions if revision is not None]

    def _revision(
        self, principle: Principle, case: Turn, said: Critique, made: Completion, number: int, draw: int, seed: int
    ) -> RedrawnRevision:
        text, finished = one_paragraph(made.text), made.ended_by != "length"
        fault = revision_fault(
            case.prompt, text, finished=finished, critique=said.text, principle=principle,
            checks=self._checks(number) if not case.forced else Checks(),
        )  # fmt: skip
        return RedrawnRevision(
            id=f"{case.response_id}.{number}.r",
            critique_id=said.id,
            response_id=case.response_id,
            principle_id=principle.id,
            text=text,
            finished=finished,
            prompt_version=PROMPT_VERSION,
            seed=seed,
            model=self.engine.info.model,
            draws=draw + 1,
            fault=fault,
            forced=case.forced,
        )

    def _checks(self, number: int) -> Checks:
        """Whose checks a revision of the principle of that number must pass, by `steering.select`."""
        select, principles = self.config.steering.select, self.constitution.principles
        earlier = principles[: number - 1] if select != "none" else ()
        return Checks(tuple(earlier), principles[number - 1] if select == "all" else None)

    def _shown(self, number: int, case: Turn, use: str) -> Sequence[Case]:
        """The own demonstrations of the principle of that number, with what earlier ones added to this answer.

        For one that has none, worked examples that know nothing of it.
        """
        principle = self.constitution.principles[number - 1]
        seed, use = self.config.seed, f"{use}:{case.response_id}"
        earlier = [p for p in self.constitution.principles[: number - 1] if p.id in case.revised_by]
        steering = self.config.steering
        own = turn_cases(
            principle, earlier, seed=seed, use=use, exclude=case.prompt.text,
            show_flawless=steering.show_flawless and principle.matched is None, most=steering.shown,
        )  # fmt: skip
        return own or worked_examples(Random(f"{seed}:{use}").sample(open_exemplars(), CRITIC_EXAMPLES), seed=seed)

    def _untrained(self) -> AbstractContextManager[None]:
        return self.engine.without_adapter() if self.tuned else contextlib.nullcontext()

    def _file(self, path: Path, kind: type[RecordT], sizes: Sequence[int]) -> ChunkFile[RecordT]:
        return ChunkFile(path, kind, sizes, self.say, remedy=REMEDY)

    def _pairs(self, chains: Sequence[Chain], areas: Mapping[str, float]) -> SteeringSummary:
        chosen_by_rule = self._choosing()
        pairs, rejected = build_pairs(
            chains, max_similarity=self.config.pairs.max_similarity, seed=self.config.seed,
            label="+".join(self._chosen_by(chosen_by_rule)),
        )  # fmt: skip
        write_jsonl(self.data.pairs, pairs)
        write_jsonl(self.data.rejected, rejected)
        return summarise_turns(chains, pairs, rejected, self.constitution, chosen_by_rule, areas)

    def _chosen_by(self, checks: Collection[str]) -> list[str]:
        """What had a say in which text of a pair is chosen, for its label."""
        twins = self.config.steering.by_twins and any(p.matched is not None for p in self.constitution.principles)
        return ["constitution", *(["rule"] if checks else []), *(["twins"] if twins else [])]

    def _choosing(self) -> frozenset[str]:
        """The principles whose checks decided which revisions were kept."""
        last = len(self.constitution.principles)
        checks = self._checks(last)
        asked = [*checks.earlier, *([checks.own] if checks.own is not None else [])]
        return frozenset(principle.id for principle in asked if principle.check is not None)


def _case(chain: Chain, principle_id: str) -> Turn | None:
    role = chain.takes(principle_id)
    return (
        None
        if role is None
        else Turn(chain.prompt, chain.last_id, chain.text, role == "forced", frozenset(chain.revisions))
    )


def _asks_again(revision: RedrawnRevision | None) -> bool:
    """Whether another draw may help: a form that was missed, or a check; what is forced is drawn once."""
    return revision is not None and revision.fault is not None and not revision.forced


@cache
def open_exemplars() -> list[Exemplar]:
    """Everyday questions with plain answers that keep to no principle."""
    text = files("cai_bootstrap.generation").joinpath(_EXEMPLARS).read_text(encoding="utf-8")
    return [Exemplar("", "question", "open", e["instruction"], e["answer"]) for e in yaml.safe_load(text)["exemplars"]]
