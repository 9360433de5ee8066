"""A version over a whole data set: Spark does the work, and each of its processes holds the version once."""

FORMATS = ("parquet", "json")  # of answers
INPUT_FORMATS = ("pictures", "parquet", "csv", "json", "table")
