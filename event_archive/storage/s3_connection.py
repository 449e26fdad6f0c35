"""One bucket: its client, what its service is known to do, and what it refuses, as sentences.

What doesn't live here: what is stored (`s3`), uploading (`s3_upload`). `boto3` is imported when a bucket is first asked
for something: it is an optional dependency.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from event_archive.errors import ConfigurationError, EventArchiveError, FileMissing, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from event_archive.storage.s3 import S3Settings

ATTEMPTS = 6
"""How often a request is sent, the first time included; between them boto3 waits up to 1, 2, 4, 8, 16 s, by chance less."""
CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
CONNECTIONS = 32
"""Kept open at a time; more than threads here ever ask for at once."""

PRECONDITION_FAILED = 412
CONFLICT = 409
NOT_FOUND = 404
SERVER_ERRORS = 500

_NO_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of the AWS configuration (s3.profile, or AWS_PROFILE)."
_REMEDIES: dict[str, tuple[type[EventArchiveError], str]] = {
    "NoSuchBucket": (ConfigurationError, "There is no such bucket: create it, or correct its name."),
    "InvalidBucketName": (ConfigurationError, "Correct the bucket's name."),
    "InvalidAccessKeyId": (
        ConfigurationError,
        "The service doesn't know this access key: check the credentials.",
    ),
    "SignatureDoesNotMatch": (ConfigurationError, "The secret key is a wrong one: check the credentials."),
    "AuthorizationHeaderMalformed": (
        ConfigurationError,
        "The bucket is of another region: correct s3.region.",
    ),
    "PermanentRedirect": (ConfigurationError, "The bucket is of another region: correct s3.region."),
    "IllegalLocationConstraintException": (
        ConfigurationError,
        "The bucket is of another region: correct s3.region.",
    ),
    # A HEAD has no body that could say what is wrong; this is nearly always it.
    "400": (ConfigurationError, "The bucket may be of another region: check s3.region."),
    "AccessDenied": (
        StorageError,
        "The credentials may not do this; docs/s3.md lists what an archive needs.",
    ),
    "ExpiredToken": (StorageError, "Get new credentials and run the command again."),
    "TokenRefreshRequired": (StorageError, "Get new credentials and run the command again."),
    "InvalidToken": (ConfigurationError, "Get new credentials and run the command again."),
    "RequestTimeTooSkewed": (StorageError, "Set this machine's clock right."),
    "NotImplemented": (
        ConfigurationError,
        "The service lacks what an archive needs (docs/s3.md says what that is).",
    ),
    "QuotaExceeded": (StorageError, "Make room and run the command again."),
    "XMinioStorageFull": (StorageError, "Make room and run the command again."),
}
_OTHER_REMEDIES: dict[int, tuple[type[EventArchiveError], str]] = {
    0: (StorageError, "Run the command again when the storage is well."),
    301: _REMEDIES["PermanentRedirect"],
    403: (
        StorageError,
        "Check the credentials, and what they may do; docs/s3.md lists what an archive needs.",
    ),
}


class S3Connection:
    """A bucket, reached with some settings; shared by all stores of an archive, and by threads."""

    def __init__(self, bucket: str, settings: S3Settings) -> None:
        self.bucket = bucket
        self.settings = settings
        self._lock = threading.RLock()
        self._client: S3Client | None = None
        self._lock_mode: str | None = None
        self._is_lock_known = False
        self._is_conditional = False

    def place(self, key: str) -> str:
        """An object as a person would write it."""
        return f"s3://{self.bucket}/{key}"

    @property
    def client(self) -> S3Client:
        """The client; made at first use.

        Raises:
            ConfigurationError: boto3 isn't installed, or the settings can't be right.
        """
        with self._lock:
            if self._client is None:
                self._client = _new_client(self.bucket, self.settings)
            return self._client

    @contextlib.contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """Turns what boto3 raises into a sentence with a remedy; credentials are never part of it."""
        client = self.client  # also says that boto3 is missing
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._refused(error, key) from error
        except BotoCoreError as error:
            raise self._unreachable(error, key, client.meta.endpoint_url) from error

    def lock_headers(self) -> dict[str, Any]:
        """Arguments that lock a new object for `object_lock_days`; none if nothing is said, or the bucket has no Object Lock.

        The mode is that of the bucket's default retention, else GOVERNANCE.

        Raises:
            ConfigurationError: `object_lock_days` is set and the bucket has no Object Lock.
        """
        days = self.settings.object_lock_days
        if days is None:
            return {}
        with self._lock:
            if not self._is_lock_known:
                self._lock_mode = self._read_lock_mode()
                self._is_lock_known = True
        if self._lock_mode is None:
            raise ConfigurationError(
                f"s3.object_lock_days: the bucket {self.bucket} has no Object Lock. It is switched on when a bucket is made; "
                "leave this key out to go without."
            )
        until = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=days, seconds=1)
        return {"ObjectLockMode": self._lock_mode, "ObjectLockRetainUntilDate": until}

    def prove_conditional(self, key: str, content: bytes, arguments: dict[str, Any]) -> None:
        """Makes sure, once, that the service refuses a conditional put to a name that is taken: the whole archive rests on it.

        Args:
            key: of an object that was just put.
            content: its bytes; put again, should the service not refuse.
            arguments: it was put with.

        Raises:
            ConfigurationError: the service ignores conditions.
        """
        with self._lock:
            if self._is_conditional:
                return
            from botocore.exceptions import ClientError

            try:
                with self.errors(key):
                    self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **arguments)
            except EventArchiveError as error:
                cause = error.__cause__
                is_refusal = isinstance(cause, ClientError) and status_of(cause) in (
                    CONFLICT,
                    PRECONDITION_FAILED,
                )
                # Any other answer proves nothing, and what was put is put: the next one is asked about instead.
                self._is_conditional = is_refusal
                return
        raise ConfigurationError(
            f"{self.place(key)}: this service overwrites objects although it is told not to (it ignores If-None-Match). Two "
            "writers would destroy each other's commits there: use a service with conditional writes."
        )

    def note_conditional(self) -> None:
        """Notes that the service refused a conditional put."""
        self._is_conditional = True

    def _read_lock_mode(self) -> str | None:
        from botocore.exceptions import ClientError

        with self.errors(""):
            try:
                answer = self.client.get_object_lock_configuration(Bucket=self.bucket)
            except ClientError as error:
                # Services that say "invalid request" to a bucket without a lock were seen, beside Amazon's 404.
                if _code_of(error) in (
                    "ObjectLockConfigurationNotFoundError",
                    "InvalidRequest",
                    "NotImplemented",
                ):
                    return None
                raise
        configuration = answer.get("ObjectLockConfiguration", {})
        if configuration.get("ObjectLockEnabled") != "Enabled":
            return None
        return configuration.get("Rule", {}).get("DefaultRetention", {}).get("Mode") or "GOVERNANCE"

    def _refused(self, error: Any, key: str) -> EventArchiveError:
        code, status, operation = _code_of(error), status_of(error), error.operation_name
        place = self.place(key)
        if code in ("NoSuchKey", "404", "NotFound"):
            return FileMissing(f"{place}: is missing.")
        said = str(error.response.get("Error", {}).get("Message", "")).strip().rstrip(".")
        kind, remedy = _REMEDIES.get(code, _OTHER_REMEDIES.get(status, _OTHER_REMEDIES[0]))
        reason = f"{operation} was refused: {code}" + (f" ({said})" if said and said != code else "")
        return kind(f"{place}: {reason}. {remedy}")

    def _unreachable(self, error: Any, key: str, endpoint: str) -> EventArchiveError:
        from botocore import exceptions

        place = self.place(key)
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            return ConfigurationError(f"{place}: there are no AWS credentials. {_NO_CREDENTIALS}")
        if isinstance(error, exceptions.CredentialRetrievalError | exceptions.SSOError):
            return ConfigurationError(
                f"{place}: the AWS credentials can't be had ({type(error).__name__}). Log in again, or: {_NO_CREDENTIALS}"
            )
        if isinstance(error, exceptions.ParamValidationError):
            return ConfigurationError(f"{place}: boto3 refuses this place: {error}.")
        if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
            return StorageError(
                f"{place}: {endpoint} doesn't answer ({type(error).__name__}; tried {ATTEMPTS} times). Check the network, and "
                "s3.endpoint_url if it is set; then run the command again."
            )
        return StorageError(f"{place}: {type(error).__name__}: {error}. Run the command again.")


def status_of(error: Any) -> int:
    """HTTP status of a `ClientError`; 0 if it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code_of(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _new_client(bucket: str, settings: S3Settings) -> S3Client:
    try:
        import boto3
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"s3://{bucket}: boto3 is not installed. Install it with: pip install 'event-archive[s3]'"
        ) from error
    from botocore import exceptions
    from botocore.config import Config

    endpoint = settings.endpoint_url
    if endpoint is not None and (urlsplit(endpoint).username or urlsplit(endpoint).password):
        raise ConfigurationError(
            "s3.endpoint_url: holds a user or a password; credentials don't belong there."
        )
    try:
        session = boto3.Session(profile_name=settings.profile, region_name=settings.region)
        # Services of one's own have no regions, but a signature names one.
        region = session.region_name or ("us-east-1" if endpoint else None)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_pool_connections=CONNECTIONS,
            # We send SHA-256 ourselves, and compare it ourselves: damage must be found by `verify`, not raised by a client.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
    except exceptions.ProfileNotFound:
        raise ConfigurationError(
            f"s3.profile: the AWS configuration has no profile {settings.profile!r} (or AWS_PROFILE names another)."
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            f"s3.endpoint_url: {error}; write it like https://s3.example.com."
        ) from error
    except exceptions.BotoCoreError as error:
        raise ConfigurationError(f"s3://{bucket}: {error}.") from error
