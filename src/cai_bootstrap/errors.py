"""Errors that carry an exit code: what happened, where, and what to do about it.

Every expected failure is raised as a subclass of `CaiError`; the command line prints its message and exits with its
code. The codes are part of the product's interface (README, "Exit codes").
"""

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_GATE = 3
EXIT_UNTRUSTED = 4
EXIT_LOCKED = 75
EXIT_TIMEOUT = 124
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
KILLED = 137  # by the kernel, most often for its memory
EXPECTED_EXITS = frozenset({EXIT_FAILURE, EXIT_USAGE, EXIT_GATE, EXIT_UNTRUSTED, EXIT_LOCKED})


class CaiError(Exception):
    """An expected failure. The message says what, where and what to do; `exit_code` is what the process returns."""

    exit_code = EXIT_FAILURE


class UsageError(CaiError):
    """Wrong usage, configuration or input file."""

    exit_code = EXIT_USAGE


class GateError(CaiError):
    """The results are sound, and the trained model did not reach the threshold."""

    exit_code = EXIT_GATE


class UntrustedResultError(CaiError):
    """A result that cannot be trusted: torn, edited, incomplete, or measured under other conditions."""

    exit_code = EXIT_UNTRUSTED


class NotVerifiedError(CaiError):
    """What a model wrote could not be verified here: nothing speaks against the result, and nothing for it."""


class LockedError(CaiError):
    """Another run holds the base directory."""

    exit_code = EXIT_LOCKED


class StepTimeoutError(CaiError):
    """A step reached its time limit and was ended; what it had finished is kept."""

    exit_code = EXIT_TIMEOUT


class InterruptedRunError(CaiError):
    """The user asked to stop; the record in progress was finished first."""

    exit_code = EXIT_INTERRUPTED


class TerminatedRunError(CaiError):
    """The process was asked to terminate."""

    exit_code = EXIT_TERMINATED


class EngineError(CaiError):
    """The inference engine failed for good; what it had yielded before is complete."""


class DeviceMemoryError(EngineError):
    """The device has not enough memory, not even for the smallest batch; others on it may have taken it."""


class DataError(CaiError):
    """A data file under the base directory cannot be read as what it should hold."""


class TrainingCollapsedError(CaiError):
    """Training was stopped because the model stopped being one; no success marker was written."""
