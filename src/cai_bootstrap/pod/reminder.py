"""The loud reminder that a rented pod may still be running. Standard library only: it is asked at the end of every
command.
"""

import time

from cai_bootstrap.pod import ledger

RULE = "!" * 78


def reminder() -> str | None:
    """Text that names every pod that may still cost money, since when and how much; None if there is none."""
    try:
        found = ledger.rentals()
    except (OSError, ValueError) as error:
        return f"{RULE}\nA rented pod may be running: the ledger cannot be read ({error}).\n{RULE}"
    lines = [_line(rental) for rental in found if not rental.get("ended") and rental.get("price", 0) > 0]
    if not lines:
        return None
    return "\n".join(
        [
            RULE,
            "A RENTED POD MAY STILL BE RUNNING AND COSTING MONEY:",
            *lines,
            "Stop it with `cai pod stop`. If you have stopped it yourself: `cai pod stop --already-stopped`.",
            RULE,
        ]
    )


def _line(rental: ledger.Rental) -> str:
    if "started" not in rental:
        return f"  pod '{rental.get('pod', '?')}' ({rental.get('address', '?')}), since when is not recorded"
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(rental["started"]))
    minutes = int(max(0.0, time.time() - rental["started"]) // 60)
    return (
        f"  pod '{rental['pod']}' ({rental['address']}) since {since} ({minutes // 60} h {minutes % 60:02d} min): "
        f"about {ledger.dollars(rental):.2f} $ so far at {rental['price']:.2f} $/h"
    )
