"""What can go wrong between the operator and the Kubernetes API.

::

    ClusterError
    ├── ClusterUnavailable   no answer, or the API server cannot serve now; may heal, try again
    │   └── NotLeading       not sent: this process does not lead, or is not sure of it
    ├── ObjectNotFound       404
    ├── ObjectExists         409 on create
    ├── WriteConflict        409 on update: somebody else wrote first, read again
    ├── Forbidden            401 or 403: the operator's own rights are too small
    ├── UnreadableObject     what is there is not understood: a newer operator wrote it
    └── WriteRefused         4xx: the API server does not accept what was written
        └── TooLarge         nor would it ever: there is more in it than an object may hold
"""


class ClusterError(Exception):
    """Base of all. The message names the object and what the API server said, capped."""

    def __init__(self, message: str) -> None:
        super().__init__(message[:512])


class ClusterUnavailable(ClusterError):
    """No answer, or a 429 or 5xx; the write may or may not have been carried out."""


class NotLeading(ClusterUnavailable):
    """The write was not sent, because another operator leads or may do so by now."""


class ObjectNotFound(ClusterError):
    """The object, or its kind, does not exist."""


class ObjectExists(ClusterError):
    """An object of that name exists already."""


class WriteConflict(ClusterError):
    """The object changed since it was read, or is another object of the same name."""


class Forbidden(ClusterError):
    """The operator may not do this; its role lacks a rule."""


class UnreadableObject(ClusterError):
    """An object of ours holds what this operator does not know. It must not be acted upon, nor written over."""


class WriteRefused(ClusterError):
    """The API server refused the content."""


class TooLarge(WriteRefused):
    """An object, or a text within it, is larger than the API server, its store or the CRD allows."""
