"""Two results files of principles, compared prompt by prompt under equal conditions or not at all."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import JsonObject
from cai_bootstrap.judging.own.names import names_in
from cai_bootstrap.judging.statistics import CONFIDENCE
from cai_bootstrap.measuring.conditions import FACTORS, Difference, differences
from cai_bootstrap.measuring.principles.declared import DescribedPrinciple, PrincipleResults
from cai_bootstrap.measuring.principles.figures import ARMS, Arm, Lift, Share
from cai_bootstrap.measuring.principles.lifts import PairedLift, grouping_of, holm, paired_lift
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.measuring.principles.summary import lift_figures, scope_of, share_of


@dataclass(frozen=True)
class PrincipleChange:
    """One principle, judged by the same judge in both files: each one's rate, and b's minus a's."""

    id: str
    rate_a: Share
    rate_b: Share
    lift: Lift

    def in_words(self) -> str:
        """One sentence: whether b is shown to be better than a."""
        points = 100 * self.lift.estimate
        better = self.lift.p_holm is not None and self.lift.p_holm <= 1 - CONFIDENCE
        return (
            f"{self.id}: {self.rate_a.successes} → {self.rate_b.successes} of {self.lift.total} ({points:+.1f} points, "
            f"lower bound {100 * self.lift.lower:+.1f}); {'better' if better else 'not shown to be better'}"
        )


@dataclass(frozen=True)
class PrincipleComparison:
    """Arm `arm_a` of file `a` against arm `arm_b` of `b`. `factors` are the declared factors that differ.

    `left_out` names the principles that cannot be compared, each with the reason. Holm's adjustment is over `changes`.
    """

    a: str
    b: str
    arm_a: Arm
    arm_b: Arm
    factors: list[Difference]
    changes: list[PrincipleChange]
    left_out: dict[str, str]

    def as_dict(self) -> JsonObject:
        """The JSON object that `cai compare --json` prints."""
        changes = {
            change.id: {
                "a": change.rate_a.model_dump(mode="json"),
                "b": change.rate_b.model_dump(mode="json"),
                "lift": change.lift.model_dump(mode="json"),
            }
            for change in self.changes
        }
        return {
            "a": self.a, "b": self.b, "arm_a": self.arm_a, "arm_b": self.arm_b, "differences": [],
            "factors": [asdict(factor) for factor in self.factors], "principles": changes, "left_out": self.left_out,
        }  # fmt: skip


@dataclass(frozen=True)
class PrincipleRefusal:
    """Two files that were measured under other conditions or on other prompts, and so are not compared."""

    a: str
    b: str
    differences: list[Difference]

    def as_dict(self) -> JsonObject:
        """The JSON object of a comparison, without figures."""
        return {**asdict(self), "factors": [], "principles": {}, "left_out": {}}


def compare_principle_files(a: Path, b: Path, *, arm: str | None = None) -> PrincipleComparison | PrincipleRefusal:
    """Compare two results files. Both are checked in full first; `arm` is `trained` where there is one, else `base`.

    Raises UntrustedResultError if a file cannot be trusted or lacks the arm.
    """
    left, right = read_principle_results(a), read_principle_results(b)
    arm_a, arm_b = _arm_of(a, left, arm), _arm_of(b, right, arm)
    unequal = differences(left.conditions, right.conditions)
    if left.prompts.asked_sha256 != right.prompts.asked_sha256:
        unequal.append(Difference("prompts.asked_sha256", left.prompts.asked_sha256, right.prompts.asked_sha256))
    if unequal:
        return PrincipleRefusal(str(a), str(b), unequal)
    left_out = dict(_left_out(left, right))
    principles = [p for p in left.constitution.principles if p.id not in left_out]
    lifts = {p.id: _lift_between(p, left, right, arm_a, arm_b) for p in principles}
    adjusted = holm({id: lift.p for id, (_, _, lift) in lifts.items()})
    was, now = left.arms.present()[arm_a].factors, right.arms.present()[arm_b].factors
    return PrincipleComparison(
        str(a),
        str(b),
        arm_a,
        arm_b,
        factors=[
            Difference(name, getattr(was, name), getattr(now, name))
            for name in FACTORS
            if getattr(was, name) != getattr(now, name)
        ],
        changes=[
            PrincipleChange(id, share_of(before), share_of(after), lift_figures(lift, adjusted[id]))
            for id, (before, after, lift) in lifts.items()
        ],
        left_out=left_out,
    )


def _left_out(left: PrincipleResults, right: PrincipleResults) -> Iterator[tuple[str, str]]:
    others = {principle.id: principle for principle in right.constitution.principles}
    for principle in left.constitution.principles:
        id = principle.id
        other = others.pop(id, None)
        if other is None:
            yield id, "only a has it"
        elif id not in left.trusted or id not in right.trusted:
            yield id, "not judged in both"
        elif {left.judges[id].kind, right.judges[id].kind} & {"model", "server"}:
            yield id, "judged by a model, which may be another one"
        elif _rule(left, principle) != _rule(right, other):
            yield id, _other_rule(_rule(left, principle), _rule(right, other))
        elif (principle.applies_to, principle.conditional) != (other.applies_to, other.conditional):
            yield id, "applies elsewhere"
    yield from ((id, "only b has it") for id in others)


def _other_rule(left: object, right: object) -> str:
    """How two rules differ: by the source of a module of the user's own, if they name the same one."""
    sources = [{name.path: name.sha256 for name in names_in(rule)} for rule in (left, right)]
    for path, sha256 in sources[0].items():
        other = sources[1].get(path, sha256)
        if other != sha256:
            return f"judged by another source of {path}: {str(sha256)[:12]}… in a, {str(other)[:12]}… in b"
    return "judged by another rule"


def _rule(results: PrincipleResults, principle: DescribedPrinciple) -> object:
    return principle.judge if results.judges[principle.id].kind == "judge" else principle.check


def _lift_between(
    principle: DescribedPrinciple, left: PrincipleResults, right: PrincipleResults, arm_a: Arm, arm_b: Arm
) -> tuple[list[bool], list[bool], PairedLift]:
    counted = scope_of(principle, left.items).counted
    others = {item.id: item for item in right.items}
    before = [item.answers()[arm_a].holds[principle.id] for item in counted]
    after = [others[item.id].answers()[arm_b].holds[principle.id] for item in counted]
    return before, after, paired_lift(before, after, grouping_of(counted))


def _arm_of(path: Path, results: PrincipleResults, arm: str | None) -> Arm:
    present = results.arms.present()
    if arm is None:
        return "trained" if "trained" in present else "base"
    found = next((name for name in ARMS if name == arm and name in present), None)
    if found is None:
        names = ", ".join(name for name in ARMS if name in present)
        raise UntrustedResultError(f"{path}: holds no arm {arm}; it holds {names}")
    return found
