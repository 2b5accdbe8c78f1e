"""From a template and its values to one self-contained page that is not too large."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cai_bootstrap import __version__
from cai_bootstrap.report.safe import csp, script_json, visible

HERE = Path(__file__).with_name("page")
MOST_BYTES = 6_000_000
# Characters of a text, and records of a kind, that the page may hold; the next is tried when it would be too large.
LIMITS = ((4000, 2000), (1500, 2000), (600, 2000), (200, 2000), (200, 400))


def fitting(
    template_name: str,
    payload_of: Callable[[int, int], Mapping[str, Any]],
    values_of: Callable[[], Mapping[str, Any]],
    *,
    live: bool = False,
) -> str:
    """The page with as much of its records as fits into 6 MB: `payload_of(characters, records)`."""
    page = ""
    values: Mapping[str, Any] | None = None
    for limits in LIMITS:
        payload = script_json(payload_of(*limits))
        values = values or values_of()
        if limits != LIMITS[-1] and len(payload.encode()) > MOST_BYTES * 0.85:
            continue
        page = render(template_name, payload=payload, live=live, **values)
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def render(template_name: str, *, payload: str, live: bool = False, **values: Any) -> str:
    """Fill a page's template. Every text is made visible and escaped; scripts and styles are allowed by their hash."""
    styles = _read("report.css")
    scripts = [_read("report.js"), *([_read("live.js")] if live else [])]
    policy = csp(scripts=[f"\n{script}" for script in scripts], styles=[f"\n{styles}"], live=live)
    template = _environment().get_template(template_name)
    return str(
        template.render(
            styles=styles, scripts=scripts, policy=policy, payload=payload, live=live, version=__version__, **values
        )
    )


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    def safe(value: Any) -> Any:
        return visible(value) if type(value) is str else value

    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, finalize=safe, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
