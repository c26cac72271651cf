"""The tables of the outbox. The store reads and writes them by SQL."""

# The types of fields need a plugin that imports the settings of a project, which a user's program may not have.
# mypy: disable-error-code="var-annotated"

from __future__ import annotations

from django.db import models

__all__ = ["Batch", "Count", "DeadLetter", "Inbox", "Key", "Owner", "QueuedRecord", "Reach"]

_LABEL = "sessionsight_outbox"


class Inbox(models.Model):
    """Captured records, one row for each hand-over, until a relay takes them in."""

    id = models.BigAutoField(primary_key=True)
    batch_id = models.CharField(max_length=40)
    body = models.BinaryField()
    created_at = models.FloatField()

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ()
        db_table = "sessionsight_inbox"
        # Not `unique=True`, which makes a second index on PostgreSQL.
        constraints = (models.UniqueConstraint(fields=["batch_id"], name="sessionsight_inbox_batch"),)


class QueuedRecord(models.Model):
    """A record of one lane that is not delivered yet."""

    id = models.BigAutoField(primary_key=True)
    lane = models.CharField(max_length=100)
    priority = models.SmallIntegerField()
    size = models.IntegerField()
    enqueued_at = models.FloatField()
    claimed_by = models.CharField(max_length=32)
    in_flight = models.BooleanField()
    takeovers = models.SmallIntegerField(default=0)
    body = models.BinaryField()

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ("view",)
        verbose_name = "pending record"
        db_table = "sessionsight_queue"
        # PostgreSQL updates a row in place only if no index has a column that changes, as `claimed_by` does.
        indexes = (models.Index(fields=["lane", "priority", "id", "size"], name="sessionsight_queue_order"),)

    def __str__(self) -> str:
        return f"{self.lane}: {self.pk}"


class DeadLetter(models.Model):
    """A record that could not be delivered, with the reason."""

    id = models.BigAutoField(primary_key=True)
    handle = models.BigIntegerField()
    lane = models.CharField(max_length=100, db_index=True)
    priority = models.SmallIntegerField()
    size = models.IntegerField()
    enqueued_at = models.FloatField()
    died_at = models.FloatField()
    reason = models.CharField(max_length=100)
    message = models.TextField()
    status = models.IntegerField(null=True)
    attempts = models.IntegerField()
    first_attempt = models.FloatField(null=True)
    last_attempt = models.FloatField(null=True)
    body = models.BinaryField()

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ("view", "delete")
        permissions = (("retry_deadletter", "Can retry dead letter"),)
        db_table = "sessionsight_dead_letter"

    def __str__(self) -> str:
        return f"{self.lane}: {self.reason}"


class Key(models.Model):
    """The hash of a lane and of a `key` that it has accepted."""

    hash = models.CharField(max_length=64, primary_key=True)
    seen_at = models.FloatField(db_index=True)

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ()
        db_table = "sessionsight_key"


class Batch(models.Model):
    """The id of a hand-over that was taken in, which may be repeated if its answer was lost."""

    batch_id = models.CharField(max_length=40, primary_key=True)
    seen_at = models.FloatField(db_index=True)

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ()
        db_table = "sessionsight_batch"


class Count(models.Model):
    """A number to add to a counter of a lane. Rows are only added, and merged from time to time."""

    id = models.BigAutoField(primary_key=True)
    lane = models.CharField(max_length=100)
    counter = models.CharField(max_length=50)
    number = models.BigIntegerField()

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ()
        db_table = "sessionsight_count"


class Owner(models.Model):
    """A process that claims records, until its lease is over by the server's clock."""

    owner = models.CharField(max_length=32, primary_key=True)
    expires_at = models.FloatField()
    on_trial = models.BigIntegerField(default=0)

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ()
        db_table = "sessionsight_owner"


class Reach(models.Model):
    """An id above all records of a lane and priority that a process has claimed."""

    id = models.BigAutoField(primary_key=True)
    owner = models.CharField(max_length=32, db_index=True)
    lane = models.CharField(max_length=100)
    priority = models.SmallIntegerField()
    last_id = models.BigIntegerField()

    class Meta:
        """Its table."""

        app_label = _LABEL
        default_permissions = ()
        db_table = "sessionsight_reach"
