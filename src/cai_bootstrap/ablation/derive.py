"""A variation's own pairs, made from the shared answers and revisions: the same data, chosen by another rule.

The variation's data folder gets the shared files, its own `preference_pairs.jsonl`, and the shared data's identity,
with the rule beside it, so that the steps accept it as what it is.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from random import Random

from cai_bootstrap.ablation.plan import PairRule
from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError
from cai_bootstrap.files import read_json, read_jsonl, write_json, write_jsonl
from cai_bootstrap.generation.candidates import Candidate, collect, normalise
from cai_bootstrap.generation.filters import fault
from cai_bootstrap.generation.pairs import build_pair, pair_of
from cai_bootstrap.generation.select import propose
from cai_bootstrap.records import Instruction, PreferencePair, Response, is_revision
from cai_bootstrap.run.folder import DataFolder


def derive(shared: DataFolder, own: DataFolder, rule: PairRule, config: RunConfig) -> int:
    """Fill the folder `own` with a variation's data; returns how many pairs the rule gave.

    Raises DataError if the shared data are not finished. Written anew each time, from the shared files alone; the
    identity is written last.
    """
    if not shared.summary.exists():
        raise DataError(f"{shared.path}: the shared data are not finished; run the set again")
    own.path.mkdir(parents=True, exist_ok=True)
    for path in sorted(shared.path.glob("*.json*")):
        if path not in {shared.pairs, shared.identity}:
            shutil.copyfile(path, own.path / path.name)
    count = write_jsonl(own.pairs, _pairs(shared, rule, config))
    write_json(own.summary, {**read_json(shared.summary), "pairs": count, "pair_rule": rule})
    write_json(own.identity, {**read_json(shared.identity), "pair_rule": rule})
    return count


def _pairs(shared: DataFolder, rule: PairRule, config: RunConfig) -> Iterable[PreferencePair]:
    pairs = read_jsonl(shared.pairs, PreferencePair)
    if rule == "as_made":
        return pairs
    if rule == "responses_only":
        # Response tuning (Hewitt et al. 2409.14254, section 4): what an answer looks like, without any instruction.
        return _once_each(pair.model_copy(update={"prompt": ""}) for pair in pairs)
    if rule == "eos_on_cut_off":
        return (pair.model_copy(update={"rejected_finished": True}) for pair in pairs)
    if rule == "without_revisions":
        return _without_revisions(shared, {pair.instruction_id: pair for pair in pairs}, config)
    return _rechosen(shared, {pair.instruction_id: pair for pair in pairs}, rule, config)


def _once_each(pairs: Iterable[PreferencePair]) -> Iterator[PreferencePair]:
    """Without its prompt a pair may equal another, which does not train twice."""
    texts: set[str] = set()
    for pair in pairs:
        if pair.chosen not in texts:
            texts.add(pair.chosen)
            yield pair


def _answers(shared: DataFolder) -> Iterator[tuple[Instruction, list[Response]]]:
    """Each instruction with its answers; both files are in the same order."""
    by_instruction = groupby(read_jsonl(shared.responses, Response), key=lambda r: r.instruction_id)
    for instruction, (_, own) in zip(read_jsonl(shared.instructions, Instruction), by_instruction, strict=True):
        yield instruction, list(own)


def _without_revisions(
    shared: DataFolder, pairs: dict[str, PreferencePair], config: RunConfig
) -> Iterator[PreferencePair]:
    """The same judges over the first answers alone; a pair of the critic's stays if no revision is in it."""
    judges = config.generation.judges
    for instruction, own in _answers(shared):
        earlier = pairs.get(instruction.id)
        if earlier is None:
            continue
        limit = config.pairs.max_similarity
        proposal = propose(
            instruction, collect(own, []), judges, agreement=config.generation.agreement, max_similarity=limit
        )
        pair = build_pair(instruction, proposal, None, earlier.principle_id, max_similarity=limit)
        if isinstance(pair, PreferencePair):
            yield pair
        elif (
            earlier.label_source == "critic"
            and earlier.chosen_source == "response"
            and not is_revision(earlier.rejected_id)
        ):
            yield earlier


def _rechosen(
    shared: DataFolder, pairs: dict[str, PreferencePair], rule: PairRule, config: RunConfig
) -> Iterator[PreferencePair]:
    """Another chosen answer to the same instructions, or (unfiltered) to as many, whatever a judge thought of them."""
    draw = Random(f"ablation:{config.seed}:{rule}")
    ids = _random_ids(shared, len(pairs), draw) if rule == "few_shot_unfiltered" else set(pairs)
    for instruction, own in _answers(shared):
        if instruction.id not in ids:
            continue
        answers = [c for c in collect([r for r in own if r.prompting == "few_shot"], []) if c.finished]
        if not answers:
            continue
        chosen = _choose(answers, rule, draw)
        plain = [c for c in collect([r for r in own if r.prompting == "plain"], []) if c.text != chosen.text]
        rejected = plain[-1] if plain else None
        if rejected is None or fault(instruction, chosen, rejected, max_similarity=config.pairs.max_similarity):
            continue
        principle = pairs[instruction.id].principle_id if instruction.id in pairs else ""
        yield pair_of(instruction, chosen, rejected, principle_id=principle, label=rule)


def _random_ids(shared: DataFolder, count: int, draw: Random) -> set[str]:
    ids = [instruction.id for instruction in read_jsonl(shared.instructions, Instruction)]
    return set(draw.sample(ids, min(count, len(ids))))


def _choose(answers: list[Candidate], rule: PairRule, draw: Random) -> Candidate:
    if rule == "random":
        return draw.choice([c for c in answers for _ in range(c.votes)])
    if rule == "majority":
        votes: Counter[str] = Counter()
        for candidate in answers:
            votes[normalise(candidate.text)] += candidate.votes
        winner = votes.most_common(1)[0][0]
        return next(c for c in answers if normalise(c.text) == winner)
    return answers[0]
