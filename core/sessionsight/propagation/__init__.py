"""Passes a visitor's tracking context on: to jobs, and to other services by HTTP. One module per library."""
