"""The tables of the outbox. On PostgreSQL they are vacuumed often, because their rows are short-lived."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

_OFTEN_VACUUMED = ("inbox", "queue", "count")


def tune_postgresql(_: Any, schema_editor: Any) -> None:
    """Leave space for updates in place, and vacuum by number of dead rows instead of a share of the table."""
    if schema_editor.connection.vendor == "postgresql":
        for table in _OFTEN_VACUUMED:
            schema_editor.execute(
                f"ALTER TABLE sessionsight_{table} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0,"
                " autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0,"
                " autovacuum_vacuum_insert_threshold = 10000)"
            )


class Migration(migrations.Migration):
    """Create the tables."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Batch",
            fields=[
                ("batch_id", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("seen_at", models.FloatField(db_index=True)),
            ],
            options={
                "db_table": "sessionsight_batch",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Count",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("lane", models.CharField(max_length=100)),
                ("counter", models.CharField(max_length=50)),
                ("number", models.BigIntegerField()),
            ],
            options={
                "db_table": "sessionsight_count",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("handle", models.BigIntegerField()),
                ("lane", models.CharField(db_index=True, max_length=100)),
                ("priority", models.SmallIntegerField()),
                ("size", models.IntegerField()),
                ("enqueued_at", models.FloatField()),
                ("died_at", models.FloatField()),
                ("reason", models.CharField(max_length=100)),
                ("message", models.TextField()),
                ("status", models.IntegerField(null=True)),
                ("attempts", models.IntegerField()),
                ("first_attempt", models.FloatField(null=True)),
                ("last_attempt", models.FloatField(null=True)),
                ("body", models.BinaryField()),
            ],
            options={
                "db_table": "sessionsight_dead_letter",
                "permissions": (("retry_deadletter", "Can retry dead letter"),),
                "default_permissions": ("view", "delete"),
            },
        ),
        migrations.CreateModel(
            name="Key",
            fields=[
                ("hash", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("seen_at", models.FloatField(db_index=True)),
            ],
            options={
                "db_table": "sessionsight_key",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Owner",
            fields=[
                ("owner", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("expires_at", models.FloatField()),
                ("on_trial", models.BigIntegerField(default=0)),
            ],
            options={
                "db_table": "sessionsight_owner",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Inbox",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("batch_id", models.CharField(max_length=40)),
                ("body", models.BinaryField()),
                ("created_at", models.FloatField()),
            ],
            options={
                "db_table": "sessionsight_inbox",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("batch_id",), name="sessionsight_inbox_batch")],
            },
        ),
        migrations.CreateModel(
            name="QueuedRecord",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("lane", models.CharField(max_length=100)),
                ("priority", models.SmallIntegerField()),
                ("size", models.IntegerField()),
                ("enqueued_at", models.FloatField()),
                ("claimed_by", models.CharField(max_length=32)),
                ("in_flight", models.BooleanField()),
                ("takeovers", models.SmallIntegerField(default=0)),
                ("body", models.BinaryField()),
            ],
            options={
                "verbose_name": "pending record",
                "db_table": "sessionsight_queue",
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["lane", "priority", "id", "size"], name="sessionsight_queue_order")],
            },
        ),
        migrations.CreateModel(
            name="Reach",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("owner", models.CharField(db_index=True, max_length=32)),
                ("lane", models.CharField(max_length=100)),
                ("priority", models.SmallIntegerField()),
                ("last_id", models.BigIntegerField()),
            ],
            options={
                "db_table": "sessionsight_reach",
                "default_permissions": (),
            },
        ),
        migrations.RunPython(tune_postgresql, migrations.RunPython.noop, elidable=False),
    ]
