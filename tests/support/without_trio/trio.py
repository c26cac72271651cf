"""Hides trio from processes that find this module first."""

raise ModuleNotFoundError("trio is hidden from the processes of tests", name="trio")
