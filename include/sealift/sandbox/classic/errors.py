"""Errors as the Classic API words them.

Confirmed texts are from recorded replies (docs/sandbox.md names the source of each); the others say so in a comment.
"""

from __future__ import annotations

PUBLIC = "SoftLayer_Exception_Public"


class ApiError(Exception):
    """An error that a client gets to see.

    :param message: the text.
    :param code: the exception's name, as ``SoftLayer_Exception_ObjectNotFound``.
    :param status: the HTTP status over REST; XML-RPC sends faults with 200.
    """

    def __init__(self, message: str, *, code: str = PUBLIC, status: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status


def not_found(identifier: object) -> ApiError:
    """The object is not there, or the user may not see it: the API tells both alike."""
    return ApiError(
        f"Unable to find object with id of '{identifier}'.", code="SoftLayer_Exception_ObjectNotFound", status=404
    )


def unauthenticated(message: str = "Invalid API token.") -> ApiError:
    """The user name or key was refused."""
    return ApiError(message, code="SoftLayer_Exception_InvalidLegacyToken", status=401)


def rate_limited(limit: int) -> ApiError:
    """Too many requests in a second; HTTP 500 in recorded replies, never 429."""
    return ApiError(
        f"Rate limit of {limit} requests for every 1 second(s) exceeded.",
        code="SoftLayer_Exception_WebService_RateLimitExceeded",
    )


def expired_token() -> ApiError:
    """A bearer token that is not valid any more. The text is invented, the code is softlayer-go's."""
    return ApiError(
        "The access token has expired or is not valid.",
        code="SoftLayer_Exception_Account_Authentication_AccessTokenValidation",
    )


def active_transaction() -> ApiError:
    """A second operation while one runs. The text is recorded, the code is not."""
    return ApiError("There is currently an active transaction.")


def refused_after() -> ApiError:
    """What is said of a call that was carried out all the same. Text and code are invented."""
    return ApiError("The request could not be completed at this time.", code="SoftLayer_Exception")


def internal() -> ApiError:
    """What the API says when it says nothing."""
    return ApiError("Internal Error")


def no_such_method(service: str, method: str) -> ApiError:
    """The text is invented; the code is the one that softlayer-python maps to MethodNotFound over XML-RPC."""
    return ApiError(f'Function ("{method}") is not a valid method for this service ({service}).', code="-32601")


def no_such_service(service: str) -> ApiError:
    """Text and code are invented."""
    return ApiError(f"Service {service} does not exist.", code="SoftLayer_Exception_WebService_BadRequest", status=404)


def bad_request(message: str) -> ApiError:
    """A parameter is missing or has the wrong shape. The texts are invented."""
    return ApiError(message, code="SoftLayer_Exception_WebService_BadRequest", status=400)


def invalid_value(message: str) -> ApiError:
    """A parameter has a value that will not do. The texts are invented."""
    return ApiError(message, code="SoftLayer_Exception_InvalidValue")


def permission_denied(message: str) -> ApiError:
    """The user or key may not do this. The texts are invented."""
    return ApiError(message, code="SoftLayer_Exception_PermissionDenied")
