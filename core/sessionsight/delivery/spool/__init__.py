"""Where a lane's records wait."""
