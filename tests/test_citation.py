"""CITATION.cff says of the product what the package says of itself."""

import tomllib
from pathlib import Path

import yaml

from cai_bootstrap import __version__

CHECKOUT = Path(__file__).parents[1]


def test_the_citation_agrees_with_the_package() -> None:
    cited = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert (cited["title"], str(cited["version"]), cited["license"]) == (
        project["name"],
        __version__,
        project["license"],
    )
    assert cited["keywords"] == project["keywords"]
    assert cited["abstract"].startswith(project["description"].removesuffix("."))
    named = [{"name": author["name"]} for author in project.get("authors", [])]
    assert cited["authors"] == (named or [{"name": "The cai-bootstrap contributors"}])
