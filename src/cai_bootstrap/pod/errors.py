"""What can go wrong between this machine and a pod, told apart by what to do about it."""

from cai_bootstrap.errors import CaiError, LockedError, UsageError


class PodError(CaiError):
    """Something on the pod, or on the way to it, failed."""


class UnreachableError(PodError):
    """The pod does not answer, or the connection broke. What runs on the pod goes on; try again."""


class UnreadableError(PodError):
    """The pod sent something that is not what was asked for. The message says what."""


class AccessError(PodError):
    """The pod refuses this user and key."""


class HostKeyError(PodError):
    """The pod's host key is unknown, was not confirmed, or has changed. Nothing was sent."""


class ProviderError(PodError):
    """The provider's API gave no usable answer."""


class NotStoppedError(PodError):
    """Nobody has confirmed that the pod no longer costs."""


class JobRunningError(LockedError):
    """A job runs on the pod already."""


class PodConfigError(UsageError):
    """pod.yaml, or what was given instead of it, is wrong."""
