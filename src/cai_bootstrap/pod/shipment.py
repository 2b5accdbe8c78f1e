"""Makes the one file that runs on the pod: the `onpod` package as a zip that any Python from 3.8 on can start."""

import functools
import hashlib
import io
import zipfile
from pathlib import Path

ENTRY = "import sys\nfrom onpod.main import main\nsys.exit(main(sys.argv[1:]))\n"


@functools.cache
def shipment() -> bytes:
    """The zip's bytes: the same for the same sources, so that its hash names it."""
    package = Path(__file__).parent / "onpod"
    sources = {f"onpod/{path.name}": path.read_bytes() for path in sorted(package.glob("*.py"))}
    sources["__main__.py"] = ENTRY.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def shipment_name() -> str:
    """The file's name on the pod, its hash in it."""
    return f"caipod-{hashlib.sha256(shipment()).hexdigest()[:16]}.pyz"
