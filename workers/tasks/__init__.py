"""The sample tasks; importing this package registers them (`--tasks workers.tasks`)."""

from workers.tasks.csv_import import import_csv as import_csv
from workers.tasks.stdlib_index import index_stdlib as index_stdlib
