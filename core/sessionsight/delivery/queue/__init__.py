"""Queues of records that wait for delivery, in memory or over a store."""
