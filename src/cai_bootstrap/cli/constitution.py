"""`cai constitution check | try | draft`: what a constitution holds, what it does to answers, and proposals."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured_by, json_option, print_json
from cai_bootstrap.cli.printed import line, say

if TYPE_CHECKING:
    from cai_bootstrap.constitution import Constitution, Principle
    from cai_bootstrap.generation.trial import Attempt
    from cai_bootstrap.inference.engine import Engine

_PATH = click.Path(path_type=Path)
BATCH = 16


@click.group()
def constitution() -> None:
    """A written constitution, before a run uses it."""


@constitution.command("check")
@click.argument("file", type=_PATH)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say what a constitution holds, and what would be better. A fault ends with exit code 2."""
    from cai_bootstrap.generation.principles import alone_warning, load_checked, notes

    loaded = load_checked(file)
    warning = alone_warning(loaded)
    if as_json:
        print_json(
            {"path": str(file), "name": loaded.name, "version": loaded.version, "sha256": loaded.sha256,
             "principles": [_figures(p) for p in loaded.principles], "notes": notes(loaded),
             "warnings": [] if warning is None else [warning]}
        )  # fmt: skip
    else:
        _show_figures(file, loaded)
        for note in notes(loaded):
            say(f"note: {note}")
    if warning is not None:
        say(warning, err=True)


@constitution.command("try", cls=HelpWithBase)
@click.argument("file", type=_PATH)
@click.option("--question", "questions", multiple=True, help="Ask this instead of five everyday questions; repeatable.")
@click.option("--principle", "ids", multiple=True, help="Only this principle; may be repeated.")
@configured_by("--model", "--seed", "--precision")
@json_option
def attempt(file: Path, questions: tuple[str, ...], ids: tuple[str, ...], settings: Settings, as_json: bool) -> None:
    """Answer everyday questions, and criticise and revise each answer by each principle, before anything trains."""
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.generation.trial import QUESTIONS, attempts, first_answers

    loaded = _loaded(file, ids)
    if not all(question.strip() for question in questions):
        raise UsageError("--question: an empty question cannot be asked; write one, or leave it out")
    asked = questions or QUESTIONS
    begun = time.monotonic()
    engine, precision = _engine(settings)
    opened = time.monotonic()
    seed = settings.resolve().config.seed
    answers = first_answers(engine, asked, seed=seed)
    made: list[Attempt] = []
    for rows in attempts(engine, loaded, asked, answers, seed=seed):
        made += rows
        if not as_json:
            _show_attempts(rows)
    ended = time.monotonic()
    say(f"{ended - begun:.0f} s, {opened - begun:.0f} s of them to load the model", err=True)
    if as_json:
        print_json(
            {"constitution": {"name": loaded.name, "sha256": loaded.sha256}, "model": engine.info.model,
             "precision": precision, "seed": seed, "attempts": [asdict(row) for row in made]}
        )  # fmt: skip


@constitution.command("draft", cls=HelpWithBase)
@click.argument("file", type=_PATH)
@click.option("--out", "target", type=_PATH, required=True, help="The new file.")
@click.option(
    "--wanted",
    default=6,
    show_default=True,
    type=click.IntRange(min=2, max=10),
    help="Demonstrations for each principle, its own among them.",
)
@configured_by("--model", "--seed", "--precision")
@json_option
def draft(file: Path, target: Path, wanted: int, settings: Settings, as_json: bool) -> None:
    """Let the model propose the demonstrations that principles lack, marked `by: model`, for a person to read.

    From a text alone a small model proposes little that is of use. Write two demonstrations, and it goes on with them.
    """
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.generation.draft import draft as propose
    from cai_bootstrap.generation.draft import incomplete, must_stay_beside, reasons, write_draft
    from cai_bootstrap.generation.principles import load_checked

    loaded = load_checked(file)
    if target.exists():
        raise UsageError(f"{target}: is there already; name a new file with --out, so that nothing of yours is lost")
    must_stay_beside(file, target, loaded)
    if not incomplete(loaded, wanted):
        raise UsageError(f"{file}: each principle has {wanted} demonstrations already, so there is nothing to draft")
    engine, precision = _engine(settings)
    made = propose(engine, loaded, seed=settings.resolve().config.seed, wanted=wanted)
    written = write_draft(file, target, made)
    if as_json:
        print_json(
            {"out": str(target), "sha256": written.sha256, "precision": precision,
             "kept": {id: len(cases) for id, cases in made.kept.items()}, "dropped": made.dropped,
             "too_few": made.too_few}
        )  # fmt: skip
        return
    for text in reasons(made):
        say(text)
    if made.too_few:
        say(f"too few to be used, so these stay written alone: {', '.join(made.too_few)}")
    say(f"{target}: written. Read each demonstration: a small model's proposals are often wrong.")


def _loaded(file: Path, ids: Sequence[str]) -> "Constitution":
    """The checked constitution with the named principles alone; the warning goes to stderr."""
    from dataclasses import replace

    from cai_bootstrap.generation.principles import alone_warning, load_checked

    loaded = load_checked(file)
    if ids:
        loaded = replace(loaded, principles=tuple(loaded.principle(id) for id in dict.fromkeys(ids)))
    if (warning := alone_warning(loaded)) is not None:
        say(warning, err=True)
    return loaded


def _engine(settings: Settings) -> "tuple[Engine, str]":
    """The base model, in the precision that was asked for, else in the one that answers quickest here; says which."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    resolved = settings.resolve()
    config = resolved.config

    from cai_bootstrap.inference.models import prepare
    from cai_bootstrap.inference.open import open_model
    from cai_bootstrap.processor import quick_precision

    def aside(message: str) -> None:
        say(message, err=True)

    precision, reason = (config.precision, "as asked")
    if resolved.origins.get("precision") == "default":
        precision, reason = quick_precision()  # type: ignore[assignment]
    elif "auto" in resolved.origins["precision"]:
        _, reason = quick_precision()
    aside(f"precision {precision}: {reason}")
    opened = open_model(
        prepare(config.model, revision=config.revision, say=aside), engine="transformers", precision=precision,
        batch_size=BATCH, tokens_asked=0, threads=config.threads, say=lambda _: None,
    )  # fmt: skip
    return opened.engine, precision


def _figures(principle: "Principle") -> dict[str, Any]:
    shown = principle.demonstrations
    return {
        "id": principle.id,
        "category": principle.category,
        "demonstrations": len(shown),
        "flawless": sum(d.flawless for d in shown),
        "by_model": sum(d.by == "model" for d in shown),
        "check": principle.check,
        "judge": principle.judge,
        "applies_to": list(principle.applies_to),
        "matched_pairs": 0 if principle.matched is None else len(principle.matched.applies),
    }


def _show_figures(file: Path, loaded: "Constitution") -> None:
    count = len(loaded.principles)
    say(f"{line(file)}: '{line(loaded.name)}', version {loaded.version}, {count} principles, sha256 {loaded.sha256}")
    for figures in map(_figures, loaded.principles):
        parts = [f"{figures['demonstrations']} demonstrations, {figures['flawless']} of them without fault"]
        if not figures["demonstrations"]:
            parts = ["a text alone"]
        parts += [name for name in ("check", "judge") if figures[name] is not None]
        if figures["applies_to"]:
            parts.append(f"applies to {', '.join(figures['applies_to'])}")
        if figures["matched_pairs"]:
            parts.append(f"conditional, {figures['matched_pairs']} matched pairs")
        say(f"  {line(figures['id'])}: {'; '.join(parts)}")


def _show_attempts(rows: "Sequence[Attempt]") -> None:
    say(f"\n{line(rows[0].principle_id)}")
    for row in rows:
        say(f"  {line(row.question)}")
        say(f"    answer:   {line(row.answer)}")
        say(f"    critique: {line(row.critique)}")
        say(f"    revision: {line(row.revision)}" + (f"  [would be dropped: {row.fault}]" if row.fault else ""))
    changed = sum(row.changed for row in rows)
    kept = [row for row in rows if row.after is not None]
    checked = (
        f"; its check holds in {sum(bool(r.before) for r in kept)} answers and {sum(bool(r.after) for r in kept)} "
    )
    say(f"  {changed} of {len(rows)} changed" + (f"{checked}revisions" if kept else ""))
