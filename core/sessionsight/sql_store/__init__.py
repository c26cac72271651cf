"""A store in a SQL database, by plain DB-API cursors with `%s` for parameters.

A host opens the connections and creates the tables: `sessionsight_django.outbox` and `sessionsight.sqlalchemy`. A
cursor has the attribute `db`, whose `vendor` is `postgresql`, `mysql` (MariaDB as well) or `sqlite`.
"""
