"""The next token's log-probabilities from a completions server, of a few choices.

The likeliest tokens come with an answer. A choice that is not among them is asked for as the last token of an echoed
prompt, where the server echoes. What it gives in neither way is None, or, where a bound will do, as likely as the
last of the likeliest: it is that likely at most.
"""

from collections.abc import Sequence

from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.completions import CompletionsServer, RequestRefusedError
from cai_bootstrap.inference.server_log import ServerAnswer

ECHOED = {"max_tokens": 1, "temperature": 0.0, "logprobs": 1, "echo": True}


def server_logprobs(
    server: CompletionsServer, prompts: Sequence[str], choices: Sequence[str], *, batch_size: int, bounded: bool = False
) -> list[list[float | None]] | None:
    """Log-probability (nats) of each choice as the next token, a row for each prompt; None if the server gives none.

    `bounded`: where the likeliest tokens hold one of the choices and another is not to be had, that takes their lowest.
    Raises EngineError if a choice is not a single token of the server's model, and what `complete` raises.
    """
    rows: list[list[float | None]] = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        tops = server.top(part)
        if tops is None:
            return None
        exact = _with_echoes(server, part, choices, tops)
        rows += [_bounded(row, top) for row, top in zip(exact, tops, strict=True)] if bounded else exact
    return rows


def _with_echoes(
    server: CompletionsServer, prompts: Sequence[str], choices: Sequence[str], tops: Sequence[dict[str, float]]
) -> list[list[float | None]]:
    rows: list[list[float | None]] = [[top.get(choice) for choice in choices] for top in tops]
    places = [(n, m) for n, row in enumerate(rows) for m, logprob in enumerate(row) if logprob is None]
    if not places:
        return rows
    try:
        echoes = server.complete([prompts[n] + choices[m] for n, m in places], ECHOED)
    except RequestRefusedError:
        return rows  # a server without echoes
    for (n, m), echo in zip(places, echoes, strict=True):
        rows[n][m] = _last_of_prompt(echo, choices[m])
    return rows


def _bounded(row: list[float | None], top: dict[str, float]) -> list[float | None]:
    if all(logprob is None for logprob in row):
        return row
    return [min(top.values()) if logprob is None else logprob for logprob in row]


def _last_of_prompt(echo: ServerAnswer, choice: str) -> float | None:
    """The log-probability of the echoed prompt's last token: one new token stands after it."""
    if echo.tokens is None or echo.logprobs is None or len(echo.tokens) < 2 or len(echo.logprobs) < 2:
        return None
    if echo.tokens[-2].strip() != choice.strip():
        raise EngineError(f"the choice {choice!r} is not a single token of the server's model")
    return echo.logprobs[-2]
