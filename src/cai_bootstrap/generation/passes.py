"""Instructions → responses → critiques → revisions → proposals → judgements → preference pairs, each a data file.

Every pass runs chunk by chunk (`batches.ChunkFile`): a kill loses at most one chunk, and no pass holds all records in
memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cai_bootstrap.batches import BatchPlan, ChunkFile, Lockstep, seed_of
from cai_bootstrap.config import RunConfig
from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.events import Progress
from cai_bootstrap.files import JsonlWriter, read_jsonl, write_jsonl
from cai_bootstrap.generation.candidates import (
    Candidate,
    collect,
    exemplars_for,
)
from cai_bootstrap.generation.critic import Comparison, Preference, compare
from cai_bootstrap.generation.make_instructions import remove_after_missing
from cai_bootstrap.generation.pairs import Judgement, build_pair, summarise, without
from cai_bootstrap.generation.pass_runner import PassRunner, complete
from cai_bootstrap.generation.prompts import (
    NEXT_EXAMPLE,
    PROMPT_VERSION,
    Case,
    critique_prompt,
    one_paragraph,
    own_cases,
    revise_prompt,
    worked_examples,
)
from cai_bootstrap.generation.rounds import Prompting, Round, round_of
from cai_bootstrap.generation.select import ProposedPair, propose
from cai_bootstrap.inference.engine import Completion, Engine, Sampling, plain_prompt
from cai_bootstrap.instructions.exemplars import Exemplar
from cai_bootstrap.records import Critique, Instruction, PreferencePair, RejectedPair, Response, Revision, revision_id
from cai_bootstrap.run.counts import GenerationSummary
from cai_bootstrap.run.folder import DataFolder

CRITIC_EXAMPLES = 4
REMEDY = "restore the file, or make the data anew with --force-data"


@dataclass(frozen=True)
class Generator:
    """What the passes share. `progress` is told of every prompt; `stopping()` asks whether to stop."""

    config: RunConfig
    engine: Engine
    constitution: Constitution
    data: DataFolder
    progress: Progress
    stopping: Callable[[], bool]
    say: Callable[[str], None]
    round: int = 1

    def run(self, instructions: Sequence[Instruction], data_fingerprint: str) -> GenerationSummary:
        """Make all files from the instructions; returns the summary of pairs. Resumes what is there.

        Raises InterruptedRunError after the batch in progress when asked to stop; what is on disk is whole.
        """
        settings = self.config.generation
        remove_after_missing(self.data, self.say)
        chunks = [list(instructions[n : n + settings.chunk]) for n in range(0, len(instructions), settings.chunk)]
        plan = BatchPlan(self.data.plan, batch_size=settings.batch_size, fingerprint=data_fingerprint)
        plan.save()
        runner = PassRunner(self.config, self.engine, plan, self.progress, self.stopping, self.say)
        principles = dict(zip((i.id for i in instructions), self._assigned(len(instructions)), strict=True))
        revised = [[self._revised(i) for i in chunk] for chunk in chunks]
        answers = [sum(1 + self._further(i) for i in chunk) for chunk in chunks]
        edits = [sum(row) for row in revised]

        responses = self._file(self.data.responses, Response, answers)
        critiques = self._file(self.data.critiques, Critique, edits)
        revisions = self._file(self.data.revisions, Revision, edits)
        done = [(responses, answers), (critiques, edits), (revisions, edits)]
        self.progress.begin(
            sum(answers) + 2 * sum(edits), done=sum(sum(sizes[: file.complete_chunks()]) for file, sizes in done)
        )
        runner.each("respond", responses, lambda n: self._respond(chunks[n], n))

        with_responses = Lockstep(responses)
        runner.each("critique", critiques, lambda n: self._critique(chunks[n], with_responses.at(n), principles, n))
        for_revision = Lockstep(responses, critiques)

        def revise(n: int) -> list[Revision]:
            answered, criticised = for_revision.all_at(n)
            return self._revise(chunks[n], answered, criticised, n)

        runner.each("revise", revisions, revise)

        proposals = self._file(self.data.proposals, ProposedPair, [len(chunk) for chunk in chunks])
        for_judges = Lockstep(responses, revisions)
        judges = settings.judges

        def propose_pairs(n: int) -> list[ProposedPair]:
            answered, edited = for_judges.all_at(n)
            return self._propose(chunks[n], answered, edited, judges)

        runner.each("propose", proposals, propose_pairs)

        sizes = [0] * len(chunks)
        if "critic" in judges:
            sizes = [sum(map(self._wants_critic, rows)) for rows in proposals.chunks()]
        judgements = self._file(self.data.judgements, Judgement, sizes)
        if "critic" in judges:
            for_critic = Lockstep(proposals)
            self.progress.begin(sum(sizes), done=sum(sizes[: judgements.complete_chunks()]))
            runner.each("judge", judgements, lambda n: self._judge(chunks[n], for_critic.at(n), principles))
        for file in (responses, critiques, revisions, proposals, judgements):
            file.verify()
        return self._pairs(chunks, proposals, judgements, principles)

    def _assigned(self, count: int) -> list[Principle]:
        return self.constitution.assign(count, seed=self.config.seed)

    def _file(self, path: Path, kind: type[Any], sizes: Sequence[int]) -> ChunkFile[Any]:
        return ChunkFile(path, kind, sizes, self.say, remedy=REMEDY)

    @property
    def _strategy(self) -> Round:
        return round_of(self.round)

    def _further(self, instruction: Instruction) -> int:
        return self._strategy.further_answers(instruction, self.config.generation)

    def _revised(self, instruction: Instruction) -> int:
        return self._strategy.revisions(instruction, self.config.generation)

    def _complete(
        self, name: str, chunk: int, prompts: Sequence[str], tokens: int, temperature: float
    ) -> list[Completion]:
        settings = self.config.generation
        sampling = Sampling(
            tokens,
            temperature=temperature,
            top_p=settings.top_p,
            stop=() if name in {"plain", "sample"} else NEXT_EXAMPLE,
            seed=seed_of(self.config.seed, name, chunk),
        )
        return complete(self.engine, prompts, sampling, self.progress)

    def _respond(self, chunk: Sequence[Instruction], number: int) -> list[Response]:
        """One plain greedy answer to each instruction; then few-shot ones, or sampled plain ones in a later round."""
        settings, seed, strategy = self.config.generation, self.config.seed, self._strategy
        further = [(i, n) for i in chunk for n in range(self._further(i))]
        plain = self._complete(
            "plain", number, [plain_prompt(i.instruction) for i in chunk], settings.max_new_tokens, 0.0
        )
        prompts = [strategy.prompt(i, n, settings, seed) for i, n in further]
        more = self._complete(
            strategy.pass_name, number, prompts, settings.max_new_tokens, strategy.temperature(settings)
        )
        waiting = iter(more)
        records: list[Response] = []
        for instruction, answer in zip(chunk, plain, strict=True):
            records.append(self._response(instruction, "plain", 0, answer, seed_of(seed, "plain", number)))
            batch_seed = seed_of(seed, strategy.pass_name, number)
            for n in range(self._further(instruction)):
                place = strategy.first_place + n
                records.append(self._response(instruction, strategy.prompting, place, next(waiting), batch_seed))
        return records

    def _exemplars(self, instruction: Instruction, count: int, use: str) -> list[Exemplar]:
        share = self.config.generation.same_wording
        return exemplars_for(instruction, count, seed=self.config.seed, use=use, same_wording=share)

    def _response(
        self, instruction: Instruction, prompting: Prompting, place: int, made: Completion, seed: int
    ) -> Response:
        plain = prompting == "plain"
        return Response(
            id=f"{instruction.id}.{'p' if plain else 'f'}{place}",
            instruction_id=instruction.id,
            prompting=prompting,
            candidate=place,
            text=made.text if plain else one_paragraph(made.text),
            finished=made.finished if plain else made.ended_by != "length",
            seed=seed,
            prompt_version=PROMPT_VERSION,
            model=self.engine.info.model,
        )

    def _critique(
        self, chunk: Sequence[Instruction], responses: Sequence[Response], principles: dict[str, Principle], number: int
    ) -> list[Critique]:
        settings, seed = self.config.generation, self.config.seed
        answers = _by_instruction(responses)
        cases = [(i, r, principles[i.id]) for i in chunk for r in self._to_revise(i, answers[i.id])]
        prompts = [
            critique_prompt(i.instruction, r.text, p, self._cases(i, p, f"critique:{r.id}")) for i, r, p in cases
        ]
        texts = self._complete("critique", number, prompts, settings.critique_tokens, 0.0)
        return [
            Critique(
                id=f"{r.id}.c",
                response_id=r.id,
                principle_id=p.id,
                text=one_paragraph(t.text),
                prompt_version=PROMPT_VERSION,
                seed=seed_of(seed, "critique", number),
                model=self.engine.info.model,
            )
            for (_, r, p), t in zip(cases, texts, strict=True)
        ]

    def _revise(
        self, chunk: Sequence[Instruction], responses: Sequence[Response], critiques: Sequence[Critique], number: int
    ) -> list[Revision]:
        settings, seed = self.config.generation, self.config.seed
        answers = _by_instruction(responses)
        cases = [(i, r) for i in chunk for r in self._to_revise(i, answers[i.id])]
        by = [self.constitution.principle(c.principle_id) for c in critiques]
        prompts = [
            revise_prompt(i.instruction, r.text, c.text, p, self._cases(i, p, f"revise:{r.id}"))
            for (i, r), c, p in zip(cases, critiques, by, strict=True)
        ]
        texts = self._complete("revise", number, prompts, settings.max_new_tokens, 0.0)
        return [
            Revision(id=revision_id(r.id), critique_id=c.id, response_id=r.id, principle_id=c.principle_id,
                     text=one_paragraph(t.text), finished=t.ended_by != "length", prompt_version=PROMPT_VERSION,
                     seed=seed_of(seed, "revise", number), model=self.engine.info.model)
            for (_, r), c, t in zip(cases, critiques, texts, strict=True)
        ]  # fmt: skip

    def _to_revise(self, instruction: Instruction, own: Sequence[Response]) -> list[Response]:
        return [r for r in own if r.prompting == "few_shot"][: self._revised(instruction)]

    def _propose(
        self,
        chunk: Sequence[Instruction],
        responses: Sequence[Response],
        revisions: Sequence[Revision],
        judges: frozenset[str],
    ) -> list[ProposedPair]:
        settings = self.config.generation
        proposals: list[ProposedPair] = []
        answers = _by_instruction(responses)
        revised: dict[str, list[Revision]] = {}
        for revision in revisions:
            revised.setdefault(revision.response_id, []).append(revision)
        for instruction in chunk:
            own = answers[instruction.id]
            candidates: list[Candidate] = collect(own, [r for made in own for r in revised.get(made.id, ())])
            limit = self.config.pairs.max_similarity
            proposal = propose(instruction, candidates, judges, agreement=settings.agreement, max_similarity=limit)
            content = {"reason": proposal} if isinstance(proposal, str) else {"proposal": proposal}
            proposals.append(ProposedPair(instruction_id=instruction.id, **content))
        return proposals

    def _wants_critic(self, pair: ProposedPair) -> bool:
        return pair.proposal is not None and self._strategy.asks_critic(pair.proposal)

    def _judge(
        self, chunk: Sequence[Instruction], proposals: Sequence[ProposedPair], principles: dict[str, Principle]
    ) -> list[Judgement]:
        pairs = [
            (i, p.proposal)
            for i, p in zip(chunk, proposals, strict=True)
            if p.proposal is not None and self._wants_critic(p)
        ]
        comparisons = [
            Comparison(
                i.instruction,
                p.chosen.text,
                one_paragraph(p.rejected.text),
                principles[i.id],
                self._cases(i, principles[i.id], "judge", with_flawless=False),
            )
            for i, p in pairs
        ]
        judged: list[Preference] = compare(self.engine, comparisons)
        self.progress.advance(len(judged))
        return [
            Judgement(
                instruction_id=i.id,
                chosen_id=p.chosen.id,
                rejected_id=p.rejected.id,
                principle_id=principles[i.id].id,
                margin=round(j.margin, 4),
                consistent=j.consistent,
                prompt_version=PROMPT_VERSION,
            )
            for (i, p), j in zip(pairs, judged, strict=True)
        ]

    def _cases(
        self, instruction: Instruction, principle: Principle, use: str, *, with_flawless: bool = True
    ) -> tuple[Case, ...]:
        """What stands before a case: the principle's own demonstrations, else worked examples of the same skill."""
        own = own_cases(
            principle, seed=self.config.seed, use=f"{use}:{instruction.id}", exclude=instruction.instruction
        )
        if own:
            return tuple(own)
        exemplars = self._exemplars(instruction, CRITIC_EXAMPLES, use)
        return tuple(worked_examples(exemplars, seed=self.config.seed, with_flawless=with_flawless))

    def _pairs(
        self,
        chunks: Sequence[Sequence[Instruction]],
        proposals: ChunkFile[ProposedPair],
        judgements: ChunkFile[Judgement],
        principles: dict[str, Principle],
    ) -> GenerationSummary:
        """Build, filter and balance the pairs; write those that train and those that do not.

        Which skills have too many is known only at the end, so the pairs wait in files meanwhile, not in memory.
        """
        pairs, rejected = self.data.pairs, self.data.rejected
        waiting, dropped = self.data.waiting
        for path in (waiting, dropped):
            path.unlink(missing_ok=True)
        skills: dict[str, str] = {}
        with JsonlWriter(waiting) as kept_file, JsonlWriter(dropped) as dropped_file:
            for chunk, (proposed, judged) in zip(chunks, Lockstep(proposals, judgements), strict=True):
                opinions = {j.instruction_id: j for j in judged}
                for instruction, proposal in zip(chunk, proposed, strict=True):
                    skills[instruction.id] = instruction.skill
                    made = build_pair(
                        instruction,
                        proposal.outcome,
                        opinions.get(instruction.id),
                        principles[instruction.id].id,
                        max_similarity=self.config.pairs.max_similarity,
                    )
                    (kept_file if isinstance(made, PreferencePair) else dropped_file).write(made)

        def built() -> Iterator[PreferencePair]:
            return read_jsonl(waiting, PreferencePair)

        surplus = self._strategy.surplus(built(), skills)
        write_jsonl(pairs, (pair for pair in built() if pair.id not in surplus))
        balanced_out = (without(pair, "balanced_out") for pair in built() if pair.id in surplus)
        write_jsonl(rejected, chain(read_jsonl(dropped, RejectedPair), balanced_out))
        for path in (waiting, dropped):
            path.unlink()
        opinions_again = (j for rows in judgements.chunks() for j in rows)
        made_pairs, made_rejected = read_jsonl(pairs, PreferencePair), read_jsonl(rejected, RejectedPair)
        return summarise(made_pairs, made_rejected, opinions_again, principles, self.constitution, skills)


def _by_instruction(responses: Sequence[Response]) -> dict[str, list[Response]]:
    """The answers of one chunk by instruction, found once: a search for each would grow with the chunk's square."""
    found: dict[str, list[Response]] = {}
    for response in responses:
        found.setdefault(response.instruction_id, []).append(response)
    return found
