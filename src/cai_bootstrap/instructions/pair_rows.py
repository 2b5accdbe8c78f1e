"""Preference pairs of other people: what a row means, in each of TRL's forms, and why a row is none.

`{"prompt": "What is a kite?", "chosen": "A toy that flies.", "rejected": "No."}` is explicit. Without `prompt` both
answers begin with it (implicit). Each text may be a list of `{"role": …, "content": …}` (conversational).
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.prompt_clean import HIDDEN, USER_ROLES
from cai_bootstrap.instructions.rows import Wanted

ANSWER_ROLES = ("assistant", "gpt", "chatbot")
Form = Literal["explicit", "implicit", "transcript", "conversational", "conversational_implicit"]
# A transcript as one text: "\n\nHuman: What is a kite?\n\nAssistant: A toy that flies."
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class Columns(NamedTuple):
    """The names of the columns that hold prompt, chosen and rejected. `prompt` may be absent from the rows."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"

    def wanted(self, *, prompt_given: bool) -> Wanted:
        """What a reader of rows looks for. A missing column is an error, but a prompt's that nobody named."""

        def choose(names: Sequence[str], where: str) -> Sequence[str]:
            flags = ("--prompt-column", "--chosen-column", "--rejected-column")
            needed = [(name, flag) for name, flag in zip(self, flags, strict=True)]
            for name, flag in needed if prompt_given else needed[1:]:
                if name not in names:
                    present = ", ".join(names) or "none"
                    raise UsageError(f"{where}: no column '{name}'; there are: {present}. Name another: {flag} NAME")
            return self

        example = '{"prompt": "…", "chosen": "…", "rejected": "…"}'
        return Wanted(choose, "pair", example, texts=False, fewest=1)


@dataclass(frozen=True)
class PairRow:
    """A row as texts without blanks around them. `fault` says why it is no single-turn pair, if it is none."""

    form: Form | None
    instruction: str
    chosen: str
    rejected: str
    fault: str | None = None


class _Unfit(Exception):
    """A row that is no pair of single-turn answers; the message is the reason by which it is counted."""


@dataclass(frozen=True)
class _Message:
    role: str
    text: str


def read_pair(row: Mapping[str, object], columns: Columns) -> PairRow:
    """What a row of these columns says.

    The last user message is the instruction. A row without the prompt's column is implicit; one whose prompt is there
    and empty is not. Faults: `missing_chosen`, `missing_rejected`, `empty_prompt`, `mixed_forms` (one answer is
    a text and the other a list, or the prompt is a list beside texts), `no_shared_prompt`, `prompt_differs` (a prompt
    that is not the one in the messages), `not_text` (a cell or a message that is no text, as an image), `more_turns`,
    `system_message`, `other_role`, `no_user_message`, `no_answer`.
    """
    prompt, chosen, rejected = (row.get(name) for name in columns)
    try:
        form, instruction, first, second = _texts(prompt, chosen, rejected, prompted=columns.prompt in row)
    except _Unfit as fault:
        return PairRow(None, _legible(prompt), _legible(chosen), _legible(rejected), str(fault))
    return PairRow(form, clean_text(instruction), clean_text(first), clean_text(second))


def clean_text(text: str) -> str:
    """A text in composed characters (NFC), without control characters or blanks around it; its line breaks stay."""
    unified = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip() for line in HIDDEN.sub("", unified).split("\n")).strip()


def _texts(prompt: object, chosen: object, rejected: object, *, prompted: bool) -> tuple[Form, str, str, str]:
    """The form; instruction, chosen and rejected. `prompted`: the row has a prompt, be it empty. Raises _Unfit."""
    for name, cell in (("missing_chosen", chosen), ("missing_rejected", rejected)):
        if cell is None:
            raise _Unfit(name)
    if prompted and (prompt is None or prompt == [] or (isinstance(prompt, str) and not clean_text(prompt))):
        raise _Unfit("empty_prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            return _implicit(chosen, rejected)
        if not isinstance(prompt, str):
            raise _Unfit("mixed_forms" if _is_list(prompt) else "not_text")
        return "explicit", prompt, chosen, rejected
    if not _is_list(chosen) or not _is_list(rejected):
        kinds = [isinstance(cell, str) or _is_list(cell) for cell in (chosen, rejected)]
        raise _Unfit("mixed_forms" if all(kinds) else "not_text")
    return _conversational(prompt, _messages(chosen), _messages(rejected))


def _implicit(chosen: str, rejected: str) -> tuple[Form, str, str, str]:
    """Both texts begin with the prompt, which ends before the first word in which they differ."""
    if all(_TURN.match(text) for text in (chosen, rejected)):
        return ("transcript", *_of_messages(*_shared(_transcript(chosen), _transcript(rejected))))
    shorter = min(len(chosen), len(rejected))  # where one goes on and the other ends, they differ there
    end = next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter)
    within_word = end == shorter or not (chosen[end].isspace() and rejected[end].isspace())
    while within_word and end > 0 and not chosen[end - 1].isspace():
        end -= 1
    if not chosen[:end].strip():
        raise _Unfit("no_shared_prompt")
    return "implicit", chosen[:end], chosen[end:], rejected[end:]


def _transcript(text: str) -> list[_Message]:
    parts = _TURN.split(text)[1:]
    return [_Message(_ROLES[role], said) for role, said in zip(parts[::2], parts[1::2], strict=True)]


def _conversational(prompt: object, chosen: list[_Message], rejected: list[_Message]) -> tuple[Form, str, str, str]:
    if _is_list(prompt):
        return ("conversational", *_of_messages(_messages(prompt), chosen, rejected))
    before, first, second = _shared(chosen, rejected)
    if prompt is None:
        return ("conversational_implicit", *_of_messages(before, first, second))
    if not isinstance(prompt, str):
        raise _Unfit("not_text")
    if not before:  # a prompt as a text beside the answers as messages
        before = [_Message("user", prompt)]
    texts = _of_messages(before, first, second)
    if clean_text(texts[0]) != clean_text(prompt):
        raise _Unfit("prompt_differs")
    return ("conversational", *texts)


def _shared(chosen: list[_Message], rejected: list[_Message]) -> tuple[list[_Message], list[_Message], list[_Message]]:
    """The messages that both begin with, but for a last answer, and what follows in either."""
    end = 0
    for mine, other in zip(chosen, rejected, strict=False):
        if mine != other or (mine.role == "assistant" and end + 1 >= max(len(chosen), len(rejected))):
            break
        end += 1
    return chosen[:end], chosen[end:], rejected[end:]


def _of_messages(prompt: list[_Message], chosen: list[_Message], rejected: list[_Message]) -> tuple[str, str, str]:
    """Instruction and answers, where this is one turn."""
    everything = (*prompt, *chosen, *rejected)
    if any(message.role == "system" for message in everything):
        raise _Unfit("system_message")
    if any(message.role not in ("user", "assistant") for message in everything):
        raise _Unfit("other_role")
    if not any(message.role == "user" for message in prompt):
        raise _Unfit("no_shared_prompt" if any(m.role == "user" for m in everything) else "no_user_message")
    answers = [[m.text for m in side if m.role == "assistant"] for side in (chosen, rejected)]
    if len(prompt) > 1 or any(len(side) > 1 for side in (chosen, rejected)):
        raise _Unfit("more_turns")
    if not all(answers):
        raise _Unfit("no_answer")
    return prompt[-1].text, answers[0][0], answers[1][0]


def _messages(cells: object) -> list[_Message]:
    """A list of messages; empty system messages say nothing and are left out. Raises _Unfit."""
    assert isinstance(cells, Sequence)
    return [message for cell in cells if (message := _message(cell)).role != "system" or message.text.strip()]


def _message(cell: object) -> _Message:
    if not isinstance(cell, Mapping):
        raise _Unfit("not_text")
    role = cell.get("role", cell.get("from"))
    known = "user" if role in USER_ROLES else "assistant" if role in ANSWER_ROLES else str(role)
    return _Message(known, _content(cell.get("content", cell.get("value"))))


def _content(content: object) -> str:
    """A message's text, whole or in parts (`[{"type": "text", "text": "What is a kite?"}]`). Raises _Unfit."""
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(_parts(content))


def _parts(content: object) -> Iterator[str]:
    if not _is_list(content) or not isinstance(content, Sequence):
        raise _Unfit("not_text")
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise _Unfit("not_text")
        yield text


def _is_list(cell: object) -> bool:
    return isinstance(cell, Sequence) and not isinstance(cell, str | bytes)


def _legible(cell: object) -> str:
    """A cell of a row that is no pair, so that a person finds it again: its text, or its JSON."""
    if cell is None:
        return ""
    return clean_text(cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str))
