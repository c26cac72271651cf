"""A Flask app of two pages: `/pid` tells which process answers, `/capture/…` also captures what the path says."""

import os

from flask import Flask

from sessionsight_flask import SessionSight, current_analytics
from tests.servers.apps.options import OPTIONS

app = Flask(__name__)
app.config.update({f"SESSIONSIGHT_{name.upper()}": value for name, value in OPTIONS.items()})
SessionSight(app)


@app.get("/pid")
def pid() -> str:
    return str(os.getpid())


@app.get("/capture/<token>")
def capture(token: str) -> str:
    current_analytics.capture("captured", {"token": token}, user_id="user_1")
    return pid()
