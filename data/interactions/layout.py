"""Names of the files and columns of a prepared data set of kind ``interactions``.

::

    schema.yaml              the fields of an item, the first of which is its id (data.schema)
    vocabularies/            the values that have ids
    statistics.json          what was counted (data.interactions.statistics)
    quarantine.jsonl         rows that were set aside, if any
    items.parquet            the catalogue: row i is item i
    users.parquet            one row a user, with the whole sequence
    example.parquet          the first users and their items: requests for 'dropdrift retrieve'

``items.parquet`` holds the raw id, the title (null: none) and a column of ids for each field, int32
(null: missing) or list<int32>. ``users.parquet`` holds the raw id and three lists as long as the
user's sequence: ``items`` (int32, rows of the catalogue) in the order of time, ties in the order of
the source; ``times`` (int64, in the unit of the source, rounded down; 0 where there is no time);
and ``file_order`` (int32): ``items[file_order]`` is the sequence in the order of the source.
"""

from __future__ import annotations

ITEMS_FILE = "items.parquet"
USERS_FILE = "users.parquet"

ITEM_COLUMN = ":item"
TITLE_COLUMN = ":title"
SEQUENCE_COLUMN = "items"
TIMES_COLUMN = "times"
FILE_ORDER_COLUMN = "file_order"

REQUEST_USER = "user"
REQUEST_ITEMS = "items"

# The schema's first field.
ITEM_FIELD = "item_id"
