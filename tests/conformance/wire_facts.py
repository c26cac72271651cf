"""The second conformance table: what each vendor documents, and what goes on the wire for it."""

from tests.conformance.facts import analyse, saytics, sessionsight, signal, standard_events

FACTS = [*sessionsight.FACTS, *signal.FACTS, *saytics.FACTS, *analyse.FACTS, *standard_events.FACTS]
