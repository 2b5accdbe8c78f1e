"""The figures of a principles' results file, as types: all of them follow from the judged answers (`summary.py`)."""

from typing import Literal

from cai_bootstrap.measuring.figures import Figures, Interval

Arm = Literal["base", "rival", "trained", "control"]
ARMS: tuple[Arm, ...] = ("base", "rival", "trained", "control")
Kind = Literal["phrase", "afresh", "conditional"]


class Share(Figures):
    """How many of `total` prompts, with the 95% Wilson interval; rate and interval are None where there is no prompt.

    `{"rate": 0.9, "successes": 180, "total": 200, "interval": [0.85, 0.93]}`
    """

    rate: float | None
    successes: int
    total: int
    interval: Interval | None


class Rate(Share):
    """A share by first line, the clustered one-sided 95% lower bound, and the share by the whole answer up to EOS."""

    lower: float | None
    strict: Share


class Lift(Figures):
    """A paired difference of two arms' rates by first line, in shares: `lifts.PairedLift`.

    `p_holm` is adjusted over the constitution's judged principles; None where the principle has no trusted judge.
    """

    estimate: float
    lower: float
    p: float
    p_holm: float | None
    gained: int
    lost: int
    total: int


class ArmRates(Figures):
    """A rate of each arm that was measured."""

    base: Rate
    rival: Rate | None = None
    trained: Rate | None = None
    control: Rate | None = None

    def present(self) -> dict[Arm, Rate]:
        """The arms that were measured, in the order of `ARMS`."""
        arms: dict[Arm, Rate | None] = {
            "base": self.base, "rival": self.rival, "trained": self.trained, "control": self.control,
        }  # fmt: skip
        return {arm: rate for arm, rate in arms.items() if rate is not None}


class Added(Figures):
    """What a principle's demonstrations added to their first answers, as folded words (`kinds.added_words`)."""

    runs: list[str]
    openings: list[str]
    endings: list[str]


class Shared(Figures):
    """A phrase of the demonstrations, and how many obeying answers repeat it."""

    phrase: str
    answers: int


class ConditionalEvidence(Figures):
    """Over matched held-out pairs: obeyed where the principle applies (`hits`), and where it does not."""

    pairs: int
    hits: int
    false_alarms: int
    estimate: float
    lower: float
    shown: bool


class KindEvidence(Figures):
    """Of the trained model's obeying answers, how many repeat what a demonstration added, and the pairs if it has."""

    obeying: int
    sharing: int
    share: float | None
    phrases: list[Shared]
    conditional: ConditionalEvidence | None


class PrincipleFigures(ArmRates):
    """Everything that the answers show of one principle. A None among the findings: nothing can be said.

    `judge` is the kind of the judge, or `not_judged` where none is trusted; then the rates stand, and no finding.
    `rule_selected`: a check chose the pairs. `outside` are test prompts where the principle does not apply, `unseen`
    those of kinds that never trained, where it applies and (`unseen_outside`) where not.
    """

    judge: Literal["check", "judge", "model", "server", "not_judged"]
    rule_selected: bool
    lift_over_base: Lift | None
    lift_over_control: Lift | None
    lift_over_rival: Lift | None
    steers: bool | None
    steers_p: float | None
    held: bool | None
    distilled: bool | None
    better_than_prompting: bool | None
    kind: Kind | None
    evidence: KindEvidence | None
    outside: ArmRates | None
    unseen: ArmRates | None
    unseen_outside: ArmRates | None


class Joint(ArmRates):
    """The share of test prompts on which all trusted principles that apply hold together.

    A conditional principle is left out: of a prompt that is not matched nobody knows whether it applies.
    """

    principles: list[str]
