"""Server-side analytics that land in the visitor's own session."""

from sessionsight.analytics import Analytics
from sessionsight.client import Client, configure, for_request
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
    "SessionSightError",
    "SessionSightIds",
    "Settings",
    "SignalIds",
    "SignupCompleted",
    "SubscriptionCancelled",
    "TrackingContext",
    "TrialEnded",
    "TrialStarted",
    "configure",
    "current",
    "for_request",
    "install_sigterm",
]
