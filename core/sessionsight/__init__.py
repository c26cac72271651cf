"""Server-side analytics in the session that the visitor's browser already has."""

from sessionsight.capture.analytics import Analytics
from sessionsight.capture.context_managers import carry
from sessionsight.capture.current import current
from sessionsight.capture.receipt import Receipt
from sessionsight.capture.standard_events import (
    CheckoutCancelled,
    CheckoutFinished,
    CheckoutStarted,
    ContentViewed,
    SignupCompleted,
    SubscriptionCancelled,
    TrialEnded,
    TrialStarted,
)
from sessionsight.capture.typed_events import Event
from sessionsight.client import Client
from sessionsight.delivery.lifecycle import install_sigterm
from sessionsight.errors import (
    CaptureError,
    ConfigurationError,
    InvalidEventError,
    InvalidGoalError,
    InvalidPropertiesError,
    MissingDependencyError,
    NoClientError,
    SessionSightError,
)
from sessionsight.key_file import KeyFile
from sessionsight.process import bind, configure, for_request, get_client, scope
from sessionsight.request.context import Page, SessionSightIds, SignalIds, TrackingContext
from sessionsight.request.raw import RequestData
from sessionsight.settings import Settings

__all__ = [
    "Analytics",
    "CaptureError",
    "CheckoutCancelled",
    "CheckoutFinished",
    "CheckoutStarted",
    "Client",
    "ConfigurationError",
    "ContentViewed",
    "Event",
    "InvalidEventError",
    "InvalidGoalError",
    "InvalidPropertiesError",
    "KeyFile",
    "MissingDependencyError",
    "NoClientError",
    "Page",
    "Receipt",
    "RequestData",
    "SessionSightError",
    "SessionSightIds",
    "Settings",
    "SignalIds",
    "SignupCompleted",
    "SubscriptionCancelled",
    "TrackingContext",
    "TrialEnded",
    "TrialStarted",
    "bind",
    "carry",
    "configure",
    "current",
    "for_request",
    "get_client",
    "install_sigterm",
    "scope",
]
