"""Server-side analytics that land in the visitor's own session."""

from sessionsight.analytics import Analytics
from sessionsight.client import Client
from sessionsight.context import Page, SessionSightIds, SignalIds, TrackingContext
from sessionsight.current import current
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
from sessionsight.keys import KeyFile
from sessionsight.process import bind, configure, for_request, get_client, scope
from sessionsight.request_data import RequestData
from sessionsight.scopes import carry
from sessionsight.settings import Settings
from sessionsight.standard import (
    CheckoutCancelled,
    CheckoutFinished,
    CheckoutStarted,
    ContentViewed,
    SignupCompleted,
    SubscriptionCancelled,
    TrialEnded,
    TrialStarted,
)
from sessionsight.typed_events import Event

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
