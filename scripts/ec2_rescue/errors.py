# SPDX-License-Identifier: MIT
"""What can go wrong, in the operator's words, with the exit codes of volrescue."""

import json
import re

USAGE, UNREADABLE, REFUSED, FAILED, STOPPED = 2, 3, 4, 5, 130


class Stop(Exception):
    """Ends the command: an exit code, a sentence, and the way on."""

    def __init__(self, code: int, message: str, hint: str = ""):
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def error_code(error) -> str:
    """The service's own name of a ClientError."""
    return error.response.get("Error", {}).get("Code", "")


def decoded_action(error, decode) -> str:
    """The action that IAM missed. `decode` asks STS for the encoded part of the message, and may fail."""
    text = error.response["Error"].get("Message", "")
    encoded = re.search(r"Encoded authorization failure message: (\S+)", text)
    if encoded:
        try:
            return json.loads(decode(encoded[1]))["context"]["action"]
        except Exception:  # not allowed to decode, or another format: the name of the call is as good
            pass
    named = re.search(r"not authorized to perform: ([A-Za-z0-9:-]+)", text)
    return named[1] if named else ""


def explain(error, service: str, operation: str, decode) -> Stop:
    """A ClientError as the operator needs it."""
    code = error_code(error)
    text = error.response["Error"].get("Message", "")
    if code in ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"):
        action = decoded_action(error, decode) or f"{service}:{operation}"
        return Stop(REFUSED, f"these credentials lack the permission {action}",
                    f"Allow {action} for this identity, then go on with --resume.")
    if code in ("AuthFailure", "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException", "RequestExpired"):
        return Stop(REFUSED, f"AWS does not accept these credentials ({code})",
                    "Renew them (aws sso login, or new keys), then go on with --resume.")
    if code.endswith("LimitExceeded") and code != "RequestLimitExceeded" or "Quota" in code:
        return Stop(FAILED, f"a quota of the account is reached: {text}",
                    "Free something or ask for a higher quota (Service Quotas), then go on with --resume.")
    if code == "InsufficientInstanceCapacity":
        return Stop(FAILED, f"no capacity for a helper: {text}",
                    "Name another --helper-type, or a running instance with --helper.")
    return Stop(FAILED, f"{service}:{operation} failed: {code}: {text}",
                "What was done is recorded: --resume goes on, --rollback goes back.")
