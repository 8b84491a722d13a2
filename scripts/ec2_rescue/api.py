# SPDX-License-Identifier: MIT
"""Calls to AWS: each told to the operator, changes only pretended in a dry run, errors in plain words."""

import time

from .errors import FAILED, UNREADABLE, Stop, error_code, explain

# Names for "not there": for some seconds after a creation they mean "not yet".
NOT_FOUND = ("InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidInstanceID.NotFound", "InvocationDoesNotExist",
             "InvalidReplaceRootVolumeTaskId.NotFound", "InvalidReplaceRootVolumeTaskID.NotFound")


class Api:
    """The clients of one session."""

    def __init__(self, session, region, say, dry: bool, poll: float):
        from botocore.config import Config

        # Throttled calls are tried again with growing pauses by botocore itself.
        self._config = Config(retries={"mode": "standard", "max_attempts": 8}, connect_timeout=10, read_timeout=60)
        self._session, self.region, self._say = session, region, say
        self.dry, self.poll, self._clients = dry, poll, {}

    def client(self, service: str):
        """A client, made at first use."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, region_name=self.region, config=self._config)
        return self._clients[service]

    def knows(self, operation: str, member: str = "") -> bool:
        """Whether this boto3 has an operation of EC2, and a parameter of it."""
        model = self.client("ec2").meta.service_model
        if operation not in model.operation_names:
            return False
        return not member or member in model.operation_model(operation).input_shape.members

    def _decode(self, encoded: str) -> str:
        return self.client("sts").decode_authorization_message(EncodedMessage=encoded)["DecodedMessage"]

    def _call(self, service: str, operation: str, params: dict):
        import botocore.exceptions as trouble
        from botocore import xform_name

        try:
            return getattr(self.client(service), xform_name(operation))(**params)
        except trouble.ClientError as error:
            if error_code(error) == "DryRunOperation":
                return {}
            error.as_stop = explain(error, service, operation, self._decode)
            raise
        except trouble.NoCredentialsError:
            raise Stop(UNREADABLE, "no AWS credentials", "Set AWS_PROFILE, or log in with aws sso login.") from None
        except (trouble.EndpointConnectionError, trouble.ConnectTimeoutError) as error:
            raise Stop(FAILED, f"cannot reach AWS: {error}", "Check the region and the network; then --resume.") from None
        except trouble.BotoCoreError as error:
            raise Stop(FAILED, f"{service}:{operation}: {error}") from None

    def read(self, service: str, operation: str, **params):
        """A call that changes nothing; made in a dry run too."""
        return self._call(service, operation, params)

    def change(self, service: str, operation: str, pretend=None, **params):
        """A call that changes something: shown, and made unless this is a dry run."""
        words = " ".join(f"{name}={_short(value)}" for name, value in params.items())
        self._say(f"  {'would call' if self.dry else 'call'} {service}:{operation} {words}")
        if self.dry:
            return pretend or {}
        return self._call(service, operation, params)

    def permitted(self, operation: str, **params):
        """Asks EC2 whether the call would be allowed; a missing permission ends the command."""
        return self._call("ec2", operation, params | {"DryRun": True})

    def until(self, what: str, probe, timeout: float, hint: str = "", pretend=None):
        """Asks until `probe` has an answer. "Not found" is an answer that may yet change."""
        if self.dry:
            return pretend
        import botocore.exceptions as trouble

        end = time.monotonic() + timeout
        while True:
            try:
                answer = probe()
            except trouble.ClientError as error:
                if error_code(error) not in NOT_FOUND or time.monotonic() > end:
                    raise
                answer = None
            if answer is not None:
                return answer
            if time.monotonic() > end:
                raise Stop(FAILED, f"waited {timeout:.0f} s in vain: {what}",
                           hint or "What was done is recorded: --resume goes on, --rollback goes back.")
            time.sleep(self.poll)

    def volume(self, volume: str) -> dict:
        """A volume as EC2 describes it."""
        return self.read("ec2", "DescribeVolumes", VolumeIds=[volume])["Volumes"][0]

    def instance(self, instance: str) -> dict:
        """An instance as EC2 describes it."""
        return self.read("ec2", "DescribeInstances", InstanceIds=[instance])["Reservations"][0]["Instances"][0]


def _short(value) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= 160 else text[:157] + "..."


def tag(resource: dict, key: str):
    """The value of a tag, or None."""
    return next((tag["Value"] for tag in resource.get("Tags", []) if tag["Key"] == key), None)
