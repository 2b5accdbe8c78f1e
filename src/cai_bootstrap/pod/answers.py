"""What a pod sends, read as typed values: anything else becomes a sentence that names what it sent.

A pod may be broken, or not ours at all. So every answer comes through `parse` (bytes to JSON values) and `read` (JSON
values to one of the models below), whose numbers are finite and bounded, whose lists and texts are bounded, and which
raise UnreadableError and nothing else. Example of an answer to `status`:
`{"state": "running", "job": "20261128T101500Z-1f2e", "now": 1796000000.0, "last_lines": ["step 3"]}`.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from cai_bootstrap.files import JsonObject
from cai_bootstrap.pod.errors import UnreadableError
from cai_bootstrap.printable import one_line

LARGEST = 1e15
MOST_TEXT = 1 << 20
MOST_EXCERPT = 200
MOST_DIGITS = 20
ModelT = TypeVar("ModelT", bound=BaseModel)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is no number")
    if not -LARGEST <= value <= LARGEST:  # false for NaN, too
        raise ValueError("is no number of a sensible size")
    return value


def _seconds(value: Any) -> float:
    if _number(value) < 0:
        raise ValueError("is negative")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, float):
        raise ValueError("is no whole number")
    return int(_number(value))


def _count(value: Any) -> int:
    if _whole(value) < 0:
        raise ValueError("is negative")
    return int(value)


def _exit_code(value: Any) -> int:
    if not 0 <= _whole(value) <= 255:  # 256 would leave this process as 0
        raise ValueError("is no exit code")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")
    if len(value) > MOST_TEXT:
        raise ValueError("is too long a text")
    return value


def _pattern(pattern: str, what: str) -> Callable[[Any], str]:
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not compiled.fullmatch(_text(value)):
            raise ValueError(f"is no {what}")
        return str(value)

    return check


# Plain validators: pydantic's own text type refuses the lone surrogates by which Python names files that are not UTF-8.
Number = Annotated[float, PlainValidator(_number)]
Seconds = Annotated[float, PlainValidator(_seconds)]
Count = Annotated[int, PlainValidator(_count)]
Whole = Annotated[int, PlainValidator(_whole)]
ExitCode = Annotated[int, PlainValidator(_exit_code)]
Text = Annotated[str, PlainValidator(_text)]
Name = Annotated[str, PlainValidator(_pattern(r"[A-Za-z0-9._-]{1,120}", "plain name"))]
Hash = Annotated[str, PlainValidator(_pattern(r"[0-9a-f]{64}", "SHA-256"))]
Lines = Annotated[list[Text], Field(max_length=1_000_000)]


class Answer(BaseModel):
    """Fields that are not known are passed over: the pod's side may be newer."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, strict=True)

    def record(self) -> JsonObject:
        """What the pod sent of the known fields, as plain data."""
        return self.model_dump(exclude_unset=True)


class Money(Answer):
    """Dollars since the rental began, `price` in dollars an hour."""

    seconds: Number = 0.0
    price: Seconds
    spent: Number
    budget: Seconds | None = None
    deadline_in: Number | None = None


class Gpu(Answer):
    """One GPU: MiB used and in all, load in percent."""

    name: Text
    used: Count
    total: Count
    load: Count


class Watchdog(Answer):
    """How the watchdog stands."""

    armed: bool = False
    alive: bool
    can_stop: bool
    money: Money | None = None
    acts: Lines = []


class Status(Answer):
    """How a job stands."""

    state: Literal["none", "starting", "running", "finished", "lost"]
    job: Name | None = None
    slot: Text | None = None
    argv: Lines | None = None
    mark: Text | None = None
    began: Number | None = None
    ended: Number | None = None
    now: Number | None = None
    fetched: bool = False
    last_lines: Lines = []
    free_bytes: Whole = -1
    exit_code: ExitCode | None = None
    signal: Whole | None = None
    oom_kills: Whole | None = None
    reason: Text | None = None
    leftovers: Count | None = None
    started: bool = False
    problem: Text | None = None
    watchdog: Watchdog | None = None

    @model_validator(mode="after")
    def _ended_with_a_code(self) -> "Status":
        if self.state == "finished" and self.exit_code is None:
            raise ValueError("it is finished, without an exit_code")
        if self.state in ("running", "finished", "lost") and self.job is None:
            raise ValueError(f"it is {self.state}, without a job")
        return self


class Listing(Answer):
    """The answer to `manifest`; each of its `files` is read alone, as an `Entry`."""

    pod_id: Name | None = None
    job: Name | None = None
    state: Literal["none", "starting", "running", "finished", "lost"]
    left_out: list[Any] = []
    files: list[Any]


class Entry(Answer):
    """One file of a listing."""

    path: Text
    size: Count
    sha256: Hash


class Tree(Answer):
    """What lies in the code folder after a push."""

    sha256: Hash
    files: Count
    missing: Lines


class Noted(Answer):
    """A note that this side left on the pod: what was pushed, or set up."""

    sha256: Name


class LogLines(Answer):
    """The last lines of a log."""

    lines: Lines


class Ran(Answer):
    """How the stop command ended; None if it did not end."""

    code: Whole | None


class RunStep(Answer):
    """What a pulled run.json tells of one step."""

    seconds: Seconds | None = None
    skipped: bool = False


class RunSteps(Answer):
    """The steps of a pulled run.json, by name, and the run's id."""

    run: Text | None = None
    steps: dict[Any, RunStep]


class MeasuredSuite(Answer):
    """The suite of a pulled results file: one of its hashes names a file of this user's ledger."""

    name: Text
    sha256: Hash
    asked_sha256: Hash | None = None


class MeasuredPrompts(Answer):
    """The held-out prompts of such a file; `sha256` names the ledger's file."""

    name: Text
    sha256: Hash


class Measured(Answer):
    """What of a pulled results file the ledger of openings takes on trust."""

    suite: MeasuredSuite


class AskedPrompts(Answer):
    """The same of a pulled results file of the constitution stage: the held-out prompts that were asked."""

    prompts: MeasuredPrompts


class Event(Answer):
    """The fields that `watch` shows of one line of an events file."""

    event: Text
    step: Text | None = None
    message: Text | None = None
    seconds: Seconds | None = None
    done: Count | None = None
    total: Count | None = None
    tokens_per_second: Seconds | None = None
    eta_seconds: Seconds | None = None


class Out(Answer):
    """A line of the job's output, and the offset after it."""

    k: Literal["out"]
    o: Count
    t: Text


class EventLine(Answer):
    """A line of an events file, and the offset after it."""

    k: Literal["ev"]
    f: Text
    o: Count
    t: Text


class Tick(Answer):
    """How things stand, every other second."""

    k: Literal["tick"]
    job: Name | None = None
    over: bool
    gpu: Annotated[list[Gpu], Field(max_length=256)]
    money: Money | None
    free_bytes: Whole


class End(Answer):
    """The last frame."""

    k: Literal["end"]
    status: Status


Frame = Out | EventLine | Tick | End
FRAMES: dict[str, type[Out] | type[EventLine] | type[Tick] | type[End]] = {
    "out": Out, "ev": EventLine, "tick": Tick, "end": End,
}  # fmt: skip


@dataclass(frozen=True)
class NotANumber:
    """NaN, infinity, or hundreds of digits where JSON has a number. No model takes it: its field alone is refused."""

    text: str


def parse(data: bytes | str, what: str) -> Any:
    """The JSON value that the pod sent as `what`. Raises UnreadableError."""

    def whole(digits: str) -> int | NotANumber:
        return int(digits) if len(digits) <= MOST_DIGITS else NotANumber(digits)

    def real(digits: str) -> float | NotANumber:
        value = float(digits)
        return value if math.isfinite(value) else NotANumber(digits)

    text: bytes | str = data
    try:
        text = data.decode() if isinstance(data, bytes) else data
        return json.loads(text, parse_constant=NotANumber, parse_int=whole, parse_float=real)
    except (ValueError, RecursionError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else one_line(str(error), 100)
        raise UnreadableError(f"{what} is unreadable: no JSON ({reason}); the pod sent {excerpt(text)}") from None


def read(model: type[ModelT], value: Any, what: str) -> ModelT:
    """A parsed value as one of the models. Raises UnreadableError naming the field and what the pod sent there."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_input=True, include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
        message = problem["msg"].removeprefix("Value error, ")
        where = f"'{one_line(field, 100)}' " if field else ""
        raise UnreadableError(
            f"{what} is unreadable: {where}{message}; the pod sent {excerpt(problem['input'])}"
        ) from None


def frame_of(value: Any) -> Frame:
    """A line of `follow` as one of its four kinds. Raises UnreadableError."""
    kind = value.get("k") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in FRAMES:
        raise UnreadableError(f"what the job tells is unreadable: no frame; the pod sent {excerpt(value)}")
    return read(FRAMES[kind], value, f"the frame '{kind}'")


def excerpt(value: Any) -> str:
    """The beginning of what a pod sent, harmless to print."""
    if isinstance(value, bytes | str):
        return one_line(repr(value[:MOST_EXCERPT]), MOST_EXCERPT) if value else "nothing"
    if isinstance(value, dict):
        return one_line("{" + ", ".join(str(key)[:40] for key in list(value)[:8]) + "}", MOST_EXCERPT)
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, NotANumber):
        return one_line(value.text[:40], 40)
    if isinstance(value, int) and value.bit_length() > 200:  # Python writes no number of thousands of digits
        return f"a number of {value.bit_length()} bits"
    return one_line(repr(value), MOST_EXCERPT)
