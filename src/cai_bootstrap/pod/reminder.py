"""The loud reminder that a rented pod may still be running. Standard library only: it is asked at the end of every
command.
"""

import time

from cai_bootstrap.pod import ledger

RULE = "!" * 78


def reminder() -> str | None:
    """Text that names every pod that may still cost money, since when and how much; None if there is none.

    Raises nothing: a ledger or a rental that cannot be read is told in the text.
    """
    try:
        lines = [_line(rental) for rental in ledger.rentals() if not rental.get("ended") and rental.get("price") != 0]
    except Exception as error:  # asked while a command ends, whose own error or exit code this one would replace
        return f"{RULE}\nA rented pod may be running: the ledger cannot be read ({error}).\n{RULE}"
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
    pod = f"  pod '{rental.get('pod', '?')}' ({rental.get('address', '?')})"
    started, price = rental.get("started"), rental.get("price")
    if not isinstance(started, int | float):
        return f"{pod}, since when is not recorded"
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(started))
    seconds = max(0.0, time.time() - started)
    minutes = int(seconds // 60)
    pod += f" since {since} ({minutes // 60} h {minutes % 60:02d} min)"
    if not isinstance(price, int | float):
        return f"{pod}, at what price is not recorded"
    return f"{pod}: about {seconds / 3600 * price:.2f} $ so far at {price:.2f} $/h"
