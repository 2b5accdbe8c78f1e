"""Instructions of the training pool that no run trains on, where training cannot be watched on dev items.

A run that is measured on dev has no dev item left to choose a round by. It looks at these instead: always the same
ones, whatever the run's seed, all decidable from the instruction alone, so that no known answer is read.
"""

from functools import lru_cache

from cai_bootstrap.instructions.sampler import sample, type_counts
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.records import EvalItem, Instruction

COUNT = 208
SEED = 208
DRAWN = 4 * COUNT  # about half of what is drawn is decidable


@lru_cache(maxsize=1)
def held_back() -> tuple[EvalItem, ...]:
    """The instructions as items, evenly over the types. Their split is `dev`: they show nothing."""
    drawn = [made for made in sample(DRAWN, seed=SEED) if label_tier(made) == "constraint"]
    kept = [made for kind, count in type_counts(COUNT).items() for made in [i for i in drawn if i.type == kind][:count]]
    return tuple(_item(made) for made in kept)


def _item(made: Instruction) -> EvalItem:
    return EvalItem(
        id=made.id,
        split="dev",
        type=made.type,
        template=made.template,
        instruction=made.instruction,
        scorer=made.scorer or "",
        args=made.args,
        gold=made.gold,
        source="held back from the pool",
        difficulty="easy",
        skill=made.skill,
    )
